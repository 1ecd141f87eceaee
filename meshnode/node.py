"""The composition root: a topology and a region become supervised actors.

Theory of operation.  A :class:`Node` is built of one topology.  When the file changes what it
is built of, it makes the node of the new one, and if that could start ends its own actors.
The :class:`Process` then goes on with the other one, which claims as at every start; its
ops port is there as soon as the former one's is free.
"""

import asyncio
import gc
import logging
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from meshnode.accounts import secrets
from meshnode.actors.applier import Applier
from meshnode.actors.board import Board
from meshnode.actors.census import CensusTaker
from meshnode.actors.gardener import Gardener
from meshnode.actors.heart import Heart
from meshnode.actors.kernel import Actor, Supervisor
from meshnode.actors.origin import Origin
from meshnode.actors.resolver import Resolver
from meshnode.actors.retention import Retention
from meshnode.actors.settings import SettingsGuard
from meshnode.actors.watcher import Watcher
from meshnode.bus.port import Position
from meshnode.buses import make_bus
from meshnode.health import away, lab_allowed, require_same_topics, require_start
from meshnode.mysql.store import MysqlStore
from meshnode.ops.node_status import NodeStatus
from meshnode.topology import Kafka, Topology, load
from meshnode.topology_changes import kafka_moved

if TYPE_CHECKING:
    from meshnode.ops.http import OpsServer
    from meshnode.ops.tracing import Tracer

AWAY_SECONDS = 2.0

log = logging.getLogger("meshnode")


class Node:
    """One region's actors, and what they share, built of ``topology``.

    ``path`` is the file that may change it; ``former`` is the node whose place this one takes.
    """

    def __init__(
        self, topology: Topology, path: Path | None, region: str, former: "Node | None" = None
    ) -> None:
        self.topology = topology
        self.path = path
        self.region = topology.region(region)
        self.board = Board(self.region.id)
        self.supervisor = Supervisor()
        self.bus = make_bus(topology, region)
        self.writer = self.bus.writer(region)
        self.watcher = Watcher(topology, path, region, self._follow)
        self.view = self.watcher.view
        if former is not None:
            self.board.inherit(former.board)
        self.actors = self._actors()
        self.ops = self._ops()
        # Last: what is refused above must leave no thread behind.
        self.tracer = self._tracer()
        self.following: Node | None = None

    def _actors(self) -> list[Actor]:
        topology, region, board, view = self.topology, self.region, self.board, self.view
        tail, apply = (secrets(topology, region.name, role) for role in ("tail", "apply"))
        store = MysqlStore(region, apply, tail, board.threads)
        actors: list[Actor] = [
            Origin(view, region, store, self.bus, self.writer, board),
            Heart(
                region, store, board, lambda: view.now.limits.heartbeat_seconds,
                lambda: view.now.digest, lambda: [actor.state for actor in actors],
            ),
            *(
                Applier(view, region, peer, store, self.bus, board)
                for peer in topology.peers(region.name)
            ),
            Resolver(view, store, board),
            Gardener(view, region, store, self.writer, board),
            CensusTaker(region, store, board),
            SettingsGuard(store, board, lab_allowed()),
            self.watcher,
        ]  # fmt: skip
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
        """Run until stopped, or until ``following`` takes this one's place.

        Raises Fenced when another process took the region over.
        """
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

    async def _follow(self, topology: Topology, reason: str) -> None:
        """Let the node of ``topology`` take this one's place; Refused if it could not start."""
        await require_start(topology, self.region.name)
        following = Node(topology, self.path, self.region.name, self)
        try:
            places = self._places(kafka_moved(self.topology, topology))
            await require_same_topics(following.bus, places)
            await following.open()
        except BaseException:
            await following.close()
            raise
        following.waits(reason)
        self.following = following
        self.supervisor.stop()

    def _places(self, names: Iterable[str]) -> dict[str, Position]:
        """Where this node stands in the topics of these regions, as far as it has begun them."""
        places = {
            peer.name: self.board.peer(peer.id).position
            for peer in self.topology.peers(self.region.name)
        }
        places[self.region.name] = self.board.tail.position
        return {name: places[name] for name in names if places[name]}


class Process:
    """The process of one region: one node after the other, each of the topology that holds."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._stopped = False
        self._waiting: asyncio.Task[None] | None = None

    async def start(self) -> bool:
        """Wait until the node may start; False if it was stopped before.

        Raises Refused where it may not.  The topology file is followed meanwhile: the address may
        be what keeps it waiting.
        """
        self._waiting = asyncio.create_task(self._wait())
        try:
            await self._waiting
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            return False
        return True

    async def _wait(self) -> None:
        try:
            await self.node.open()
            while True:
                node = self.node
                server = await away(node.view.now, node.region.name)
                if server is None:
                    return
                log.warning("%s; waiting for it", server)
                node.waits(server)
                await asyncio.sleep(AWAY_SECONDS)
                await node.watcher.look()
                if node.following is not None:
                    self.node = node.following
                    await node.close()
        except BaseException:
            await self.node.close()
            raise

    async def run(self) -> None:
        """Run until :meth:`stop`; raises Fenced when another process took the region over."""
        while await self._run_one():
            _settle_memory()

    async def _run_one(self) -> bool:
        """Run the present node to its end; whether there is another one to run then."""
        node = self.node
        try:
            await node.run()
        except BaseException:
            if node.following is not None:
                await node.following.close()
            raise
        if node.following is None:
            return False
        self.node = node.following
        if self._stopped:
            await self.node.close()
        return not self._stopped

    def stop(self) -> None:
        """End the node, whichever it is, cleanly."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
        self.node.supervisor.stop()


def _settle_memory() -> None:
    """Rows are many small objects without cycles: looking for cycles among them at the usual
    thresholds took up to half of the node's time (docs/BENCHMARKS.md)."""
    gc.unfreeze()
    gc.collect()  # a former node, where there was one
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def run_node(path: str, region: str) -> int:
    """Run the node of ``region`` until SIGTERM or SIGINT; 0 after a clean end."""
    process = Process(Node(load(path), Path(path), region))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stop)
    if await process.start():
        _settle_memory()
        log.info("meshnode of region %s, mesh %s, is starting", region, process.node.topology.mesh)
        await process.run()
    log.info("meshnode of region %s ended", region)
    return 0
