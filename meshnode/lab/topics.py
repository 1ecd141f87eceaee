"""Reads the topics of a mesh without the mesh's own code: the checker's eyes.

Theory of operation.  Records are taken from the bus and decoded as plain
msgpack lists; nothing of ``core`` is imported, so a mistake there cannot hide
itself here.  Which records count follows from the rules of the format alone: a
frame is void when a claim with a higher epoch stands before it; items are
numbered without gaps, a number seen already is a repetition; a claim voids the
parts of a transaction whose last part stands not before it.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from meshnode.bus.port import Bus
from meshnode.errors import Halt

READ_BYTES = 8 * 2**20
READ_SECONDS = 30.0

_CLAIM, _FRAME = "C", "F"
_PART, _HEARTBEAT = 1, 2

_TABLE_MAP_NAMES = 8
"""Bytes of a TABLE_MAP body before the schema's name: table id (6) and flags (2)."""


class Stamp(NamedTuple):
    """Version of a row; ordered as tuples are."""

    ts: int
    origin: int


class Published(NamedTuple):
    """One entry of an index: what an item of ``region`` did to one key.

    ``key`` is the key's piece of the row image, byte for byte.
    """

    schema: str
    table: str
    key: bytes
    removed: bool
    stamp: Stamp
    base: Stamp
    region: str
    seq: int


@dataclass(slots=True)
class Topic:
    """What one region has published, as far as its topic is kept."""

    region: str
    first_seq: int = 0
    last_seq: int = 0
    transactions: int = 0
    heartbeats: int = 0
    lifts: int = 0
    entries: list[Published] = field(default_factory=list)


async def read_topic(bus: Bus, region: str) -> Topic:
    """Read the whole topic of ``region``; Halt for records that cannot be."""
    reader = bus.reader(region)
    topic = Topic(region)
    fold = _Fold(topic)
    try:
        async with asyncio.timeout(READ_SECONDS):
            position, end = await reader.begin(), await reader.end()
        while position != end:
            async with asyncio.timeout(READ_SECONDS):
                records = await reader.read(position, READ_BYTES)
            for record in records:
                fold.take(msgspec.msgpack.decode(record.payload))
                position = record.after
                if position == end:
                    break
    except TimeoutError:
        raise Halt(
            f"the topic of {region} cannot be read to its end",
            "has its node ever run?",
        ) from None
    finally:
        await reader.close()
    return topic


class _Fold:
    """Decides which items of a topic count."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._epoch = 0
        self._open: list[Published] = []
        self._open_tx = ""

    def take(self, record: list[Any]) -> None:
        tag = record[0]
        if tag == _CLAIM:
            epoch = record[5]
            if epoch > self._epoch:
                self._epoch = epoch
                # What the dead process had begun and not ended never happened.
                self._open, self._open_tx = [], ""
        elif tag == _FRAME:
            epoch, tables, items = record[5], record[10], record[11]
            if epoch >= self._epoch:
                names = [_names(body) for body in tables]
                for item in items:
                    self._item(names, item)
        else:
            raise Halt(f"the topic of {self._topic.region} holds a record with the tag {tag!r}")

    def _item(self, names: list[tuple[str, str]], item: list[Any]) -> None:
        topic = self._topic
        seq, kind, tx_id, last, entries, lifts = (
            item[0],
            item[1],
            item[2],
            item[5],
            item[8],
            item[10],
        )
        if seq <= topic.last_seq:
            return
        if topic.last_seq and seq != topic.last_seq + 1:
            raise Halt(f"the topic of {topic.region} has a gap: {seq} follows {topic.last_seq}")
        topic.first_seq = topic.first_seq or seq
        topic.last_seq = seq
        if kind == _HEARTBEAT:
            topic.heartbeats += 1
            return
        topic.lifts += lifts
        published = [self._entry(names, entry, seq) for entry in entries]
        if kind == _PART:
            if tx_id != self._open_tx:
                self._open, self._open_tx = [], tx_id
            self._open += published
            if not last:
                return
            published, self._open, self._open_tx = self._open, [], ""
        topic.transactions += 1
        topic.entries += published

    def _entry(self, names: list[tuple[str, str]], entry: list[Any], seq: int) -> Published:
        table, key, outcome, ts, origin, base_ts, base_origin = entry[:7]
        schema, name = names[table]
        return Published(
            schema, name, key, bool(outcome), Stamp(ts, origin), Stamp(base_ts, base_origin),
            self._topic.region, seq,
        )  # fmt: skip


def _names(body: bytes) -> tuple[str, str]:
    """Schema and table of a TABLE_MAP body: each a length byte, the name, a zero byte."""
    start = _TABLE_MAP_NAMES + 1
    end = start + body[_TABLE_MAP_NAMES]
    schema = body[start:end].decode()
    start = end + 2
    table = body[start : start + body[end + 1]].decode()
    return schema, table
