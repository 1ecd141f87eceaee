"""A bus that cannot be read, or not be written, for a while."""

import contextlib
from collections.abc import AsyncIterator

import pytest
import stream_carrier
from mesh import NAMES, Mesh
from steps import Paused, actor, applier, converged, has_rows, running, sees, until

from meshnode.actors import origin
from meshnode.buses import make_bus
from meshnode.errors import Retry
from meshnode.ops.status import look


@pytest.mark.kafka_essential
async def test_a_bus_that_fails_does_not_end_the_batch_being_applied(servers, tmp_path) -> None:
    """The batch is committed, the reason is in view meanwhile, and then the stream goes on.

    Needed: the intake's own retries.  Raised, the error would cancel the statement in flight,
    and a bus that fails more often than a large batch takes would stop the stream for good.
    """
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await mesh.settle()
        taker = applier(mesh, 1, 0).loop
        reader, original = taker.intake.reader, taker.intake.reader.read
        fails = True

        async def read(position: bytes, size: int) -> list:
            if fails:
                raise Retry("the disk is away")
            return await original(position, size)

        async with Paused(taker.session, "lock", has_rows) as pause:
            await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'in flight')")
            await pause.reached()
            reader.read = read
            # It waits in the former call until something more comes.
            await one.execute("INSERT INTO app.t (id, v) VALUES (2, 'later')")
            await until(lambda: taker.intake.failing, "a read that fails")
            state = actor(mesh, 1, "applier one")
            assert state.state == "retrying"
            assert "the stream of one cannot be read: the disk is away" in state.reason
            pause.go()
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "in flight")
            assert (state.state, state.restarts) == ("retrying", 0)
            fails = False
            rows = await converged(mesh)
        assert [row[1] for row in rows] == ["in flight", "later"]
        assert (state.state, state.restarts) == ("running", 0)


@contextlib.asynccontextmanager
async def away(mesh: Mesh, at: int) -> AsyncIterator[None]:
    """Nobody can write the topic of a region."""
    if mesh.topology.bus.kind == "kafka":
        broker = stream_carrier.broker()
        await broker.kill_async()
        try:
            yield
        finally:
            await broker.start_async()
        return
    bus = make_bus(mesh.topology, NAMES[at])
    writer = bus.writer(NAMES[at])
    await writer.open(5)
    try:
        yield
    finally:
        await writer.close()
        await bus.close()


async def test_while_the_bus_is_away_the_epoch_is_raised_once(
    servers, tmp_path, monkeypatch
) -> None:
    """Every try of a node that starts ends before its claim; the first one has the epoch.

    Meanwhile the node says in its heartbeats what it waits for.
    """
    monkeypatch.setattr(origin, "OPEN_SECONDS", 0.05)
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await mesh.settle()
        await mesh.stop(0)
        before = await one.value("SELECT epoch FROM meshnode.member")
        async with away(mesh, 0):
            mesh.start(0)
            tailer = actor(mesh, 0, "tailer")
            await until(lambda: tailer.restarts >= 4, "four tries")
            assert await one.value("SELECT epoch FROM meshnode.member") == before + 1

            async def told() -> bool:
                actors = (await look(mesh.topology)).regions[0].actors
                return any(each.name == "tailer" and each.restarts >= 4 for each in actors)

            await until(told, "the heartbeats tell of the tries")
            assert mesh.count("claims") == 1, "that of the other region"
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'after')")
        assert [row[1] for row in await converged(mesh)] == ["after"]
        assert await one.value("SELECT epoch FROM meshnode.member") == before + 1
