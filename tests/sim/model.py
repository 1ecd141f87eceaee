"""What MySQL is in the simulation: rows, tombstones, a binlog, and strict row events.

A row event does what MySQL's applier does with it: a WRITE of a row that is
there (1062), an UPDATE or DELETE of one that is not (1032) is an error, never a
silent success.  Transactions are atomic; a client's open transaction locks the
rows it touched and the tombstones it wrote, and whoever meets a lock gives up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from meshnode.core.change import Mended, RowOp, Table
from meshnode.core.plan import Ancestry, Form, Plan, Work, make_plan
from meshnode.core.resolve import Local
from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType
from meshnode.core.stamp import Stamp
from meshnode.core.wire import REMOVE, UPDATE, Beat
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.maps import make_table

Row = tuple[Stamp, int]
"""A row's stamp and its value: the number of the write that made it."""


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
        b"\0" + wire_key(key) + value.to_bytes(4, "little")
        + stamp.ts.to_bytes(8, "little") + bytes((stamp.origin,))
    )  # fmt: skip


IMAGE = len(image(0, (Stamp(0, 0), 0)))


def row_of(image_: bytes) -> tuple[int, Row]:
    stamp = Stamp(int.from_bytes(image_[13:21], "little"), image_[21])
    return key_of(image_[1:9]), (stamp, int.from_bytes(image_[9:13], "little"))


@dataclass
class Logged:
    """A committed transaction as the binlog has it: statements of ops and tombstones."""

    statements: list[tuple[int, bytes, list[tuple[int, Stamp]]]] = field(default_factory=list)
    mended: dict[int, Mended] = field(default_factory=dict)
    beat: Beat | None = None
    in_parts: bool = False


def row_op(kind: int, rows: bytes) -> RowOp:
    scanner = TABLE.scan_pairs if kind == UPDATE else TABLE.scan_rows
    return RowOp(TABLE, kind, rows, scanner(rows, 0, len(rows)))


class Locked(Exception):
    """A row or tombstone is locked by a client."""


class RowError(Exception):
    """MySQL refused a row event: 1032 or 1062."""


class Surprise(Exception):
    """A look found what the plan did not know."""


@dataclass
class Locks:
    """What clients hold: keys of rows, and keys of tombstones."""

    rows: set[int] = field(default_factory=set)
    tombs: set[int] = field(default_factory=set)


@dataclass
class Data:
    """The replicated table and its tombstones; a transaction works on a copy."""

    rows: dict[int, Row] = field(default_factory=dict)
    tombs: dict[int, Stamp] = field(default_factory=dict)

    def copy(self) -> "Data":
        return Data(dict(self.rows), dict(self.tombs))

    def write(self, key: int, row: Row) -> None:
        if key in self.rows:
            raise RowError(f"1062: {key} is there")
        self.rows[key] = row

    def change(self, key: int, to: int, row: Row) -> None:
        self.remove(key)
        self.write(to, row)

    def remove(self, key: int) -> None:
        if key not in self.rows:
            raise RowError(f"1032: {key} is missing")
        del self.rows[key]

    def run(self, form: Form, chunk) -> None:
        """The images of one chunk of a plan's step, one after another."""
        if form is Form.UPDATE_BY_KEY:
            self.change(key_of(chunk[0]), *row_of(chunk[1]))
        elif form is Form.DELETE_BY_KEY:
            self.remove(key_of(chunk[0]))
        else:
            images = [chunk[at : at + IMAGE] for at in range(0, len(chunk), IMAGE)]
            if form is Form.UPDATE:
                for before, after in zip(images[::2], images[1::2], strict=True):
                    self.change(row_of(before)[0], *row_of(after))
            else:
                for each in images:
                    key, row = row_of(each)
                    self.write(key, row) if form is Form.WRITE else self.remove(key)


def lock(data: Data, works: Sequence[Work], deep: bool, locks: Locks) -> dict:
    """The locked state that a plan is made on: rows always, tombstones where deletes need them."""
    state = {}
    for work in works:
        for at, entry, _ in work.incoming:
            key = key_of(at[1])
            if key in locks.rows:
                raise Locked
            tomb = None
            if deep or entry.outcome == REMOVE or not work.item.exact:
                if key in locks.tombs:
                    raise Locked
                tomb = data.tombs.get(key)
            elif at in state:
                tomb = state[at].tomb
            row = data.rows.get(key)
            if row is not None or tomb is not None:
                state[at] = Local(row[0] if row else None, tomb)
    return state


def apply(
    data: Data,
    works: Sequence[Work],
    ancestry: Ancestry,
    locks: Locks,
    deep: bool = False,
    split: bool = False,
) -> Plan:
    """Write ``works`` into ``data``: lock, plan, write, look.

    Raises Locked, RowError or Surprise; ``data`` is then good for nothing.
    """
    plan = make_plan(works, lock(data, works, deep, locks), ancestry, split=split)
    for step in plan.steps:
        for chunk in step.chunks:
            data.run(step.form, chunk)
    for at, stamp in plan.tombstones.items():
        key = key_of(at[1])
        before = plan.before.get(at)
        known = before.tomb if before is not None else None
        if known is not None and known >= stamp:
            continue
        if known is None and key in data.tombs:
            raise Surprise(f"a tombstone of {key} appeared")
        assert data.tombs.get(key) == known
        data.tombs[key] = stamp
    for at, incoming in plan.upserts.items():
        tomb = data.tombs.get(key_of(at[1]))
        if key_of(at[1]) in locks.tombs:
            raise Locked
        if tomb is not None and tomb > incoming.entry.stamp:
            raise Surprise(f"a newer tombstone stands beside {at[1]!r}")
    for at, stamp in plan.removals.items():
        row = data.rows.get(key_of(at[1]))
        if row is not None and row[0] < stamp:
            raise Surprise(f"a row stands below its tombstone: {at[1]!r}")
    return plan


def apply_batch(
    data: Data, works: Sequence[Work], ancestry: Ancestry, locks: Locks
) -> tuple[Data, Plan]:
    """``works`` in one transaction; tried again with all tombstones after a surprise."""
    for deep in (False, True):
        copy = data.copy()
        try:
            return copy, apply(copy, works, ancestry, locks, deep)
        except (Surprise, RowError):
            if deep:
                raise
    raise AssertionError
