"""``meshnode status`` on real servers, with what nodes would have written put there by hand."""

import asyncio
from contextlib import AsyncExitStack

import orjson
import pytest
from regions import control, topology_of
from verified import Regions, regions_of

from meshnode.mysql import bookkeeping
from meshnode.ops.install import init
from meshnode.ops.status import Lookout, as_json, look, look_twice
from meshnode.ops.verdict import Status


@pytest.fixture
async def stack():
    async with AsyncExitStack() as opened:
        yield opened


NOW = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6))"


async def beat(regions: Regions, at: int, *, age: float = 0.0, **body: object) -> None:
    """The heartbeat of a node, ``age`` seconds ago."""
    told = {"v": 1, "node": "0.1.0", "digest": regions.topology.digest, "actors": []} | body
    await regions.sql[at].execute(
        f"REPLACE INTO meshnode.heartbeat VALUES (%s, 1, {NOW} - %s, {NOW} - 2000000, %s)",
        (at + 1, int(age * 1e6), orjson.dumps(told).decode()),
    )


async def hear(regions: Regions, at: int, origin: int, lag: float, seq: int = 7) -> None:
    """Region ``at`` has applied a heartbeat of ``origin`` that was written ``lag`` s ago."""
    await regions.sql[at].execute(
        "REPLACE INTO meshnode.applied (origin, seq, heard_us, frontier, applied_at)"
        f" VALUES (%s, %s, {NOW} - %s, {NOW} - 3000000, UTC_TIMESTAMP(6))",
        (origin + 1, seq, int(lag * 1e6)),
    )


async def healthy(stack: AsyncExitStack, servers: list) -> Regions:
    regions = await regions_of(stack, servers)
    count = len(servers)
    for at in range(count):
        await beat(regions, at)
        await regions.sql[at].execute("UPDATE meshnode.member SET tail_seq = 9")
        for origin in range(count):
            if origin != at:
                await hear(regions, at, origin, 1.5)
    return regions


def problems(status: Status) -> dict[str, str]:
    return {problem.region: problem.what for problem in status.problems}


async def test_a_healthy_mesh(servers, stack) -> None:
    regions = await healthy(stack, await servers(3))
    status = await look(regions.topology)
    assert status.converged, status.problems
    assert len(status.pairs) == 6
    for pair in status.pairs:
        assert pair.origin != pair.region
        assert 1.5 <= pair.lag < 5
        assert pair.behind == 2
    assert as_json(status)["regions"][0]["beat_age"] >= 0


async def test_what_stands_still_is_found_in_each_region(servers, stack) -> None:
    regions = await healthy(stack, await servers(3))
    letter = (
        "INSERT INTO meshnode.dead_letter (at, origin, seq, ts, stamp_origin, code, cause, body,"
        " state) VALUES (UTC_TIMESTAMP(6), 1, 1, 0, 0, 0, '', '', '{}')"
    )
    for state in ("open", "closed"):
        await regions.sql[0].execute(letter.format(state))
    halted = {"name": "tailer", "state": "halted", "reason": "a TRUNCATE", "since": 1.0}
    await beat(regions, 1, actors=[halted])
    await beat(regions, 2, age=60)
    status = await look(regions.topology)
    found = problems(status)
    assert found["one"] == "1 parked rows (open dead letters)"
    assert found["two"].startswith("tailer halted since 1970-01-01 00:00:01Z: a TRUNCATE")
    assert found["three"].startswith("no heartbeat for 6")
    assert not status.converged


async def test_a_late_stream_and_a_frontier_that_holds_gc_back(servers, stack) -> None:
    regions = await healthy(stack, await servers(2))
    await hear(regions, 1, 0, 70.0)
    await regions.sql[1].execute(
        f"UPDATE meshnode.applied SET frontier = {NOW} - 75000000 WHERE origin = 1"
    )
    found = [(each.region, each.what) for each in (await look(regions.topology)).problems]
    assert found[0][0] == "two"
    assert found[0][1].startswith("nothing heard of one for 7")
    assert found[1][0] == "one"
    assert found[1][1].startswith("holds back the collection of tombstones in two since ")


async def test_an_origin_whose_clock_is_ahead_is_no_fresher_for_it(servers, stack) -> None:
    """It dates its heartbeats half a minute ahead; nothing of it has arrived for 20 s."""
    regions = await healthy(stack, await servers(2))
    await beat(regions, 0, age=-30)
    await hear(regions, 1, 0, -10.0)
    await regions.sql[0].execute("UPDATE meshnode.heartbeat SET beat = 120")
    await regions.sql[1].execute("UPDATE meshnode.applied SET heard_beat = 100")
    status = await look(regions.topology)
    (problem,) = status.problems
    assert (problem.region, problem.what[:36]) == ("two", "20 heartbeats of one are not applied")
    (pair,) = (each for each in status.pairs if each.region == "two")
    assert (pair.beats, pair.heard_beat) == (20, 100)
    await regions.sql[1].execute("UPDATE meshnode.applied SET heard_beat = 119")
    assert (await look(regions.topology)).converged


async def test_tables_that_are_not_replicated_are_a_warning(servers, stack) -> None:
    regions = await healthy(stack, await servers(2))
    await regions.everywhere("CREATE TABLE app.late (id INT PRIMARY KEY)", "CREATE SCHEMA other")
    await regions.sql[1].execute("CREATE TABLE app.later (id INT PRIMARY KEY)")
    await regions.sql[1].execute("CREATE TABLE other.t (id INT PRIMARY KEY)")
    status = await look(regions.topology)
    assert status.converged
    assert [(each.region, each.what) for each in status.warnings] == [
        (
            "one, two",
            "2 tables that the topology names are not replicated: app.late, app.later",
        )
    ]


async def test_keys_that_init_refused_keep_the_mesh_from_being_converged(servers, stack) -> None:
    pair = await servers(2)
    regions = await regions_of(stack, pair)
    await regions.everywhere("CREATE TABLE app.t (id INT PRIMARY KEY, v INT)")
    for number, sql in enumerate(regions.sql):
        await sql.execute(f"INSERT INTO app.t VALUES (1, 1), (2, {number}), (3, {number})")
    assert len((await init(regions.topology)).refused) == 2

    async def told() -> list[str]:
        return [
            f"{problem.region}: {problem.what}"
            for problem in (await look(regions.topology)).problems
            if "app.t" in problem.what
        ]

    assert await told() == [
        "one, two: 2 keys of app.t were left as they are by `meshnode init`: refused, because rows"
        " without a version differ, locked by clients, or of a region that was behind"
    ]
    await init(regions.topology, seed_from="two")
    assert await told() == []


async def test_an_older_install_without_the_newer_tables_can_be_looked_at(servers, stack) -> None:
    regions = await healthy(stack, await servers(2))
    await regions.everywhere("DROP TABLE meshnode.unsettled", "DROP TABLE meshnode.paused")
    assert (await look(regions.topology)).converged


async def test_a_region_out_of_reach_is_a_row(servers, stack, throwaway) -> None:
    shared = (await servers(1))[0]
    own = await throwaway()
    await healthy(stack, [shared, own])
    topology = topology_of([shared, own])
    async with Lookout(topology) as lookout:
        assert (await lookout.look()).converged
        own.kill()
        status = await lookout.look()
        (gone,) = (region for region in status.regions if region.error)
        assert gone.name == "two"
        assert "unreachable" in problems(status)["two"]
        own.start()
        assert "two" not in {
            region.name for region in (await lookout.look()).regions if region.error
        }


async def test_a_server_that_hangs_is_a_row_in_time(
    servers, stack, throwaway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshnode.mysql.control.CONNECT_SECONDS", 0.5)
    monkeypatch.setattr("meshnode.ops.status.ANSWER_SECONDS", 0.5)
    shared = (await servers(1))[0]
    own = await throwaway()
    await healthy(stack, [shared, own])
    async with Lookout(topology_of([shared, own])) as lookout:
        await lookout.look()
        own.pause()
        try:
            async with asyncio.timeout(20):
                assert "unreachable" in problems(await lookout.look())["two"]
        finally:
            own.resume()


async def test_a_server_without_the_bookkeeping_or_of_another_region(servers, stack) -> None:
    one, two = await servers(2)
    regions = await healthy(stack, [one, two])
    await regions.sql[0].execute(bookkeeping.drop_schema())
    await regions.sql[1].execute("UPDATE meshnode.member SET region = 3")
    found = problems(await look(regions.topology))
    assert "meshnode" in found["one"]
    assert "is region 3 of mesh 'test', not region 2 (two)" in found["two"]


async def test_rates_come_from_two_heartbeats(
    servers, stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions = await healthy(stack, await servers(2))
    await beat(regions, 0, age=2, counts={"published_rows": 100})
    monkeypatch.setattr("meshnode.ops.status.RATE_SECONDS", 0)
    real_look = Lookout.look

    async def look_and_beat(self: Lookout) -> Status:
        status = await real_look(self)
        await beat(regions, 0, age=0, counts={"published_rows": 300})
        return status

    monkeypatch.setattr(Lookout, "look", look_and_beat)
    status = await look_twice(regions.topology)
    assert 40 < status.regions[0].rates["published_rows"] <= 100
    assert status.regions[1].rates == {}


async def test_the_admin_account_can_look(servers, stack) -> None:
    """With the grants that ``init --print-grants`` prints, no more."""
    from meshnode.accounts import Account
    from meshnode.mysql.control import connect_to
    from meshnode.ops.grants import create_accounts
    from meshnode.ops.status import read
    from meshnode.ops.verdict import RegionStatus

    (server,) = await servers(1)
    regions = await healthy(stack, [server])
    account = Account("watcher", "secret")
    async with await control(server) as root:
        await create_accounts(root, {"admin": account}, ["app"])
    region = regions.topology.regions[0]
    shown = RegionStatus(region.name, region.id, "")
    async with await connect_to(region.mysql, account, server="one") as connection:
        await read(connection, regions.topology, region, shown)
    assert shown.error is None
    assert shown.wall_us
