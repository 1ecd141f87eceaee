"""What one apply transaction writes, decided from the locked state of its keys.

Items are taken in stream order.  An item whose every key stands at exactly its
base goes through as it is, in the order of the source.  Any other item is
reduced to the outcomes that won: deletes first, then upserts, converted to what
the local row needs.  The plan also says which locking reads must follow the
write, and what they may find; anything else is a rollback and a new plan.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from meshnode import limits
from meshnode.core.change import NetKey, Table
from meshnode.core.check import Incoming, Scanned
from meshnode.core.resolve import Conflict, Local, Verdict, conflict, decide, raised
from meshnode.core.stamp import ZERO, Stamp
from meshnode.core.wire import DELETE, REMOVE, UPDATE, WRITE, Item


class Form(IntEnum):
    """How the images of a step are laid out."""

    WRITE = WRITE
    UPDATE = UPDATE
    DELETE = DELETE
    UPDATE_BY_KEY = 3
    DELETE_BY_KEY = 4


@dataclass(slots=True)
class Step:
    """Images to send to one table in one form, in order.

    For ``UPDATE_BY_KEY`` and ``DELETE_BY_KEY`` the chunks are ``(wire key,
    after image)`` and ``(wire key, b"")``.
    """

    table: Table
    form: Form
    chunks: list


@dataclass(slots=True)
class ConflictRecord:
    """A conflict with the entry that caused it."""

    conflict: Conflict
    item: Item
    incoming: Incoming


@dataclass(slots=True)
class Plan:
    """The writes of one transaction and the looks that must follow them.

    ``tombstones``: to be raised to at least this.  ``upserts``: keys whose
    tombstone must not be newer than the stamp.  ``removals``: keys whose row
    must be gone, or not below the tombstone.  ``before`` is the locked state the
    plan was made on, ``state`` what it will be; ``keys`` and ``items`` give a
    key's wire form and the item that touched it last.  ``written`` lists the
    versions that are written, each with the one its origin wrote over, in order.
    ``exact_items`` counts items that went through unchanged.
    """

    steps: list[Step] = field(default_factory=list)
    tombstones: dict[NetKey, Stamp] = field(default_factory=dict)
    upserts: dict[NetKey, Incoming] = field(default_factory=dict)
    removals: dict[NetKey, Stamp] = field(default_factory=dict)
    records: list[ConflictRecord] = field(default_factory=list)
    before: Mapping[NetKey, Local] = field(default_factory=dict)
    state: dict[NetKey, Local] = field(default_factory=dict)
    keys: dict[NetKey, bytes] = field(default_factory=dict)
    items: dict[NetKey, Item] = field(default_factory=dict)
    written: list[tuple[NetKey, Stamp, Stamp]] = field(default_factory=list)
    exact_items: int = 0
    rows: int = 0

    def add(self, table: Table, form: Form, chunk: object) -> None:
        """Append an image, to the last step if it is of the same kind."""
        if self.steps and self.steps[-1].table is table and self.steps[-1].form is form:
            self.steps[-1].chunks.append(chunk)
        else:
            self.steps.append(Step(table, form, [chunk]))


@dataclass(slots=True)
class Work:
    """An item ready to be planned: its images as scanned, its entries as checked."""

    item: Item
    scanned: list[Scanned]
    incoming: list[Incoming]


FORMS = {WRITE: Form.WRITE, UPDATE: Form.UPDATE, DELETE: Form.DELETE}


class _Generation:
    """Writes that are forgotten together.  They are sorted in when first asked for.

    Nobody asks while no row is in conflict, and sorting in costs as much as proving the rows.
    """

    def __init__(self) -> None:
        self.count = 0
        self._unsorted: list[tuple[Table, Sequence, Sequence, Sequence]] = []
        # By the digest of the table: the base of each key and version, and the other way round
        # the keys with the versions that something was written over.
        self._bases: dict[str, dict[tuple[bytes, tuple[int, int]], tuple[int, int]]] = {}
        self._overwritten: dict[str, set[tuple[bytes, tuple[int, int]]]] = {}

    def add(self, table: Table, keys: Sequence, stamps: Sequence, bases: Sequence) -> None:
        self._unsorted.append((table, keys, stamps, bases))
        self.count += len(keys)

    def base(self, at: NetKey, stamp: tuple[int, int]) -> tuple[int, int] | None:
        self._sort_in()
        return self._bases.get(at[0].digest, {}).get((at[1], stamp))

    def overwritten(self, at: NetKey, stamp: tuple[int, int]) -> bool:
        self._sort_in()
        return (at[1], stamp) in self._overwritten.get(at[0].digest, ())

    def _sort_in(self) -> None:
        for table, keys, stamps, bases in self._unsorted:
            digest = table.digest
            self._bases.setdefault(digest, {}).update(zip(zip(keys, stamps), bases))
            self._overwritten.setdefault(digest, set()).update(zip(keys, bases))
        self._unsorted.clear()


class Ancestry:
    """Which versions recent writes had before them: bounded, newest kept.

    A version of this region (``own``) was written by a client here, who cannot
    have seen what has not arrived yet: nothing that arrives later precedes it.
    But its writer may have seen a version that was itself written over one that is
    still on its way (:meth:`overwritten`).
    """

    DEPTH = 4

    def __init__(self, capacity: int, own: int) -> None:
        self.capacity = capacity
        self.own = own
        # Two of them, so that forgetting the oldest is no work.
        self._young, self._old = _Generation(), _Generation()

    def note(self, at: NetKey, stamp: Stamp, base: Stamp) -> None:
        """``stamp`` was written over ``base``."""
        self.note_all(at[0], (at[1],), (stamp,), (base,))

    def note_all(
        self,
        table: Table,
        keys: Sequence[bytes],
        stamps: Sequence[tuple[int, int]],
        bases: Sequence[tuple[int, int]],
    ) -> None:
        """The same of many keys of one table; the columns are kept, not copied."""
        if self._young.count + len(keys) > self.capacity // 2:
            self._old, self._young = self._young, _Generation()
        self._young.add(table, keys, stamps, bases)

    def of(self, at: NetKey, stamp: Stamp) -> tuple[Stamp, ...] | None:
        """What preceded ``stamp`` at the key, newest first; ``None`` if it is not known."""
        if stamp.origin == self.own:
            return ()
        base = self._base(at, stamp)
        if base is None:
            return None
        found: list[Stamp] = []
        while base is not None and base != ZERO and len(found) < self.DEPTH:
            found.append(Stamp(*base))
            base = self._base(at, base)
        return tuple(found)

    def overwritten(self, at: NetKey, stamp: Stamp) -> bool:
        """Whether some version that arrived here was written over ``stamp``, in sight of it."""
        version = (stamp.ts, stamp.origin)
        return self._young.overwritten(at, version) or self._old.overwritten(at, version)

    def _base(self, at: NetKey, stamp: tuple[int, int]) -> tuple[int, int] | None:
        base = self._young.base(at, stamp)
        return self._old.base(at, stamp) if base is None else base


def at_base(incoming: Incoming, local: Local) -> bool:
    """Whether the key stands at exactly the version the origin wrote over, and below the new."""
    entry = incoming.entry
    row, tomb = local
    base, new = (entry.base_ts, entry.base_origin), (entry.ts, entry.origin)
    if entry.base_row:
        return row == base and base < new and (tomb is None or tomb < new)
    return row is None and (tomb is None or (tomb == base and base < new))


def make_plan(
    works: Iterable[Work],
    state: Mapping[NetKey, Local],
    ancestry: Ancestry,
    wide: frozenset[Table] | set[Table] = frozenset(),
    split: bool = False,
) -> Plan:
    """The plan for ``works`` on the locked ``state`` (absent keys: no row, no tombstone).

    ``split`` writes the outcomes of an item as delete-all, write-all: a net
    effect per key may meet a unique value that another row of the same item
    still holds.
    """
    plan = Plan(before=state, state=dict(state))
    none = Local(None, None)
    for work in works:
        item, local = work.item, plan.state
        exact = item.exact and not split
        if exact:
            for op in work.scanned:
                if (wide and op.table in wide and op.kind == UPDATE) or (
                    len(op.rows) > limits.BEFORE_IMAGE_BYTES and _has_large_before_image(op)
                ):
                    exact = False
                    break
        if exact:
            for incoming in work.incoming:
                if not at_base(incoming, local.get(incoming.at, none)):
                    exact = False
                    break
        if exact:
            plan.exact_items += 1
            for op in work.scanned:
                plan.add(op.table, FORMS[op.kind], op.rows)
                plan.rows += len(op.found)
            for incoming in work.incoming:
                _settle(plan, item, incoming, local.get(incoming.at, none))
        else:
            _outcomes(plan, work, ancestry, wide, split)
    return plan


def _has_large_before_image(op: Scanned) -> bool:
    """Whether a before image is so long that only its key should be sent."""
    if op.kind == WRITE:
        return False
    return any(row[1] - row[0] > limits.BEFORE_IMAGE_BYTES for row in op.found)


def _settle(plan: Plan, item: Item, incoming: Incoming, local: Local) -> None:
    """Note the key's new state and the look that it needs."""
    at, entry = incoming.at, incoming.entry
    stamp = Stamp(entry.ts, entry.origin)
    plan.keys[at] = entry.key
    plan.items[at] = item
    plan.written.append((at, stamp, Stamp(entry.base_ts, entry.base_origin)))
    if entry.outcome == REMOVE:
        plan.tombstones[at] = stamp
        plan.state[at] = Local(None, stamp)
        plan.removals[at] = stamp
        plan.upserts.pop(at, None)
    else:
        plan.state[at] = Local(stamp, local.tomb)
        plan.upserts[at] = incoming
        plan.removals.pop(at, None)


def _outcomes(
    plan: Plan, work: Work, ancestry: Ancestry, wide: Iterable[Table], split: bool
) -> None:
    none = Local(None, None)
    deletes: list[tuple[Table, bytes]] = []
    upserts: list[tuple[Table, Form, object]] = []
    for incoming in work.incoming:
        at, entry, image = incoming
        table = at[0]
        local = plan.state.get(at, none)
        stamp = Stamp(entry.ts, entry.origin)
        verdict = decide(entry.outcome, stamp, local)
        found = conflict(
            entry.outcome, stamp, Stamp(entry.base_ts, entry.base_origin), entry.base_row,
            local, verdict, ancestry.of(at, local.version),
        )  # fmt: skip
        if found is not None and found.loser == stamp and ancestry.overwritten(at, stamp):
            # Late, but what was written over it came first: nobody lost anything unseen.
            found = None
        if found is not None:
            plan.records.append(ConflictRecord(found, work.item, incoming))
        if verdict is Verdict.APPLY:
            if entry.outcome == REMOVE:
                if local.row is not None:
                    deletes.append((table, entry.key))
            elif local.row is None:
                upserts.append((table, Form.WRITE, image.bytes()))
            elif split or table in wide:
                deletes.append((table, entry.key))
                upserts.append((table, Form.WRITE, image.bytes()))
            else:
                upserts.append((table, Form.UPDATE_BY_KEY, (entry.key, image.bytes())))
            _settle(plan, work.item, incoming, local)
        elif entry.outcome == REMOVE:
            tomb = raised(REMOVE, stamp, local.tomb)
            if tomb != local.tomb:
                plan.keys[at] = entry.key
                plan.tombstones[at] = tomb
                plan.state[at] = Local(local.row, tomb)
                plan.removals[at] = tomb
    for table, key in deletes:
        plan.add(table, Form.DELETE_BY_KEY, (key, b""))
    for table, form, chunk in upserts:
        plan.add(table, form, chunk)
    plan.rows += len(deletes) + len(upserts)
