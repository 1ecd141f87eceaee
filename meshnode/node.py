"""The composition root: a topology and a region become supervised actors."""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from meshnode.accounts import secrets
from meshnode.actors.applier import Applier
from meshnode.actors.board import Board
from meshnode.actors.census import Taker
from meshnode.actors.gardener import Gardener
from meshnode.actors.heart import Heart
from meshnode.actors.kernel import Actor, Supervisor
from meshnode.actors.origin import Origin
from meshnode.actors.resolver import Resolver
from meshnode.actors.retention import Retention
from meshnode.actors.watcher import Watcher
from meshnode.buses import make_bus
from meshnode.errors import Refused
from meshnode.ops.doctor import examine, refusals
from meshnode.ops.node_status import NodeStatus
from meshnode.topology import Kafka, Topology, load

if TYPE_CHECKING:
    from meshnode.ops.http import OpsServer
    from meshnode.ops.tracing import Tracer

AWAY_SECONDS = 2.0

log = logging.getLogger("meshnode")


class Node:
    """One region's process: its actors, and what they share."""

    def __init__(self, topology: Topology, path: Path | None, region: str) -> None:
        self.topology = topology
        self.region = topology.region(region)
        self.board = Board(self.region.id)
        self.tracer = self._tracer()
        self.supervisor = Supervisor()
        self.bus = make_bus(topology, region)
        self.writer = self.bus.writer(region)
        self.actors = self._actors(path)
        self.ops = self._ops()

    def _actors(self, path: Path | None) -> list[Actor]:
        topology, region, board = self.topology, self.region, self.board
        tail = secrets(topology, region.name, "tail")
        apply = secrets(topology, region.name, "apply")
        watcher = Watcher(topology, path)
        actors: list[Actor] = [
            Origin(watcher.view, region, tail, apply, self.bus, self.writer, board),
            Heart(
                region, apply, board, topology.limits.heartbeat_seconds,
                lambda: watcher.view.now.digest, lambda: [actor.state for actor in actors],
            ),
            *(
                Applier(watcher.view, region, peer, apply, self.bus, board)
                for peer in topology.peers(region.name)
            ),
            Resolver(watcher.view, region, apply, board),
            Gardener(watcher.view, region, apply, self.writer, board),
            Taker(region, apply, board),
            watcher,
        ]  # fmt: skip
        self.view = watcher.view
        if topology.bus.kind == "kafka":
            seconds = (topology.bus.kafka or Kafka()).retention_seconds
            peers = topology.peers(region.name)
            actors.append(Retention(peers, seconds, self.bus, board))
        return actors

    def _tracer(self) -> "Tracer | None":
        if self.topology.tracing is None:
            return None
        # Only here: who does not trace does without OpenTelemetry's start-up time and memory.
        from meshnode.ops.tracing import Tracer

        tracer = Tracer(self.topology, self.region, self.topology.tracing)
        self.board.observer = tracer
        for peer in self.topology.peers(self.region.name):
            self.board.peer(peer.id).observer = tracer.stream(peer)
        return tracer

    def _ops(self) -> "OpsServer | None":
        if self.region.ops is None:
            return None
        # Only here: a node without the port does without the web server's memory.
        from meshnode.ops.http import OpsServer

        status = NodeStatus(self.region, self.view, self.board, self.actors)
        login = secrets(self.topology, self.region.name, "apply")
        return OpsServer(status, self.region.ops, login)

    async def open(self) -> None:
        """Serve the ops port, if there is one, also while the node still waits.  Repeatable."""
        if self.ops is not None:
            await self.ops.start()

    async def run(self) -> None:
        """Run until stopped; raises Fenced when another process took the region over."""
        try:
            await self.open()
            await self.supervisor.run(self.actors)
        finally:
            await self.close()

    async def close(self) -> None:
        """Give back the ops port, the topic and the bus, send the last spans.  Repeatable."""
        if self.ops is not None:
            await self.ops.stop()
        await self.writer.close()
        await self.bus.close()
        if self.tracer is not None:
            await self.tracer.close()

    def waits(self, reason: str) -> None:
        """Show why the node has not started its work yet."""
        self.actors[0].state.set("waiting", reason)


async def require_health(
    topology: Topology, region: str, waits: Callable[[str], None] = lambda reason: None
) -> None:
    """Refuse to start on what the doctor refuses; wait for a server that is away.

    ``waits`` is told what it waits for.
    """
    while True:
        refused = refusals(await examine(topology, region, lab=lab_allowed()))
        away = [finding for finding in refused if finding.check == "connection"]
        if not refused:
            return
        if len(away) < len(refused):
            raise Refused(
                f"the doctor refuses region {region}: "
                + "; ".join(
                    f"{finding.check}: {finding.subject}: {finding.finding}" for finding in refused
                ),
                refused[0].remedy + "; `meshnode doctor` shows everything",
            )
        log.warning("%s; waiting for it", away[0].finding)
        waits(away[0].finding)
        await asyncio.sleep(AWAY_SECONDS)


def lab_allowed() -> bool:
    """Whether a lab has overridden the durability checks, loudly, by the environment."""
    return os.environ.get("MESHNODE_LAB") == "1"


async def run_node(path: str, region: str) -> int:
    """Run the node of ``region`` until SIGTERM or SIGINT; 0 after a clean end."""
    topology = load(path)
    node = Node(topology, Path(path), region)
    try:
        await node.open()
        await require_health(topology, region, node.waits)
    except BaseException:
        await node.close()
        raise
    # Rows are many small objects without cycles: looking for cycles among them at the
    # usual thresholds took up to half of the node's time (docs/BENCHMARKS.md).
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.supervisor.stop)
    log.info("meshnode of region %s, mesh %s, is starting", region, topology.mesh)
    await node.run()
    log.info("meshnode of region %s ended", region)
    return 0
