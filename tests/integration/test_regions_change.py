"""``docs/OPERATING.md``, 'Removing a region': what it left half applied."""

import msgspec
from mesh import Mesh
from steps import actor, converged, running, sees, until

from meshnode.ops.pauses import pause
from meshnode.ops.verify import verify

INSERT = "INSERT INTO app.t (id, v) VALUES (%s, %s)"


async def half_applied(mesh: Mesh) -> None:
    """Region one has applied more of three than two has; then all nodes stop."""
    _, two, three = mesh.sql
    for key in range(1, 5):
        await three.execute(INSERT, (key, "before"))
    await mesh.settle()
    await pause(two, mesh.topology.region("three"))
    await until(lambda: actor(mesh, 1, "applier three").state == "paused", "two has paused three")
    await three.execute(INSERT, (9, "only in one"))
    await three.execute("UPDATE app.t SET v = 'newer' WHERE id = 1")
    await three.execute("DELETE FROM app.t WHERE id = 2")
    await sees(mesh, 0, "SELECT COUNT(*) FROM app.t WHERE id = 2", 0)
    await mesh.settle(regions=(0, 1))
    await mesh.stop()


def take_out(mesh: Mesh) -> None:
    """Region three goes from the file; its server is left alone."""
    mesh.topology = msgspec.structs.replace(mesh.topology, regions=mesh.topology.regions[:2])
    mesh.servers.pop()


async def test_what_only_some_had_applied_of_a_removed_region_reaches_all(
    servers, tmp_path
) -> None:
    async with running(servers, tmp_path, regions=3) as mesh:
        await half_applied(mesh)
        take_out(mesh)
        assert (await mesh.init()).lifted == {"app.t": 3}
        mesh.start()
        await mesh.sql[1].execute(INSERT, (10, "after"))
        rows = await converged(mesh)
        assert [(key, value) for key, value, *_ in rows] == [
            (1, "newer"), (3, "before"), (4, "before"), (9, "only in one"), (10, "after")
        ]  # fmt: skip
        assert (await verify(mesh.topology)).settled

        # As long as this is known of it, each run of init compares so.
        places = "SELECT COUNT(*) FROM meshnode.applied WHERE origin = 3 AND incarnation <> 0"
        assert [await sql.value(places) for sql in mesh.sql[:2]] == [1, 1]
