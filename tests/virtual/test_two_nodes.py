"""Two processes for one region, at a bus that shuts out whoever opened first, as Kafka does.

To the bus the rightful writer is the one that opened last; whose the region is, MySQL says.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

from meshnode.core.wire import VERSION, Claim, encode
from meshnode.errors import Fenced

from .bus import Link, MemoryBus
from .clients import Client
from .clock import virtual_time
from .loop import Process
from .node import VirtualNode
from .options import Options
from .world import TABLE, Place, World

OPTIONS = Options(regions=2)


class Silent(Link):
    """A bus that does not answer until it is told to."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()

    async def asked(self, topic: str) -> None:
        await self.answers.wait()


class Region:
    """The first region: its database, its topic, and processes for it."""

    def __init__(self, world: World, place: Place) -> None:
        self.world = world
        self.place = place
        self._client = Client(place.database, 1, TABLE)
        self._keys = count()

    def start(self, link: Link) -> tuple[VirtualNode, Process]:
        bus = MemoryBus(self.world.topics, link)
        node = VirtualNode(self.world.topology, 1, self.place.store, bus, 0.5)
        return node, self.world.loop.spawn("node 1", node.run())

    async def publishes(self) -> bool:
        """Whether what a client writes now gets into the topic."""
        value = f"written as number {next(self._keys)}"
        await self._client.insert(next(self._keys), value)
        await asyncio.sleep(10.0)
        return value.encode() in b"".join(self.world.topics.topics["one"].payloads)


def in_region(scene: Callable[[Region], Awaitable[None]]) -> None:
    """Play ``scene`` in virtual time."""
    world = World(7, OPTIONS)

    async def play() -> None:
        await scene(Region(world, world._place(1)))

    with virtual_time(world.loop):
        world.loop.run(play())


def ended(process: Process) -> BaseException | None:
    """What ended the process; None while it runs."""
    return process.task.exception() if process.task.done() else None


def test_a_superseded_starter_does_not_end_its_successor() -> None:
    """It has raised the epoch, and the bus lets it in when its successor has claimed long ago."""

    async def scene(region: Region) -> None:
        silent = Silent()
        first, slow = region.start(silent)
        await asyncio.sleep(1.0)
        assert first.board.epoch == 1 and not first.board.is_claimed
        second, process = region.start(Link())
        assert await region.publishes()
        silent.answers.set()
        assert await region.publishes()
        assert isinstance(ended(slow), Fenced)
        assert ended(process) is None
        assert second.board.counts["claims"] == 1, "it was not even disturbed"

    in_region(scene)


def test_a_node_that_is_shut_out_at_the_bus_takes_back_what_is_its_own() -> None:
    """A starter that was superseded has got its claim through, and is gone."""

    async def scene(region: Region) -> None:
        node, process = region.start(Link())
        assert await region.publishes()
        starter = MemoryBus(region.world.topics).writer("one")
        await starter.open(1.0)
        await starter.append(encode(Claim(VERSION, "shop", 1, node.board.incarnation, 0)))
        assert await region.publishes()
        assert ended(process) is None

    in_region(scene)
