"""A reader of one region's Kafka topic: fetches ahead of its caller, and proves where it begins.

A fetch waits at the broker until there is a record, so a new one comes within
one way of the network; behind, fetches follow one another at full speed while
the caller works.  What was fetched and not yet taken is bounded.

Each connection begins with the message *before* the wanted one, which must be
the one that the position names.  After that nothing is looked at again: while a
connection lasts, no broker gives other messages under the same offsets, because
fetches name the topic by its id, and files are not exchanged under a running
broker.  Whatever goes wrong ends the connection, and the next read proves again.

An answer that does not come whole in time is lost whole.  So what a fetch asks for goes by what
the link carries (`kafka_fetch`), or a slow one would bring the same beginning again and again.
"""

import asyncio
import contextlib
from collections import deque

from meshnode.bus.kafka_errors import OFFSET_OUT_OF_RANGE, TOPIC_GONE
from meshnode.bus.kafka_fetch import FetchSize
from meshnode.bus.kafka_link import Cluster, Link, find_topic, wait_for_topic
from meshnode.bus.kafka_record import Chunk, Joiner, Message, Place, unpack
from meshnode.bus.port import (
    Position,
    PositionAhead,
    Record,
    RetentionPassed,
    TopicRewritten,
)
from meshnode.errors import Retry
from meshnode.limits import KIB, MIB

AHEAD_BYTES = 4 * MIB
"""Fetched payloads that wait for the caller; a fetch may go over it once."""

FETCH_SECONDS = 1.0
"""A broker without a new record answers after this time."""

INLINE_UNPACK_BYTES = 64 * KIB
"""An answer up to this size is unpacked faster in the event loop than in a thread."""

LOOK_AGAIN_SECONDS = 0.5
"""How often a reader looks whether its topic has come."""

REFILL = "fill this region from another one"


class KafkaReader:
    """A reader of one topic; see `meshnode.bus.port.BusReader`.

    ``size`` is that of all readers of the topic: one that is made anew asks for no more than the
    link has carried to those before it.
    """

    def __init__(self, cluster: Cluster, topic: str, size: FetchSize) -> None:
        self._cluster = cluster
        self._topic = topic
        self._size = size
        self._ahead: _Ahead | None = None

    async def read(self, position: Position, max_bytes: int) -> list[Record]:
        ahead = self._ahead
        if ahead is None or ahead.next != position or ahead.failed:
            await self._stop()
            ahead = self._ahead = _Ahead(_Fetcher(self._cluster, self._topic, position, self._size))
        try:
            return await ahead.take(max_bytes)
        except Exception:
            await self._stop()
            raise

    async def begin(self) -> Position:
        link = await self._link()
        with contextlib.closing(link):
            return Place(link.topic_id, (await link.offsets())[0]).encode()

    async def end(self) -> Position:
        link = await self._link()
        with contextlib.closing(link):
            return (await find_end(link)).encode()

    async def unread_age(self, position: Position, now: float) -> float | None:
        """How long ago (seconds, by the broker's clock) the record after ``position`` was appended.

        None if there is none.  Add the topic's retention, and it is the time left until
        this reader halts.  ``now`` in seconds since 1970.  It opens a connection for itself, so
        ask every few seconds at the most.  Errors: as `read`, and `RetentionPassed` at once.
        """
        link = await find_topic(self._cluster, self._topic)
        if link is None:
            return None
        with contextlib.closing(link):
            place = Place.decode(position, link.topic_id, self._topic)
            message = await _message(link, place.offset)
            return None if message is None else now - message.stamp / 1000

    async def close(self) -> None:
        await self._stop()

    async def _link(self) -> Link:
        return await wait_for_topic(self._cluster, self._topic, LOOK_AGAIN_SECONDS)

    async def _stop(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await ahead.stop()


class _Ahead:
    """Records fetched from one position on, and not yet taken."""

    def __init__(self, fetcher: "_Fetcher") -> None:
        self.next = fetcher.position
        self._fetcher = fetcher
        self._records: deque[Record] = deque()
        self._bytes = 0
        self._failure: Exception | None = None
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._fetch())

    @property
    def failed(self) -> bool:
        """Whether it ended while nobody waited: a failure is only told to whom it befalls."""
        return self._failure is not None and not self._records

    async def take(self, max_bytes: int) -> list[Record]:
        """Return the records that are there, waiting for one; after them the failure."""
        while not self._records:
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()
        # No await from here on: whoever is cancelled has either taken all of it or nothing.
        found = [self._records.popleft()]
        size = len(found[0].payload)
        while self._records and size + len(self._records[0].payload) <= max_bytes:
            found.append(self._records.popleft())
            size += len(found[-1].payload)
        self._bytes -= size
        self.next = found[-1].after
        self._changed.set()
        return found

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _fetch(self) -> None:
        try:
            while True:
                while self._bytes >= AHEAD_BYTES:
                    self._changed.clear()
                    await self._changed.wait()
                records = await self._fetcher.more()
                self._records += records
                self._bytes += sum(len(record.payload) for record in records)
                self._changed.set()
        except Exception as error:
            self._failure = error
            self._changed.set()
        finally:
            self._fetcher.close()


class _Fetcher:
    """Fetches a topic from a position on, connecting and proving the position when it must."""

    def __init__(self, cluster: Cluster, topic: str, position: Position, size: FetchSize) -> None:
        self.position = position
        self._cluster = cluster
        self._topic = topic
        self._size = size
        self._link: Link | None = None
        self._joiner: Joiner | None = None
        self._offset = 0

    async def more(self) -> list[Record]:
        """The records that follow; empty if none came in time.  Errors: as `BusReader.read`."""
        if self._link is None or self._joiner is None:
            return await self._begin()
        code, batches = await self._size.fetch(self._link, self._offset, FETCH_SECONDS)
        if code:
            await self._refused(code, self._link, self._offset)
            return []
        return await self._unpacked(self._link, batches)

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = self._joiner = None

    async def _begin(self) -> list[Record]:
        link = self._link = await wait_for_topic(self._cluster, self._topic, LOOK_AGAIN_SECONDS)
        place = Place.decode(self.position, link.topic_id, self._topic)
        self._offset = place.offset
        if not place.known:
            self._joiner = Joiner(self._topic, place)
            return []
        # The message before it comes first.
        code, batches = await self._size.fetch(link, place.offset - 1, 0)
        if code and code != OFFSET_OUT_OF_RANGE:
            await self._refused(code, link, place.offset)
            return []
        if not batches:
            if place.offset == await _check_range(link, place.offset):
                # The message before it is no longer kept, but nothing is missing.
                self._joiner = Joiner(self._topic, place)
            else:
                self.close()
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
            return []
        messages = await _in_thread(batches, place.offset - 1, self._topic)
        if not messages or messages[0].after(link.topic_id) != place:
            raise TopicRewritten(
                f"topic {self._topic} has another message at offset {place.offset - 1} than the "
                "one that was read",
                f"put the old files of the topic back, or {REFILL}",
            )
        self._joiner = Joiner(self._topic, place)
        return await self._unpacked(link, batches)

    async def _refused(self, code: int, link: Link, offset: int) -> None:
        """Raise what ``code`` means, or return to connect anew to a topic that has gone."""
        if code == OFFSET_OUT_OF_RANGE:
            await _check_range(link, offset)
        elif code not in TOPIC_GONE:
            raise link.refusal(code)
        self.close()
        await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _unpacked(self, link: Link, batches: bytes) -> list[Record]:
        messages = await _in_thread(batches, self._offset, self._topic)
        found = []
        for message in messages:
            record = self._joiner.take(message)
            if record is not None:
                found.append(record)
        if messages:
            self._offset = messages[-1].offset + 1
        if found:
            self.position = found[-1].after
        return found


async def find_end(link: Link) -> Place:
    """The place after the newest whole record of the topic."""
    begin, at = await link.offsets()
    while at > begin:
        message = await _message(link, at - 1)
        if message is None:
            raise Retry(f"topic {link.topic} changes while its end is read")
        chunk = Chunk.of(message, link.topic)
        if chunk is None:
            return message.after(link.topic_id)
        first = message.offset - chunk.index
        head = await _message(link, first) if first >= begin else None
        begun = head is not None and Chunk.of(head, link.topic) == chunk._replace(index=0)
        if begun and chunk.last:
            return message.after(link.topic_id)
        # Chunks of a record that is not there whole: what stands before them?
        at = first if begun else at - 1
    return Place(link.topic_id, begin)


async def _message(link: Link, offset: int) -> Message | None:
    """The message at ``offset``; None if nothing is there yet."""
    code, batches = await link.fetch(offset, 1, 0)
    if code == OFFSET_OUT_OF_RANGE:
        await _check_range(link, offset)
    if code:
        raise link.refusal(code)
    messages = await _in_thread(batches, offset, link.topic)
    return messages[0] if messages else None


async def _check_range(link: Link, offset: int) -> int:
    """Raise the reason why reading cannot begin at ``offset``; return the oldest one if it can."""
    begin, end = await link.offsets()
    if offset < begin:
        raise RetentionPassed(
            f"topic {link.topic} keeps records from offset {begin} on, and {offset} was due",
            f"{REFILL}; raise the topic's retention.ms and retention.bytes to allow for longer "
            "absence",
        )
    if offset > end:
        raise PositionAhead(
            f"topic {link.topic} ends at offset {end}, and {offset} was read before",
            f"the topic has lost records: put its files back, or {REFILL}",
        )
    return begin


async def _in_thread(batches: bytes, first: int, topic: str) -> list[Message]:
    if len(batches) <= INLINE_UNPACK_BYTES:
        return unpack(batches, first, topic)
    return await asyncio.to_thread(unpack, batches, first, topic)
