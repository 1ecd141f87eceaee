"""Records as Kafka messages, and the positions between them.

A record is one message without a key, its value the payload.  A record longer
than a message may be is cut into chunks: messages whose key says which record
(a random tag), which chunk, and how many.  A writer has a chunk acknowledged
before it sends the next, and gives the record up unless their offsets follow
one another.  So a reader joins only chunks that follow one another; anything
else is what a dead writer left, which nobody was ever told is there.

A position is the topic's id, an offset, and what stands before it: the time at
which the broker appended that message, and its checksum.  Both sides know them,
the writer from the answer to its produce.  A topic whose files were put back
from a copy keeps its id and counts its offsets again, and then another message
stands there.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from meshnode.bus.port import Corrupt, Position, Record, TopicRewritten
from meshnode.limits import FRAME_MAX_BYTES, MIB

MESSAGE_OVERHEAD = 100
"""What a message takes in a batch besides its value, and a chunk's key, at the most (bytes)."""

BATCH_OVERHEAD = 100
"""The header of a batch, rounded up (bytes)."""

CHUNK_BYTES = 8 * MIB
"""No message is longer, whatever the topic takes: brokers and slow links carry them whole."""

CODECS = {"none": 0, "lz4": 3, "zstd": 4}

_POSITION = struct.Struct(">B16sqqI")
_VERSION = 1
_CHUNK = struct.Struct(">B8sII")


class Place(NamedTuple):
    """A position, decoded.  ``stamp`` (ms) and ``crc`` are of the message before ``offset``.

    ``stamp`` is -1 where that message is not known.
    """

    topic_id: bytes
    offset: int
    stamp: int = -1
    crc: int = 0

    @property
    def known(self) -> bool:
        """Whether it says what stands before it."""
        return self.stamp >= 0

    def encode(self) -> Position:
        return _POSITION.pack(_VERSION, *self)

    @classmethod
    def decode(cls, position: Position, topic_id: bytes, topic: str) -> "Place":
        """The place that ``position`` means in ``topic``; `TopicRewritten` if it is of another."""
        if not position:
            return cls(topic_id, 0)
        if len(position) != _POSITION.size or position[0] != _VERSION:
            raise TopicRewritten(
                f"{position[:40].hex()} is no position in Kafka",
                "the region was fed by another bus: fill this region from another one",
            )
        place = cls(*_POSITION.unpack(position)[1:])
        if place.topic_id != topic_id:
            raise TopicRewritten(
                f"topic {topic} was deleted and made again since it was read",
                "fill this region from another one",
            )
        return place


class Message(NamedTuple):
    """One message of the topic; ``stamp`` in ms since 1970, by the broker's clock."""

    offset: int
    stamp: int
    key: bytes | None
    value: bytes

    def after(self, topic_id: bytes) -> Place:
        """The place after it."""
        return Place(topic_id, self.offset + 1, self.stamp, crc32(self.value))


class Chunk(NamedTuple):
    """A message's place in a record that was cut: number ``index`` of ``count``."""

    tag: bytes
    index: int
    count: int

    @property
    def last(self) -> bool:
        return self.index == self.count - 1

    def encode(self) -> bytes:
        return _CHUNK.pack(_VERSION, *self)

    @classmethod
    def of(cls, message: Message, topic: str) -> "Chunk | None":
        """What the key says; None for a record in one message.  Errors: `Corrupt`."""
        if message.key is None:
            return None
        if len(message.key) == _CHUNK.size and message.key[0] == _VERSION:
            chunk = cls(*_CHUNK.unpack(message.key)[1:])
            if chunk.index < chunk.count:
                return chunk
        raise Corrupt(
            f"topic {topic}: the message at offset {message.offset} is none of the mesh",
            "let nobody else write there; fill this region from another one",
        )


def cut(payload: bytes, room: int) -> list[tuple[bytes | None, bytes]]:
    """Keys and values of the messages that carry ``payload``, each at most ``room`` bytes long."""
    if len(payload) <= room:
        return [(None, payload)]
    tag = os.urandom(8)
    count = -(-len(payload) // room)
    return [
        (Chunk(tag, index, count).encode(), payload[index * room : (index + 1) * room])
        for index in range(count)
    ]


def pack(
    messages: Sequence[tuple[bytes | None, bytes]],
    producer: tuple[int, int],
    sequence: int,
    codec: int,
) -> bytes:
    """One batch of ``messages``, compressed if that makes it smaller.

    ``producer`` is its id and epoch, ``sequence`` counts its messages to this partition.
    """
    builder = DefaultRecordBatchBuilder(2, codec, 0, *producer, sequence, 2**31 - 1)
    for index, (key, value) in enumerate(messages):
        builder.append(index, None, key, value, [])
    return bytes(builder.build())


def unpack(batches: bytes, first: int, topic: str) -> list[Message]:
    """The messages from offset ``first`` on in ``batches``, which a fetch has returned.

    Errors: `Corrupt` if a checksum is wrong or an offset is left out.
    """
    try:
        return list(_unpack(batches, first))
    except CorruptRecordException as error:
        raise Corrupt(
            f"topic {topic} from offset {first} on: {error}",
            "see the brokers' logs and disks; fill this region from another one",
        ) from error


def _unpack(batches: bytes, expected: int) -> Iterator[Message]:
    records = MemoryRecords(batches)
    while records.has_next():
        batch = records.next_batch()
        if not batch.validate_crc():
            raise CorruptRecordException(f"the batch at {batch.base_offset} has a wrong checksum")
        end = batch.next_offset
        if end <= expected:
            continue
        if not batch.is_control_batch:
            for record in batch:
                if record.offset < expected:
                    continue
                if record.offset > expected:
                    raise CorruptRecordException(f"the message at {expected} is left out")
                yield Message(record.offset, record.timestamp, record.key, record.value or b"")
                expected += 1
        # A broker's own marker takes an offset; otherwise this changes nothing.
        elif batch.base_offset > expected:
            raise CorruptRecordException(f"the message at {expected} is left out")
        if batch.is_control_batch:
            expected = end
        elif expected != end:
            raise CorruptRecordException(f"the message at {expected} is left out")


class Joiner:
    """Makes records of the messages from one place on, which come in order without gaps."""

    def __init__(self, topic: str, place: Place) -> None:
        self._topic = topic
        self._topic_id = place.topic_id
        self._before = place.encode()
        self._start = self._before
        self._chunks: list[bytes] = []
        self._open: Chunk | None = None

    def take(self, message: Message) -> Record | None:
        """The record that ``message`` completes, if any.  Errors: `Corrupt`."""
        start, self._before = self._before, message.after(self._topic_id).encode()
        chunk = Chunk.of(message, self._topic)
        if chunk is None:
            self._drop()
            return Record(message.value, start, self._before)
        if chunk.index == 0:
            self._drop()
            self._start = start
        elif self._open is None or chunk != self._open._replace(index=self._open.index + 1):
            self._drop()
            return None
        self._open = chunk
        self._chunks.append(message.value)
        if sum(map(len, self._chunks)) > FRAME_MAX_BYTES:
            raise Corrupt(
                f"topic {self._topic}: the record that ends at offset {message.offset} is longer "
                f"than {FRAME_MAX_BYTES} bytes",
                "let nobody else write there; fill this region from another one",
            )
        if not chunk.last:
            return None
        record = Record(b"".join(self._chunks), self._start, self._before)
        self._drop()
        return record

    def _drop(self) -> None:
        self._chunks = []
        self._open = None
