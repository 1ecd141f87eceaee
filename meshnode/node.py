"""The composition root: a topology and a region become supervised actors."""

import asyncio
import gc
import logging
import os
import signal
from pathlib import Path

from meshnode.accounts import secrets
from meshnode.actors.applier import Applier
from meshnode.actors.board import Board
from meshnode.actors.gardener import Gardener
from meshnode.actors.heart import Heart
from meshnode.actors.kernel import Actor, Supervisor
from meshnode.actors.origin import Origin
from meshnode.actors.resolver import Resolver
from meshnode.actors.watcher import Watcher
from meshnode.bus.file import FileBus
from meshnode.bus.log import LogOptions
from meshnode.bus.port import Bus
from meshnode.errors import Refused
from meshnode.lab.wan import Wan, WanBus
from meshnode.ops.doctor import examine, refusals
from meshnode.topology import Topology, load

AWAY_SECONDS = 2.0

log = logging.getLogger("meshnode")


def make_bus(topology: Topology, region: str) -> Bus:
    """The bus of the topology as ``region`` sees it."""
    settings = topology.bus
    options = LogOptions(settings.segment_bytes, settings.min_age_seconds, settings.max_bytes)
    bus: Bus = FileBus(Path(settings.dir), options)
    if settings.wan is not None:
        bus = WanBus(bus, region, Wan.read(Path(settings.wan.control)))
    return bus


class Node:
    """One region's process: its actors, and what they share."""

    def __init__(self, topology: Topology, path: Path | None, region: str) -> None:
        self.topology = topology
        self.region = topology.region(region)
        self.board = Board(self.region.id)
        self.supervisor = Supervisor()
        self.bus = make_bus(topology, region)
        self.writer = self.bus.writer(region)
        self.actors = self._actors(path)

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
            watcher,
        ]  # fmt: skip
        return actors

    async def run(self) -> None:
        """Run until stopped; raises Fenced when another process took the region over."""
        try:
            await self.supervisor.run(self.actors)
        finally:
            await self.writer.close()
            await self.bus.close()


async def require_health(topology: Topology, region: str) -> None:
    """Refuse to start on what the doctor refuses; wait for a server that is away."""
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
        await asyncio.sleep(AWAY_SECONDS)


def lab_allowed() -> bool:
    """Whether a lab has overridden the durability checks, loudly, by the environment."""
    return os.environ.get("MESHNODE_LAB") == "1"


async def run_node(path: str, region: str) -> int:
    """Run the node of ``region`` until SIGTERM or SIGINT; 0 after a clean end."""
    topology = load(path)
    await require_health(topology, region)
    node = Node(topology, Path(path), region)
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
