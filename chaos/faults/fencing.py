"""Two processes for one region."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from typing import NamedTuple

from chaos.faults.kinds import kind
from chaos.mesh import Mesh
from chaos.plan import Fault
from meshnode.lab.nodes import Node

FENCED = ("another process", "another node", "was claimed with epoch", "took over")
END_SECONDS = 240.0
LOOK_SECONDS = 0.05


class Twin(NamedTuple):
    """One of the two processes: whether it lives, and the end of its log."""

    pid: int
    running: bool
    tail: str


def judged(twins: Sequence[Twin], shot: Set[int]) -> list[tuple[str, str]]:
    """What is wrong with how two processes ended.

    ``shot`` are those that a fault point ended, which had no time to say anything; pid 0 is one
    that was down before.
    """
    found = [
        ("I13", f"ended without a clear reason:\n{twin.tail}")
        for twin in twins
        if twin.pid and not twin.running and twin.pid not in shot
        if not any(words in twin.tail for words in FENCED)
    ]
    if not any(twin.running or twin.pid in shot for twin in twins):
        found.append(("I14", "both processes of a region have ended"))
    return found


async def _one_left(mesh: Mesh, nodes: Mapping[int, Node]) -> None:
    """Wait until one of two processes (by pid) has ended itself, and look whether it said why."""
    async with asyncio.timeout(END_SECONDS):
        # Nobody tells that a process has ended.
        while sum(node.running for node in nodes.values()) > 1:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
    twins = [Twin(pid, node.running, node.log_tail(8)) for pid, node in nodes.items()]
    for check, text in judged(twins, mesh.points.shot):
        mesh.journal.find(check, text)


@kind("node.twin")
async def twin(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """A second process for a region takes over, with the first one at work, or (``frozen`` 1)
    standing still until the end.  One of the two must give way."""
    (region,) = fault.target
    folder = mesh.layout.directory / f"twin-{fault.start:g}-{region}"
    folder.mkdir()
    async with mesh.holding(f"node:{region}"):
        first = mesh.node(region)
        second = Node(region, mesh.layout.topology, folder)
        first_pid = first.pid or 0
        mesh.expected_ends.add(first_pid)
        try:
            if fault.number("frozen"):
                mesh.signal_node(region, signal.SIGSTOP)
            second.start(die_with_parent=True)
            second_pid = second.pid or 0
            yield
            mesh.signal_node(region, signal.SIGCONT)
            try:
                await _one_left(mesh, {first_pid: first, second_pid: second})
            except TimeoutError:
                text = f"{first.log_tail(8)}\n--\n{second.log_tail(8)}"
                mesh.journal.find("I13", f"two processes of {region} live on:\n{text}")
        finally:
            mesh.signal_node(region, signal.SIGCONT)
            await asyncio.to_thread(second.kill)
        mesh.start_node(region)
