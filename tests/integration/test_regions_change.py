"""``docs/OPERATING.md``, 'Removing a region': what it left half applied, and how it comes back."""

import msgspec
import pytest
from mesh import Mesh
from steps import actor, converged, forget_topic, gardening, running, sees, tombstone, until

from meshnode.errors import Refused
from meshnode.ops.pauses import pause, resume
from meshnode.ops.verify import verify
from meshnode.topology import Topology

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


def take_out(mesh: Mesh) -> tuple[Topology, object]:
    """Region three goes from the file, its server is left alone; what puts it back."""
    full = mesh.topology
    mesh.topology = msgspec.structs.replace(full, regions=full.regions[:2])
    return full, mesh.servers.pop()


def put_back(mesh: Mesh, full: Topology, server: object) -> None:
    mesh.topology = full
    mesh.servers.append(server)


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


async def test_a_region_comes_back_with_its_data_before_tombstones_were_dropped(
    servers, tmp_path
) -> None:
    async with running(servers, tmp_path, regions=3) as mesh:
        await half_applied(mesh)
        full, server = take_out(mesh)
        await mesh.init()
        put_back(mesh, full, server)
        await mesh.init()
        await resume(mesh.sql[1], full.region("three"))
        mesh.start()
        await mesh.sql[0].execute(INSERT, (11, "all three"))
        assert [row[0] for row in await converged(mesh)] == [1, 3, 4, 9, 11]


async def test_a_region_comes_back_empty_once_tombstones_were_dropped(servers, tmp_path) -> None:
    """What it wrote before, and nobody has read, would bring back what was deleted since."""
    async with running(servers, tmp_path, regions=3) as mesh:
        one, _, three = mesh.sql
        await half_applied(mesh)
        await three.execute("UPDATE app.t SET v = 'not published' WHERE id = 4")
        full, server = take_out(mesh)
        await mesh.init()
        mesh.start()
        await one.execute("DELETE FROM app.t WHERE id = 4")
        await mesh.settle()

        async def dropped() -> bool:
            for at in (0, 1):
                async with gardening(mesh, at) as collect:
                    await collect()
            return not any([await tombstone(sql, 4) for sql in mesh.sql[:2]])

        await until(dropped, "the tombstone is dropped")
        await mesh.stop()
        # What a region has promised is noted with its next heartbeat; it collects sooner.
        await one.execute("UPDATE meshnode.member SET tail_frontier = gc_limit - 1")
        put_back(mesh, full, server)
        for seed_from in (None, "one"):
            with pytest.raises(Refused, match="three was out of the mesh while one, two dropped"):
                await mesh.init(seed_from=seed_from)

        await three.execute("TRUNCATE app.t")
        await three.execute("DROP DATABASE meshnode")
        await forget_topic(mesh, "three")
        assert (await mesh.init(seed_from="one")).complete
        behind = "SELECT COUNT(*) FROM meshnode.applied JOIN meshnode.member ON gc_limit > frontier"
        assert await three.value(behind) == 0
        # It has promised above what the others have dropped, and they know it.
        mesh.start(2)
        started = "SELECT incarnation FROM meshnode.member"
        await until(lambda: three.value(started), "its node has started")
        assert (await mesh.init()).complete
        mesh.start(0, 1)
        await resume(mesh.sql[1], full.region("three"))
        assert [row[0] for row in await converged(mesh)] == [1, 3, 9]
