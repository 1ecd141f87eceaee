"""A server in which every transaction takes no time: for tests of one reader alone.

A row event does what MySQL's applier does with it: a WRITE of a row that is
there (1062), an UPDATE or DELETE of one that is not (1032) is an error, never a
silent success.  A transaction works on a copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from meshnode.core.plan import Ancestry, Form, Plan, Work, make_plan
from meshnode.core.resolve import Local
from meshnode.core.stamp import Stamp
from meshnode.core.wire import REMOVE

from .database import Locked, RowError, Surprise
from .table import Row, key_of, row_of, rows_of

MISSING, PRESENT = 1032, 1062


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
            raise RowError(PRESENT)
        self.rows[key] = row

    def change(self, key: int, to: int, row: Row) -> None:
        self.remove(key)
        self.write(to, row)

    def remove(self, key: int) -> None:
        if key not in self.rows:
            raise RowError(MISSING)
        del self.rows[key]

    def run(self, form: Form, chunk) -> None:
        """The images of one chunk of a plan's step, one after another."""
        if form is Form.UPDATE_BY_KEY:
            self.change(key_of(chunk[0]), *row_of(chunk[1]))
        elif form is Form.DELETE_BY_KEY:
            self.remove(key_of(chunk[0]))
        else:
            rows = rows_of(chunk)
            if form is Form.UPDATE:
                for before, after in zip(rows[::2], rows[1::2], strict=True):
                    self.change(before[0], *after)
            else:
                for key, row in rows:
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
