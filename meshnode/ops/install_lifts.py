"""The small transactions in which ``init`` lifts rows and tombstones.

A lift locks the row, checks that it still has the version seen, and gives it a
stamp above every version of the key that was seen anywhere
(:mod:`meshnode.mysql.restamp`).  The region's node publishes it like any other write.
"""

from collections.abc import Sequence
from typing import NamedTuple

from meshnode.core.stamp import Stamp
from meshnode.mysql import catalog, restamp
from meshnode.mysql.control import Control
from meshnode.mysql.keyvalues import KeyReader, Values
from meshnode.mysql.schema import ORIGIN_COLUMN, TS_COLUMN, quoted_table, tombstone_table
from meshnode.ops.alignment import Action, Decision
from meshnode.ops.seed_records import Loss, SeedRecords

_CLOCK = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6))"


class Lift(NamedTuple):
    """A key as its region spells it, what was decided, and the losing regions' spellings."""

    values: Values
    decision: Decision
    losers: tuple[tuple[int, Values], ...] = ()


class Lifter:
    """Lifts rows and tombstones of one table in one region."""

    def __init__(
        self,
        region: int,
        connection: Control,
        table: catalog.Table,
        reader: KeyReader,
        records: SeedRecords,
    ) -> None:
        self._region = region
        self._connection = connection
        self._table = table
        self._reader = reader
        self._records = records
        self._ready = False

    async def lift(self, lifts: Sequence[Lift]) -> tuple[int, list[Lift]]:
        """One transaction: how many were lifted, and which ones were locked.

        A row whose version is no longer the one seen was written since: its own
        change is in the stream, and it is left alone.
        """
        connection = self._connection
        if not self._ready:
            await connection.execute(restamp.format_description().decode())
            await connection.execute("SET gtid_next = 'AUTOMATIC'")
            self._ready = True
        rows = [lift for lift in lifts if lift.decision.action is Action.LIFT_ROW]
        graves = [lift for lift in lifts if lift.decision.action is Action.LIFT_TOMBSTONE]
        shape = self._table.shape
        async with connection.transaction():
            now = int(await connection.value(_CLOCK))
            locked, held = await self._lock(quoted_table(shape.schema, shape.table), rows)
            if locked:
                stamped = [
                    (self._reader.wire_key(lift.values), self._stamp(lift, now)) for lift in locked
                ]
                await connection.execute(restamp.restamp(shape, stamped).decode())
            tombstones = tombstone_table(shape.schema, shape.table)
            buried, busy = await self._lock(tombstones, graves)
            for lift in buried:
                # Not the present time: a client may have inserted the key since it was looked at.
                stamp = self._stamp(lift, 0)
                await connection.execute(
                    f"UPDATE {tombstones} SET {TS_COLUMN} = {stamp.ts},"
                    f" {ORIGIN_COLUMN} = {stamp.origin} WHERE {self._reader.among([lift.values])}"
                )
            losses = [
                Loss(lift.values, lift.decision.seen, self._stamp(lift, now), lift.losers)
                for lift in locked
            ]
            await self._records.write(self._region, losses)
        return len(locked) + len(buried), held + busy

    def _stamp(self, lift: Lift, now: int) -> Stamp:
        return Stamp(max(now, lift.decision.above.ts + 1), self._region)

    async def _lock(self, table: str, lifts: list[Lift]) -> tuple[list[Lift], list[Lift]]:
        """Lock the rows that still have the version seen; and those that somebody else has."""
        if not lifts:
            return [], []
        asked = (
            f"SELECT {self._reader.select}, {TS_COLUMN}, {ORIGIN_COLUMN} FROM {table}"
            f" WHERE {self._reader.among([lift.values for lift in lifts])}"
        )
        found = await self._connection.rows(f"{asked} FOR UPDATE SKIP LOCKED")
        mine = {tuple(row[:-2]): Stamp(row[-2], row[-1]) for row in found}
        locked = [lift for lift in lifts if mine.get(lift.values) == lift.decision.seen]
        if len(found) == len(lifts):
            return locked, []
        there = {tuple(row[:-2]) for row in await self._connection.rows(asked)}
        return locked, [lift for lift in lifts if lift.values in there and lift.values not in mine]
