"""What is held back from the stream, and what it means for what is written over it.

A row that a client holds locked cannot be lifted: it waits in ``meshnode.mend``, and the
stream goes on without it.  A row that was changed before it could be lifted is not published
either; it has a record.  Peers see neither of them.  So for the peers a write over such a row
has replaced what *that one* had replaced, and says so in its base.

A late tombstone that met a lock waits, too.  Its delete is published all the same, because its
stamp is known: what is written over it must be above it, also while the tombstone table does
not show it yet.

A note is about one version: it counts for the write that came right over that version, and
goes when the stream has passed the next touch of its key.  A row that another region has
overwritten, or whose key stood empty, has nothing to do with it any more.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping

from meshnode import limits
from meshnode.core.change import Marker, Mended, Net, NetKey, Table
from meshnode.core.mend import Examined, Fate, LateTombstone, Lift, Reason
from meshnode.core.plain import Plain
from meshnode.core.stamp import ZERO, Stamp


def in_turn(examined: Iterable[Examined]) -> tuple[list[Lift], list[Lift]]:
    """The lifts of a batch: those that a later one of their key supersedes, then the others.

    A key can be lifted only once; the others are in the order of their first touch.
    """
    last: dict[NetKey, Lift] = {}
    superseded: list[Lift] = []
    for each in examined:
        for at, lift in each.lifts.items():
            if at in last:
                superseded.append(last.pop(at))
            last[at] = lift
    return superseded, list(last.values())


def surely_overtaken(superseded: Iterable[Lift], others: Iterable[Lift]) -> dict[Lift, Stamp]:
    """Those of ``superseded`` whose rows cannot stand there any more, and what came over them.

    The stream has shown another stamp after theirs.  Where a later one is not known, or is the
    same, as updates without triggers leave it, only a look at the row can tell.
    """
    found: dict[Lift, Stamp] = {}
    later: dict[Marker, dict[Stamp | None, None]] = defaultdict(dict)
    for lift in reversed((*superseded, *others)):
        stamps = later[_place(lift)]
        if stamps and None not in stamps and lift.seen is not None and lift.seen not in stamps:
            found[lift] = next(stamp for stamp in stamps if stamp is not None)
        stamps[lift.seen] = None
    return dict(reversed(found.items()))


def turns(superseded: Iterable[Lift]) -> list[list[Lift]]:
    """The lifts that need a look, those of one key in turns of their own, one after another.

    Updates without triggers leave a row its stamp, so one that is superseded may still find it;
    what its own base is depends on the fate of the one before.
    """
    found: list[list[Lift]] = []
    seen: dict[Marker, int] = {}
    for lift in superseded:
        at = _place(lift)
        turn = seen[at] = seen.get(at, -1) + 1
        if turn == len(found):
            found.append([])
        found[turn].append(lift)
    return found


def is_hidden(lift: Lift) -> bool:
    """Whether the version that ``lift`` is about never stands in the stream.

    One below a tombstone that came later is published as it is; one that was lifted comes
    round with a note of its own.
    """
    if lift.fate is Fate.OVERTAKEN:
        return lift.reason is not Reason.TOMBSTONE
    return lift.fate is Fate.HELD


def _place(held: Lift | LateTombstone) -> Marker:
    """Where it is noted: the next write may spell the key otherwise."""
    return held.table.digest, held.table.fold(held.key)


class Chains:
    """The lifts of a batch, those of one key one after another: what each has replaced.

    A row that was written over a hidden one replaced what that one had replaced, so the base of
    a lift is known as soon as those before it have their fates.  ``rows`` are the notes about
    versions of before the batch.
    """

    def __init__(self, lifts: Iterable[Lift], rows: Mapping[Marker, Mended]) -> None:
        self._chains: dict[Marker, deque[Lift]] = defaultdict(deque)
        for lift in lifts:
            self._chains[_place(lift)].append(lift)
        self._rows = rows
        self._hidden: dict[Marker, Mended] = {}

    def rebase(self, lifts: Iterable[Lift]) -> None:
        """Give ``lifts`` their bases; all before them have had theirs lifted, or not."""
        for lift in lifts:
            at = _place(lift)
            chain = self._chains[at]
            while True:
                first = chain[0]
                note = self._hidden.get(at) or self._rows.get(at)
                if note is not None and first.base_row and first.base == note.seen:
                    first.base, first.base_row = note.base, note.base_row
                if first is lift:
                    break
                chain.popleft()
                if is_hidden(first) and first.seen is not None:
                    self._hidden[at] = Mended(first.seen, first.base, first.base_row)


class HeldBack:
    """What the stream has not shown: ``rows`` and ``late`` by table digest and canonical key.

    ``rows`` are bounded, the latest kept: beyond that a write names as its base a version that
    peers do not know, and they may record a conflict that was none.  ``late`` go beyond it only
    while the promise has not passed them.
    """

    def __init__(self, capacity: int = limits.LIFTS_KEPT) -> None:
        self.capacity = capacity
        self.rows: dict[Marker, Mended] = {}
        self.late: dict[Marker, Stamp] = {}
        self._ahead: set[Marker] = set()
        """Keys of notes taken over, whose version the stream may still have to come to."""

    def load(
        self, rows: Iterable[tuple[Marker, Mended]], late: Iterable[tuple[Marker, Stamp]]
    ) -> None:
        """Take over what was held back before this process started; of one key the greatest."""
        for at, note in rows:
            if at not in self.rows or self.rows[at].seen < note.seen:
                self.rows[at] = note
        self._ahead = set(self.rows)
        for at, stamp in late:
            self.late[at] = max(stamp, self.late.get(at, ZERO))

    def touched_by(self, index: Plain) -> bool:
        """Whether an ordinary transaction writes a key of which something is held back."""
        if not self.rows:
            return False
        return any(
            (table.digest, table.fold(key)) in self.rows
            for table, keys in index.keys.items()
            for key in keys
        )

    # Before a batch is judged

    def raise_replaced(self, nets: Iterable[dict[NetKey, Net]]) -> None:
        """A write over a version that was held back has replaced what that one replaced, too.

        ``nets`` are in the order of the stream.
        """
        if not self.rows:
            return
        reached: set[Marker] = set()
        for each in nets:
            for (table, key), net in each.items():
                at = table.digest, key
                note = self.rows.get(at)
                if note is None:
                    continue
                if at not in self._ahead or net.before == note.seen:
                    reached.add(at)
                # A row that is not shown in full may be it, and is lifted in any case.
                if at in reached or net.partial:
                    net.replaced = max(net.replaced, note.base)

    def raise_tombstones(
        self,
        wanted: Mapping[Table, Iterable[bytes]],
        tombstones: dict[NetKey, Stamp],
        promised: int,
    ) -> None:
        """A published delete counts, also while its tombstone waits for a lock.

        What is written over it meanwhile must be above it: lifted to less, it could get the
        very stamp of the row that was deleted.  ``wanted`` are wire keys, ``tombstones`` as they
        stand in the database.  All that follows is above ``promised`` anyhow.
        """
        if len(self.late) > self.capacity:
            self.late = {at: stamp for at, stamp in self.late.items() if stamp.ts > promised}
        if not self.late:
            return
        for table, keys in wanted.items():
            for at in ((table, table.fold(key)) for key in keys):
                stamp = self.late.get((table.digest, at[1]))
                if stamp is None:
                    continue
                if tombstones.get(at, ZERO) >= stamp:
                    del self.late[table.digest, at[1]]
                else:
                    tombstones[at] = stamp

    # While it is mended

    def wait(self, tombstone: LateTombstone) -> None:
        """A late tombstone of a published delete met a lock."""
        key = _place(tombstone)
        self.late[key] = max(tombstone.stamp, self.late.get(key, ZERO))

    def chains(self, lifts: Iterable[Lift]) -> Chains:
        """The lifts of a batch, in the order of the stream for each key."""
        return Chains(lifts, self.rows)

    # As its items are made, in the order of the stream

    def bases(self, examined: Examined) -> dict[NetKey, Mended]:
        """What rows of this transaction replaced that the stream has never shown.

        Its lifts have their fates.  Those whose rows stay hidden are noted for what follows.
        """
        if not self.rows and not examined.tx.mended and not examined.lifts:
            return {}
        found: dict[NetKey, Mended] = {}
        for at, net in examined.nets.items():
            if net.stamp is None and net.unseen is None:
                # A tombstone alone, as a late one comes round: the row is as it was.
                continue
            held = self._passed((net.table.digest, at[1]), net)
            note = examined.tx.mended.get((net.table.digest, net.key)) or held
            if note is not None and note.seen == net.before:
                found[at] = note
        for lift in examined.lifts.values():
            if is_hidden(lift) and lift.seen is not None:
                self._note(lift)
        return found

    def _passed(self, at: Marker, net: Net) -> Mended | None:
        """The note of a key, which goes as the stream passes a touch behind its version."""
        note = self.rows.get(at)
        if note is None or (at in self._ahead and net.before != note.seen):
            return None
        self._ahead.discard(at)
        return self.rows.pop(at)

    def _note(self, lift: Lift) -> None:
        at = _place(lift)
        self._ahead.discard(at)
        self.rows[at] = Mended(lift.seen, lift.base, lift.base_row)
        if len(self.rows) > self.capacity:
            oldest = next(iter(self.rows))
            self._ahead.discard(oldest)
            del self.rows[oldest]
