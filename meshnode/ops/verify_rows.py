"""One table in all regions, compared key by key without moving the rows.

The state of a key is its row with its stamp, or, where there is no row, its tombstone.
Tombstones up to the highest limit of garbage collection of any region are left out:
some regions may have dropped them and others not yet.  A tombstone that is newer than the
row beside it counts too, because no region may have such a row.

The keys are walked in ranges of ``RANGE_ROWS``.  Each server hashes its part of a range; if
the hashes are equal the range is.  A range that is not is halved, at the middle key of the
region that has most of it, until what is left is small enough to be listed and
matched.  Boundaries and matches follow MySQL's own order and equality of keys
(:mod:`meshnode.mysql.keyvalues`).

Regions are not asked at the same instant, so under traffic a difference is at first only
a *candidate*: :meth:`TableComparison.look` asks for the same keys again, and
what counts is a difference that stays the same for several looks.  Memory is
bounded by ``KEEP_KEYS`` and ``KEEP_RANGES``; ranges beyond that are reported unlisted.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from meshnode.core.shape import Column
from meshnode.mysql.catalog import Table
from meshnode.mysql.control import Control
from meshnode.mysql.keyvalues import KeyReader, Values
from meshnode.mysql.rowdigest import row_hash, table_digest
from meshnode.mysql.schema import quoted, quoted_table, tombstone_table

RANGE_ROWS = 10_000
"""Rows that one server hashes in one statement (well below a second)."""

LIST_ROWS = 100
"""A differing range of at most this many keys is listed instead of halved."""

KEEP_KEYS = 2_000
"""Differing keys of one table that are followed one by one."""

KEEP_RANGES = 1_000
"""Differing ranges of one table that wait to be looked into; more are joined."""

ASKED_KEYS = 200
"""Keys named in one statement."""

RESTLESS = 3
"""A key that changed at this many looks gives way to ranges that were never looked into."""

ROW, TOMBSTONE = 1, 0


@dataclass(slots=True)
class Side:
    """A region with a session as ``admin``."""

    name: str
    connection: Control


class Entry(NamedTuple):
    """A row or tombstone of a key: its stamp, and for a row the hash of its values."""

    kind: int
    ts: int
    origin: int
    digest: str


State = tuple[Entry, ...]
"""What one region has for a key: nothing, a row, a tombstone, or a row and a newer tombstone."""


class Range(NamedTuple):
    """The keys above ``low`` up to ``high``; None is the end of the table."""

    low: Values | None
    high: Values | None


@dataclass(slots=True)
class Candidate:
    """A key that differs: what each side had, at how many looks in a row it was this,
    and how often it changed."""

    values: Values
    states: tuple[State, ...]
    looks: int = 1
    changes: int = 0


class _Sum(NamedTuple):
    rows: int
    tombstones: int
    digest: tuple[int, int]


class TableComparison:
    """The differences of one table between ``sides`` (two or more).

    ``rows`` were compared; ``candidates`` are the keys that differ, by token; ``pending`` are
    differing ranges not looked into; ``retired`` keys were given up because they kept changing.
    """

    def __init__(
        self, sides: Sequence[Side], table: Table, columns: Sequence[Column], padded: set[str]
    ) -> None:
        self.sides = list(sides)
        self.table = table
        self.rows = 0
        self.retired = 0
        self.pending: list[Range] = []
        self.candidates: dict[tuple, Candidate] = {}
        self.keys = KeyReader(table, padded)
        self._sql = _Statements(table, columns, self.keys)

    async def scan(self, gc_limit: int, progress: Callable[[int], None]) -> None:
        """Walk the whole table once; differing ranges become candidates or stay pending.

        ``progress`` is told the number of rows compared so far.
        """
        low: Values | None = None
        while True:
            high = await self._boundary(low)
            part = Range(low, high)
            sums = await self._sums(part, gc_limit)
            self.rows += max(each.rows for each in sums)
            if _differ(sums):
                self._remember(part)
            progress(self.rows)
            if high is None:
                break
            low = high
        await self._look_into(gc_limit)

    async def look(self, gc_limit: int) -> None:
        """Ask for all candidates again, and look into what there was no room for."""
        asked = list(self.candidates.items())
        for start in range(0, len(asked), ASKED_KEYS):
            part = asked[start : start + ASKED_KEYS]
            found = await self._list(self.keys.among([c.values for _, c in part]), gc_limit)
            for token, candidate in part:
                _, states = found.get(token, (candidate.values, ((),) * len(self.sides)))
                if len(set(states)) == 1:
                    del self.candidates[token]
                elif states == candidate.states:
                    candidate.looks += 1
                else:
                    candidate.states, candidate.looks = states, 1
                    candidate.changes += 1
                    if self.pending and candidate.changes >= RESTLESS:
                        del self.candidates[token]
                        self.retired += 1
        await self._look_into(gc_limit)

    async def unlisted(self, gc_limit: int) -> tuple[int, int]:
        """Ranges that differ and were not looked into, and how many rows they hold."""
        ranges = rows = 0
        for part in self.pending:
            sums = await self._sums(part, gc_limit)
            if _differ(sums):
                ranges += 1
                rows += max(each.rows + each.tombstones for each in sums)
        return ranges, rows

    def _remember(self, part: Range) -> None:
        if len(self.pending) < KEEP_RANGES:
            self.pending.append(part)
        else:
            self.pending[-1] = Range(self.pending[-1].low, part.high)

    async def _look_into(self, gc_limit: int) -> None:
        while self.pending and len(self.candidates) < KEEP_KEYS:
            part = self.pending.pop()
            sums = await self._sums(part, gc_limit)
            if not _differ(sums):
                continue
            middle = await self._middle(part, sums)
            if middle is None:
                await self._collect(part, gc_limit)
            else:
                self.pending += [Range(middle, part.high), Range(part.low, middle)]

    async def _collect(self, part: Range, gc_limit: int) -> None:
        condition = self.keys.between(part.low, part.high)
        for token, (values, states) in (await self._list(condition, gc_limit)).items():
            if len(set(states)) > 1:
                self.candidates.setdefault(token, Candidate(values, states))

    async def _boundary(self, low: Values | None) -> Values | None:
        """The key ``RANGE_ROWS`` above ``low``, in whichever region has one."""
        condition = self.keys.between(low, None)
        for source in self._sql.sources:
            for side in self.sides:
                found = await self._nth(side, source, condition, RANGE_ROWS)
                if found is not None:
                    return found
        return None

    async def _middle(self, part: Range, sums: Sequence[_Sum]) -> Values | None:
        """The key to halve a range at, or None if it is small enough to be listed."""
        counts = [
            (count, number, source)
            for number, each in enumerate(sums)
            for count, source in zip((each.rows, each.tombstones), self._sql.sources, strict=True)
        ]
        count, number, source = max(counts)
        if count <= LIST_ROWS:
            return None
        condition = self.keys.between(part.low, part.high)
        middle = await self._nth(self.sides[number], source, condition, count // 2)
        # Rows may have gone since they were counted: then there is no middle.
        return None if middle == part.high else middle

    async def _nth(self, side: Side, source: str, condition: str, nth: int) -> Values | None:
        return await side.connection.row(
            f"SELECT {self.keys.select} FROM {source} FORCE INDEX (PRIMARY) WHERE {condition}"
            f" ORDER BY {self.keys.order} LIMIT 1 OFFSET {nth - 1}"
        )

    async def _sums(self, part: Range, gc_limit: int) -> list[_Sum]:
        sql = self._sql.sums(self.keys.between(part.low, part.high), gc_limit)
        rows = await asyncio.gather(*(side.connection.rows(sql) for side in self.sides))
        return [_Sum(row[0], row[3], (row[1] ^ row[4], row[2] ^ row[5])) for (row,) in rows]

    async def _list(
        self, condition: str, gc_limit: int
    ) -> dict[tuple, tuple[Values, tuple[State, ...]]]:
        """Keys in ``condition`` by token: their values, and the state on each side."""
        sql = self._sql.listing(condition, gc_limit)
        answers = await asyncio.gather(*(side.connection.rows(sql) for side in self.sides))
        size = len(self.keys)
        found: dict[tuple, tuple[Values, list[State]]] = {}
        for number, rows in enumerate(answers):
            for row in rows:
                token, values, entry = row[:size], row[size:-4], Entry(*row[-4:])
                states = found.setdefault(token, (values, [()] * len(self.sides)))[1]
                states[number] = tuple(sorted((*states[number], entry), reverse=True))
        return {token: (values, tuple(states)) for token, (values, states) in found.items()}


class _Statements:
    """The SQL of one table."""

    def __init__(self, table: Table, columns: Sequence[Column], keys: KeyReader) -> None:
        name = table.shape.schema, table.shape.table
        self._rows = quoted_table(*name)
        self._tombstones = tombstone_table(*name)
        self.sources = (self._rows, self._tombstones)
        self._keys = keys
        self._digest = row_hash(columns)
        self._same_key = " AND ".join(
            f"r.{quoted(column.name)} = d.{quoted(column.name)}"
            for column in table.shape.key_columns
        )

    def _alone(self, condition: str, gc_limit: int) -> str:
        """Tombstones in ``condition`` that no row of theirs outdoes."""
        return (
            f"{self._tombstones} d FORCE INDEX (PRIMARY) WHERE {condition}"
            f" AND d._mesh_ts > {gc_limit} AND NOT EXISTS (SELECT 1 FROM {self._rows} r"
            f" WHERE {self._same_key} AND (r._mesh_ts > d._mesh_ts"
            " OR r._mesh_ts = d._mesh_ts AND r._mesh_origin >= d._mesh_origin))"
        )

    def sums(self, condition: str, gc_limit: int) -> str:
        """Count and two halves of a hash, of rows and of tombstones: six numbers.

        One statement, so one snapshot: a row never leaves for its tombstone in between.
        Without NO_MERGE the server works out each hash twice, once for each half.
        """
        tombstone = (
            f"SHA2(CONCAT_WS('/', {self._keys.tokens}, d._mesh_ts, d._mesh_origin), 256) AS h"
        )
        return (
            f"SELECT x.*, y.* FROM (SELECT /*+ NO_MERGE(i) */ COUNT(*), {table_digest('h')}"
            f" FROM (SELECT {self._digest} AS h FROM {self._rows} FORCE INDEX (PRIMARY)"
            f" WHERE {condition}) i) x (a, b, c),"
            f" (SELECT /*+ NO_MERGE(j) */ COUNT(*), {table_digest('h')} FROM (SELECT {tombstone}"
            f" FROM {self._alone(condition, gc_limit)}) j) y (a, b, c)"
        )

    def listing(self, condition: str, gc_limit: int) -> str:
        """Tokens, values, kind, stamp and digest of each row and lonely tombstone."""
        keys = f"{self._keys.tokens}, {self._keys.select}"
        return (
            f"SELECT {keys}, {ROW}, _mesh_ts, _mesh_origin, {self._digest}"
            f" FROM {self._rows} FORCE INDEX (PRIMARY) WHERE {condition} UNION ALL"
            f" SELECT {keys}, {TOMBSTONE}, _mesh_ts, _mesh_origin, ''"
            f" FROM {self._alone(condition, gc_limit)}"
        )


def compared_columns(tables: Sequence[Table]) -> list[Column]:
    """Columns that all ``tables`` have, stamps included.

    Those that follow from others are left out, if they follow in the same way everywhere.
    """
    first = tables[0]
    return [
        column
        for column in first.shape.columns
        if all(table.column(column.name) for table in tables)
        and (
            column.name not in first.expressions
            or len({table.expressions.get(column.name) for table in tables}) > 1
        )
    ]


def _differ(sums: Sequence[_Sum]) -> bool:
    return any(each != sums[0] for each in sums)
