"""What the tailer must mend before a local transaction is published.

Triggers stamp local writes, but they cannot see everything: an insert after a
delete, a clock that stepped back, a dropped trigger, a cascaded child row.  An
upsert is *lifted* instead of published when its stamp is not above everything
it replaced, not above the promised frontier, or not of this region.  A delete
without tombstone gets a *late tombstone* with a stamp that is the same however
often it is worked out.

The look at the tombstones happens later than the write, so a tombstone above an
upsert may belong to a later delete that is still to come in the stream.  Such
an upsert is published as it is if the row has changed since: its key ends with
a later touch, and that one is judged again.  If the row still carries the stamp
seen, the tombstone came first, and the row is lifted over it.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from enum import StrEnum

from meshnode import limits
from meshnode.core.change import Marker, Mended, Net, NetKey, RowOp, Table, Transaction
from meshnode.core.stamp import ZERO, Stamp, late_tombstone
from meshnode.core.wire import HEARTBEAT, PART, REMOVE, TRANSACTION, UPDATE, UPSERT, Entry, Item, Op


class Reason(StrEnum):
    """Why an upsert is lifted."""

    ORIGIN = "the stamp is not of this region (trigger missing, or a foreign stamp)"
    PROMISE = "the stamp is at or below the promised frontier"
    REPLACED = "the stamp is not above the version replaced"
    TOMBSTONE = "the stamp is not above the tombstone of the key"
    PARTIAL = "the row image is not full"
    LOCKED = "the tombstone of the key is locked, so nobody knows what was replaced"


class Fate(StrEnum):
    """How a lift ended in the database."""

    LIFTED = "lifted"
    OVERTAKEN = "overtaken"
    HELD = "held"


@dataclass(slots=True, eq=False)
class Lift:
    """One row to lift: its key, the stamp seen, and the version it replaced.

    ``seen`` is ``None`` where the image did not show it: then whatever version
    stands is lifted.  ``shown`` is the image as JSON text where only that was
    kept.  ``image`` is the row as published nowhere, for the record of an overtaken
    lift: ``(rows, start, stop)``, or ``None`` where no full image is at hand.
    ``above`` is the highest version that the row is known to have replaced, which need not be
    its base: lifted to less, it would come round only to be lifted again.
    """

    table: Table
    key: bytes
    seen: Stamp | None
    base: Stamp
    base_row: bool
    reason: Reason
    image: tuple[bytes, int, int] | None
    shown: str | None = None
    fate: Fate | None = None
    above: Stamp = ZERO

    @property
    def is_bare(self) -> bool:
        """Whether it knows no image: found overtaken, it cannot say what has been lost."""
        return self.image is None and self.shown is None


@dataclass(slots=True, eq=False)
class LateTombstone:
    """A delete that no trigger saw."""

    table: Table
    key: bytes
    stamp: Stamp

    def takes(self, row: Stamp, own: int) -> bool:
        """Whether ``row``, that of its key in region ``own``, goes with the delete.

        One of the own origin, or without a stamp, was written by a client since: it is lifted.
        """
        return row < self.stamp and row.origin not in (own, 0)


@dataclass(slots=True, eq=False)
class Examined:
    """A transaction with what must be mended before it is published."""

    tx: Transaction
    nets: dict[NetKey, Net]
    lifts: dict[NetKey, Lift]
    late: dict[NetKey, LateTombstone]

    def removal(self, at: NetKey) -> Stamp | None:
        """The delete that is published of a key whose upsert is not, ``None`` if there is none."""
        late = self.late.get(at)
        return self.nets[at].tomb if late is None else late.stamp

    def rebase(self, at: NetKey) -> None:
        """What a lift replaces is the delete that its own transaction shows, if it shows one."""
        removal = self.removal(at)
        if removal is not None:
            lift = self.lifts[at]
            lift.base = removal if lift.base_row else max(removal, lift.base)
            lift.base_row = False


def image_of(op: RowOp, place: int) -> tuple[bytes, int, int]:
    """Where the after image of row ``place`` stands: ``(rows, start, stop)``."""
    found = op.found[place]
    return (op.rows, found[1], found[5]) if op.kind == UPDATE else (op.rows, found[0], found[1])


class Examiner:
    """Judges local transactions in stream order.

    ``promised`` is the frontier that the stream has promised so far: it rises
    with each heartbeat that passes.
    """

    def __init__(self, own: int, promised: int) -> None:
        self.own = own
        self.promised = promised

    def judge(self, net: Net, tombstone: Stamp | None) -> Reason | None:
        """Why the upsert that ``net`` ends with must be lifted, or ``None``."""
        stamp = net.stamp
        assert stamp is not None
        if net.partial:
            return Reason.PARTIAL
        if stamp.origin != self.own:
            return Reason.ORIGIN
        if stamp.ts <= self.promised:
            return Reason.PROMISE
        if stamp <= net.replaced:
            return Reason.REPLACED
        if tombstone is not None and stamp <= tombstone:
            return Reason.TOMBSTONE
        return None

    def examine(
        self,
        tx: Transaction,
        nets: dict[NetKey, Net],
        tombstones: dict[NetKey, Stamp],
        locked: Set[NetKey] = frozenset(),
    ) -> Examined:
        """What of ``tx`` must be mended; ``tombstones`` as they stand in the database now.

        They are raised by the late tombstones found here: what follows in the
        batch was looked up before these are written, and must be above them too.

        ``locked`` keys have a tombstone that somebody else holds.
        """
        if tx.beat is not None:
            self.promised = max(self.promised, tx.beat.frontier)
        examined = Examined(tx, nets, {}, {})
        for at, net in nets.items():
            lifted = False
            if net.stamp is not None:
                reason = self.judge(net, tombstones.get(at))
                if reason is None and at in locked:
                    reason = Reason.LOCKED
                if reason is not None:
                    lifted = True
                    note = tx.mended.get((net.table.digest, net.key))
                    if note is not None and note.seen != net.before:
                        note = None
                    base, base_row = known_base(net, note, tombstones.get(at))
                    image = None if net.op < 0 else image_of(tx.ops[net.op], net.place)
                    seen = None if net.partial else net.stamp
                    examined.lifts[at] = Lift(
                        net.table, net.key, seen, base, base_row, reason, image,
                        above=max(net.replaced, tombstones.get(at, ZERO)),
                    )  # fmt: skip
            unseen = net.unseen
            hidden = unseen is not None and (net.tomb is None or net.tomb < unseen)
            if hidden and (net.stamp is None or lifted):
                if net.blind:
                    # The row's stamp is not known, but it was there when this was committed.
                    unseen = max(unseen, Stamp(tx.commit_us, 0))
                late = late_tombstone(unseen, self.own)
                examined.late[at] = LateTombstone(net.table, net.key, late)
                tombstones[at] = max(late, tombstones.get(at, ZERO))
            if lifted:
                examined.rebase(at)
        return examined


def known_base(
    net: Net,
    mended: Mended | None,
    tombstone: Stamp | None,
    removed: Stamp | None = None,
    late: Stamp | None = None,
) -> tuple[Stamp, bool]:
    """The version that ``net`` replaced, and whether that was a row.

    A delete at or below what it replaced changes nothing anywhere: it has replaced nothing.
    ``tombstone`` is the key's in the database, ``removed`` the newest that the stream
    has shown: the one in the database may be that of a delete still to come, or the
    ``late`` one that ``net`` itself ends with.
    """
    end = late
    if end is None:
        end = net.tomb if net.stamp is None else net.stamp
    if mended is not None:
        if net.stamp is None and end is not None and mended.base >= end:
            return ZERO, False
        return mended.base, mended.base_row
    if net.before is not None:
        return net.before, True
    for stamp in (tombstone, removed):
        if stamp is not None and (end is None or stamp < end):
            return stamp, False
    return ZERO, False


class Removed:
    """The newest published delete of each key: bounded, the latest kept."""

    def __init__(self, capacity: int = limits.REMOVALS_KEPT) -> None:
        self.capacity = capacity
        self._stamps: dict[Marker, Stamp] = {}

    def note(self, at: NetKey, stamp: Stamp) -> None:
        """The key was deleted with ``stamp``."""
        table, key = at
        # By digest: the table may be changed between the delete and what is asked about it.
        marker = table.digest, key
        self._stamps.pop(marker, None)
        self._stamps[marker] = stamp
        if len(self._stamps) > self.capacity:
            del self._stamps[next(iter(self._stamps))]

    def of(self, at: NetKey) -> Stamp | None:
        """The stamp of its newest delete, ``None`` if none is known (any more)."""
        table, key = at
        return self._stamps.get((table.digest, key))


class Restamped:
    """What rows that were lifted carried before and after: bounded, the latest kept.

    A transaction whose frame was not acknowledged is judged again, also when its lifts are
    committed, or their COMMIT had no answer.  A row that has just the stamp which a lift of
    that version wrote is lifted; any other was changed by somebody else.
    """

    def __init__(self, capacity: int = limits.LIFTS_KEPT) -> None:
        self.capacity = capacity
        self._stamps: dict[tuple[str, bytes], tuple[Stamp, Stamp]] = {}

    def note(self, lift: Lift, stamp: Stamp, committed: bool) -> None:
        """The lift wrote ``stamp`` over the version it saw; before its COMMIT nobody knows.

        If that is never known, a stamp that a client's own write would get over the same
        version proves nothing: its trigger takes the next one where the clock is behind.
        """
        if lift.seen is None or not (committed or stamp.ts > lift.seen.ts + 1):
            return
        at = (lift.table.digest, lift.key)
        self._stamps.pop(at, None)
        self._stamps[at] = lift.seen, stamp
        if len(self._stamps) > self.capacity:
            del self._stamps[next(iter(self._stamps))]

    def by(self, lift: Lift, row: Stamp) -> bool:
        """Whether ``row`` is what a lift has made of the very version that this one is about."""
        return self._stamps.get((lift.table.digest, lift.key)) == (lift.seen, row)


def to_item(
    examined: Examined,
    tombstones: Mapping[NetKey, Stamp],
    mended: Mapping[NetKey, Mended],
    number: Mapping[Table, int],
    removed: Removed,
) -> Item | None:
    """The item that publishes what may be published; ``None`` when nothing is left.

    Its ``seq`` is 0: the publisher counts.  ``mended`` gives the bases of rows
    whose former version was never published; ``number`` a table's place in the
    frame.  ``removed`` learns the deletes of this item.
    """
    tx = examined.tx
    entries: list[Entry] = []
    exact = not tx.partial and not tx.shortened
    for at, net in examined.nets.items():
        lift = examined.lifts.get(at)
        publish = lift is None or (lift.reason is Reason.TOMBSTONE and lift.fate is Fate.OVERTAKEN)
        note = mended.get(at)
        if note is not None and net.before is not None and net.before != note.seen:
            note = None
        late = examined.late.get(at)
        base, base_row = known_base(
            net, note, tombstones.get(at), removed.of(at), None if late is None else late.stamp
        )
        if note is not None and base_row != (net.before is not None):
            # A lift is logged as an update of a row that the peers do not have.
            exact = False
        if net.stamp is not None and publish:
            outcome, stamp = UPSERT, net.stamp
        else:
            exact = exact and lift is None
            tomb = examined.removal(at)
            if tomb is None:
                continue
            outcome, stamp = REMOVE, tomb
            removed.note(at, tomb)
            if net.op < 0 and net.unseen is None:
                exact = False
        entries.append(
            Entry(
                number[net.table], net.key, outcome, stamp.ts, stamp.origin,
                base.ts, base.origin, base_row,
            )
        )  # fmt: skip
    if tx.beat is not None:
        return Item(0, HEARTBEAT, tx.tx_id, tx.commit_us, beat=tx.beat)
    whole = tx.part == 0 and tx.last
    if not entries and whole:
        return None
    ops = [Op(number[op.table], op.kind, op.rows) for op in tx.ops] if entries else []
    return Item(
        0, TRANSACTION if whole else PART, tx.tx_id, tx.commit_us, tx.part, tx.last,
        exact, ops, entries, None, len(examined.lifts),
    )  # fmt: skip


def keys_to_look_up(examined_nets: Iterable[dict[NetKey, Net]]) -> set[NetKey]:
    """The keys whose tombstones decide whether an upsert stands."""
    return {
        at
        for nets in examined_nets
        for at, net in nets.items()
        if net.stamp is not None and not net.partial
    }
