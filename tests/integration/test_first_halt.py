"""What stops a node before its first heartbeat is seen from outside all the same."""

import contextlib
import shutil

from aiokafka.admin import AIOKafkaAdminClient
from mesh import NAMES
from steps import PLAIN, actor_of, running, until, waits

from meshnode.lab.rounds import wait
from meshnode.ops.install import uninstall
from meshnode.ops.status import look


async def installed_anew(mesh) -> None:
    """Taken out of the mesh and put in again, with the topics of before still on the bus."""
    await mesh.settle()
    await mesh.stop()
    await mesh.everywhere("UPDATE meshnode.heartbeat SET wall_us = 1")
    await uninstall(mesh.topology)
    await mesh.init()
    mesh.start()
    for at in (0, 1):
        await waits(mesh, at, "tailer", "was begun anew", "Removing meshnode")


async def test_a_stream_that_cannot_be_claimed_says_so_in_status_and_wait(
    servers, tmp_path
) -> None:
    async with running(servers, tmp_path, PLAIN) as mesh:
        await installed_anew(mesh)

        async def told() -> bool:
            problems = (await look(mesh.topology)).problems
            return {
                problem.region
                for problem in problems
                if "tailer halted" in problem.what and "begun anew" in problem.what
            } == set(NAMES[:2])

        await until(told, "the halts are in status")
        verdict = await wait(mesh.topology, 5)
        assert not verdict.complete
        assert any("tailer halted" in why and "begun anew" in why for why in verdict.reasons)
        # Nothing is promised by who has not claimed.
        assert await mesh.sql[0].value("SELECT frontier FROM meshnode.heartbeat") == 0


async def forget_topics(mesh) -> None:
    """What an operator does with the tools of the bus."""
    bus = mesh.topology.bus
    if bus.kind == "file":
        shutil.rmtree(bus.dir)
        return
    admin = AIOKafkaAdminClient(bootstrap_servers=list(bus.kafka.bootstrap))
    await admin.start()
    try:
        await admin.delete_topics([f"{mesh.topology.mesh}.{name}" for name in NAMES[:2]])
    finally:
        await admin.close()


async def test_without_the_topics_of_before_a_new_install_works(servers, tmp_path) -> None:
    """``docs/OPERATING.md``, 'Removing meshnode', also for who has read it too late."""
    async with running(servers, tmp_path, PLAIN) as mesh:
        await mesh.sql[0].execute("INSERT INTO app.t (id, v) VALUES (1, 'before'), (2, 'before')")
        await installed_anew(mesh)
        await mesh.sql[1].execute("UPDATE app.t SET v = 'meanwhile' WHERE id = 2")
        await mesh.stop()
        await forget_topics(mesh)
        mesh.start()
        await mesh.sql[0].execute("INSERT INTO app.t (id, v) VALUES (3, 'after')")
        await mesh.settle()
        rows = [row[:2] for row in await mesh.same("app.t")]
        assert rows == [(1, "before"), (2, "meanwhile"), (3, "after")]


async def test_a_node_that_was_replaced_before_its_claim_writes_nothing_more(
    servers, tmp_path
) -> None:
    async with running(servers, tmp_path, PLAIN) as mesh:
        await installed_anew(mesh)
        beat = "SELECT beat FROM meshnode.heartbeat"

        async def beats() -> bool:
            return await mesh.sql[0].value(beat) > 1

        await until(beats, "the node that is halted writes beats")
        heart = actor_of(mesh, 0, "heart")
        async with contextlib.AsyncExitStack() as stack:
            session = await stack.enter_async_context(await mesh.session(0))
            for each in (0, 1):
                await mesh.stop(each)
            await session.execute("UPDATE meshnode.member SET epoch = epoch + 1")
            before = await session.value(beat)
            async with heart.store.beating() as own:
                await heart._tell(own)
            assert await session.value(beat) == before
