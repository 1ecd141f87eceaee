"""The resolver: works off beside the stream what was held back from it or set aside.

As the node's ``actors/resolver.py`` and ``actors/replay.py``, statement by statement:
between the read of an entry and its removal the mender may have written a newer one.
"""

from collections.abc import Callable, Generator

from meshnode.core.mend import LateTombstone, Lift, Reason
from meshnode.core.plan import Work
from meshnode.core.stamp import ZERO
from meshnode.core.wire import TRANSACTION, Item

from .clockwork import Process, Steps
from .database import (
    APPLIED,
    LATE,
    LETTERS,
    MEND,
    SHARED,
    Deadlock,
    Killed,
    Locked,
    RowError,
    Surprise,
)
from .journal import Taken
from .mending import Entry, Mending
from .parking import Letter, Parking
from .table import key_of, spelled, table_of, wire_key

ROUND = 1_000_000


class Halted(Exception):
    """The table may not be written here until an operator has done something."""


class Resolver(Mending, Parking):
    """Works off ``mend`` and ``dead_letter`` of a region."""

    def __init__(self, node) -> None:
        super().__init__(node)
        self.process: Process | None = None
        self.asleep = False

    def notice(self) -> None:
        """There may be something to do."""
        if self.asleep and self.process is not None:
            self.clockwork.wake(self.process)

    def run(self) -> Steps:
        yield from self.node.until_claimed()
        self.process = self.clockwork.current
        while True:
            if not self.waits():
                self.asleep = True
                yield None
                self.asleep = False
                continue
            yield 1 + int(self.rng.random() * self.region.weather.rounds)
            try:
                yield from self.mend()
                yield from self.replay()
                yield from self.close_overtaken()
            except (Locked, Deadlock, Killed, RowError):
                self.counts["resolver started again"] += 1

    def waits(self) -> bool:
        """Whether anything is left to work off."""
        records = self.database.records
        return any(
            record >= MEND and (record < LETTERS or records[record].state != "closed")
            for record in records
        )

    # Held-back keys

    def mend(self) -> Steps:
        """Try every held-back key once."""
        database = self.database
        lifts: list[Lift] = []
        late: list[LateTombstone] = []
        for record in sorted(each for each in database.records if MEND <= each < LETTERS):
            entry = database.plain(None, record)
            if entry is None:
                continue
            if record >= LATE:
                key = record - LATE
                late.append(LateTombstone(table_of(key), wire_key(key), entry))
            else:
                lifts.append(self._lift_of(record - MEND, entry))
        if not lifts and not late:
            return
        if self.node.slowness:
            yield self.step()
        above = {each.key: each.stamp for each in late}
        for lift in lifts:
            lift.above = above.get(lift.key, ZERO)
        yield from self._bury_held(late)
        yield from self.lift(lifts, hold=False)

    def _lift_of(self, key: int, entry: Entry) -> Lift:
        reason = Reason.TOMBSTONE if entry.is_published else Reason.LOCKED
        shown = None if entry.value is None else str(entry.value)
        return Lift(
            table_of(key),
            spelled(key, entry.value or 0),
            entry.seen,
            entry.base,
            entry.base_row,
            reason,
            None,
            shown,
        )

    def _bury_held(self, late: list[LateTombstone]) -> Steps:
        """Write late tombstones whose lock is gone, and lift the rows that stand below them."""
        locked = yield from self.bury(late)
        buried = [each for each in late if each not in locked]
        try:
            below = self.rows_below(buried)
        except Locked:
            return
        if self.node.slowness:
            yield self.step()
        yield from self.lift(below)
        for each in buried:
            yield from self.forget(LATE + key_of(each.key), each.stamp)

    def forget(self, record: int, entry: object) -> Steps:
        """Take an entry out of ``mend``, unless the mender has put another in its place."""
        if self.node.slowness:
            yield self.step()
        tx = self.begin("forget")
        try:
            yield from self.take(tx, record)
        except (Locked, Deadlock):
            self.database.rollback(tx)
            raise
        if self.is_entry(self.database.records.get(record), entry):
            self.database.set(tx, record, None)
        else:
            self.counts["entry of mend replaced meanwhile"] += 1
        yield from self.commit(tx)

    def is_entry(self, found: object, entry: object) -> bool:
        return found == entry

    # Dead letters

    def replay(self) -> Steps:
        """Put every letter that waits for it through the ordinary decision."""
        away: set[int] = set()
        for record, letter in self._letters(lambda letter: letter.state == "replay"):
            if letter.origin in away:
                continue
            tx = self.begin("replay")
            try:
                if self.region.altered:
                    raise Halted
                if not (yield from self.begin_replay(tx, APPLIED + letter.origin)):
                    self.database.rollback(tx)
                    self.counts["replay could not begin"] += 1
                    away.add(letter.origin)
                    continue
                yield from self.replay_one(tx, record, letter)
            except (RowError, Halted) as error:
                self.database.rollback(tx)
                self.counts["replay failed"] += 1
                found = letter._replace(state="open")
                if isinstance(error, Halted) and not letter.code:
                    found = letter._replace(noted=True)
                    self.counts["replay of a locked row halted"] += 1
                if found != letter:
                    yield from self._settle(record, found, lambda now: now.state == "replay")
            except (Locked, Surprise, Deadlock):
                self.database.rollback(tx)
                self.counts["replay met a lock or a surprise"] += 1

    def begin_replay(self, tx, origin: int) -> Generator[int | None, None, bool]:
        """Whether the row of ``applied`` is free now, and of this process."""
        try:
            yield from self.take(tx, origin)
        except Locked:
            return False
        return self.stands(self.database.records[origin])

    def stands(self, progress) -> bool:
        """``WHERE epoch = mine``."""
        return progress.own_epoch == self.node.apply_epoch

    def replay_one(self, tx, record: int, letter: Letter) -> Steps:
        """Apply one letter in a transaction that begins with the loop mark."""
        database, incoming = self.database, letter.incoming
        origin = APPLIED + letter.origin
        progress = database.records[origin]
        database.set(tx, origin, progress._replace())
        self.mark_loop(tx)
        whole = letter.work.item
        item = Item(whole.seq, TRANSACTION, whole.tx_id, 0, exact=False, entries=[incoming.entry])
        tx.notes = Taken(letter.origin, [item], [])
        if self.node.slowness:
            yield self.step()
        plan = yield from self.outcomes(tx, [Work(item, [], [incoming])], True, False, True)
        database.acquire(tx, record)
        database.set(tx, record, letter._replace(state="closed"))
        for at, stamp, base in plan.written:
            self.node.ancestry.note(at, stamp, base)
        yield from self.commit(tx)
        self.counts["letter replayed"] += 1

    def mark_loop(self, tx) -> None:
        """The tailer passes over what begins with the row of ``applied``."""
        tx.logged.applied = True

    def close_overtaken(self) -> Steps:
        """Close letters whose key has reached a version at or above the parked one."""
        database = self.database
        for record, letter in self._letters(lambda letter: letter.parked):
            tx = self.begin("look")
            try:
                row = database.locked(tx, letter.key, SHARED)
                tomb = database.locked(tx, ~letter.key, SHARED)
            except Locked:
                continue
            finally:
                database.rollback(tx)
            if max(row[0] if row else ZERO, tomb or ZERO) >= letter.stamp:
                self.counts["letter overtaken"] += 1
                closed = letter._replace(state="closed")
                yield from self._settle(record, closed, lambda now: now.parked)

    def _letters(self, which: Callable[[Letter], bool]) -> list[tuple[int, Letter]]:
        database = self.database
        found = []
        for record in sorted(each for each in database.records if each >= LETTERS):
            letter = database.plain(None, record)
            if letter is not None and which(letter):
                found.append((record, letter))
        return found

    def _settle(self, record: int, letter: Letter, still: Callable[[Letter], bool]) -> Steps:
        """Write a letter, unless an operator has decided about it meanwhile."""
        tx = self.begin("letter")
        yield from self.take(tx, record)
        if still(self.database.records[record]):
            self.database.set(tx, record, letter)
        yield from self.commit(tx)
