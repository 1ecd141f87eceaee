"""A broker that dies, freezes or restarts under a mesh at work: lag, and nothing else."""

import asyncio
from collections.abc import Iterator

import pytest
from crash_load import TABLES, under_load
from crash_steps import audited, connector, judge
from kafka_steps import (
    no_transaction_stays_open,
    nothing_is_published,
    over_kafka,
)
from mesh import NAMES
from steps import converged, running, until

from meshnode.errors import Fenced
from meshnode.lab.broker import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

FROZEN_SECONDS = 15.0
REGIONS = 3
WRITES = 40


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    with over_kafka(monkeypatch) as running_broker:
        yield running_broker


@pytest.mark.parametrize(
    "trouble", ["killed", "frozen", pytest.param("restarted", marks=pytest.mark.slow)]
)
async def test_a_broker_in_trouble_changes_nothing_but_lag(
    broker: Broker, servers, tmp_path, trouble: str
) -> None:
    """Three regions write all the time; every answered write is there, applied once.

    Clients go on meanwhile, and no transaction of a node stays open in MySQL.
    """
    async with audited(await servers(REGIONS), tmp_path, *TABLES) as mesh:
        async with under_load(NAMES[:REGIONS], connector(mesh), clients=1) as loads:

            async def goes_on(what: str) -> None:
                """Every client gets so many more answers."""
                wanted = [len(load.acknowledged) + WRITES for load in loads]
                await until(
                    lambda: all(len(load.acknowledged) >= n for load, n in zip(loads, wanted)), what
                )

            await goes_on("some load")
            if trouble == "killed":
                await broker.kill_async()
            elif trouble == "frozen":
                broker.pause()
            else:
                await broker.stop_async()
            frozen = asyncio.get_running_loop().time()
            await nothing_is_published(mesh)
            await goes_on("load without a broker")
            await no_transaction_stays_open(mesh)
            if trouble == "frozen":
                # How long is the point of it.
                left = frozen + FROZEN_SECONDS - asyncio.get_running_loop().time()
                await asyncio.sleep(max(0.0, left))
                broker.resume()
            else:
                await broker.start_async()
            await goes_on("load after it")
        await judge(mesh, loads, trouble)


async def test_a_region_far_behind_catches_up(broker: Broker, servers, tmp_path) -> None:
    """It was away for more than a reader fetches ahead, in small and in large transactions."""
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(3000))"
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        await mesh.stop(1)
        for block in range(20):
            await one.execute(
                "INSERT INTO app.t WITH RECURSIVE n (k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n"
                " WHERE k < 399) SELECT %s + k, REPEAT(SHA2(%s + k, 256), 45) FROM n",
                (1000 * block, 1000 * block),
            )
            for key in range(10):
                await one.execute(
                    "UPDATE app.t SET v = CONCAT('again ', v) WHERE id = %s", (1000 * block + key,)
                )
        await mesh.settle(regions=[0])
        origin = mesh.nodes[0][0].board
        written = await one.value("SELECT @@GLOBAL.gtid_executed")
        missing = f"SELECT GTID_SUBTRACT('{written}', tail_gtids) = '' FROM meshnode.member"

        async def published() -> object:
            return await one.value(missing)

        await until(published, "all of it in the topic")
        assert origin.counts["published_bytes"] > 20_000_000
        mesh.start(1)
        rows = await converged(mesh)
        assert len(rows) == 20 * 400
        assert sum(row[1].startswith("again") for row in rows) == 20 * 10
        assert await two.value("SELECT COUNT(*) FROM meshnode.conflict_log") == 0


async def test_a_second_node_fences_the_first_at_the_broker_too(
    broker: Broker, servers, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever MySQL says: a writer that outlived its time gets nothing into the topic any more."""
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await mesh.settle()
        first, task = mesh.nodes.pop(0)
        outliving = first.writer

        async def stays_open() -> None:
            """What a process does that slept through its own end."""

        monkeypatch.setattr(outliving, "close", stays_open)
        mesh.start(0)
        second, _ = mesh.nodes[0]
        await until(lambda: second.board.is_claimed, "the second one's claim")
        done, _ = await asyncio.wait([task], timeout=30)
        assert done, "the first node still runs"
        assert isinstance(task.exception(), Fenced)
        with pytest.raises(Fenced, match="one node for each region"):
            await outliving.append(b"of a process whose time is over")
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'after')")
        rows = await converged(mesh)
        assert [row[1] for row in rows] == ["after"]
