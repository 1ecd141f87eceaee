"""An item from the bus is untrusted input: its index must agree with its images.

The receiver scans the row images itself, with the shape of the frame's table
map, so every length is checked against its bounds and every row that could be
written is known.  An index entry that the images contradict, and in an exact
item a row without entry, stop the stream before anything reaches MySQL.
"""

from typing import NamedTuple

from meshnode.core.change import NetKey, Table
from meshnode.core.stamp import MAX_TS, Stamp
from meshnode.core.wire import DELETE, REMOVE, UPDATE, UPSERT, WRITE, Entry, Item
from meshnode.errors import Halt


class Image(NamedTuple):
    """An after image: ``rows[start:stop]``."""

    rows: bytes
    start: int
    stop: int

    def bytes(self) -> bytes:
        return self.rows[self.start : self.stop]


class Incoming(NamedTuple):
    """One entry of an item with the canonical key and, for an upsert, its image."""

    at: NetKey
    entry: Entry
    image: Image | None


class Scanned(NamedTuple):
    """The images of one op as the receiver's scanner found them."""

    table: Table
    kind: int
    rows: bytes
    found: list


def scan(item: Item, tables: list[Table], stream: str) -> list[Scanned]:
    """The rows of every op of ``item``; raises :class:`Halt` on bytes that are no images."""
    scanned = []
    for op in item.ops:
        if not 0 <= op.table < len(tables):
            raise malformed(stream, item, f"names table {op.table} of {len(tables)}")
        table = tables[op.table]
        if op.kind == UPDATE:
            scanner = table.scan_pairs
        elif op.kind in (WRITE, DELETE):
            scanner = table.scan_rows
        else:
            raise malformed(stream, item, f"has an operation of unknown kind {op.kind}")
        try:
            found = scanner(op.rows, 0, len(op.rows))
        except ValueError as error:
            raise malformed(stream, item, f"has malformed images: {error}") from None
        scanned.append(Scanned(table, op.kind, op.rows, found))
    if item.exact and not item.entries and any(op.found for op in scanned):
        # An item without entries is passed over; its rows would be passed over with it.
        raise malformed(stream, item, "has rows that its index does not name")
    return scanned


def keys(item: Item, tables: list[Table], scanned: list[Scanned], stream: str) -> set:
    """``(table, wire key)`` of every character key whose canonical form :func:`check` needs.

    Also of those known already: what is known may be forgotten before it is used.
    """
    wanted = set()
    for entry in item.entries:
        if not 0 <= entry.table < len(tables):
            raise malformed(stream, item, f"names table {entry.table} of {len(tables)}")
        table = tables[entry.table]
        if table.folds is not None:
            if not table.is_key(entry.key):
                raise no_key(stream, item, table, entry)
            wanted.add((table, entry.key))
    for op in scanned:
        if op.table.folds is None:
            continue
        for row in op.found:
            wanted.add((op.table, row[2]))
            if op.kind == UPDATE:
                wanted.add((op.table, row[6]))
    return wanted


def check(item: Item, tables: list[Table], scanned: list[Scanned], stream: str) -> list[Incoming]:
    """The entries of ``item``, proven by its images.

    Raises :class:`Halt` naming the stream, the item, the table and the key when
    index and images differ.
    """
    last: dict[NetKey, tuple[int, int, bytes, int, int] | None] = {}
    for table, kind, rows, found in scanned:
        folds = table.folds
        if kind == WRITE:
            for start, stop, key, ts, origin in found:
                at = (table, key if folds is None else folds[key])
                last[at] = (ts, origin, rows, start, stop)
        elif kind == DELETE:
            for row in found:
                last[(table, row[2] if folds is None else folds[row[2]])] = None
        else:
            for _, start, old, _, _, stop, key, ts, origin in found:
                if key != old:
                    last[(table, old if folds is None else folds[old])] = None
                at = (table, key if folds is None else folds[key])
                last[at] = (ts, origin, rows, start, stop)

    result: list[Incoming] = []
    for entry in item.entries:
        if not 0 <= entry.table < len(tables):
            raise malformed(stream, item, f"names table {entry.table} of {len(tables)}")
        table = tables[entry.table]
        at = (table, table.fold(entry.key))
        image: Image | None = None
        if entry.outcome == REMOVE:
            if not (0 < entry.ts <= MAX_TS and 0 < entry.origin < 256):
                raise malformed(stream, item, f"deletes with the impossible stamp {entry.stamp}")
            if last.get(at, 0) is not None:
                if item.exact:
                    raise contradicted(stream, item, table, entry, "no delete of that key")
                if not table.is_key(entry.key):
                    raise no_key(stream, item, table, entry)
        elif entry.outcome != UPSERT:
            raise malformed(stream, item, f"has an outcome of unknown kind {entry.outcome}")
        else:
            found_last = last.get(at)
            if found_last is None:
                raise contradicted(stream, item, table, entry, "no image of that key")
            ts, origin, rows, start, stop = found_last
            if ts != entry.ts or origin != entry.origin:
                raise contradicted(
                    stream, item, table, entry, f"an image with stamp {Stamp(ts, origin)}"
                )
            image = Image(rows, start, stop)
        result.append(Incoming(at, entry, image))
    named = len({incoming.at for incoming in result})
    if named != len(result):
        raise malformed(stream, item, "has two index entries for one key")
    if item.exact and named != len(last):
        raise malformed(stream, item, "has rows that its index does not name")
    return result


def malformed(stream: str, item: Item, what: str) -> Halt:
    return Halt(
        f"item {item.seq} ({item.tx_id}) of the stream of {stream} {what}",
        "compare the origin's bus storage and release; nothing of the item was applied",
    )


def no_key(stream: str, item: Item, table: Table, entry: Entry) -> Halt:
    return malformed(
        stream, item, f"has an index entry for 0x{entry.key.hex()}, no key of {table.title}"
    )


def contradicted(stream: str, item: Item, table: Table, entry: Entry, found: str) -> Halt:
    outcome = "delete" if entry.outcome == REMOVE else f"upsert with stamp {entry.stamp}"
    return malformed(
        stream,
        item,
        f"has an index entry ({outcome} of {table.title} key 0x{entry.key.hex()}) "
        f"where the images hold {found}",
    )
