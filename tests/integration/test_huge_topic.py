"""A transaction larger than a topic of the file bus may be: no healthy peer loses a part of it."""

import asyncio

import msgspec
from mesh import Mesh, mesh_of
from steps import Paused, actor_of, applier, converged, sees, until
from test_huge import COUNT, PARTS, RECURSION, ROWS, TABLE, fill, holds_a_part

from meshnode.actors import apply_loop
from meshnode.limits import KIB


def small_topics(mesh: Mesh) -> None:
    """The smallest ones that a topology file can ask for; a broker deletes by its own rules."""
    bus = mesh.topology.bus
    if bus.kind == "file":
        bus = msgspec.structs.replace(
            bus, segment_bytes=64 * KIB, max_bytes=128 * KIB, min_age_seconds=0.0
        )
        mesh.topology = msgspec.structs.replace(mesh.topology, bus=bus)


async def test_no_part_goes_before_healthy_peers_had_time_to_apply_it(
    servers, tmp_path, monkeypatch
) -> None:
    """Neither while its parts are appended nor when they are all there, and the tail is noted.

    Needed: one that does not count against its topic's size.  With the floor of ``retain`` alone
    the peer halts with *retention passed*, for good.
    """
    # Few beats: what follows the transaction must not fill the topic meanwhile.
    limits = msgspec.structs.replace(PARTS, heartbeat_seconds=1.0)
    async with mesh_of(await servers(2), tmp_path, limits=limits) as mesh:
        small_topics(mesh)
        one, two = mesh.sql
        await mesh.everywhere("CREATE DATABASE app", TABLE)
        await mesh.init()
        mesh.start()
        await one.execute(RECURSION)
        await mesh.settle()
        gardener, board = actor_of(mesh, 0, "gardener"), mesh.nodes[0][0].board
        reached, go_on, original = asyncio.Event(), asyncio.Event(), apply_loop.parts_of

        async def parts_of(*arguments):
            reached.set()
            await go_on.wait()
            async for part in original(*arguments):
                yield part

        monkeypatch.setattr(apply_loop, "parts_of", parts_of)
        async with Paused(gardener.writer, "append", holds_a_part(mesh)) as pause:
            await one.execute(fill())
            await pause.reached()
            await gardener.retain()
        await asyncio.wait_for(reached.wait(), 60)
        await until(lambda: board.noted == board.tail.position, "the last part is noted")
        await gardener.retain()
        go_on.set()
        await sees(mesh, 1, COUNT, ROWS, 60)
        assert len(await converged(mesh)) == ROWS
        assert applier(mesh, 1, 0).state.restarts == 0
        assert mesh.count("retention_lost_bytes") == 0
        assert await two.value("SELECT COUNT(*) FROM meshnode.dead_letter") == 0
