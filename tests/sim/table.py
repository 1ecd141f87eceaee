"""The replicated tables of the simulation, their images, and what a binlog holds of them.

One has numbers for keys; the other words, of which the case does not count: a row with an
odd value spells its key in capitals, so that an update may change how a key is spelled and
not which it is.  Both are read by the real scanner, so images are real bytes; everywhere
else a key is a number (from :data:`WORDS` on one of the second table), a row is
``(stamp, value)``, and a value is the number of the write that made it.
"""

from meshnode.core.change import Mended, RowOp, Table
from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType
from meshnode.core.stamp import Stamp
from meshnode.core.wire import UPDATE, Beat
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.maps import make_table

from .journal import WORDS

Row = tuple[Stamp, int]
"""A row's stamp and its value."""


MOST = 32
"""So many keys of each table have a name on the wire."""


def new_table(number: int, name: str, key: Column) -> Table:
    """``key`` and ``v INT`` with the stamps, read by the real scanner."""
    columns = (
        key,
        Column("v", FieldType.LONG, nullable=False),
        Column(STAMP_TS, FieldType.LONGLONG, unsigned=True, nullable=False, visible=False),
        Column(STAMP_ORIGIN, FieldType.TINY, unsigned=True, nullable=False, visible=False),
    )
    return make_table(build_table_map(number, "shop", name, columns, (0,)))


TABLE = new_table(1, "t", Column("id", FieldType.LONGLONG, nullable=False))
WORD_TABLE = new_table(
    2, "w", Column("word", FieldType.VARCHAR, meta=28, nullable=False, collation=255)
)
TABLES = [TABLE, WORD_TABLE]

WIRES = {
    **{key: key.to_bytes(8, "little") for key in range(MOST)},
    **{key: b"\x07word%03d" % key for key in range(WORDS, WORDS + MOST)},
}
"""Every key as it travels, in its canonical form."""

CAPITALS = {key: wire.upper() for key, wire in WIRES.items() if key >= WORDS}
KEYS = {wire: key for spelled in (WIRES, CAPITALS) for key, wire in spelled.items()}
AT = {key: (TABLE if key < WORDS else WORD_TABLE, wire) for key, wire in WIRES.items()}
"""Each key as the core names it."""

assert WORD_TABLE.folds is not None
# What the node asks MySQL for, key by key.
WORD_TABLE.folds.update(
    {wire: WIRES[key] for spelled in (WIRES, CAPITALS) for key, wire in spelled.items()}
)

wire_key = WIRES.__getitem__
key_of = KEYS.__getitem__


def table_of(key: int) -> Table:
    return TABLE if key < WORDS else WORD_TABLE


def spelled(key: int, value: int) -> bytes:
    """The key as the row with that value spells it."""
    return CAPITALS[key] if value & 1 and key >= WORDS else WIRES[key]


def image(key: int, row: Row) -> bytes:
    """The row image: null bits, key, value, stamp."""
    stamp, value = row
    return (
        b"\0" + spelled(key, value) + value.to_bytes(4, "little")
        + stamp[0].to_bytes(8, "little") + bytes((stamp[1],))
    )  # fmt: skip


IMAGE = len(image(0, (Stamp(0, 0), 0)))


def row_of(image_: bytes) -> tuple[int, Row]:
    stamp = Stamp(int.from_bytes(image_[13:21], "little"), image_[21])
    return KEYS[image_[1:9]], (stamp, int.from_bytes(image_[9:13], "little"))


def rows_of(images: bytes) -> list[tuple[int, Row]]:
    """Every row in images that stand one after another."""
    return [row_of(images[at : at + IMAGE]) for at in range(0, len(images), IMAGE)]


Change = tuple[int, int, Row | None, int, Row | None]
"""``kind, old key, before, new key, after`` of one row in the binlog."""


def row_op(kind: int, rows: bytes, table: Table = TABLE) -> RowOp:
    scanner = table.scan_pairs if kind == UPDATE else table.scan_rows
    return RowOp(table, kind, rows, scanner(rows, 0, len(rows)))


def row_ops(changes: list[Change]) -> list[RowOp]:
    """The row events of a transaction; neighbours of one table and kind become one."""
    ops: list[RowOp] = []
    kind, table, images = -1, TABLE, b""
    for what, key, before, to, after in changes:
        own = TABLE if key < WORDS else WORD_TABLE
        if what != kind or own is not table:
            if images:
                ops.append(row_op(kind, images, table))
            kind, table, images = what, own, b""
        if before is not None:
            images += image(key, before)
        if after is not None:
            images += image(to, after)
    if images:
        ops.append(row_op(kind, images, table))
    return ops


class Logged:
    """A committed transaction as the binlog has it.

    ``changes`` and ``tombs`` in the order in which they were made; ``cuts``: how many of
    either there were when the server began another part.  ``applied``: its first row event
    is that of ``meshnode.applied``.  ``partial``: the session logged no full images.
    """

    __slots__ = (
        "activates", "applied", "beat", "changes", "commit_us", "cuts", "mended", "partial",
        "tombs",
    )  # fmt: skip

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.tombs: list[tuple[int, Stamp]] = []
        self.mended: dict[int, Mended] = {}
        self.beat: Beat | None = None
        self.applied = False
        self.partial = False
        self.cuts: list[tuple[int, int]] = []
        self.activates = False
        self.commit_us = 0
