"""A region's database in memory: records, transactions under READ COMMITTED, a binlog.

A record has a name and a value: a row of a replicated table (stamp and image), a tombstone
(stamp), a row of the bookkeeping.  A record *exists* while somebody has committed it or has it
written and open; only what exists can be locked.  Locking reads see the newest committed
value or the transaction's own.  What a transaction writes stands in its log in order, and goes to
the binlog when it commits.  The server is a task of nobody's process: what a client has said is
carried out even if the client dies meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from meshnode.core.change import Marker, Mended, NetKey, Table
from meshnode.core.stamp import Stamp
from meshnode.core.wire import DELETE, UPDATE, WRITE
from meshnode.errors import Replan, RowError
from meshnode.limits import LOCK_WAIT_SECONDS

from .locks import Deadlock, Locks
from .rows import filled

DUPLICATE = 1062


class Name(NamedTuple):
    """A record: ``kind`` is ``row``, ``tomb`` or a table of the bookkeeping."""

    kind: str
    table: str
    key: bytes


def row_name(at: NetKey) -> Name:
    return Name("row", at[0].digest, at[1])


def tomb_name(at: NetKey) -> Name:
    return Name("tomb", at[0].digest, at[1])


class Row(NamedTuple):
    """A row of a replicated table."""

    table: Table
    stamp: Stamp
    image: bytes


def row_of(table: Table, image: bytes) -> tuple[bytes, Row]:
    """The wire key and the row of one image."""
    ((_, _, key, ts, origin),) = table.scan_rows(image, 0, len(image))
    return key, Row(table, Stamp(ts, origin), image)


class Change(NamedTuple):
    """One entry of the binlog: ``kind`` as in :mod:`meshnode.core.wire`."""

    kind: int
    name: Name
    before: Any
    after: Any


class Committed(NamedTuple):
    """One transaction of the binlog; ``at`` in microseconds since 1970.

    ``mended``: what the rows that it lifted had replaced.  Without changes it is a statement
    that has changed a definition.
    """

    number: int
    at: int
    changes: list[Change]
    mended: dict[Marker, Mended]


@dataclass(eq=False)
class Transaction:
    """What is written and not committed; ``marks`` are savepoints.

    ``client``: it is not one of the mesh's own.
    """

    began: int
    client: bool = False
    writes: dict[Name, Any] = field(default_factory=dict)
    undo: list[tuple[Name, bool, Any]] = field(default_factory=list)
    log: list[Change] = field(default_factory=list)
    notes: list[tuple[str, Any]] = field(default_factory=list)
    marks: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    mended: dict[Marker, Mended] = field(default_factory=dict)
    ended: bool = False


class Database:
    """The server of one region; ``clock`` gives microseconds since 1970.

    ``notes`` are the tables that are only ever appended to: ``conflict``.
    ``cannot_stand`` says of a row whether a constraint refuses it: MySQL's number, or 0.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._last = 0
        self.records: dict[Name, Any] = {}
        self.binlog: list[Committed] = []
        self.notes: dict[str, list] = {"conflict": []}
        self.locks = Locks()
        self.open: dict[Transaction, None] = {}
        self.tables: dict[str, Table] = {}
        self.cannot_stand: Callable[[Row], int] = lambda row: 0
        self.starts = 1
        self.pause: Callable[[], Awaitable[None]] = _no_pause
        self._writers: dict[Name, Transaction] = {}
        self._numbers: Counter[str] = Counter()
        self._grown: list[asyncio.Future] = []

    def clock(self) -> int:
        """The clock inside ``UUID()``: no two calls get the same."""
        self._last = max(self._clock(), self._last + 1)
        return self._last

    def now(self) -> int:
        """The wall clock."""
        return self._clock()

    def next_number(self, table: str) -> int:
        """The next number of a table that counts its rows; one that is rolled back is lost."""
        self._numbers[table] += 1
        return self._numbers[table]

    # Reading

    def exists(self, name: Name) -> bool:
        return name in self.records or name in self._writers

    def value(self, tx: Transaction | None, name: Name) -> Any:
        """What ``tx`` sees: its own, or what is committed; None if there is nothing."""
        if tx is not None and name in tx.writes:
            return tx.writes[name]
        return self.records.get(name)

    async def read(self, tx: Transaction, name: Name, exclusive: bool, wait: float | None) -> Any:
        """A locking read; None, and no lock, where there is nothing."""
        if not self.exists(name):
            return None
        await self._lock(tx, name, exclusive, wait)
        if not self.exists(name):
            self.locks.let_go(tx, name)
        return self.value(tx, name)

    async def _lock(self, tx: Transaction, name: Name, exclusive: bool, wait: float | None) -> None:
        try:
            await self.locks.take(tx, name, exclusive, wait)
        except Deadlock:
            self.rollback(tx)
            raise

    # Writing

    def begin(self, client: bool = False) -> Transaction:
        tx = Transaction(self._clock(), client)
        self.open[tx] = None
        return tx

    async def insert(self, tx: Transaction, name: Name, value: Any) -> None:
        """Add a record; RowError (1062) where there is one, also after waiting for its writer."""
        if self.exists(name):
            await self._lock(tx, name, False, LOCK_WAIT_SECONDS)
            if self.value(tx, name) is not None:
                raise RowError(f"1062: duplicate entry for {name}", DUPLICATE)
        await self._lock(tx, name, True, LOCK_WAIT_SECONDS)
        if self.value(tx, name) is not None:
            raise RowError(f"1062: duplicate entry for {name}", DUPLICATE)
        self._put(tx, WRITE, name, self._fitted(value, None))

    async def update(self, tx: Transaction, name: Name, value: Any) -> None:
        """Change a record; Replan (1032) where there is none."""
        known = await self.read(tx, name, True, LOCK_WAIT_SECONDS)
        if known is None:
            raise Replan(f"1032: there is no {name}")
        self._put(tx, UPDATE, name, self._fitted(value, known))

    async def delete(self, tx: Transaction, name: Name) -> None:
        """Remove a record; Replan (1032) where there is none."""
        if await self.read(tx, name, True, LOCK_WAIT_SECONDS) is None:
            raise Replan(f"1032: there is no {name}")
        self._put(tx, DELETE, name, None)

    def _fitted(self, value: Any, known: Any) -> Any:
        """A row as its table has it now; columns that the writer lacks stay as they are known."""
        if not isinstance(value, Row):
            return value
        local = self.tables.get(value.table.digest, value.table)
        image = filled(value.table, value.image, local, known.image if known else b"")
        row = Row(local, value.stamp, image)
        code = self.cannot_stand(row)
        if code:
            raise RowError(f"{code}: a constraint refuses the row", code)
        return row

    def _put(self, tx: Transaction, kind: int, name: Name, value: Any) -> None:
        assert not tx.ended
        before = self.value(tx, name)
        if kind == UPDATE and before == value:
            return
        tx.undo.append((name, name in tx.writes, tx.writes.get(name)))
        tx.writes[name] = value
        tx.log.append(Change(kind, name, before, value))
        self._writers[name] = tx

    def note(self, tx: Transaction, kind: str, entry: Any) -> None:
        """Append to one of the tables that only grow."""
        tx.notes.append((kind, entry))

    async def alter(self, table: Table) -> None:
        """Give a table this definition, in one moment in which no open transaction uses it."""
        while any(self._uses(tx, table.digest) for tx in self.open):
            await self.growth()
        self.tables[table.digest] = table
        for name, row in self.records.items():
            if name.kind == "row" and name.table == table.digest:
                image = filled(row.table, row.image, table)
                self.records[name] = Row(table, row.stamp, image)
        self.binlog.append(Committed(len(self.binlog) + 1, self._clock(), [], {}))
        self.grown()

    def set_back(self, records: dict[Name, Any], transactions: int) -> None:
        """Start again from a copy with these records, made after so many transactions."""
        for tx in list(self.open):
            self.rollback(tx)
        self.records = dict(records)
        del self.binlog[transactions:]
        self.starts += 1
        self.grown()

    def _uses(self, tx: Transaction, digest: str) -> bool:
        names = (*tx.writes, *self.locks.held_by(tx))
        return any(name.kind == "row" and name.table == digest for name in names)

    # Ends

    def mark(self, tx: Transaction, name: str) -> None:
        tx.marks.pop(name, None)
        tx.marks[name] = (len(tx.undo), len(tx.log), len(tx.notes))

    def back_to(self, tx: Transaction, name: str) -> None:
        """Undo down to the mark; later marks are gone, locks stay."""
        undo, log, notes = tx.marks[name]
        while len(tx.undo) > undo:
            self._undo(tx, *tx.undo.pop())
        del tx.log[log:], tx.notes[notes:]
        for later in list(tx.marks)[list(tx.marks).index(name) + 1 :]:
            del tx.marks[later]

    def _undo(self, tx: Transaction, name: Name, had: bool, value: Any) -> None:
        if had:
            tx.writes[name] = value
        else:
            del tx.writes[name]
            del self._writers[name]

    def commit(self, tx: Transaction) -> None:
        """In one moment: nobody sees a part of it."""
        for name, value in tx.writes.items():
            del self._writers[name]
            if value is None:
                self.records.pop(name, None)
            else:
                self.records[name] = value
        for kind, entry in tx.notes:
            self.notes[kind].append(entry)
        if tx.log:
            number = len(self.binlog) + 1
            self.binlog.append(Committed(number, self._clock(), tx.log, tx.mended))
        self._end(tx)

    def rollback(self, tx: Transaction) -> None:
        if tx.ended:
            return
        for name in tx.writes:
            del self._writers[name]
        self._end(tx)

    def _end(self, tx: Transaction) -> None:
        tx.ended = True
        del self.open[tx]
        self.locks.let_all_go(tx)
        self.grown()

    # Waiting

    def grown(self) -> None:
        waiting, self._grown = self._grown, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    async def growth(self) -> None:
        """Wait until a transaction ends."""
        waiting = asyncio.get_running_loop().create_future()
        self._grown.append(waiting)
        await waiting


async def _no_pause() -> None:
    """Nothing comes between two statements."""
