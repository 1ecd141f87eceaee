"""A region's MySQL: records, row locks as READ COMMITTED has them, a binlog.

A record that stands, or that an open transaction has written or deleted, can be locked
and blocks whoever else wants it; an absent one cannot.  Waiters are served in the order
in which they came.  A change is made in place with an undo, so what another session
sees without a lock is the version before (:data:`PLAIN`).  A commit goes to the binlog
first; the locks go with it or a little later.

Rows, tombstones and the bookkeeping share one table of records: a row is its key, its
tombstone the complement of the key, everything else stands above :data:`ROWS`.
"""

from collections import deque
from collections.abc import Callable, Iterable

from meshnode.core.stamp import Stamp
from meshnode.core.wire import DELETE, UPDATE, WRITE

from .clockwork import Clockwork, Process, Steps
from .journal import Journal
from .table import Logged, Row

ROWS = 1000
APPLIED, MEMBER, HEARTBEAT, MEND, LATE, LETTERS = 1000, 2000, 2001, 3000, 4000, 10_000
"""Where the records of the bookkeeping begin: ``applied`` by origin, ``mend`` by key, ..."""

LOCKING, SHARED, PLAIN = "FOR UPDATE NOWAIT", "FOR SHARE NOWAIT", "plain"
"""Modes of :meth:`Database.read_stamps`."""


class Locked(Exception):
    """3572: somebody else holds or wants the row; also 1205, after a wait."""


class Deadlock(Exception):
    """1213: the server has rolled the whole transaction back."""


class RowError(Exception):
    """A row does not go in: 1062, 1032, or a constraint (3819)."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Surprise(Exception):
    """A look found what the plan did not know."""


class Killed(Exception):
    """The session is at an end: a successor has killed it."""


class Tx:
    """An open transaction.  ``sent``: its COMMIT is on the way; ``notes`` are the journal's."""

    __slots__ = (
        "began", "conflicts", "kind", "locks", "logged", "node", "notes", "over", "place",
        "process", "sent", "shares", "undo", "wants",
    )  # fmt: skip

    def __init__(self, kind: str, began: int, node: object) -> None:
        self.kind = kind
        self.began = began
        self.node = node
        self.logged = Logged()
        self.undo: list[tuple[int, object]] = []
        self.locks: list[int] = []
        self.shares: list[int] = []
        self.wants: int | None = None
        self.conflicts: list = []
        self.notes: object = None
        self.place = 0
        self.process: Process | None = None
        self.sent = self.over = False


class Database:
    """What survives a crash of the node."""

    def __init__(self, number: int, clockwork: Clockwork, journal: Journal) -> None:
        self.number = number
        self.clockwork = clockwork
        self.journal = journal
        self.skew = 0
        self.commit_lag = 0
        self.records: dict[int, object] = {}
        self.owners: dict[int, Tx] = {}
        self.sharers: dict[int, list[Tx]] = {}
        self.queues: dict[int, deque[tuple[Tx, Process]]] = {}
        self.open: dict[Tx, None] = {}
        self.binlog: list[Logged] = []
        self.letters = 0
        self.ticks: deque[int] = deque(maxlen=8)
        self.logged: Callable[[], None] = lambda: None
        self.leftover: Callable[[], None] = lambda: None

    @property
    def clock(self) -> int:
        """The server's time in microseconds."""
        return self.clockwork.now + self.skew

    def tick(self) -> int:
        """The time inside ``UUID()``: never the same twice in a row of calls."""
        time = self.clock
        while time in self.ticks:
            time += 1
        self.ticks.append(time)
        return time

    # Locks

    def acquire(self, tx: Tx, record: int) -> bool:
        """Whether ``tx`` has the record for itself now."""
        if tx.over:
            raise Killed
        owner = self.owners.get(record)
        if owner is not None:
            return owner is tx
        if record in self.queues:
            return False
        if self.sharers:
            sharers = self.sharers.get(record)
            if sharers and (len(sharers) > 1 or sharers[0] is not tx):
                return False
        self.owners[record] = tx
        tx.locks.append(record)
        return True

    def wait(self, tx: Tx, record: int, most: int) -> Steps:
        """Stand in line for a record that was refused, at most ``most`` microseconds."""
        if self._leads_to(record, tx, set()):
            self.rollback(tx)
            raise Deadlock
        process = self.clockwork.current
        assert process is not None
        self.queues.setdefault(record, deque()).append((tx, process))
        tx.wants = record
        yield most
        if tx.over:
            raise Killed
        if self.owners.get(record) is not tx:
            self._leave(tx)
            raise Locked
        tx.wants = None

    def _leads_to(self, record: int, tx: Tx, seen: set[int]) -> bool:
        """Whether whoever stands before the record waits, in the end, for ``tx``."""
        if record in seen:
            return False
        seen.add(record)
        before = [each for each, _ in self.queues.get(record, ())] + self.sharers.get(record, [])
        owner = self.owners.get(record)
        if owner is not None:
            before.append(owner)
        for each in before:
            if each is not tx and each.wants is not None:
                blockers = [self.owners.get(each.wants), *self.sharers.get(each.wants, ())]
                if any(one is tx for one in blockers) or self._leads_to(each.wants, tx, seen):
                    return True
        return False

    def _leave(self, tx: Tx) -> None:
        record, tx.wants = tx.wants, None
        queue = self.queues.get(record)
        if queue is None:
            return
        left = deque(each for each in queue if each[0] is not tx)
        if left:
            self.queues[record] = left
        else:
            del self.queues[record]
        self._grant(record)

    def _grant(self, record: int) -> None:
        queue = self.queues.get(record)
        if queue is None or record in self.owners:
            return
        tx, process = queue[0]
        sharers = self.sharers.get(record)
        if sharers and (len(sharers) > 1 or sharers[0] is not tx):
            return
        queue.popleft()
        if not queue:
            del self.queues[record]
        self.owners[record] = tx
        tx.locks.append(record)
        self.clockwork.wake(process)

    def _release(self, tx: Tx) -> None:
        tx.over = True
        del self.open[tx]
        owners, queues = self.owners, self.queues
        for record in tx.locks:
            del owners[record]
        if tx.shares:
            for record in tx.shares:
                sharers = self.sharers[record]
                sharers.remove(tx)
                if not sharers:
                    del self.sharers[record]
        if queues:
            for record in (*tx.locks, *tx.shares):
                if record in queues:
                    self._grant(record)

    def drop_absent(self, tx: Tx, record: int) -> None:
        """A statement found a record absent: it holds nothing there."""
        if not any(each == record for each, _ in tx.undo):
            tx.locks.remove(record)
            del self.owners[record]
            self._grant(record)

    # Reading and writing

    def read_stamps(
        self, tx: Tx, keys: Iterable[int], tombstones: bool, mode: str
    ) -> dict[int, Stamp]:
        """The stamps of the rows or tombstones that stand; Locked if one is somebody else's."""
        found = {}
        for key in keys:
            record = ~key if tombstones else key
            value = self.plain(tx, record) if mode is PLAIN else self.locked(tx, record, mode)
            if value is not None:
                found[key] = value if tombstones else value[0]
        return found

    def look(self, keys: Iterable[int], tombstones: bool) -> dict[int, Stamp]:
        """The same with a shared lock in a statement that commits by itself."""
        found = {}
        for key in keys:
            record = ~key if tombstones else key
            if record in self.owners or record in self.queues:
                raise Locked
            value = self.records.get(record)
            if value is not None:
                found[key] = value if tombstones else value[0]
        return found

    def locked(self, tx: Tx, record: int, mode: str = LOCKING) -> object:
        """The record, or None; ``tx`` has locked it if it is there."""
        if tx.over:
            raise Killed
        owner = self.owners.get(record)
        if owner is None:
            value = self.records.get(record)
            if value is None:
                return None
            if mode is SHARED:
                if record in self.queues:
                    raise Locked
                sharers = self.sharers.setdefault(record, [])
                if tx not in sharers:
                    sharers.append(tx)
                    tx.shares.append(record)
            elif not self.acquire(tx, record):
                raise Locked
            return value
        if owner is not tx:
            raise Locked
        return self.records.get(record)

    def plain(self, tx: Tx | None, record: int) -> object:
        """The record as a read without locks has it: own writes, else what is committed."""
        owner = self.owners.get(record)
        if owner is not None and owner is not tx:
            for each, old in owner.undo:
                if each == record:
                    return old
        return self.records.get(record)

    def set(self, tx: Tx, record: int, value: object) -> None:
        """Write a record that ``tx`` has acquired; ``None`` deletes it."""
        records = self.records
        tx.undo.append((record, records.get(record)))
        if value is None:
            records.pop(record, None)
        else:
            records[record] = value

    def write(self, tx: Tx, key: int, row: Row) -> None:
        """Insert an acquired row."""
        if key in self.records:
            raise RowError(1062)
        self.set(tx, key, row)
        tx.logged.changes.append((WRITE, key, None, key, row))

    def change(self, tx: Tx, key: int, to: int, row: Row) -> None:
        """Update an acquired row, whose key may change."""
        before = self.records.get(key)
        if before is None:
            raise RowError(1032)
        if to != key:
            if to in self.records:
                raise RowError(1062)
            self.set(tx, key, None)
        self.set(tx, to, row)
        tx.logged.changes.append((UPDATE, key, before, to, row))

    def remove(self, tx: Tx, key: int) -> None:
        """Delete an acquired row."""
        before = self.records.get(key)
        if before is None:
            raise RowError(1032)
        self.set(tx, key, None)
        tx.logged.changes.append((DELETE, key, before, key, None))

    def bury(self, tx: Tx, key: int, stamp: Stamp) -> None:
        """Write an acquired tombstone."""
        self.set(tx, ~key, stamp)
        tx.logged.tombs.append((key, stamp))

    # Transactions

    def begin(self, kind: str, node: object = None) -> Tx:
        tx = Tx(kind, self.clockwork.now + self.skew, node)
        self.open[tx] = None
        return tx

    def savepoint(self, tx: Tx) -> tuple[int, int, int, int]:
        logged = tx.logged
        return len(tx.undo), len(logged.changes), len(logged.tombs), len(tx.conflicts)

    def rollback_to(self, tx: Tx, mark: tuple[int, int, int, int]) -> None:
        """Undo what came after ``mark``; the locks stay."""
        undo, changes, tombs, conflicts = mark
        self._undo(tx, undo)
        del tx.logged.changes[changes:], tx.logged.tombs[tombs:], tx.conflicts[conflicts:]

    def _undo(self, tx: Tx, mark: int) -> None:
        records = self.records
        for record, old in reversed(tx.undo[mark:]):
            if old is None:
                records.pop(record, None)
            else:
                records[record] = old
        del tx.undo[mark:]

    def rollback(self, tx: Tx) -> None:
        """Take everything back; nothing if it is over already."""
        if tx.over or tx not in self.open:
            return
        if tx.wants is not None:
            self._leave(tx)
        left = any(record >= MEND for record, _ in tx.undo)
        self._undo(tx, 0)
        self._release(tx)
        if left:
            self.leftover()

    def commit(self, tx: Tx) -> None:
        """Make it durable: it is in the binlog from now on, and visible after ``commit_lag``."""
        if tx.over:
            raise Killed
        tx.over = True
        logged = tx.logged
        if logged.changes or logged.tombs or logged.beat or logged.applied or logged.activates:
            logged.commit_us = self.clock
            self.binlog.append(logged)
            tx.place = len(self.binlog)
            if tx.kind == "client":
                self.journal.client(self, tx)
            self.logged()
        if self.commit_lag:
            self.clockwork.spawn("commit", self._show_later(tx), self.commit_lag)
        else:
            self._show(tx)

    def _show_later(self, tx: Tx) -> Steps:
        self._show(tx)
        return
        yield

    def _show(self, tx: Tx) -> None:
        self._release(tx)
        self.journal.commit(self, tx)
        for record, _ in tx.undo:
            if record >= MEND:
                self.leftover()
                return
