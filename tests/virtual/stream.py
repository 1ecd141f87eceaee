"""The binlog of a database in memory, as the tailer reads it."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence

from meshnode.core.change import RowOp, Table, Transaction
from meshnode.core.wire import DELETE, UPDATE, WRITE, Beat
from meshnode.mysql.notices import Notices

from .database import Change, Committed, Database

FORMAT = b"a format description"


def source_of(region: int) -> str:
    """The server's uuid."""
    return f"00000000-0000-0000-0000-{region:012}"


class MemoryStream:
    """Reads what follows the first ``after`` transactions."""

    def __init__(self, database: Database, after: int) -> None:
        self.database = database
        self.at = after

    async def read(self, most: int) -> list[Committed]:
        """The next transactions; waits until there is one."""
        while len(self.database.binlog) <= self.at:
            await self.database.growth()
        found = self.database.binlog[self.at : self.at + most]
        self.at += len(found)
        await asyncio.sleep(0)
        return found

    def close(self) -> None:
        """Nothing is kept open."""


class MemoryAssembler:
    """Makes transactions of what the stream reads; drops those that the mesh has applied."""

    def __init__(
        self, region: int, tables: Mapping[str, Table], notices: Notices, skipped: Iterable[str]
    ) -> None:
        self.region = region
        self.tables = tables
        self.notices = notices
        self.skipped = set(skipped)
        self._passed: list[tuple[str, int]] = []

    def feed(self, packets: Sequence[Committed]) -> Iterator[Transaction]:
        for committed in packets:
            self._passed.append((source_of(self.region), committed.number))
            if committed.changes[0].name.kind == "applied":
                continue
            for change in committed.changes:
                if change.name.kind == "member" and change.after is not None:
                    self.notices.epoch = max(self.notices.epoch, change.after.epoch)
            tx = self._transaction(committed)
            if tx is not None:
                tx.passed, self._passed = self._passed, []
                yield tx

    def _transaction(self, committed: Committed) -> Transaction | None:
        """None where there is nothing for the stream, as in what only GC has done."""
        if f"{source_of(self.region)}:{committed.number}" in self.skipped:
            return None
        tx = Transaction(
            f"{source_of(self.region)}:{committed.number}", committed.at,
            mended=dict(committed.mended), format=FORMAT, server="9.7.0",
        )  # fmt: skip
        for change in committed.changes:
            if change.name.kind == "row":
                tx.ops.append(_op(change, self.tables[change.name.table]))
            elif change.name.kind == "tomb" and change.kind != DELETE:
                tx.tombstones.append((change.name.table, change.name.key, change.after))
            elif change.name.kind == "heartbeat":
                beat: Beat = change.after
                tx.beat = beat
        tx.rows = len(tx.ops)
        tx.size = sum(len(op.rows) for op in tx.ops)
        return tx if tx.ops or tx.tombstones or tx.beat else None


def _op(change: Change, table: Table) -> RowOp:
    """The row operation; its table is the one here, whoever wrote the row."""
    if change.kind == WRITE:
        rows = change.after.image
    elif change.kind == UPDATE:
        rows = change.before.image + change.after.image
    else:
        rows = change.before.image
    scan = table.scan_pairs if change.kind == UPDATE else table.scan_rows
    return RowOp(table, change.kind, rows, scan(rows, 0, len(rows)))
