"""Clients of a database in memory, and the triggers that stamp what they write.

A BEFORE INSERT trigger takes the clock before the statement waits for anybody; a BEFORE UPDATE
trigger runs under the row's lock; an AFTER DELETE trigger writes the tombstone.  With
``seen=False`` no trigger sees the delete, as in a cascade.
"""

from collections.abc import Awaitable, Callable
from zlib import crc32

from meshnode.core.change import Table
from meshnode.core.stamp import Stamp
from meshnode.errors import MeshError

from .database import Database, Row, Transaction, row_name, tomb_name
from .rows import added, image, wire_key

CLIENT_WAIT_SECONDS = 50.0
"""``innodb_lock_wait_timeout`` of a client."""

REPLACE_WINDOW_US = 50_000


class Client:
    """A session of a client of ``database`` in region ``own``; it writes into ``table``."""

    def __init__(self, database: Database, own: int, table: Table) -> None:
        self.database = database
        self.own = own
        self.table = table
        self.tx: Transaction | None = None
        self._inserted = 0

    async def begin(self) -> None:
        self.tx = self.database.begin(client=True)

    async def commit(self) -> None:
        if self.tx is not None and not self.tx.ended:
            self.database.commit(self.tx)
        self.tx = None

    async def rollback(self) -> None:
        if self.tx is not None:
            self.database.rollback(self.tx)
        self.tx = None

    async def _statement(self, work: Callable[[Transaction], Awaitable[None]]) -> None:
        """One statement, in the open transaction or in one of its own."""
        alone = self.tx is None
        tx = self.tx = self.tx or self.database.begin(client=True)
        self.database.mark(tx, "statement")
        try:
            await work(tx)
        except MeshError:
            if not tx.ended:
                self.database.back_to(tx, "statement")
            if alone:
                await self.rollback()
            raise
        except BaseException:
            await self.rollback()
            raise
        if alone:
            await self.commit()

    async def insert(self, key: int, value: str) -> None:
        """RowError where the key exists."""
        self._inserted = self.database.clock()
        stamp = Stamp(self._inserted, self.own)
        row = self._row(key, stamp, value)
        await self._statement(lambda tx: self.database.insert(tx, row_name(self._at(key)), row))

    async def update(self, key: int, value: str) -> None:
        """Nothing where there is no such key."""

        async def work(tx: Transaction) -> None:
            name = row_name(self._at(key))
            row = await self.database.read(tx, name, True, CLIENT_WAIT_SECONDS)
            if row is not None:
                stamp = Stamp(max(self.database.clock(), row.stamp.ts + 1), self.own)
                await self.database.update(tx, name, self._row(key, stamp, value))

        await self._statement(work)

    async def delete(self, key: int, seen: bool = True) -> None:
        """Nothing where there is no such key."""

        async def work(tx: Transaction) -> None:
            at = self._at(key)
            row = await self.database.read(tx, row_name(at), True, CLIENT_WAIT_SECONDS)
            if row is not None:
                await self.database.delete(tx, row_name(at))
                if seen:
                    await self._bury(tx, key, row.stamp)

        await self._statement(work)

    async def _bury(self, tx: Transaction, key: int, old: Stamp) -> None:
        clock = self.database.clock()
        if 0 < self._inserted <= clock and clock - self._inserted <= REPLACE_WINDOW_US:
            clock = self._inserted - 1
        stamp = Stamp(max(old.ts + 1, clock), self.own)
        name = tomb_name(self._at(key))
        known = await self.database.read(tx, name, True, CLIENT_WAIT_SECONDS)
        if known is None:
            await self.database.insert(tx, name, stamp)
        elif known < stamp:
            await self.database.update(tx, name, stamp)

    def _row(self, key: int, stamp: Stamp, value: str) -> Row:
        """A row as the table is defined now; it uses the columns that were added."""
        table = self.database.tables[self.table.digest]
        more = bytes((crc32(value.encode()) & 0xFF,)) * added(table)
        return Row(table, stamp, image(key, stamp, value) + more)

    def _at(self, key: int) -> tuple[Table, bytes]:
        return self.table, wire_key(key)
