"""The binlog of a database in memory, as the tailer reads it."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from meshnode.core.change import RowOp, Table, Transaction
from meshnode.core.ledger import Published
from meshnode.core.wire import DELETE, UPDATE, WRITE, Beat
from meshnode.errors import LostCommits, Retry
from meshnode.mysql.collect import PATIENCE
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
        self.starts = database.starts

    async def read(self, most: int) -> list[Committed]:
        """The next transactions; waits until there is one.  Retry: the server went down."""
        while self.starts == self.database.starts and len(self.database.binlog) <= self.at:
            await self.database.growth()
        if self.starts != self.database.starts:
            raise Retry("2013: lost connection during query")
        found = self.database.binlog[self.at : self.at + most]
        self.at += len(found)
        await asyncio.sleep(0)
        return found

    def close(self) -> None:
        """Nothing is kept open."""


class MemoryAssembler:
    """Makes transactions of what the stream reads, and parts of those of more than ``part_bytes``.

    Drops what the mesh has applied.  ``known`` has the newest form of each table of ``active``
    that has passed, by digest.
    """

    def __init__(
        self,
        region: int,
        active: Collection[str],
        notices: Notices,
        part_bytes: Callable[[], int],
        skipped: Iterable[str],
        newest: Published | None,
    ) -> None:
        self.region = region
        self.active = active
        self.known: dict[str, Table] = {}
        self.notices = notices
        self.part_bytes = part_bytes
        self.skipped = set(skipped)
        self.newest = newest
        self._passed: list[tuple[str, int]] = []

    def feed(self, packets: Sequence[Committed]) -> Iterator[Transaction]:
        for committed in packets:
            self._passed.append((source_of(self.region), committed.number))
            if self.newest is not None and self._name(committed) == self.newest.tx_id:
                self._require_same(committed, self.newest)
                continue
            if not committed.changes:
                self.notices.definitions += 1
                continue
            if committed.changes[0].name.kind == "applied":
                continue
            for change in committed.changes:
                if change.name.kind == "member" and change.after is not None:
                    self.notices.epoch = max(self.notices.epoch, change.after.epoch)
            parts = self._parts(committed)
            if parts:
                parts[-1].last = True
                parts[-1].passed, self._passed = self._passed, []
                yield from parts

    def _name(self, committed: Committed) -> str:
        return f"{source_of(self.region)}:{committed.number}"

    def _require_same(self, committed: Committed, newest: Published) -> None:
        if committed.at != newest.commit_us:
            raise LostCommits("the database", self.notices.region, newest.tx_id)
        self.newest = None

    def _parts(self, committed: Committed) -> list[Transaction]:
        """Empty where there is nothing for the stream, as in what only GC has done."""
        if self._name(committed) in self.skipped:
            return []
        tx = self._part(committed, 0)
        parts = [tx]
        waits = False
        for change in committed.changes:
            if change.name.kind == "row" and change.name.table in self.active:
                op = _op(change)
                self.known[op.table.digest] = op.table
                # A part does not end between a delete and its tombstone.
                allowed = self.part_bytes() * (PATIENCE if waits else 1)
                if tx.size and tx.size + len(op.rows) > allowed:
                    tx = self._part(committed, tx.part + 1)
                    parts.append(tx)
                tx.ops.append(op)
                tx.rows += 1
                tx.size += len(op.rows)
                waits = change.kind == DELETE
            elif change.name.kind == "tomb" and change.kind != DELETE:
                tx.tombstones.append((change.name.table, change.name.key, change.after))
                waits = False
            elif change.name.kind == "heartbeat":
                beat: Beat = change.after
                tx.beat = beat
        return parts if tx.ops or tx.tombstones or tx.beat else []

    def _part(self, committed: Committed, part: int) -> Transaction:
        return Transaction(
            self._name(committed), committed.at, part, last=False,
            mended=dict(committed.mended), format=FORMAT, server="9.7.0",
        )  # fmt: skip


def _op(change: Change) -> RowOp:
    table: Table = (change.after or change.before).table
    if change.kind == WRITE:
        rows = change.after.image
    elif change.kind == UPDATE:
        rows = change.before.image + change.after.image
    else:
        rows = change.before.image
    scan = table.scan_pairs if change.kind == UPDATE else table.scan_rows
    return RowOp(table, change.kind, rows, scan(rows, 0, len(rows)))
