"""Judges a mesh by its topics alone, in words of its own: nothing here uses ``meshnode.core``.

It reads every record that counts (no claim with a higher epoch before it), folds the entries to
the state that every region must have, and compares.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

CLAIM, FRAME = "C", "F"
PART, HEARTBEAT = 1, 2
UPSERT = 0

Version = tuple[int, int]


@dataclass
class Stream:
    """What one topic says: ``entries`` are ``(seq, key, outcome, stamp)`` in order.

    ``huge`` counts transactions in parts, ``unfinished`` those that a claim made void; ``open`` is
    one whose last part is still to come.
    """

    region: int
    entries: list[tuple[int, bytes, int, Version]] = field(default_factory=list)
    transactions: list[str] = field(default_factory=list)
    images: bytearray = field(default_factory=bytearray)
    huge: int = 0
    unfinished: int = 0
    open: list[list[Any]] = field(default_factory=list)
    last: int = 0
    problems: list[str] = field(default_factory=list)


def read(region: int, payloads: Iterable[bytes]) -> Stream:
    """Fold one topic."""
    stream = Stream(region)
    epoch = 0
    promised = 0
    for payload in payloads:
        record = msgspec.msgpack.decode(payload)
        if record[0] == CLAIM:
            if record[5] > epoch:
                epoch = record[5]
                stream.unfinished += bool(stream.open)
                stream.open.clear()
            continue
        if record[5] < epoch:
            continue
        items = record[11]
        for item in items:
            promised = _take(stream, item, promised)
    return stream


def _take(stream: Stream, item: list[Any], promised: int) -> int:
    """One item; the promise that holds after it."""
    seq, kind, tx_id, last = item[0], item[1], item[2], item[5]
    if seq != stream.last + 1:
        stream.problems.append(f"item {seq} follows {stream.last}")
    stream.last = seq
    if kind == HEARTBEAT:
        return max(promised, item[9][2])
    stream.open.append(item)
    if {part[2] for part in stream.open} != {tx_id}:
        stream.problems.append(f"item {seq} stands between the parts of another transaction")
    if kind == PART and not last:
        return promised
    if tx_id in stream.transactions:
        stream.problems.append(f"transaction {tx_id} is published twice")
    stream.transactions.append(tx_id)
    stream.huge += kind == PART
    for part in stream.open:
        _rows(stream, part, promised)
    stream.open.clear()
    return promised


def _rows(stream: Stream, item: list[Any], promised: int) -> None:
    seq, ops, entries = item[0], item[7], item[8]
    for _, _, rows in ops:
        stream.images += rows
    for _, key, outcome, ts, origin, *_ in entries:
        if origin != stream.region:
            stream.problems.append(f"item {seq} publishes a version of region {origin}")
        if outcome == UPSERT and ts <= promised:
            stream.problems.append(f"item {seq} publishes {ts}, not above the promise {promised}")
        stream.entries.append((seq, bytes(key), outcome, (ts, origin)))


def expected(streams: Iterable[Stream]) -> dict[bytes, Version]:
    """The rows that stand at the end, by key: at a tie of row and tombstone the row wins."""
    rows: dict[bytes, Version] = {}
    tombs: dict[bytes, Version] = {}
    for stream in streams:
        for _, key, outcome, stamp in stream.entries:
            where = rows if outcome == UPSERT else tombs
            where[key] = max(stamp, where.get(key, (0, 0)))
    return {key: stamp for key, stamp in rows.items() if stamp >= tombs.get(key, (0, 0))}
