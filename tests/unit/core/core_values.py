"""Small tables, rows and transactions for the tests of ``core/``.

The tables have the shape ``id, v, _mesh_ts, _mesh_origin`` and the real compiled
scanner; a key is a number (``BIGINT``) or, in :func:`text_table`, a name whose
canonical form is its upper case.
"""

from meshnode.core.change import RowOp, Table, Transaction, net_effects
from meshnode.core.check import Incoming, check, scan
from meshnode.core.mend import Examiner, Removed, to_item
from meshnode.core.plan import Work
from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType
from meshnode.core.stamp import ZERO, Stamp
from meshnode.core.wire import DELETE, UPDATE, WRITE, Entry, Item
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.maps import make_table

OWN, PEER, THIRD = 1, 2, 3

_REST = (
    Column("v", FieldType.VARCHAR, 60, collation=63),
    Column(STAMP_TS, FieldType.LONGLONG, unsigned=True, nullable=False, visible=False),
    Column(STAMP_ORIGIN, FieldType.TINY, unsigned=True, nullable=False, visible=False),
)


def number_table(name: str = "t") -> Table:
    """A table whose equal keys are equal bytes."""
    key = Column("id", FieldType.LONGLONG, nullable=False)
    return make_table(build_table_map(1, "shop", name, (key, *_REST), (0,)))


class Upper(dict):
    """Canonical forms as a case-insensitive collation has them."""

    def __missing__(self, key: bytes) -> bytes:
        return key.upper()


def text_table(name: str = "names") -> Table:
    """A table whose keys fold to upper case."""
    key = Column("id", FieldType.VARCHAR, 60, nullable=False, collation=255)
    table = make_table(build_table_map(1, "shop", name, (key, *_REST), (0,)))
    table.folds = Upper()
    return table


def wire_key(key: int | str) -> bytes:
    """The key as an image holds it."""
    if isinstance(key, int):
        return key.to_bytes(8, "little")
    return bytes((len(key),)) + key.encode()


def image(key: int | str, stamp: Stamp, value: str = "") -> bytes:
    """A whole row image."""
    text = bytes((len(value),)) + value.encode()
    return b"\0" + wire_key(key) + text + stamp.ts.to_bytes(8, "little") + bytes((stamp.origin,))


Row = tuple[int | str, Stamp]


def _op(table: Table, kind: int, rows: bytes) -> RowOp:
    scanner = table.scan_pairs if kind == UPDATE else table.scan_rows
    return RowOp(table, kind, rows, scanner(rows, 0, len(rows)))


def write(table: Table, *rows: Row) -> RowOp:
    return _op(table, WRITE, b"".join(image(*row) for row in rows))


def delete(table: Table, *rows: Row) -> RowOp:
    return _op(table, DELETE, b"".join(image(*row) for row in rows))


def update(table: Table, *pairs: tuple[Row, Row]) -> RowOp:
    rows = b"".join(image(*before) + image(*after) for before, after in pairs)
    return _op(table, UPDATE, rows)


def transaction(*ops: RowOp, tombs: tuple[Row, ...] = (), **fields) -> Transaction:
    """A transaction of ``ops``; ``tombs`` are tombstones of the first op's table."""
    written = [(ops[0].table.digest, wire_key(key), stamp) for key, stamp in tombs]
    return Transaction("uuid:1", 0, ops=list(ops), tombstones=written, **fields)


def at(table: Table, key: int | str) -> tuple[Table, bytes]:
    """The key as core's maps have it."""
    return table, table.fold(wire_key(key))


def item_of(tx: Transaction, tombstones: dict | None = None, own: int = OWN) -> Item:
    """The item of a transaction that needs no lift."""
    known = {op.table.digest: op.table for op in tx.ops}
    examined = Examiner(own, 0).examine(tx, net_effects(tx, known), tombstones or {})
    assert not examined.lifts
    tables = list(dict.fromkeys(op.table for op in tx.ops))
    numbers = {table: n for n, table in enumerate(tables)}
    item = to_item(examined, tombstones or {}, {}, numbers, Removed())
    assert item is not None
    return item


def work_of(tx: Transaction, tombstones: dict | None = None, own: int = OWN) -> Work:
    """What a peer would plan with after reading the item of ``tx``."""
    item = item_of(tx, tombstones, own)
    tables = list(dict.fromkeys(op.table for op in tx.ops))
    return received(item, tables)


def received(item: Item, tables: list[Table]) -> Work:
    """``item`` scanned and checked."""
    scanned = scan(item, tables, "east")
    return Work(item, scanned, check(item, tables, scanned, "east"))


def entry(
    key: int | str,
    outcome: int,
    stamp: Stamp,
    base: Stamp = ZERO,
    base_row: bool = False,
    table: int = 0,
) -> Entry:
    return Entry(
        table, wire_key(key), outcome, stamp.ts, stamp.origin, base.ts, base.origin, base_row
    )


def incoming(table: Table, entry_: Entry) -> Incoming:
    """An entry without image, where only its stamps count."""
    return Incoming((table, table.fold(entry_.key)), entry_, None)
