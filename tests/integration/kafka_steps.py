"""Steps of the tests that are about Kafka itself: its broker's troubles, and its topics' files."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import stream_carrier
from aiokafka.protocol.admin import DeleteRecordsRequest, DeleteTopicsRequest
from mesh import NAMES, Mesh
from steps import TRX_LOOK_SECONDS, until

from meshnode.bus.kafka_link import Cluster, Link, connect, find_topic
from meshnode.errors import Retry
from meshnode.lab.broker import Broker
from meshnode.lab.kafka_jars import why_no_kafka

WAIT_MS = 10_000


@contextlib.contextmanager
def over_kafka(monkeypatch: pytest.MonkeyPatch):
    """Every mesh of the test is carried by the session's broker, whole again afterwards."""
    missing = why_no_kafka()
    if missing is not None:
        pytest.skip(missing)
    monkeypatch.setattr(stream_carrier, "kind", "kafka")
    broker = stream_carrier.broker()
    yield broker
    broker.resume()
    broker.start()


def topic_of(mesh: Mesh, at: int) -> str:
    """The name of a region's topic."""
    return f"{mesh.topology.mesh}.{NAMES[at]}"


@contextlib.asynccontextmanager
async def linked(broker: Broker, topic: str) -> AsyncIterator[Link]:
    """A connection to the leader of a topic, once it answers."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Retry):
                link = await find_topic(Cluster((broker.bootstrap,)), topic)
                assert link is not None, f"there is no topic {topic}"
                with contextlib.closing(link):
                    await link.offsets()
                    yield link
                    return
            await asyncio.sleep(0.05)


async def delete(broker: Broker, topic: str) -> None:
    """Delete a topic; a running node may have made it again when this returns."""
    connection = await connect(Cluster((broker.bootstrap,)))
    answer = await connection.ask(DeleteTopicsRequest([topic], WAIT_MS))
    connection.close()
    assert answer.topic_error_codes == [(topic, 0)]


async def forget(broker: Broker, topic: str) -> None:
    """Let the retention of every record of a topic be over."""
    async with linked(broker, topic) as link:
        _, end = await link.offsets()
        answer = await link.ask(DeleteRecordsRequest([(topic, [(0, end)])], WAIT_MS))
        # For versions with tagged fields the answer has them too.
        assert answer.topics[0][1][0][:3] == (0, end, 0)


def files_of(broker: Broker, topic: str) -> Path:
    """Where the broker keeps a topic."""
    return broker.directory / "data" / f"{topic}-0"


async def copy_of(broker: Broker, topic: str, folder: Path) -> Path:
    """A copy of a topic's files, made while the broker is down; it runs again afterwards."""
    await broker.kill_async()
    copy = Path(shutil.copytree(files_of(broker, topic), folder / "copy"))
    await broker.start_async()
    return copy


async def put_back(broker: Broker, topic: str, copy: Path) -> None:
    """Give a topic the files of before, with the broker down meanwhile."""
    await broker.kill_async()
    shutil.rmtree(files_of(broker, topic))
    shutil.copytree(copy, files_of(broker, topic))
    await broker.start_async()


async def no_transaction_stays_open(mesh: Mesh, looks: int = 4, apart: float = 1.0) -> None:
    """No transaction of a node is seen in two looks that are ``apart`` seconds from each other."""
    threads = [
        ",".join(map(str, sorted(mesh.nodes[at][0].board.threads))) for at in range(len(mesh.sql))
    ]
    before: list[set[object]] = [set() for _ in threads]
    for _ in range(looks):
        for at, sql in enumerate(mesh.sql):
            rows = await sql.rows(
                "SELECT trx_id, trx_mysql_thread_id, trx_started FROM information_schema.innodb_trx"
                f" WHERE trx_mysql_thread_id IN ({threads[at]})"
            )
            stays = before[at] & set(rows)
            assert not stays, f"{NAMES[at]}: {stays} stays open"
            before[at] = set(rows)
        await asyncio.sleep(max(apart, TRX_LOOK_SECONDS))


async def nothing_is_published(mesh: Mesh) -> None:
    """Wait until every publisher stands still: the newest beat in MySQL is not in the topic."""

    def stands() -> bool:
        boards = [node.board for node, _ in mesh.nodes.values()]
        return all(board.beat_us - board.published_us > 2_000_000 for board in boards)

    await until(stands, "publishers that wait for Kafka")
