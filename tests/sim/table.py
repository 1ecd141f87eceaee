"""The replicated table of the simulation, its images, and what a binlog holds of it.

One table is enough: nothing in the protocol connects two.  It is read by the real
scanner, so images are real bytes; everywhere else a row is ``(stamp, value)``, and a
value is the number of the write that made it.
"""

from dataclasses import dataclass, field

from meshnode.core.change import Mended, RowOp, Table
from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType
from meshnode.core.stamp import Stamp
from meshnode.core.wire import DELETE, UPDATE, WRITE, Beat
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.maps import make_table

Row = tuple[Stamp, int]
"""A row's stamp and its value."""


def new_table() -> Table:
    """``id BIGINT`` and ``v INT`` with the stamps, read by the real scanner."""
    columns = (
        Column("id", FieldType.LONGLONG, nullable=False),
        Column("v", FieldType.LONG, nullable=False),
        Column(STAMP_TS, FieldType.LONGLONG, unsigned=True, nullable=False, visible=False),
        Column(STAMP_ORIGIN, FieldType.TINY, unsigned=True, nullable=False, visible=False),
    )
    return make_table(build_table_map(1, "shop", "t", columns, (0,)))


TABLE = new_table()


def wire_key(key: int) -> bytes:
    return key.to_bytes(8, "little")


def key_of(wire: bytes) -> int:
    return int.from_bytes(wire, "little")


def image(key: int, row: Row) -> bytes:
    """The row image: null bits, key, value, stamp."""
    stamp, value = row
    return (
        b"\0" + key.to_bytes(8, "little") + value.to_bytes(4, "little")
        + stamp[0].to_bytes(8, "little") + bytes((stamp[1],))
    )  # fmt: skip


IMAGE = len(image(0, (Stamp(0, 0), 0)))


def row_of(image_: bytes) -> tuple[int, Row]:
    stamp = Stamp(int.from_bytes(image_[13:21], "little"), image_[21])
    return int.from_bytes(image_[1:9], "little"), (stamp, int.from_bytes(image_[9:13], "little"))


def rows_of(images: bytes) -> list[tuple[int, Row]]:
    """Every row in images that stand one after another."""
    return [row_of(images[at : at + IMAGE]) for at in range(0, len(images), IMAGE)]


Change = tuple[int, int, Row | None, int, Row | None]
"""``kind, old key, before, new key, after`` of one row in the binlog."""


def row_op(kind: int, rows: bytes) -> RowOp:
    scanner = TABLE.scan_pairs if kind == UPDATE else TABLE.scan_rows
    return RowOp(TABLE, kind, rows, scanner(rows, 0, len(rows)))


def row_ops(changes: list[Change]) -> list[RowOp]:
    """The row events of a transaction; neighbours of one kind become one."""
    ops = []
    kind, images = -1, []
    for each in changes:
        if each[0] != kind:
            if images:
                ops.append(row_op(kind, b"".join(images)))
            kind, images = each[0], []
        if kind != WRITE:
            images.append(image(each[1], each[2]))
        if kind != DELETE:
            images.append(image(each[3], each[4]))
    if images:
        ops.append(row_op(kind, b"".join(images)))
    return ops


@dataclass(slots=True, eq=False)
class Logged:
    """A committed transaction as the binlog has it.

    ``changes`` and ``tombs`` in the order in which they were made; ``cuts``: how many of
    either there were when the server began another part.  ``applied``: its first row event
    is that of ``meshnode.applied``.  ``partial``: the session logged no full images.
    """

    changes: list[Change] = field(default_factory=list)
    tombs: list[tuple[int, Stamp]] = field(default_factory=list)
    mended: dict[int, Mended] = field(default_factory=dict)
    beat: Beat | None = None
    applied: bool = False
    partial: bool = False
    cuts: list[tuple[int, int]] = field(default_factory=list)
    activates: bool = False
    commit_us: int = 0
