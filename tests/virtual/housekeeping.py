"""The sessions of the heart, the gardener and the census over a database in memory."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from meshnode.core.stamp import Stamp
from meshnode.core.wire import Beat
from meshnode.errors import Busy
from meshnode.limits import LOCK_WAIT_SECONDS
from meshnode.store.values import Letters, Tail

from .bookkeeping import HEARTBEAT, MEMBER, Applied, MemberRow, Parked
from .database import Name
from .mending import Held
from .session import MemorySession


class MemoryBeating(MemorySession):
    """What the heart says."""

    async def promised(self) -> int:
        async def read() -> int:
            return self.database.value(None, HEARTBEAT).frontier

        return await self._say(read)

    async def clock(self) -> int:
        async def read() -> int:
            return self.database.now()

        return await self._say(read)

    async def oldest_open(self, now: int) -> int | None:
        async def read() -> int | None:
            return min((tx.began for tx in self.database.open if tx.client), default=None)

        return await self._say(read)

    async def beat(self, epoch: int, tail: Tail, now: int, promise: int, body: str) -> bool:
        async def write() -> bool:
            tx = self.tx = self.database.begin()
            row: MemberRow = await self.database.read(tx, MEMBER, True, LOCK_WAIT_SECONDS)
            if row.epoch != epoch:
                return False
            await self.database.update(tx, MEMBER, replace(row, tail=tail))
            await self.store.wire.between()
            before: Beat = await self.database.read(tx, HEARTBEAT, True, LOCK_WAIT_SECONDS)
            await self.database.update(tx, HEARTBEAT, Beat(before.beat + 1, now, promise, body))
            return True

        return await self._ended(await self._written(write))

    async def tell(self, epoch: int, now: int, body: str) -> None:
        async def write() -> bool:
            tx = self.tx = self.database.begin()
            row: MemberRow = await self.database.read(tx, MEMBER, True, LOCK_WAIT_SECONDS)
            if row.epoch != epoch:
                return False
            old: Beat = await self.database.read(tx, HEARTBEAT, True, LOCK_WAIT_SECONDS)
            await self.database.update(tx, HEARTBEAT, Beat(old.beat + 1, now, old.frontier, body))
            return True

        await self._ended(await self._written(write))

    async def _written(self, write: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await self._say(write)
        except Busy:
            await self.rollback()
            raise

    async def _ended(self, done: bool) -> bool:
        await (self.commit() if done else self.rollback())
        return done


class MemoryGardening(MemorySession):
    """What the gardener says; every method commits by itself."""

    async def frontiers(self) -> dict[int, int]:
        return {origin: row.frontier for origin, row in (await self._applied()).items()}

    async def incarnations(self) -> dict[int, int]:
        return {origin: row.incarnation for origin, row in (await self._applied()).items()}

    async def _applied(self) -> dict[int, Applied]:
        async def read() -> dict[int, Applied]:
            return {
                name.key[0]: row
                for name, row in self.database.records.items()
                if isinstance(row, Applied)
            }

        return await self._say(read)

    async def parked(self) -> list[int]:
        async def read() -> list[int]:
            return [
                each.row.incoming.entry.ts
                for each in self.database.records.values()
                if isinstance(each, Parked) and each.state != "closed"
            ]

        return await self._say(read)

    async def activations(self) -> dict[str, int]:
        """The tables were there before anything was written."""

        async def read() -> dict[str, int]:
            return dict.fromkeys(self.database.tables, 0)

        return await self._say(read)

    def _stable(self, digest: str, since: int, limit: int) -> list[Name]:
        return [
            name
            for name, value in self.database.records.items()
            if name[:2] == ("tomb", digest)
            and isinstance(value, Stamp)
            and since < value.ts <= limit
        ]

    async def any_stable(self, digest: str, since: int, limit: int) -> bool:
        async def read() -> bool:
            return bool(self._stable(digest, since, limit))

        return await self._say(read)

    async def note_limit(self, limit: int) -> None:
        """What ``member`` says of it only ``init`` and the doctor read."""

    async def drop_stable(self, digest: str, since: int, limit: int, rows: int) -> int:
        async def drop() -> int:
            tx = self.tx = self.database.begin()
            gone = 0
            for name in self._stable(digest, since, limit)[:rows]:
                value = await self.database.read(tx, name, True, LOCK_WAIT_SECONDS)
                if value is not None and since < value.ts <= limit:
                    await self.database.delete(tx, name)
                    gone += 1
            return gone

        return await self._alone(drop)

    async def forget(self, days: int, rows: int) -> None:
        """Records are kept for the oracle."""


class MemoryCounting(MemorySession):
    """What the census asks, and who watches the settings."""

    async def letters(self) -> list[Letters]:
        async def read() -> list[Letters]:
            groups: dict[tuple[str, str | None], list[int]] = {}
            for each in self.database.records.values():
                if isinstance(each, Parked) and each.state != "closed":
                    at, entry, _ = each.row.incoming
                    groups.setdefault((each.state, at[0].title), []).append(entry.ts)
            if self.store.skipped:
                groups["skipped", None] = [0] * len(self.store.skipped)
            return [
                Letters(state, table, len(stamps), min(stamps))
                for (state, table), stamps in groups.items()
            ]

        return await self._say(read)

    async def waiting(self) -> int:
        async def read() -> int:
            return sum(isinstance(each, Held) for each in self.database.records.values())

        return await self._say(read)

    async def tombstones(self) -> dict[str, int]:
        async def read() -> dict[str, int]:
            buried = Counter(name.table for name in self.database.records if name.kind == "tomb")
            return {table.title: buried[digest] for digest, table in self.database.tables.items()}

        return await self._say(read)

    async def settings(self, names: Sequence[str]) -> dict[str, str]:
        async def read() -> dict[str, str]:
            return {
                name: self.store.settings[name] for name in names if name in self.store.settings
            }

        return await self._say(read)
