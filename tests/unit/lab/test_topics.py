"""The checker's reader of topics: which items count, and what is in them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshnode.bus.file import FileBus
from meshnode.errors import Halt
from meshnode.lab.topics import Stamp, Topic, read_topic

TABLE = b"\1\0\0\0\0\0\1\0" + b"\3lab\0" + b"\4tags\0" + b"\1\3\0\0"


def entry(key: bytes, ts: int, base: int = 0, outcome: int = 0) -> list[Any]:
    return [0, key, outcome, ts, 1, base, 1 if base else 0, bool(base)]


def item(seq: int, entries=(), kind: int = 0, tx: str = "", part: int = 0, last: bool = True):
    return [seq, kind, tx or f"u:{seq}", 0, part, last, True, [], list(entries), None, 0]


def frame(epoch: int, *items: list[Any]) -> list[Any]:
    return ["F", 1, "lab", 1, 7, epoch, "9.7", b"", 0, "", [TABLE], list(items)]


def claim(epoch: int) -> list[Any]:
    return ["C", 1, "lab", 1, 7, epoch]


async def topic_of(directory: Path, *records: list[Any]) -> Topic:
    bus = FileBus(directory)
    writer = bus.writer("one")
    await writer.open(1.0)
    await writer.append_many([msgspec.msgpack.encode(record) for record in records])
    await writer.close()
    try:
        return await read_topic(bus, "one")
    finally:
        await bus.close()


async def test_entries_are_decoded(tmp_path: Path):
    topic = await topic_of(
        tmp_path, claim(1), frame(1, item(1, [entry(b"k", 5)]), item(2, [entry(b"k", 9, 5, 1)]))
    )
    first, second = topic.entries
    assert (first.schema, first.table, first.key) == ("lab", "tags", b"k")
    assert (first.stamp, first.base, first.removed) == (Stamp(5, 1), Stamp(0, 0), False)
    assert (second.stamp, second.base, second.removed) == (Stamp(9, 1), Stamp(5, 1), True)
    assert (topic.first_seq, topic.last_seq, topic.transactions) == (1, 2, 2)


async def test_a_frame_of_a_dead_process_behind_a_claim_does_not_count(tmp_path: Path):
    topic = await topic_of(
        tmp_path,
        claim(1),
        frame(1, item(1, [entry(b"a", 1)])),
        claim(2),
        frame(1, item(2, [entry(b"dead", 2)])),
        frame(2, item(2, [entry(b"b", 3)])),
    )
    assert [each.key for each in topic.entries] == [b"a", b"b"]


async def test_repeated_items_count_once(tmp_path: Path):
    one = frame(1, item(1, [entry(b"a", 1)]))
    topic = await topic_of(tmp_path, claim(1), one, one, frame(1, item(2, [entry(b"b", 2)])))
    assert [each.key for each in topic.entries] == [b"a", b"b"]


async def test_parts_count_when_the_last_is_there(tmp_path: Path):
    topic = await topic_of(
        tmp_path,
        claim(1),
        frame(1, item(1, [entry(b"a", 1)], kind=1, tx="u:1", last=False)),
        frame(1, item(2, [entry(b"b", 2)], kind=1, tx="u:1", part=1)),
        frame(1, item(3, [entry(b"void", 3)], kind=1, tx="u:2", last=False)),
        claim(2),
        frame(2, item(4, [entry(b"c", 4)], kind=1, tx="u:2", part=0, last=False)),
    )
    assert [each.key for each in topic.entries] == [b"a", b"b"]
    assert topic.last_seq == 4


async def test_a_gap_is_a_halt(tmp_path: Path):
    with pytest.raises(Halt, match="gap: 3 follows 1"):
        await topic_of(tmp_path, claim(1), frame(1, item(1), item(3)))


async def test_heartbeats_are_counted_apart(tmp_path: Path):
    topic = await topic_of(tmp_path, claim(1), frame(1, item(1, kind=2), item(2)))
    assert (topic.heartbeats, topic.transactions) == (1, 1)
