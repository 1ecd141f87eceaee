"""The origin's session over a database in memory: the epoch, the decisions, the binlog."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from meshnode.core.gtid import GtidSet
from meshnode.core.ledger import Published
from meshnode.limits import LOCK_WAIT_SECONDS
from meshnode.mysql.notices import Notices
from meshnode.store.values import Decisions, History, Joined, Log, Member

from .bookkeeping import MEMBER, Applied, MemberRow
from .database import Name
from .mending import MemoryMending
from .stream import MemoryAssembler, MemoryStream, source_of


class MemoryClaiming(MemoryMending):
    """What the origin says."""

    async def member(self) -> Member:
        async def read() -> Member:
            row: MemberRow = self.database.value(None, MEMBER)
            return Member(row.mesh, row.region, row.incarnation, row.epoch, row.tail)

        return await self._say(read)

    async def end_others(self) -> None:
        async def kill() -> None:
            self.store.kill_others(self)

        await self._say(kill)

    async def raise_epoch(
        self, appliers: bool, found: Callable[[int, int], None], committing: Callable[[int], None]
    ) -> int:
        try:
            epoch = await self._say(self._raise_epoch)
            found(epoch - 1, self._applied_epoch())
            if appliers:
                await self._say(lambda: self._fence(epoch))
            committing(epoch)
            await self.commit()
        except BaseException:
            await self.rollback()
            raise
        return epoch

    async def _raise_epoch(self) -> int:
        database = self.database
        tx = self.tx = database.begin()
        row: MemberRow = await database.read(tx, MEMBER, True, LOCK_WAIT_SECONDS)
        row = replace(row, epoch=row.epoch + 1, incarnation=row.incarnation or database.now())
        await database.update(tx, MEMBER, row)
        return row.epoch

    def _applied(self) -> list[Name]:
        return sorted(name for name in self.database.records if name.kind == "applied")

    def _applied_epoch(self) -> int:
        """The highest of all rows of ``applied``."""
        rows = (self.database.value(None, name) for name in self._applied())
        return max((row.epoch for row in rows), default=0)

    async def _fence(self, epoch: int) -> None:
        """Every row of ``applied`` gets the epoch."""
        tx, database = self._open(), self.database
        for name in self._applied():
            row: Applied = await database.read(tx, name, True, LOCK_WAIT_SECONDS)
            await database.update(tx, name, replace(row, epoch=epoch))
            await self.store.wire.between()

    async def decisions(self) -> Decisions:
        async def read() -> Decisions:
            tables = sorted((each.schema, each.name) for each in self.database.tables.values())
            return Decisions([Joined(*table, "") for table in tables], sorted(self.store.skipped))

        return await self._say(read)

    async def history(self) -> History:
        async def read() -> History:
            last = len(self.database.binlog)
            return History(f"{source_of(self.own)}:1-{last}" if last else "", "")

        return await self._say(read)

    async def open_log(
        self,
        after: str,
        newest: Published | None,
        tables: Sequence[tuple[str, str]],
        skipped: Sequence[str],
        part_bytes: Callable[[], int],
    ) -> Log:
        async def read() -> Log:
            active = {
                digest
                for digest, table in self.database.tables.items()
                if (table.schema, table.name) in tables
            }
            notices = Notices(self.store.region, self.own)
            assembler = MemoryAssembler(self.own, active, notices, part_bytes, skipped, newest)
            stream = MemoryStream(self.database, len(GtidSet(after)) - (newest is not None))
            return Log(stream, assembler, assembler.known)

        return await self._say(read)
