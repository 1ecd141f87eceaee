"""A bus that cannot be read for a while."""

import pytest
from steps import Paused, actor, applier, converged, running, sees, until

from meshnode.errors import Retry


@pytest.mark.kafka_essential
async def test_a_bus_that_fails_does_not_end_the_batch_being_applied(servers, tmp_path) -> None:
    """The batch is committed, the reason is in view meanwhile, and then the stream goes on.

    Needed: the intake's own retries.  Raised, the error would cancel the statement in flight,
    and a bus that fails more often than a large batch takes would stop the stream for good.
    """
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await mesh.settle()
        taker = applier(mesh, 1, 0)
        reader, original = taker.intake.reader, taker.intake.reader.read
        fails = True

        async def read(position: bytes, size: int) -> list:
            if fails:
                raise Retry("the disk is away")
            return await original(position, size)

        async with Paused(
            taker.applying, "lock", lambda works, *_: bool(works[0].incoming)
        ) as pause:
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
