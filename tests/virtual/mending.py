"""What the mender says to a database in memory: looks, lifts, late tombstones, keys held back.

The steps and their order are those of ``meshnode/mysql/mending.py``; each lift and each late
tombstone is a transaction of its own here.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from meshnode.core.change import Marker, Mended, NetKey, Table
from meshnode.core.lifting import Judge
from meshnode.core.mend import Fate, LateTombstone, Lift, Reason, Restamped
from meshnode.core.stamp import ZERO, Stamp
from meshnode.errors import Busy, RowError
from meshnode.mysql.halving import PATIENCE_SECONDS

from .applying import Conflicted
from .database import Name, Row, Transaction, row_name, tomb_name
from .rows import restamped
from .session import MemorySession

if TYPE_CHECKING:
    from .store import MemoryStore


Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Held:
    """A row of ``mend``: a lift, or a late tombstone, whose key was locked.

    Without a stamp seen, whatever stands is lifted.
    """

    table: Table
    key: bytes
    seen: Stamp | None
    base: Stamp = ZERO
    base_row: bool = False
    late: bool = False
    image: bytes | None = None

    @property
    def is_published(self) -> bool:
        """Whether the stream has shown the version, which only stands too low now."""
        return self.seen is not None and self.image is None


def mend_name(table: Table, key: bytes, late: bool) -> Name:
    return Name("late" if late else "mend", table.digest, key)


class MemoryMending(MemorySession):
    """A session that lifts and buries."""

    def __init__(self, store: "MemoryStore", name: str, restamped: Restamped) -> None:
        super().__init__(store, name)
        self.own = store.own
        self.restamped = restamped

    async def _patiently(
        self, entries: Iterable[Entry], work: Callable[[Entry, Transaction], object]
    ) -> list[Entry]:
        """Do ``work`` for each of ``entries`` in a transaction; those that stay locked."""
        locked = await self._once(list(entries), work)
        for pause in PATIENCE_SECONDS:
            if locked:
                await asyncio.sleep(pause)
                locked = await self._once(locked, work)
        return locked

    async def _once(self, entries: list[Entry], work: Callable) -> list[Entry]:
        locked = []
        for entry in entries:

            async def transaction(entry: Entry = entry) -> None:
                self.tx = self.database.begin()
                await work(entry, self.tx)

            try:
                await self._say(transaction)
                await self.commit()
            except Busy:
                await self.rollback()
                locked.append(entry)
        return locked

    async def tombstones(
        self, keys: Mapping[Table, Iterable[bytes]]
    ) -> tuple[dict[NetKey, Stamp], set[NetKey]]:
        found: dict[NetKey, Stamp] = {}

        async def look(at: NetKey, tx: Transaction) -> None:
            tomb = await self.database.read(tx, tomb_name(at), False, None)
            if tomb is not None:
                found[at] = tomb

        wanted = [(table, table.fold(key)) for table, wire in keys.items() for key in wire]
        return found, set(await self._patiently(dict.fromkeys(wanted), look))

    async def lift(
        self, lifts: Sequence[Lift], fde: bytes, promised: Callable[[], int], hold: bool = True
    ) -> None:
        wrote: list[tuple[Lift, Lift, Stamp]] = []

        async def work(lift: Lift, tx: Transaction) -> None:
            lift.fate = await self._lift(lift, tx, promised(), hold, wrote)

        for lift in await self._patiently(lifts, work):
            lift.fate = Fate.HELD
            if hold:
                await self._hold(
                    Held(
                        lift.table, lift.key, lift.seen, lift.base, lift.base_row,
                        image=_seen(lift),
                    )
                )  # fmt: skip
        for lift, done, stamp in wrote:
            if lift.fate is Fate.LIFTED:
                self.restamped.note(done, stamp, True)

    async def overtake(self, lifts: Mapping[Lift, Stamp]) -> None:
        async def work(lift: Lift, tx: Transaction) -> None:
            name = mend_name(lift.table, lift.key, False)
            held: Held | None = await self.database.read(tx, name, True, 2.0)
            if held is not None and held.seen == lift.seen:
                await self.database.delete(tx, name)
            lift.fate = Fate.LIFTED
            if not self.restamped.by(lift, lifts[lift]):
                lift.fate = Fate.OVERTAKEN
                if lift.reason is not Reason.TOMBSTONE:
                    lost = self._overtaken(lift, lifts[lift])
                    self.database.note(tx, "conflict", lost)

        await self._patiently(lifts, work)

    async def _lift(
        self,
        lift: Lift,
        tx: Transaction,
        promised: int,
        hold: bool,
        wrote: list[tuple[Lift, Lift, Stamp]],
    ) -> Fate | None:
        database = self.database
        at = lift.table, lift.table.fold(lift.key)
        row: Row | None = await database.read(tx, row_name(at), True, None)
        await self.store.wire.between()
        tomb = await database.read(tx, tomb_name(at), True, None)
        name = mend_name(lift.table, lift.key, False)
        held: Held | None = await database.read(tx, name, True, 2.0)
        judge = Judge(self.own, self.restamped, hold, database.now(), promised)
        verdict = judge.judge(lift, None if row is None else row.stamp, tomb, held)
        if held is not None and verdict.settles:
            await database.delete(tx, name)
        if verdict.lost_to is not None:
            database.note(tx, "conflict", self._overtaken(lift, verdict.lost_to))
        if held is not None and verdict.replaces:
            database.note(tx, "conflict", self._replaced(held, lift))
        done, stamp = verdict.done, verdict.stamp
        if row is None or done is None or stamp is None:
            return verdict.fate
        await self.store.wire.between()
        new = Row(row.table, stamp, restamped(row.table, row.image, stamp))
        await database.update(tx, row_name(at), new)
        tx.mended[(lift.table.digest, lift.key)] = Mended(row.stamp, done.base, done.base_row)
        wrote.append((lift, done, stamp))
        self.restamped.note(done, stamp, False)
        return verdict.fate

    def _overtaken(self, lift: Lift, over: Stamp) -> Conflicted:
        return Conflicted(lift.key, "overtaken", over, lift.seen or ZERO, None, _seen(lift), "")

    def _replaced(self, held: Held, lift: Lift | Held) -> Conflicted:
        """The record of a version that waits no longer, because ``lift`` is about a later one."""
        winner, loser = lift.seen or ZERO, held.seen or ZERO
        return Conflicted(lift.key, "overtaken", winner, loser, None, held.image, "")

    async def bury(self, late: Sequence[LateTombstone], fde: bytes) -> list[LateTombstone]:
        async def work(late: LateTombstone, tx: Transaction) -> None:
            try:
                await self._bury(late, tx)
            except RowError as error:
                # Written since the look; in MySQL the transaction begins anew.
                raise Busy(error.what) from error

        return await self._patiently(late, work)

    async def _bury(self, late: LateTombstone, tx: Transaction) -> None:
        """The tombstone first, then the row."""
        database = self.database
        at = late.table, late.table.fold(late.key)
        known = await database.read(tx, tomb_name(at), True, None)
        await self.store.wire.between()
        if known is None:
            await database.insert(tx, tomb_name(at), late.stamp)
        elif known < late.stamp:
            await database.update(tx, tomb_name(at), late.stamp)
        await self.store.wire.between()
        row: Row | None = await database.read(tx, row_name(at), True, None)
        if row is not None and late.takes(row.stamp, self.own):
            database.note(
                tx, "conflict",
                Conflicted(
                    late.key, "late delete", late.stamp, row.stamp, row.image.hex(), None, ""
                ),
            )  # fmt: skip
            await database.delete(tx, row_name(at))

    async def hold_late(self, late: LateTombstone) -> None:
        await self._hold(Held(late.table, late.key, late.stamp, late=True))

    async def _hold(self, held: Held) -> None:
        async def write() -> None:
            self.tx = self.database.begin()
            name = mend_name(held.table, held.key, held.late)
            known: Held | None = await self.database.read(self.tx, name, True, 2.0)
            if known is None:
                await self.database.insert(self.tx, name, held)
            elif not held.late:
                if known.seen != held.seen and not known.is_published:
                    self.database.note(self.tx, "conflict", self._replaced(known, held))
                image = held.image
                if image is None and known.seen == held.seen:
                    image = known.image
                await self.database.update(self.tx, name, replace(held, image=image))
            elif known.seen < held.seen:
                await self.database.update(self.tx, name, held)

        await self._say(write)
        await self.commit()

    async def rows_below(self, late: Sequence[LateTombstone]) -> list[Lift]:
        """Own rows that a tombstone buried late stands above."""
        lifts: list[Lift] = []

        async def look(each: LateTombstone, tx: Transaction) -> None:
            at = each.table, each.table.fold(each.key)
            row: Row | None = await self.database.read(tx, row_name(at), False, None)
            if row is not None and row.stamp < each.stamp:
                lifts.append(
                    Lift(each.table, each.key, row.stamp, each.stamp, False, Reason.TOMBSTONE, None)
                )

        if await self._patiently(late, look):
            raise Busy("a row below a late tombstone is locked")
        return lifts

    async def entries(self) -> list[Held]:
        """What is held back."""

        async def read() -> list[Held]:
            return [each for each in self.database.records.values() if isinstance(each, Held)]

        return await self._say(read)

    async def held(self) -> dict[Marker, Mended]:
        """What waits to be lifted, with what it had replaced."""
        return {
            (held.table.digest, held.key): Mended(held.seen, held.base, held.base_row)
            for held in await self.entries()
            if not held.late and held.seen is not None
        }

    async def late(self) -> dict[Marker, Stamp]:
        """The late tombstones that wait."""
        return {
            (held.table.digest, held.key): held.seen for held in await self.entries() if held.late
        }

    async def table(self, digest: str) -> Table | None:
        return self.database.tables.get(digest)

    async def learn(self, keys: object) -> None:
        """Keys whose equal values are equal bytes need nothing to be learnt."""


def _seen(lift: Lift) -> bytes | None:
    """The image that was seen."""
    if lift.image is None:
        return None if lift.shown is None else bytes.fromhex(lift.shown)
    rows, start, stop = lift.image
    return rows[start:stop]
