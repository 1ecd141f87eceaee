"""Makes the rows alike that a table had before it was replicated.

The table is walked in key order in all regions at once, a few thousand keys at
a time, so memory is bounded by the chunk and not by the table.  A chunk whose
digest is one in all regions is done.  In any other, each region's keys are read
in one snapshot, rows and tombstones together: a deleted row then shows either
itself or its tombstone, never neither.  What to do is decided key by key
(:mod:`meshnode.ops.alignment`).

Rows that a client has locked are passed over and tried again at the end
(:mod:`meshnode.ops.install_lifts`).
A row that may have been deleted elsewhere, because its region is behind, is looked at again
until the region has caught up; if it does not, the row is left.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from meshnode.core.stamp import Stamp
from meshnode.errors import Retry
from meshnode.mysql import catalog, rowdigest
from meshnode.mysql.control import Control, code_of
from meshnode.mysql.keyvalues import KeyReader, Values
from meshnode.mysql.schema import ORIGIN_COLUMN, TS_COLUMN, quoted_table, tombstone_table
from meshnode.ops import progress
from meshnode.ops.activation import active_since
from meshnode.ops.alignment import NO_STREAM, Action, Decision, Progress, State, decide, missed
from meshnode.ops.install_lifts import Lift, Lifter
from meshnode.ops.seed_records import Seat, SeedRecords, read_charsets

CHUNK_KEYS = 2_000
"""Keys compared at a time in each region."""

LIFT_ROWS = 500
"""Rows lifted in one transaction."""

LIFT_ATTEMPTS = 10
"""How often locked rows are tried; a try follows the other after a second."""

DOUBTS = 20_000
"""Keys that are kept to be looked at again together, after the next heartbeats."""

DOUBT_ATTEMPTS = 15
"""How often they are looked at again, a second apart; longer than a stopped node seems alive."""

REFUSED_SHOWN = 100
"""Refused keys that are reported one by one."""

_CONTENDED = frozenset({1205, 1213})


@dataclass(frozen=True, slots=True)
class Place:
    """A region whose tables take part: name, id, and a session as ``admin``.

    ``pulse``: seconds between two heartbeats of its node.
    """

    name: str
    region: int
    connection: Control
    pulse: float


class RefusedKey(NamedTuple):
    """A key that was left alone, as SQL literals, with the regions that have a row for it."""

    table: str
    key: str
    regions: tuple[str, ...]
    reason: str


@dataclass(slots=True)
class Outcome:
    """Rows lifted; keys refused (the first ones and their number); rows that stayed locked.

    ``behind``: rows that are left because their region may have missed their delete, by its name
    and that of a region where they may have been deleted.
    ``overruled``: rows that the seed's will overwrite, by the name of their region.
    """

    lifted: int = 0
    streamed: int = 0
    refused: list[RefusedKey] = field(default_factory=list)
    refused_count: int = 0
    held: int = 0
    behind: Counter[tuple[str, str]] = field(default_factory=Counter)
    overruled: Counter[str] = field(default_factory=Counter)

    @property
    def unsettled(self) -> int:
        """Keys on which the regions still do not agree."""
        return self.refused_count + self.held + self.behind.total()


class _Doubt(NamedTuple):
    """A key whose row may have been deleted in a region that its holder has not caught up with.

    ``without``: how far each region without the row was when it was first seen without it.
    """

    values: Values
    without: dict[int, Progress]
    regions: tuple[int, int]


async def align(
    places: Sequence[Place],
    schema: str,
    table: str,
    *,
    seed_from: str | None = None,
    relies_on_streams: bool = True,
    report: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Compare one table across all regions; lift what differs and is not left to the streams."""
    comparison = await _Comparison.open(places, schema, table, seed_from)
    if not relies_on_streams:
        comparison.since_us = NO_STREAM
    outcome = Outcome(overruled=comparison.records.overruled)
    low: Values | None = None
    compared = 0
    while True:
        high = await comparison.chunk_end(low)
        counts = await comparison.digests(low, high)
        compared += max(count for count, *_ in counts)
        if len(set(counts)) > 1:
            await comparison.settle(low, high, outcome)
            report(
                f"{schema}.{table}: {compared} rows compared, {outcome.lifted} lifted, "
                f"{outcome.refused_count} refused"
            )
        if high is None or len(comparison.doubts) > DOUBTS:
            await comparison.look_again(outcome, report)
        if high is None:
            break
        low = high
    await comparison.lift_held(outcome, report)
    if outcome.streamed:
        report(f"{schema}.{table}: {outcome.streamed} newer rows are left to the stream")
    return outcome


class _Comparison:
    """One table in all regions."""

    def __init__(
        self,
        places: Sequence[Place],
        table: catalog.Table,
        reader: KeyReader,
        row_digest: str,
        records: SeedRecords,
    ) -> None:
        self.records = records
        self._places = places
        self._table = table
        self._reader = reader
        self._row_digest = row_digest
        self._name = quoted_table(table.shape.schema, table.shape.table)
        self._tombstones = tombstone_table(table.shape.schema, table.shape.table)
        self.since_us = 0
        self._seed: int | None = None
        self._held: dict[int, list[Lift]] = {}
        self.doubts: dict[Values, _Doubt] = {}
        self._lifters: dict[int, Lifter] = {}

    @classmethod
    async def open(
        cls, places: Sequence[Place], schema: str, table: str, seed_from: str | None
    ) -> "_Comparison":
        tables = []
        for place in places:
            found = await catalog.read(place.connection, schema, table)
            assert found is not None
            tables.append(found)
        rows = await places[0].connection.rows(
            "SELECT COLLATION_NAME FROM information_schema.COLLATIONS"
            " WHERE PAD_ATTRIBUTE = 'PAD SPACE'"
        )
        # A column that one region has more (it is being added) is in no digest.
        common = set.intersection(*({c.name for c in t.shape.columns} for t in tables))
        columns = [
            column
            for column, default in zip(tables[0].shape.columns, tables[0].defaults, strict=True)
            if column.name in common
            and not column.is_stamp
            and default is not catalog.Default.GENERATED
        ]
        reader = KeyReader(tables[0], {row[0] for row in rows})
        seats = {
            place.region: Seat(place.name, place.region, place.connection, found)
            for place, found in zip(places, tables, strict=True)
        }
        records = SeedRecords(seats, reader, await read_charsets(places[0].connection))
        made = cls(places, tables[0], reader, rowdigest.row_hash(columns), records)
        for place, found in zip(places, tables, strict=True):
            made._lifters[place.region] = Lifter(
                place.region, place.connection, found, reader, records
            )
        made._seed = next((place.region for place in places if place.name == seed_from), None)
        made.since_us = max([await active_since(p.connection, (schema, table)) for p in places])
        return made

    async def _everywhere(self, sql: str) -> list[list[tuple]]:
        return list(await asyncio.gather(*(place.connection.rows(sql) for place in self._places)))

    async def chunk_end(self, low: Values | None) -> Values | None:
        """The last key of the next chunk, or None when it is the last chunk.

        A region that has more than a chunk up to the candidate has a lower one,
        so no region reads more than one chunk.
        """
        reader = self._reader
        ends = await self._everywhere(
            f"SELECT {reader.select} FROM {self._name} WHERE {reader.between(low, None)}"
            f" ORDER BY {reader.order} LIMIT {CHUNK_KEYS - 1}, 1"
        )
        found = {tuple(rows[0]) for rows in ends if rows}
        high: Values | None = None
        for place, rows in zip(self._places, ends, strict=True):
            if not rows:
                continue
            candidate = tuple(rows[0])
            if high is None or (
                len(found) > 1
                and await place.connection.value(
                    f"SELECT COUNT(*) FROM (SELECT 1 FROM {self._name}"
                    f" WHERE {reader.between(low, high)} LIMIT {CHUNK_KEYS + 1}) c"
                )
                > CHUNK_KEYS
            ):
                high = candidate
        return high

    async def digests(self, low: Values | None, high: Values | None) -> list[tuple]:
        """Number of rows and digest of a chunk, region by region."""
        answers = await self._everywhere(
            f"SELECT COUNT(*), {rowdigest.table_digest('d')} FROM (SELECT SHA2(CONCAT("
            f"{self._row_digest}, ' ', {TS_COLUMN}, ' ', {ORIGIN_COLUMN}), 256) AS d"
            f" FROM {self._name} WHERE {self._reader.between(low, high)}) r"
        )
        return [tuple(rows[0]) for rows in answers]

    async def settle(self, low: Values | None, high: Values | None, outcome: Outcome) -> None:
        """Look at a chunk key by key and lift what has to be."""
        await self._look(self._reader.between(low, high), outcome, {})

    async def look_again(self, outcome: Outcome, report: Callable[[str], None]) -> None:
        """Settle the doubtful keys as their regions catch up; count those that stay.

        A table is waited for in vain only once.
        """
        for _ in range(1 if outcome.behind else DOUBT_ATTEMPTS):
            if not self.doubts:
                return
            report(
                f"{self._table.name}: waiting for regions that are behind: {len(self.doubts)} rows"
            )
            await asyncio.sleep(1)
            former, self.doubts = self.doubts, {}
            keys = [doubt.values for doubt in former.values()]
            for start in range(0, len(keys), LIFT_ROWS):
                among = self._reader.among(keys[start : start + LIFT_ROWS])
                await self._look(among, outcome, former)
        names = {place.region: place.name for place in self._places}
        for doubt in self.doubts.values():
            holder, other = doubt.regions
            outcome.behind[names[holder], names[other]] += 1
        self.doubts = {}

    async def _look(self, which: str, outcome: Outcome, former: Mapping[Values, _Doubt]) -> None:
        """Look at the keys of ``which``; ``former`` are doubts of the look before."""
        states: dict[Values, dict[int, State]] = {}
        spelled: dict[Values, dict[int, Values]] = {}
        reached: dict[int, Progress] = {}
        snapshots = await asyncio.gather(*(self._snapshot(p, which) for p in self._places))
        for place, (far, found) in zip(self._places, snapshots, strict=True):
            reached[place.region] = far
            for token, (values, state) in found.items():
                states.setdefault(token, {})[place.region] = state
                spelled.setdefault(token, {})[place.region] = values
        lifts: dict[int, list[Lift]] = {}
        nothing = State(None, None, None)
        for token, known in states.items():
            every = {place.region: known.get(place.region, nothing) for place in self._places}
            before = former[token].without if token in former else {}
            without = {
                region: before.get(region, reached[region])
                for region, state in every.items()
                if state.row is None
            }
            may_miss = partial(_may_miss, reached, without)
            decision = decide(every, self.since_us, self._seed, may_miss)
            if decision.action is Action.REFUSE:
                self._refuse(decision, every, next(iter(spelled[token].values())), outcome)
            elif decision.action is Action.STREAM:
                outcome.streamed += 1
            elif decision.action is Action.BEHIND:
                regions = decision.region, decision.other
                self.doubts[token] = _Doubt(spelled[token][decision.region], without, regions)
            elif decision.action is not Action.NONE:
                values = spelled[token][decision.region]
                losers = tuple((each, spelled[token][each]) for each in decision.losers)
                lifts.setdefault(decision.region, []).append(Lift(values, decision, losers))
        await self._lift(lifts, outcome)

    async def _snapshot(
        self, place: Place, which: str
    ) -> tuple[Progress, dict[Values, tuple[Values, State]]]:
        """How far the region is, and its keys, by their tokens."""
        reader, connection, shape = self._reader, place.connection, self._table.shape
        where = f"WHERE {which}"
        stamp = f"{TS_COLUMN}, {ORIGIN_COLUMN}"
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await connection.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        try:
            reached = await progress.read(
                connection,
                shape.schema,
                shape.table,
                [each.region for each in self._places],
                place.pulse,
            )
            rows = await connection.rows(
                f"SELECT {reader.select}, {reader.tokens}, {stamp}, {self._row_digest}"
                f" FROM {self._name} {where}"
            )
            graves = await connection.rows(
                f"SELECT {reader.select}, {reader.tokens}, {stamp} FROM {self._tombstones} {where}"
            )
        finally:
            await connection.execute("COMMIT")
        width = len(reader)
        found = {
            tuple(row[width : 2 * width]): (
                tuple(row[:width]),
                State(Stamp(row[-3], row[-2]), row[-1], None),
            )
            for row in rows
        }
        for row in graves:
            token = tuple(row[width : 2 * width])
            values, state = found.get(token, (tuple(row[:width]), State(None, None, None)))
            found[token] = (values, State(state.row, state.digest, Stamp(row[-2], row[-1])))
        return reached, found

    def _refuse(
        self, decision: Decision, states: dict[int, State], values: Values, outcome: Outcome
    ) -> None:
        outcome.refused_count += 1
        if len(outcome.refused) < REFUSED_SHOWN:
            having = tuple(p.name for p in self._places if states[p.region].row is not None)
            key = ", ".join(self._reader.literals(values))
            outcome.refused.append(
                RefusedKey(self._table.name, f"({key})", having, decision.reason)
            )

    async def _lift(self, lifts: dict[int, list[Lift]], outcome: Outcome) -> None:
        for region, wanted in lifts.items():
            for start in range(0, len(wanted), LIFT_ROWS):
                part = wanted[start : start + LIFT_ROWS]
                try:
                    done, held = await self._lifters[region].lift(part)
                except Retry as error:
                    if code_of(error) not in _CONTENDED:
                        raise
                    done, held = 0, part
                outcome.lifted += done
                if held:
                    self._held.setdefault(region, []).extend(held)

    async def lift_held(self, outcome: Outcome, report: Callable[[str], None]) -> None:
        """Try the rows again that clients had locked; count those that stay locked."""
        for _ in range(LIFT_ATTEMPTS):
            if not self._held:
                return
            count = sum(map(len, self._held.values()))
            report(f"{self._table.name}: waiting for {count} rows that clients have locked")
            await asyncio.sleep(1)
            lifts, self._held = self._held, {}
            await self._lift(lifts, outcome)
        outcome.held = sum(map(len, self._held.values()))


def _may_miss(
    reached: Mapping[int, Progress], without: Mapping[int, Progress], holder: int, other: int
) -> bool:
    return missed(holder, reached[holder], other, without[other])
