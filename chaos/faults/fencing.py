"""Two processes for one region."""

import asyncio
import signal
from collections.abc import AsyncIterator

from chaos.faults.kinds import kind
from chaos.mesh import Mesh
from chaos.plan import Fault
from meshnode.lab.nodes import Node

FENCED = ("another process", "another node", "was claimed with epoch", "took over")
END_SECONDS = 60.0
LOOK_SECONDS = 0.05


async def _one_left(mesh: Mesh, nodes: list[Node]) -> None:
    """Wait until one of two processes has ended itself, and look whether it said why."""
    async with asyncio.timeout(END_SECONDS):
        # Nobody tells that a process has ended.
        while sum(node.running for node in nodes) > 1:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
    for node in nodes:
        if not node.running and not any(words in node.log_tail(8) for words in FENCED):
            mesh.journal.find("I13", f"ended without a clear reason:\n{node.log_tail(8)}")
    if not any(node.running for node in nodes):
        mesh.journal.find("I14", "both processes of a region have ended")


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
        mesh.expected_ends |= {first.pid or 0}
        try:
            if fault.number("frozen"):
                mesh.signal_node(region, signal.SIGSTOP)
            second.start(die_with_parent=True)
            yield
            mesh.signal_node(region, signal.SIGCONT)
            try:
                await _one_left(mesh, [first, second])
            except TimeoutError:
                text = f"{first.log_tail(8)}\n--\n{second.log_tail(8)}"
                mesh.journal.find("I13", f"two processes of {region} live on:\n{text}")
        finally:
            mesh.signal_node(region, signal.SIGCONT)
            await asyncio.to_thread(second.kill)
        mesh.start_node(region)
