"""A bus in memory: the port's promises without a disk or a broker, and its faults from a seed.

:class:`Topics` is the server.  It outlives the processes that use it, so what a dead writer had
on its way can still land; only a successor's first append shuts it out, as on Kafka.
:class:`MemoryBus` is one process's view.  Everything that travels passes a :class:`Link`,
which by itself is quick and whole; a subclass lets it take time, fail, or lose an answer.
"""

import asyncio
import random
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from meshnode.bus.port import (
    ORIGIN,
    Position,
    PositionAhead,
    Record,
    Retained,
    RetentionPassed,
    TopicRewritten,
)
from meshnode.errors import Fenced, MeshError, Retry

from .loop import outside

_PLACE = struct.Struct("<8s8sQQ")
_KIND = b"memory: "


@dataclass
class Topic:
    """Records ``first, first + 1, ...``; each has a serial number of its own.

    ``before`` is the serial of the record in front of the first one kept; ``opened`` counts the
    writers, ``fence`` is the newest of them that has appended.  What readers cannot have any more
    is in ``forgotten``, for who judges the whole.
    """

    incarnation: bytes
    payloads: list[bytes] = field(default_factory=list)
    serials: list[int] = field(default_factory=list)
    first: int = 0
    before: int = 0
    opened: int = 0
    fence: int = 0
    forgotten: list[bytes] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.first + len(self.payloads)

    def copy(self) -> "Topic":
        return Topic(
            self.incarnation, list(self.payloads), list(self.serials), self.first, self.before,
            self.opened, self.fence,
        )  # fmt: skip

    def position(self, offset: int) -> Position:
        """The place in front of record ``offset``: it names the record before it."""
        before = self.serials[offset - self.first - 1] if offset > self.first else self.before
        return _PLACE.pack(_KIND, self.incarnation, offset, before)


class Topics:
    """All topics, and who waits for one of them to change."""

    def __init__(self, source: random.Random) -> None:
        self.random = source
        self.topics: dict[str, Topic] = {}
        self._serial = 0
        self._waiting: list[asyncio.Future] = []

    def made(self, name: str) -> Topic:
        """The topic, which is made if there is none."""
        if name not in self.topics:
            self.topics[name] = Topic(self.random.randbytes(8))
            self.changed()
        return self.topics[name]

    def append(self, topic: Topic, writer: int, payload: bytes) -> Position:
        """Let one record of the ``writer``-th writer land; the place after it."""
        if writer < topic.fence:
            raise Fenced("a later writer has appended", "run one node for each region")
        topic.fence = writer
        self._serial += 1
        topic.payloads.append(payload)
        topic.serials.append(self._serial)
        self.changed()
        return topic.position(topic.end)

    def changed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    async def change(self) -> None:
        """Wait until something has changed."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def offset(self, name: str, position: Position) -> int:
        """The record that ``position`` stands in front of; errors as the port has them."""
        topic = self.topics[name]
        if position == ORIGIN:
            offset = 0
        else:
            if len(position) != _PLACE.size or not position.startswith(_KIND):
                raise TopicRewritten(f"topic {name}: no position of this bus", "")
            _, incarnation, offset, _ = _PLACE.unpack(position)
            if incarnation != topic.incarnation:
                raise TopicRewritten(f"topic {name} was made anew", "")
        if offset > topic.end:
            raise PositionAhead(f"topic {name} ends at {topic.end}, before {offset}", "")
        if offset < topic.first:
            raise RetentionPassed(f"topic {name} begins at {topic.first}, after {offset}", "")
        if position != ORIGIN and position != topic.position(offset):
            raise TopicRewritten(f"topic {name} has another record before {offset}", "")
        return offset


class Link:
    """The way between one process and the topics: quick and whole."""

    async def sent(self, topic: str) -> None:
        """A record is on its way to ``topic``; Retry, and it is lost."""

    async def answered(self, topic: str) -> None:
        """The answer is on its way back; Retry, and it is lost."""

    async def asked(self, topic: str) -> None:
        """A question about ``topic`` is on its way; Retry, and it is lost."""


class MemoryWriter:
    """A writer of the topic ``name``."""

    def __init__(self, topics: Topics, name: str, link: Link) -> None:
        self.topics = topics
        self.name = name
        self.link = link
        self._number = 0
        self._topic: Topic | None = None
        self._broken: MeshError | None = None
        self._queue: deque[tuple[bytes, asyncio.Future]] = deque()
        self._pump: asyncio.Task | None = None

    async def open(self, timeout: float) -> Position:
        await self.close()
        await self.link.asked(self.name)
        topic = self.topics.made(self.name)
        topic.opened += 1
        # What an earlier opening has under way keeps its own queue and its own number.
        self._number, self._topic, self._broken = topic.opened, topic, None
        self._queue, self._pump = deque(), None
        return topic.position(topic.end)

    async def append(self, payload: bytes) -> Position:
        return await self._append(payload)

    def _append(self, payload: bytes) -> asyncio.Future:
        """Put the record on its way at once, so that calls keep the order in which they began."""
        answer: asyncio.Future = asyncio.get_running_loop().create_future()
        if self._broken is not None or self._topic is None:
            answer.set_exception(self._broken or Retry(f"the writer of {self.name} is not open"))
            return answer
        self._queue.append((payload, answer))
        if self._pump is None:
            # Of no process: what is on its way travels on when the writer dies.
            self._pump = asyncio.get_running_loop().create_task(
                self._land(self._topic, self._number, self._queue), context=outside()
            )
        return answer

    async def append_many(self, payloads: Sequence[bytes]) -> list[Position]:
        return list(await asyncio.gather(*[self._append(payload) for payload in payloads]))

    async def _land(self, topic: Topic, number: int, queue: deque) -> None:
        """Let what is queued land, one after the other; after an error nothing more does."""
        failed: MeshError | None = None
        while queue:
            payload, answer = queue[0]
            if failed is None:
                try:
                    await self.link.sent(self.name)
                    position = self.topics.append(topic, number, payload)
                    await self.link.answered(self.name)
                except MeshError as error:
                    failed = error
                    if number == self._number:
                        self._broken = error
            queue.popleft()
            if answer.done():
                continue
            if failed is None:
                answer.set_result(position)
            else:
                answer.set_exception(failed)
        if number == self._number:
            self._pump = None

    async def retain(
        self, applied: Iterable[Position | None], floor: Position | None, now: float
    ) -> Retained:
        places = [*applied, floor]
        topic = self.topics.topics.get(self.name)
        if topic is None or len(places) == 1 or None in places or not topic.payloads:
            return Retained(0, 0, 0)
        try:
            least = min(
                self.topics.offset(self.name, place) for place in places if place is not None
            )
        except RetentionPassed:
            least = topic.first
        count = min(least, topic.end - 1) - topic.first
        gone = topic.payloads[:count]
        if count:
            topic.before = topic.serials[count - 1]
            topic.first += count
            topic.forgotten += gone
            del topic.payloads[:count], topic.serials[:count]
        return Retained(sum(map(len, topic.payloads)), sum(map(len, gone)), 0)

    async def close(self) -> None:
        if self._pump is not None:
            await asyncio.wait([self._pump])
        self._topic = None


class MemoryReader:
    """A reader of the topic ``name``."""

    def __init__(self, topics: Topics, name: str, link: Link) -> None:
        self.topics = topics
        self.name = name
        self.link = link

    async def _there(self) -> Topic:
        await self.link.asked(self.name)
        while self.name not in self.topics.topics:
            await self.topics.change()
        return self.topics.topics[self.name]

    async def read(self, position: Position, max_bytes: int) -> list[Record]:
        while True:
            topic = await self._there()
            offset = self.topics.offset(self.name, position)
            if offset < topic.end:
                return _some(topic, offset, max_bytes)
            await self.topics.change()

    async def begin(self) -> Position:
        topic = await self._there()
        return topic.position(topic.first)

    async def end(self) -> Position:
        topic = await self._there()
        return topic.position(topic.end)

    async def unread_age(self, position: Position, now: float) -> float | None:
        await self._there()
        self.topics.offset(self.name, position)
        return None

    async def close(self) -> None:
        pass


def _some(topic: Topic, offset: int, max_bytes: int) -> list[Record]:
    found: list[Record] = []
    size = 0
    for place in range(offset, topic.end):
        payload = topic.payloads[place - topic.first]
        size += len(payload)
        if found and size > max_bytes:
            break
        found.append(Record(payload, topic.position(place), topic.position(place + 1)))
    return found


class MemoryBus:
    """One process's view of ``topics``."""

    def __init__(self, topics: Topics, link: Link | None = None) -> None:
        self.topics = topics
        self.link = link or Link()

    def writer(self, region: str) -> MemoryWriter:
        return MemoryWriter(self.topics, region, self.link)

    def reader(self, region: str) -> MemoryReader:
        return MemoryReader(self.topics, region, self.link)

    async def inspect(self, region: str) -> bool:
        await self.link.asked(region)
        return region in self.topics.topics

    async def close(self) -> None:
        pass


class RoughLink(Link):
    """A way that takes its time and loses things, as ``source`` says.

    ``lag`` in seconds, at most; ``loss``: the share of records, answers and questions lost.
    ``cut`` topics are not reached at all.
    """

    def __init__(self, source: random.Random, lag: float = 0.01, loss: float = 0.0) -> None:
        self.random = source
        self.lag = lag
        self.loss = loss
        self.cut: set[str] = set()

    async def _travel(self, what: str, topic: str) -> None:
        await asyncio.sleep(self.random.uniform(0, self.lag))
        if topic in self.cut or self.random.random() < self.loss:
            raise Retry(f"{what} topic {topic} was lost on its way")

    async def sent(self, topic: str) -> None:
        await self._travel("a record for", topic)

    async def answered(self, topic: str) -> None:
        await self._travel("an answer of", topic)

    async def asked(self, topic: str) -> None:
        await self._travel("a question about", topic)
