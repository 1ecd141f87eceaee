"""A topic that was deleted, put back or emptied: everybody halts with reason and remedy.

Nobody goes on somewhere else: what a region applied is what it had applied before.
"""

from collections.abc import Iterator

import pytest
from kafka_steps import copy_of, delete, forget, over_kafka, put_back, topic_of
from mesh import Mesh
from steps import running, until, waits

from meshnode.lab.broker import Broker
from meshnode.ops.status import look

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

ANEW = "deleted and made again"


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    with over_kafka(monkeypatch) as running_broker:
        yield running_broker


async def both_halt(mesh: Mesh, *words: str) -> None:
    """The region whose topic it is and its peer stand, and ``status`` says why and what to do."""
    for at, name in ((0, "tailer"), (1, "applier one")):
        state = await waits(mesh, at, name, *words)
        assert "fill this region from another one" in state.remedy

    async def told() -> bool:
        status = await look(mesh.topology)
        problems = {
            problem.region
            for problem in status.problems
            if "halted" in problem.what and "fill this region" in problem.remedy
        }
        return problems == {"one", "two"} and not status.converged

    await until(told, "status names both")


async def other_way(mesh: Mesh, key: int) -> None:
    """What region two writes still reaches region one."""
    await mesh.sql[1].execute("INSERT INTO app.t (id, v) VALUES (%s, 'back')", (key,))

    async def there() -> object:
        return await mesh.sql[0].value("SELECT COUNT(*) FROM app.t WHERE id = %s", (key,))

    await until(there, "the other way")


@pytest.mark.parametrize("nodes", ["running", "down"])
async def test_a_topic_that_was_deleted(broker: Broker, servers, tmp_path, nodes: str) -> None:
    """The node makes its topic again, sees that it is another one, and publishes nothing in it."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'before')")
        await mesh.settle()
        if nodes == "down":
            await mesh.stop()
        await delete(broker, topic_of(mesh, 0))
        if nodes == "down":
            mesh.start()
        await one.execute("INSERT INTO app.t (id, v) VALUES (2, 'after')")
        await both_halt(mesh, ANEW)
        if nodes == "running":
            # A node applies nothing before it has claimed its own stream.
            await other_way(mesh, 3)
        assert await two.rows("SELECT id FROM app.t WHERE id < 3 ORDER BY id") == [(1,)]


@pytest.mark.slow
@pytest.mark.parametrize("nodes", ["running", "down"])
async def test_a_topic_that_lost_its_newest_records(
    broker: Broker, servers, tmp_path, nodes: str
) -> None:
    """Files of an older state were put back: shorter than what was read, and then longer."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'before')")
        await mesh.settle()
        copy = await copy_of(broker, topic_of(mesh, 0), tmp_path)
        await one.execute("INSERT INTO app.t (id, v) VALUES (2, 'lost in the topic')")
        await mesh.settle()
        if nodes == "down":
            await mesh.stop()
        await put_back(broker, topic_of(mesh, 0), copy)
        if nodes == "down":
            mesh.start()
        await one.execute("INSERT INTO app.t (id, v) VALUES (3, 'after')")
        await both_halt(mesh)
        if nodes == "running":
            await other_way(mesh, 4)
        assert await two.rows("SELECT id FROM app.t WHERE id < 4 ORDER BY id") == [(1,), (2,)]


async def test_a_region_that_was_away_for_longer_than_the_retention(
    broker: Broker, servers, tmp_path
) -> None:
    """Only its stream of that peer halts; the peer itself goes on."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'before')")
        await mesh.settle()
        await mesh.stop(1)
        await one.execute("INSERT INTO app.t (id, v) VALUES (2, 'never read')")
        await mesh.settle(regions=[0])
        board = mesh.nodes[0][0].board
        sequence = board.tail.seq
        await until(lambda: board.tail.seq > sequence + 1, "the insert is in the topic")
        await forget(broker, topic_of(mesh, 0))
        mesh.start(1)
        state = await waits(mesh, 1, "applier one", "keeps records from offset")
        assert "fill this region from another one" in state.remedy
        assert "retention.ms" in state.remedy
        await other_way(mesh, 3)
        assert await two.rows("SELECT id FROM app.t ORDER BY id") == [(1,), (3,)]
        assert mesh.nodes[1][0].board.peer(1).retention_left in (0.0, None)


async def test_a_row_beyond_the_largest_message(broker: Broker, servers, tmp_path) -> None:
    """Five times what the topic takes in one message: it goes in several."""
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, v LONGBLOB)"
    async with running(servers, tmp_path, table) as mesh:
        await mesh.sql[0].execute(
            "INSERT INTO app.t VALUES (1, CAST(REPEAT(RANDOM_BYTES(1024), 20480) AS BINARY))"
        )
        await mesh.settle()
        digest = "SELECT CONCAT(SHA2(v, 256), ' ', LENGTH(v)) FROM app.t"
        found = [await sql.value(digest) for sql in mesh.sql]
        assert found[0] == found[1]
        assert found[0].endswith(f" {20 * 2**20}")
