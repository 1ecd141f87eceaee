"""Two node processes for one region: the slow one comes back when the other has published.

Both are real processes; the slow one is frozen with SIGSTOP at a step that a lock holds open,
and let go when its successor's rows are at the peer.  One of the two must stop, and say why;
nothing may be there twice.
"""

import asyncio
import contextlib
import fcntl
import signal
from pathlib import Path

import pytest
from crash_mesh import CrashMesh, crash_mesh
from steps import until

from meshnode.lab import processes
from meshnode.lab.nodes import Node

pytestmark = pytest.mark.timeout(600)

FENCED = ("another process", "another node", "was claimed with epoch", "took over")
END_SECONDS = 60.0


@contextlib.contextmanager
def bus_lock(mesh: CrashMesh, region: str):
    """Hold the lock of the region's topic: its node cannot open its writer meanwhile."""
    path = Path(mesh.cluster.topology.bus_dir(region)) / region / "lock"
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def slow_node(mesh: CrashMesh, region: str, folder: Path) -> Node:
    """A second process for the region, with files of its own."""
    folder.mkdir()
    return Node(region, mesh.cluster.layout.topology, folder)


def send(node: Node, number: signal.Signals) -> None:
    assert processes.send(node.pid, node._marker, number), f"the node is gone:\n{node.log_tail()}"


async def arrives(mesh: CrashMesh, token: str) -> None:
    """Write a token in the first region and wait until the second has it."""
    first, second = mesh.names
    async with await mesh.sql(first) as control:
        await control.execute("INSERT INTO app.tokens VALUES (%s, 1)", (token,))
    async with await mesh.sql(second) as control:

        async def there() -> bool:
            return bool(
                await control.value("SELECT COUNT(*) FROM app.tokens WHERE token = %s", (token,))
            )

        await until(there, f"{token} arrives{mesh.tails()}", END_SECONDS)


async def one_ends(mesh: CrashMesh, nodes: list[Node]) -> Node:
    """Wait until one of the processes has ended, with the reason in its log; the other."""

    def left() -> list[Node]:
        return [node for node in nodes if node.running]

    logs = lambda: "".join(f"\n--\n{node.log_tail(20)}" for node in nodes)  # noqa: E731
    await until(lambda: len(left()) < 2, "one of two processes ends", END_SECONDS)
    assert len(left()) == 1, f"both have ended{logs()}"
    (gone,) = [node for node in nodes if not node.running]
    tail = gone.log_tail(5)
    assert any(words in tail for words in FENCED), f"no clear reason:\n{tail}"
    return left()[0]


async def test_a_starter_that_is_frozen_before_its_claim(tmp_path, mysqld) -> None:
    """It has raised the epoch and not claimed; its successor claims and publishes meanwhile.

    Needed: the claim carries the epoch, and whoever finds a higher one than it ever set stops.
    """
    async with crash_mesh(tmp_path, mysqld, 2) as mesh:
        first = mesh.names[0]
        await mesh.settle()
        await mesh.kill_node(first)
        before = await mesh.epoch(first)
        slow = slow_node(mesh, first, tmp_path / "slow")
        try:
            with bus_lock(mesh, first):
                slow.start(die_with_parent=True)

                async def raised() -> bool:
                    return await mesh.epoch(first) > before

                await until(raised, "the slow one raises the epoch", END_SECONDS)
                send(slow, signal.SIGSTOP)
            mesh.start_node(first)
            await arrives(mesh, "during")
            send(slow, signal.SIGCONT)
            left = await one_ends(mesh, [slow, mesh.node(first)])
            assert left.folder != slow.folder, "the one that had published gave way"
            await arrives(mesh, "after")
            await mesh.judge()
        finally:
            await asyncio.to_thread(slow.kill)


async def test_a_starter_that_is_frozen_before_it_raised_the_epoch(tmp_path, mysqld) -> None:
    """Its statement waits for a row lock while it is frozen; its successor ends that session."""
    async with crash_mesh(tmp_path, mysqld, 2) as mesh:
        first = mesh.names[0]
        await mesh.settle()
        await mesh.kill_node(first)
        slow = slow_node(mesh, first, tmp_path / "slow")
        try:
            async with await mesh.sql(first) as holder:
                await holder.execute("START TRANSACTION")
                await holder.execute("SELECT * FROM meshnode.member FOR UPDATE")
                slow.start(die_with_parent=True)

                async def waiting() -> bool:
                    return bool(
                        await mesh.value(
                            first,
                            "SELECT COUNT(*) FROM information_schema.processlist"
                            " WHERE user = 'mesh_apply' AND info LIKE 'UPDATE meshnode.member%'",
                        )
                    )

                await until(waiting, "the slow one wants to raise the epoch", END_SECONDS)
                send(slow, signal.SIGSTOP)
                await holder.execute("COMMIT")
            mesh.start_node(first)
            await arrives(mesh, "during")
            send(slow, signal.SIGCONT)
            # It had not begun: for the mesh it is a third starter.  One of the two must go.
            await one_ends(mesh, [slow, mesh.node(first)])
            await arrives(mesh, "after")
            await mesh.judge()
        finally:
            await asyncio.to_thread(slow.kill)


async def test_a_node_that_is_frozen_while_it_publishes(tmp_path, mysqld) -> None:
    """A machine that stands still for a while holds the topic's lock: its successor waits.

    When it is back it finds its sessions ended and a higher epoch, and gives way.
    """
    async with crash_mesh(tmp_path, mysqld, 2) as mesh:
        first = mesh.names[0]
        await mesh.settle()
        await arrives(mesh, "before")
        before = await mesh.epoch(first)
        frozen = mesh.node(first)
        mesh.signal_node(first, signal.SIGSTOP)
        successor = slow_node(mesh, first, tmp_path / "successor")
        try:
            successor.start(die_with_parent=True)

            async def raised() -> bool:
                return await mesh.epoch(first) > before

            try:
                await until(raised, "the successor raises the epoch", END_SECONDS)
            except AssertionError as error:
                error.add_note(successor.log_tail(20))
                raise
            send(frozen, signal.SIGCONT)
            left = await one_ends(mesh, [frozen, successor])
            assert left.folder == successor.folder
            await arrives(mesh, "after")
            await mesh.judge()
        finally:
            await asyncio.to_thread(successor.kill)
