"""The writer of one region's Kafka topic: one batch on its way, the next one gathering.

While a batch waits for its acknowledgement (``acks=all``), further appends wait
and then go together in the next one.  There is never more than one on its way,
and none is sent twice: an append that fails ends the writer, and whoever opens
it again reads in the topic what has arrived.  So order needs no more than that.

**Fencing.**  ``open`` initialises the producer under the topic's name as
transactional id.  The coordinator then gives this writer the same producer id as
its predecessor's and a higher epoch, and the leader of the topic refuses every
batch of a lower epoch once it has seen one of this writer's.  No transaction is
ever begun: the batches are plain ones, and cost nothing more.  What the
predecessor still had on its way may land until this writer's first record has
been acknowledged, and never after.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from zlib import crc32

from aiokafka.protocol.produce import ProduceRequest

from meshnode.bus.appends import Appends
from meshnode.bus.kafka_link import Cluster, Link, init_producer
from meshnode.bus.kafka_reader import find_end
from meshnode.bus.kafka_record import (
    BATCH_OVERHEAD,
    CHUNK_BYTES,
    CODECS,
    MESSAGE_OVERHEAD,
    Place,
    cut,
    pack,
)
from meshnode.bus.kafka_topic import TopicSettings, open_topic
from meshnode.bus.port import Position, Retained
from meshnode.errors import Refused, Retry
from meshnode.limits import KIB, MIB

BATCH_BYTES = 1 * MIB
"""Appends that wait together share a batch up to this size; a longer message goes alone."""

ALL = -1
ACK_SECONDS = 20.0
"""The broker waits this long for its replicas."""

COORDINATOR_SECONDS = 20.0
RENEW_SECONDS = 86_400.0
INLINE_PACK_BYTES = 64 * KIB
"""A batch up to this size is compressed faster in the event loop than in a thread."""

SEQUENCES = 2**31

Message = tuple[bytes | None, bytes]


class KafkaWriter:
    """The writer of one topic; see `meshnode.bus.port.BusWriter`."""

    def __init__(self, cluster: Cluster, topic: str, settings: TopicSettings) -> None:
        self._cluster = cluster
        self._topic = topic
        self._settings = settings
        self._codec = CODECS[settings.compression]
        self._room = min(settings.max_message_bytes, CHUNK_BYTES + MESSAGE_OVERHEAD)
        self._room -= MESSAGE_OVERHEAD + BATCH_OVERHEAD
        if self._room < KIB:
            raise Refused(
                f"max_message_bytes is {settings.max_message_bytes}", "make it 1 MiB or more"
            )
        self._line: _Line | None = None
        self._appends: Appends | None = None

    async def open(self, timeout: float) -> Position:
        """Become the writer at once: a predecessor is shut out, so ``timeout`` is not needed.

        Errors: `Retry` while Kafka cannot be reached, `Refused` for a wrong setting.
        """
        await self.close()
        link = await open_topic(self._cluster, self._topic, self._settings)
        try:
            producer = await init_producer(self._cluster, self._topic, COORDINATOR_SECONDS)
            end = await find_end(link)
        except BaseException:
            link.close()
            raise
        self._line = line = _Line(link, producer)

        async def send(payloads: list[bytes]) -> list[Position]:
            try:
                return await self._send(line, payloads)
            except Exception:
                line.link.close()
                raise

        self._appends = Appends(self._topic, send, BATCH_BYTES)
        return end.encode()

    async def append(self, payload: bytes) -> Position:
        return (await self.append_many([payload]))[0]

    async def append_many(self, payloads: Sequence[bytes]) -> list[Position]:
        if self._appends is None:
            raise RuntimeError(f"{self._topic}: append without an open writer")
        return await self._appends.put(payloads)

    async def retain(
        self, applied: Iterable[Position | None], floor: Position | None, now: float
    ) -> Retained:
        """Nothing: the broker forgets by the topic's own retention."""
        return Retained(0, 0, 0)

    async def close(self) -> None:
        appends, line = self._appends, self._line
        self._appends = self._line = None
        if appends is None or line is None:
            return
        try:
            await appends.finish()
        finally:
            line.link.close()

    async def _send(self, line: "_Line", payloads: list[bytes]) -> list[Position]:
        """Send ``payloads`` in order; the position after each."""
        pieces = [cut(payload, self._room) for payload in payloads]
        places: list[Place] = []
        for batch in self._batches(message for some in pieces for message in some):
            places += await line.send(batch, self._codec)
        positions = []
        last = -1
        for some in pieces:
            last += len(some)
            positions.append(places[last].encode())
        return positions

    def _batches(self, messages: Iterable[Message]) -> Iterator[list[Message]]:
        batch: list[Message] = []
        most = min(BATCH_BYTES, self._room)
        size = 0
        for message in messages:
            size += len(message[1]) + MESSAGE_OVERHEAD
            if batch and size > most:
                yield batch
                batch, size = [], len(message[1]) + MESSAGE_OVERHEAD
            batch.append(message)
        if batch:
            yield batch


class _Line:
    """What one ``open`` got: a link, a producer, and how far its own messages go."""

    def __init__(self, link: Link, producer: tuple[int, int]) -> None:
        self.link = link
        self._producer = producer
        self._renewed = asyncio.get_running_loop().time()
        self._sequence = 0
        self._next: int | None = None

    async def send(self, batch: list[Message], codec: int) -> list[Place]:
        """Send one batch and wait until it is durable; the place after each of its messages."""
        link = self.link
        now = asyncio.get_running_loop().time()
        if now - self._renewed >= RENEW_SECONDS:
            self._producer = await init_producer(
                link.cluster, link.topic, COORDINATOR_SECONDS, self._producer
            )
            self._renewed, self._sequence = now, 0
        size = sum(len(value) for _, value in batch)
        if size <= INLINE_PACK_BYTES:
            packed = pack(batch, self._producer, self._sequence, codec)
        else:
            packed = await asyncio.to_thread(pack, batch, self._producer, self._sequence, codec)
        wait_ms = round(ACK_SECONDS * 1000)
        request = ProduceRequest(None, ALL, wait_ms, [(link.topic, [(0, packed)])])
        _, code, offset, stamp, *_ = (await link.ask(request)).topics[0][1][0]
        if code:
            raise link.refusal(code, f"a batch of {len(packed)} bytes")
        if self._next is not None and offset != self._next:
            # Fenced, nobody else can have written: the topic is another one, or its files are.
            raise Retry(
                f"topic {link.topic} took a message at offset {offset}, where {self._next} was due",
                "see that nobody else writes there",
            )
        if stamp < 0:
            raise Refused(
                f"topic {link.topic} keeps the times of its writers",
                "set its message.timestamp.type to LogAppendTime",
            )
        self._sequence = (self._sequence + len(batch)) % SEQUENCES
        self._next = offset + len(batch)
        return [
            Place(link.topic_id, offset + number, stamp, crc32(value))
            for number, (_, value) in enumerate(batch, 1)
        ]
