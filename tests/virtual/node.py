"""One region's node over the fakes: its real actors.

Not there are the watcher, which reads a file, and the retention, which only Kafka needs.
"""

from meshnode.actors.applier import Applier
from meshnode.actors.board import Board
from meshnode.actors.census import CensusTaker
from meshnode.actors.gardener import Gardener
from meshnode.actors.heart import Heart
from meshnode.actors.kernel import Actor, State, Supervisor
from meshnode.actors.origin import Origin
from meshnode.actors.resolver import Resolver
from meshnode.actors.settings import SettingsGuard
from meshnode.actors.watcher import View
from meshnode.limits import FRAME_TARGET_BYTES
from meshnode.topology import Limits, MysqlAddress, Region, Replicate, Topology

from .bus import MemoryBus
from .store import MemoryStore

NAMES = ("one", "two", "three")


def topology_of(regions: int, part_bytes: int) -> Topology:
    return Topology(
        mesh="shop",
        replicate=Replicate(tables=("shop.*",)),
        bus=None,
        regions=tuple(
            Region(id=at + 1, name=NAMES[at], mysql=MysqlAddress(NAMES[at]))
            for at in range(regions)
        ),
        limits=Limits(
            part_bytes=part_bytes, frame_target_bytes=min(part_bytes, FRAME_TARGET_BYTES)
        ),
    )


class VirtualNode:
    """The process of region ``own`` over ``store`` and ``bus``."""

    def __init__(
        self, topology: Topology, own: int, store: MemoryStore, bus: MemoryBus, beat: float
    ) -> None:
        self.topology = topology
        self.region = next(region for region in topology.regions if region.id == own)
        self.store = store
        self.bus = bus
        self.board = Board(own)
        self.writer = bus.writer(self.region.name)
        self.supervisor = Supervisor()
        view = View(topology)
        self.actors: list[Actor] = [
            Origin(view, self.region, store, bus, self.writer, self.board),
            Heart(self.region, store, self.board, lambda: beat, str, self._states),
            *(
                Applier(view, self.region, peer, store, bus, self.board)
                for peer in topology.peers(self.region.name)
            ),
            Gardener(view, self.region, store, self.writer, self.board),
            Resolver(view, store, self.board),
            CensusTaker(self.region, store, self.board),
            SettingsGuard(store, self.board, lab=False),
        ]

        for actor in self.actors:
            # It was made with the clock of the real world.
            actor.state.since = 0.0

    def _states(self) -> list[State]:
        return [actor.state for actor in self.actors]

    async def run(self) -> None:
        """Run until stopped or fenced."""
        await self.supervisor.run(self.actors)
