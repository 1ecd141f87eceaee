"""Runs: ordinary items in columns, so that no row of theirs is handled by itself.

Most items only insert rows that nobody had, or update rows over a version that
their origin knew.  A *run* is a stretch of such items, proven as one: per table
and kind a *segment* with the joined images and, in columns, the keys, stamps and
bases.  It proves what :func:`meshnode.core.check.check` proves item by item: each
row has its index entry, with its key and stamp, and each entry its row.

A run goes *straight* when each of its rows stands at exactly its base; then all
its items would be written as they are, so its images are.  :class:`Touched` says
what must be found for that.  In any other case its items go the long way, one by
one (:mod:`meshnode.core.plan`), and that alone decides about them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import lt

from meshnode import limits
from meshnode.core.change import Table
from meshnode.core.wire import UPDATE, UPSERT, WRITE, Entry, Item

Version = tuple[int, int]
"""A stamp, without its name: ``(ts, origin)``."""


@dataclass(slots=True, eq=False)
class Segment:
    """Images of one kind on one table, one after another, with one entry for each row."""

    table: Table
    kind: int
    rows: bytes
    keys: Sequence[bytes]
    stamps: list[Version]
    bases: list[Version]


def eligible(item: Item, tables: Sequence[Table]) -> bool:
    """Whether ``item`` may be part of a run; that it is an ordinary one is found out later."""
    if not (item.exact and item.entries and item.ops):
        return False
    for op in item.ops:
        if not 0 <= op.table < len(tables) or tables[op.table].folds is not None:
            return False
        if op.kind == UPDATE:
            # A before image may be so long that only its key should be sent.
            if len(op.rows) > limits.BEFORE_IMAGE_BYTES:
                return False
        elif op.kind != WRITE:
            return False
    return True


def prove(items: Iterable[Item], tables: Sequence[Table]) -> list[Segment] | None:
    """The segments of ``items`` (all :func:`eligible`), in order; None if they are no run.

    Where one item ends and the next begins does not matter: they are written together
    or not at all.
    """
    joined: list[tuple[int, int, list[bytes]]] = []
    entries: list[Entry] = []
    number = kind = -1
    for item in items:
        for op in item.ops:
            if op.table != number or op.kind != kind:
                number, kind = op.table, op.kind
                joined.append((number, kind, []))
            joined[-1][2].append(op.rows)
        entries += item.entries
    segments: list[Segment] = []
    done = 0
    for number, kind, images in joined:
        segment = _segment(number, tables[number], kind, images, entries, done)
        if segment is None:
            return None
        segments.append(segment)
        done += len(segment.keys)
    return segments if done == len(entries) else None


def _segment(
    number: int, table: Table, kind: int, images: list[bytes], entries: list[Entry], start: int
) -> Segment | None:
    rows = b"".join(images) if len(images) > 1 else images[0]
    try:
        found = (table.scan_pairs if kind == UPDATE else table.scan_rows)(rows, 0, len(rows))
    except ValueError:
        return None
    own = entries[start : start + len(found)]
    if not found or len(own) != len(found):
        return None
    if kind == UPDATE:
        _, _, old, _, _, _, keys, times, origins = zip(*found)
        if old != keys:
            return None
    else:
        _, _, keys, times, origins = zip(*found)
    if {(entry.table, entry.outcome, entry.base_row) for entry in own} != {
        (number, UPSERT, kind == UPDATE)
    }:
        return None
    stamps = list(zip(times, origins))
    bases = [(entry.base_ts, entry.base_origin) for entry in own]
    if [(entry.ts, entry.origin) for entry in own] != stamps or not all(map(lt, bases, stamps)):
        return None
    if tuple([entry.key for entry in own]) != keys:
        return None
    if kind == WRITE and any(map(any, bases)):
        # The base is a tombstone, and it is not locked here.
        return None
    return Segment(table, kind, rows, keys, stamps, bases)


@dataclass(slots=True, eq=False)
class Touched:
    """What a batch of runs touches in one table.

    ``known``: the rows that must stand at ``bases`` (in the same order) before the
    write; of all other ``keys`` none may exist, which the write itself finds out.
    ``keys`` has every key once.
    """

    table: Table
    keys: Sequence[bytes] = ()
    known: Sequence[bytes] = ()
    bases: Sequence[Version] = ()
    _segments: list[Segment] = field(default_factory=list)
    _last: dict[bytes, Version] | None = None

    def tolerates(self, key: bytes, tomb: Version) -> bool:
        """Whether ``tomb`` may stand beside ``key`` after the write.

        An older one beside an updated row is a delete that this row has long
        overtaken.  Beside a new row any tombstone is one that its writer had not
        seen: the long way records it.
        """
        if self._last is None:
            known = set(self.known)
            self._last = {
                at: stamp
                for segment in self._segments
                for at, stamp in zip(segment.keys, segment.stamps)
                if at in known
            }
        last = self._last.get(key)
        return last is not None and tomb <= last


def touched(segments: Iterable[Segment]) -> list[Touched] | None:
    """What ``segments`` touch, by table in the order of digests; None if they cannot go straight.

    A key may be touched again and again, if each version has the one before it as its base.
    """
    by_table: dict[Table, list[Segment]] = {}
    for segment in segments:
        by_table.setdefault(segment.table, []).append(segment)
    result = []
    for table in sorted(by_table, key=lambda table: table.digest):
        own = by_table[table]
        keys: Sequence[bytes] = list(chain.from_iterable(segment.keys for segment in own))
        if len(set(keys)) == len(keys):
            updates = [segment for segment in own if segment.kind == UPDATE]
            known = list(chain.from_iterable(segment.keys for segment in updates))
            bases = list(chain.from_iterable(segment.bases for segment in updates))
        else:
            first = _chained(own)
            if first is None:
                return None
            keys = list(first)
            known = [key for key, base in first.items() if base is not None]
            bases = [base for base in first.values() if base is not None]
        result.append(Touched(table, keys, known, bases, own))
    return result


def _chained(segments: Iterable[Segment]) -> dict[bytes, Version | None] | None:
    """The base of each key's first touch, None for a new row; None if a later one is off."""
    first: dict[bytes, Version | None] = {}
    last: dict[bytes, Version] = {}
    for segment in segments:
        new = segment.kind == WRITE
        for key, stamp, base in zip(segment.keys, segment.stamps, segment.bases):
            before = last.get(key)
            if before is None:
                first[key] = None if new else base
            elif new or before != base:
                return None
            last[key] = stamp
    return first
