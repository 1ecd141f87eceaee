"""Unique values that one region gives up and another takes."""

from steps import converged, running, sees, waits

from meshnode.ops.pauses import pause, resume


async def test_a_value_that_was_freed_in_another_region_is_waited_for(servers, tmp_path) -> None:
    """The one that frees it and the one that takes it come in two streams, in either order.

    Needed: trying such rows again.  Without it the row is missing here until an operator acts,
    though nobody has written anything at the same time.
    """
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, u VARCHAR(10) UNIQUE)"
    async with running(servers, tmp_path, table, regions=3) as mesh:
        one, two, three = mesh.sql
        await one.execute("INSERT INTO app.t VALUES (1, 'x')")
        await mesh.settle()
        await pause(three, mesh.topology.region("one"))
        await waits(mesh, 2, "applier one", state="paused")
        await one.execute("DELETE FROM app.t WHERE id = 1")
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.t", 0)
        await two.execute("INSERT INTO app.t VALUES (2, 'x')")
        await sees(mesh, 2, "SELECT code FROM meshnode.dead_letter WHERE state = 'open'", 1062)
        await resume(three, mesh.topology.region("one"))
        await sees(mesh, 2, "SELECT id FROM app.t WHERE u = 'x'", 2)
        assert [row[:2] for row in await converged(mesh)] == [(2, "x")]
        await sees(mesh, 2, "SELECT state FROM meshnode.dead_letter", "closed")
        assert await three.value("SELECT COUNT(*) FROM meshnode.conflict_log") == 0
