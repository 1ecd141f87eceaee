"""Small local transactions that make the stream true, as the node's ``mysql/mending.py`` has them.

Late tombstones, lifts, and what is held back because a key is locked.  The judgement is
the core's; the order of the statements is that of the node.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from meshnode.core.change import Mended
from meshnode.core.mend import Fate, LateTombstone, Lift, Reason
from meshnode.core.stamp import ZERO, Stamp, lifted

from .actor import Actor
from .clockwork import Steps
from .database import LATE, LOCKING, MEND, Locked, Tx
from .journal import Loser
from .table import key_of

Fates = list[tuple[Lift, Fate]]


class Entry(NamedTuple):
    """A lift in ``mend``; without a stamp seen, whatever stands is lifted."""

    seen: Stamp | None
    base: Stamp
    base_row: bool
    value: int | None

    @property
    def is_published(self) -> bool:
        """Whether the stream has shown the row, which only stands too low now."""
        return self.seen is not None and self.value is None


def value_of(lift: Lift) -> int | None:
    """The value of the row that was seen, where its image is at hand."""
    if lift.image is None:
        return None if lift.shown is None else int(lift.shown)
    rows, start, _ = lift.image
    return int.from_bytes(rows[start + 9 : start + 13], "little")


class Mending(Actor):
    """The mender's statements; the resolver uses them on a session of its own."""

    # Late tombstones

    def bury(
        self, late: Sequence[LateTombstone]
    ) -> Generator[int | None, None, list[LateTombstone]]:
        """Write late tombstones; those that met a lock are returned."""
        if not late:
            return []
        return (yield from self.halve(late, self._bury_in_transaction))

    def _bury_in_transaction(self, late: Sequence[LateTombstone]) -> Steps:
        tx = self.begin("late tombstone")
        try:
            by_key = self.greatest(late)
            yield from self.bury_all(tx, by_key)
        except BaseException as error:
            if not isinstance(error, GeneratorExit):
                self.database.rollback(tx)
            raise
        yield from self.commit(tx)
        self.counts["late tombstone"] += len(by_key)

    def greatest(self, late: Sequence[LateTombstone]) -> dict[int, LateTombstone]:
        """The greatest late tombstone of each key: the last one may be lower."""
        found: dict[int, LateTombstone] = {}
        for each in late:
            key = key_of(each.key)
            if key not in found or found[key].stamp < each.stamp:
                found[key] = each
            else:
                self.counts["late tombstone below another of its key"] += 1
        return found

    def bury_all(self, tx: Tx, by_key: dict[int, LateTombstone]) -> Steps:
        """Write the tombstones first, then look at the rows."""
        yield from self.write_late(tx, by_key)
        if self.node.slowness:
            yield self.step()
        yield from self.look_below(tx, by_key)

    def write_late(self, tx: Tx, by_key: dict[int, LateTombstone]) -> Steps:
        database = self.database
        known = database.read_stamps(tx, sorted(by_key), True, LOCKING)
        if self.node.slowness:
            yield self.step()
        for key, late in by_key.items():
            if known.get(key, ZERO) < late.stamp:
                yield from self.take(tx, ~key)
                if key not in known and ~key in database.records:
                    self.counts["late tombstone met another"] += 1
                    raise Locked  # looked at again, as if it were locked
                database.bury(tx, key, late.stamp)

    def look_below(self, tx: Tx, by_key: dict[int, LateTombstone]) -> Steps:
        """Rows of other regions that a late tombstone beats: gone, with a record."""
        database = self.database
        rows = database.read_stamps(tx, sorted(by_key), False, LOCKING)
        for key, row in rows.items():
            if by_key[key].takes(row, self.number):
                value = database.records[key][1]
                tx.conflicts.append(Loser(key, value, row))
                database.remove(tx, key)
                self.counts["late tombstone took a row"] += 1
        return
        yield

    def hold_late(self, late: LateTombstone) -> Steps:
        tx = self.begin("hold late tombstone")
        record = LATE + key_of(late.key)
        yield from self.take(tx, record)
        self.database.set(tx, record, self.held_stamp(self.database.records.get(record), late))
        yield from self.commit(tx)
        self.counts["late tombstone held back"] += 1

    def held_stamp(self, known: Stamp | None, late: LateTombstone) -> Stamp:
        """What the entry of ``mend`` says: never less than it did."""
        return late.stamp if known is None else max(known, late.stamp)

    # Lifts

    def lift(self, lifts: Sequence[Lift], hold: bool = True) -> Steps:
        """Lift rows; each lift gets its fate.  What met a lock goes to ``mend``."""
        if not lifts:
            return
        work = partial(self._lift_in_transaction, hold)
        for lift in (yield from self.halve(lifts, work)):
            lift.fate = Fate.HELD
            self.tell_lift(lift)
        held = [lift for lift in lifts if lift.fate is Fate.HELD]
        if hold and held:
            yield from self.hold(held)
        for lift in lifts:
            if lift.fate is not None:
                self.counts[f"lift: {lift.reason.name.lower()}"] += 1
                self.counts[f"lift {lift.fate}"] += 1

    def _lift_in_transaction(self, hold: bool, lifts: Sequence[Lift]) -> Steps:
        tx = self.begin("lift")
        fates: Fates = []
        wrote: list[tuple[Lift, Stamp]] = []
        try:
            yield from self.lift_all(tx, hold, lifts, fates, wrote)
        except BaseException as error:
            if not isinstance(error, GeneratorExit):
                self.database.rollback(tx)
            raise
        # The answer to the COMMIT may be lost.
        self._remember(wrote, committed=False)
        yield from self.commit(tx)
        self._remember(wrote, committed=True)
        for lift, fate in fates:
            lift.fate = fate
            self.tell_lift(lift)

    def _remember(self, wrote: list[tuple[Lift, Stamp]], committed: bool) -> None:
        for lift, stamp in wrote:
            self.node.restamped.note(lift, stamp, committed)

    def lift_all(
        self,
        tx: Tx,
        hold: bool,
        lifts: Sequence[Lift],
        fates: Fates,
        wrote: list[tuple[Lift, Stamp]],
    ) -> Steps:
        """Lock the row, see that it is the one judged, lock the tombstone, write the stamp."""
        database = self.database
        keys = sorted(key_of(lift.key) for lift in lifts)
        promised = self.node.promised
        rows = database.read_stamps(tx, keys, False, LOCKING)
        if self.node.slowness:
            yield self.step()
        tombs = database.read_stamps(tx, keys, True, LOCKING)
        yield from self.lock_entries(tx, keys)
        clock = database.clock
        stamps: dict[int, Stamp] = {}
        settled: list[int] = []
        for lift in lifts:
            key = key_of(lift.key)
            row, tomb = rows.get(key), tombs.get(key, ZERO)
            entry = database.records.get(MEND + key)
            is_there = entry is not None and self.is_about(entry, lift)
            if is_there:
                settled.append(MEND + key)
            elif not hold:
                self.counts["entry of mend replaced meanwhile"] += 1
                continue
            if row is not None and self.node.restamped.by(lift, row):
                self.counts["lift found done"] += 1
                fates.append((lift, Fate.LIFTED))
                if entry is not None and not self.is_over(lift):
                    settled.remove(MEND + key)
                continue
            if row is None or not self.is_seen(lift, row):
                fates.append((lift, Fate.OVERTAKEN))
                if lift.reason is not Reason.TOMBSTONE:
                    self.record_overtaken(tx, lift)
                if is_there and not self.may_settle(lift, entry):
                    self.counts["entry of mend left for its record"] += 1
                    settled.pop()
                continue
            self.record_replaced(tx, key, lift)
            # A copy: undone, and tried again, the lift knows no more than before.
            done = replace(lift, seen=row)
            if tomb > lift.base:
                done.base, done.base_row = tomb, False
            stamps[key] = self.lift_stamp(clock, row, max(tomb, lift.base, lift.above), promised)
            tx.logged.mended[key] = Mended(row, done.base, done.base_row)
            wrote.append((done, stamps[key]))
            fates.append((lift, Fate.LIFTED))
        for key in stamps:
            yield from self.take(tx, MEND + key)
        if stamps and self.node.slowness:
            yield self.step()
        for key, stamp in stamps.items():
            database.change(tx, key, key, (stamp, database.records[key][1]))
            settled.append(MEND + key)
        for record in dict.fromkeys(settled):
            database.set(tx, record, None)

    def lock_entries(self, tx: Tx, keys: Sequence[int]) -> Steps:
        """Lock what ``mend`` has of these keys: whoever settles a version takes its entry out."""
        database = self.database
        for record in (MEND + key for key in keys):
            if record in database.records or record in database.owners:
                yield from self.take(tx, record)
                if record not in database.records:
                    database.drop_absent(tx, record)

    def is_about(self, entry: Entry, lift: Lift) -> bool:
        """Whether an entry of ``mend`` is about the version that ``lift`` is about."""
        return entry.seen == lift.seen

    def is_seen(self, lift: Lift, row: Stamp) -> bool:
        """Whether the row that stands is the one that was judged."""
        return lift.seen in (None, row)

    def is_over(self, lift: Lift) -> bool:
        """Whether the entry of a lift that was found done must go."""
        return True

    def may_settle(self, lift: Lift, entry: Entry) -> bool:
        """Whether a lift that was found overtaken may take out the entry of its version."""
        return entry.is_published or lift.reason is not Reason.TOMBSTONE or not lift.is_bare

    def lift_stamp(self, clock: int, row: Stamp, replaced: Stamp, promised: int) -> Stamp:
        return Stamp(lifted(clock, row.ts, replaced.ts, promised), self.number)

    def record_overtaken(self, tx: Tx, lift: Lift) -> None:
        """The row that was to be lifted is not there any more: a record."""
        tx.conflicts.append(Loser(key_of(lift.key), value_of(lift), lift.seen or ZERO))

    def record_replaced(self, tx: Tx, key: int, lift: Lift) -> None:
        """A later version takes the place of the one that waits in ``mend``: a record."""
        known = self.database.records.get(MEND + key)
        if known is not None and known.seen != lift.seen and not known.is_published:
            self.counts["held row replaced by a later one"] += 1
            tx.conflicts.append(Loser(key, known.value, known.seen or ZERO))

    def overtake(self, lifts: Mapping[Lift, Stamp]) -> Steps:
        """Settle lifts that are overtaken for certain, by the versions given: no row is touched."""
        if not lifts:
            return
        tx = self.begin("overtake")
        yield from self.lock_entries(tx, sorted({key_of(lift.key) for lift in lifts}))
        fates: Fates = []
        for lift, over in lifts.items():
            record = MEND + key_of(lift.key)
            entry = self.database.records.get(record)
            if entry is not None and self.is_about(entry, lift):
                self.database.set(tx, record, None)
            if self.node.restamped.by(lift, over):
                fates.append((lift, Fate.LIFTED))
                continue
            fates.append((lift, Fate.OVERTAKEN))
            if lift.reason is not Reason.TOMBSTONE:
                self.record_overtaken(tx, lift)
        yield from self.commit(tx)
        self.counts["lift overtaken for certain"] += len(lifts)
        for lift, fate in fates:
            lift.fate = fate
            self.tell_lift(lift)

    def hold(self, lifts: Sequence[Lift]) -> Steps:
        """Leave lifts that met a lock to ``meshnode.mend``."""
        tx = self.begin("hold")
        for lift in lifts:
            key = key_of(lift.key)
            yield from self.take(tx, MEND + key)
            self.record_replaced(tx, key, lift)
            value = self.value_to_hold(self.database.records.get(MEND + key), lift)
            entry = Entry(lift.seen, lift.base, lift.base_row, value)
            self.database.set(tx, MEND + key, entry)
        yield from self.commit(tx)

    def value_to_hold(self, known: Entry | None, lift: Lift) -> int | None:
        """The value for a record: of the version that waits already, a bare lift has none."""
        if known is not None and known.seen == lift.seen and lift.is_bare:
            return known.value
        return value_of(lift)

    def tell_lift(self, lift: Lift) -> None:
        if self.database.journal.lines is not None:
            self.database.journal.tell(
                self.number,
                f"key {key_of(lift.key)}: lift of @{lift.seen} ({lift.reason.name}): {lift.fate}",
            )

    # What the resolver needs

    def rows_below(self, late: Sequence[LateTombstone]) -> list[Lift]:
        """Own rows that a tombstone buried late stands above; Locked if one is locked."""
        by_key = self.greatest(late)
        rows = self.database.look(sorted(by_key), False)
        return [
            Lift(late.table, late.key, row, late.stamp, False, Reason.TOMBSTONE, None)
            for key, row in rows.items()
            if row < (late := by_key[key]).stamp
        ]
