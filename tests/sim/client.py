"""Clients: open transactions, and the triggers that stamp what they write.

A statement takes its locks as it is made, one after another, and waits for those of
others; the commit may come much later.  BEFORE INSERT takes the clock before it waits
for the row, a delete's trigger before it waits for the tombstone.  Without triggers
(a cascade, a trigger that is gone, a restored dump) a write keeps whatever stamp it
finds and a delete leaves no tombstone.
"""

from typing import NamedTuple

from meshnode.core.stamp import ZERO, Stamp

from .clockwork import Steps
from .database import Database, Deadlock, Locked, Tx
from .journal import WORDS, Told

PATIENCE = 5_000_000
"""``innodb_lock_wait_timeout`` of clients, in microseconds."""

REPLACE_WINDOW = 50_000


class Action(NamedTuple):
    """One statement: ``what`` on ``key`` (and ``to``), ``pause`` microseconds after the last."""

    what: str
    key: int
    to: int = 0
    pause: int = 0
    triggers: bool = True


class Order(NamedTuple):
    """A client's transaction as it is drawn, before anybody knows what it will meet."""

    actions: tuple[Action, ...]
    hold: int
    commits: bool = True
    partial: bool = False
    parts: bool = False


class Client:
    """One transaction of a client."""

    def __init__(self, database: Database, order: Order) -> None:
        self.database = database
        self.order = order
        self.inserted = 0
        self.told = Told([], [])

    def run(self) -> Steps:
        """The whole transaction; what fails or deadlocks is rolled back."""
        database, order = self.database, self.order
        tx: Tx | None = None
        try:
            for action in order.actions:
                yield action.pause
                if tx is None:
                    tx = database.begin("client")
                    tx.notes = self.told
                    tx.logged.partial = order.partial
                if order.parts and tx.logged.changes:
                    tx.logged.cuts.append((len(tx.logged.changes), len(tx.logged.tombs)))
                yield from getattr(self, action.what)(tx, action)
        except (Locked, Deadlock):
            database.rollback(tx)
            return
        yield order.hold
        if order.commits:
            database.commit(tx)
        else:
            database.rollback(tx)

    # Statements

    def put(self, tx: Tx, action: Action) -> Steps:
        """UPDATE, or INSERT where there is no row."""
        clock = self.database.tick()
        yield from self._lock(tx, action.key)
        if action.key in self.database.records:
            self._update(tx, action, action.key, self.database.tick())
        else:
            self._insert(tx, action, clock)

    def delete(self, tx: Tx, action: Action) -> Steps:
        yield from self._lock(tx, action.key)
        if action.key in self.database.records:
            yield from self._delete(tx, action)
        else:
            self.database.drop_absent(tx, action.key)

    def replace(self, tx: Tx, action: Action) -> Steps:
        """BEFORE INSERT runs first, then AFTER DELETE of the row that stands there."""
        clock = self.database.tick()
        if action.triggers:
            self.inserted = clock
        yield from self._lock(tx, action.key)
        yield from self._delete(tx, action)
        self._insert(tx, action, clock)

    def move(self, tx: Tx, action: Action) -> Steps:
        """An update that changes the key; it fails where the new one is taken."""
        database, key, to = self.database, action.key, action.to
        yield from self._lock(tx, key)
        if key not in database.records:
            database.drop_absent(tx, key)
        if (key < WORDS) != (to < WORDS) or key == to or key not in database.records:
            return
        clock = database.tick()
        yield from self._lock(tx, to)
        if to in database.records:
            return
        old = database.records[key][0]
        self._update(tx, action, to, clock)
        if action.triggers:
            yield from self._tombstone(tx, key, old)
        self.told.deleted.append((key, Stamp(old.ts + 1, database.number)))

    def forge(self, tx: Tx, action: Action) -> Steps:
        """A row with a stamp of the client's own making, no trigger in its way.

        Not where images are partial: then nobody can know that it is below what it replaced.
        """
        if self.order.partial:
            return
        database, key = self.database, action.key
        yield from self._lock(tx, key)
        stamp = Stamp(database.clock + 1 + 3 * action.to, 1 + (database.number + action.to) % 3)
        row = (stamp, self._value(key, False))
        if key in database.records:
            # Below what it replaced, this looks like a delete that no trigger saw, and an insert.
            before = database.records[key][0]
            self.told.deleted.append((key, Stamp(before.ts + 1, database.number)))
            database.change(tx, key, key, row)
        else:
            database.write(tx, key, row)

    # What the server does for them

    def _lock(self, tx: Tx, key: int) -> Steps:
        if not self.database.acquire(tx, key):
            yield from self.database.wait(tx, key, PATIENCE)

    def _value(self, key: int, stamped: bool) -> int:
        value = self.database.journal.new_value()
        self.told.made.append((key, value, stamped))
        return value

    def _insert(self, tx: Tx, action: Action, clock: int) -> None:
        stamp = ZERO
        if action.triggers:
            self.inserted = clock
            stamp = Stamp(clock, self.database.number)
        row = (stamp, self._value(action.key, action.triggers))
        self.database.write(tx, action.key, row)

    def _update(self, tx: Tx, action: Action, to: int, clock: int) -> None:
        database = self.database
        stamp = database.records[action.key][0]
        if action.triggers:
            stamp = Stamp(max(clock, stamp.ts + 1), database.number)
        row = (stamp, self._value(to, action.triggers))
        database.change(tx, action.key, to, row)

    def _delete(self, tx: Tx, action: Action) -> Steps:
        database, key = self.database, action.key
        row = database.records.get(key)
        if row is None:
            return
        database.remove(tx, key)
        self.told.deleted.append((key, Stamp(row[0].ts + 1, database.number)))
        if action.triggers:
            yield from self._tombstone(tx, key, row[0])

    def _tombstone(self, tx: Tx, key: int, old: Stamp) -> Steps:
        """AFTER DELETE, or AFTER UPDATE of the key: the tombstone, never lowered."""
        database, clock = self.database, self.database.tick()
        if 0 < self.inserted <= clock and clock - self.inserted <= REPLACE_WINDOW:
            clock = self.inserted - 1
        stamp = Stamp(max(clock, old.ts + 1), database.number)
        self.told.deleted.append((key, stamp))
        if not database.acquire(tx, ~key):
            yield from database.wait(tx, ~key, PATIENCE)
        known = database.records.get(~key)
        if known is None or stamp > known:
            database.bury(tx, key, stamp)
