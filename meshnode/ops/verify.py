"""``meshnode verify``: are the replicated tables of all regions identical, row by row?

Every table that is replicated anywhere is walked in all regions at once
(:mod:`meshnode.ops.verify_rows`) and searched for orphans of its foreign keys
(:mod:`meshnode.ops.verify_orphans`).  What differs at first is asked for again,
about once a second, until it is alike or ``settle`` seconds are over: at a quiet point
differences are gone or stay at once, and under traffic only those count that were the same
rows with the same stamps at several looks.  Keys that kept changing are reported as moving.

Nothing is changed, with one exception: a clean verify of all tables closes the letters of
skipped transactions that were there when it began, because it is the proof that their effect
was made good.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from meshnode import accounts
from meshnode.core.shape import Unfit, compare
from meshnode.errors import Refused
from meshnode.mysql import catalog, control
from meshnode.mysql.catalog import Table
from meshnode.ops import verify_orphans
from meshnode.ops.status import NOT_INSTALLED
from meshnode.ops.verify_orphans import Orphans
from meshnode.ops.verify_rows import Candidate, Side, State, TableComparison, compared_columns
from meshnode.topology import Topology

SETTLE_SECONDS = 10.0
SAME_LOOKS = 3
"""A difference counts when it was the same at this many looks in a row."""

LISTED = 20
"""Differences of one table that are named; the rest is counted."""

Report = Callable[[str], None]
Name = tuple[str, str]


@dataclass(slots=True)
class Difference:
    """A key that is not the same everywhere: what each region has, by its name."""

    values: tuple
    states: dict[str, State]


@dataclass(slots=True)
class OrphanRow:
    """A child row whose parent is missing in ``regions``."""

    values: tuple
    foreign_key: str
    parent: str
    regions: tuple[str, ...]


@dataclass(slots=True)
class TableResult:
    """What was found of one table.

    ``problem`` says why it could not be compared (then nothing else holds).
    ``differing`` counts all keys that differ, ``differences`` names the first of them.
    ``unlisted`` are (ranges, rows in them) that differ beyond what is followed key by key.
    ``moving`` counts keys that changed too often to tell.
    """

    name: str
    table: Table | None = None
    rows: int = 0
    problem: str = ""
    note: str = ""
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)
    unlisted: tuple[int, int] = (0, 0)
    moving: int = 0
    orphan_count: int = 0
    orphans: list[OrphanRow] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether no difference and no orphan was found."""
        return not (self.problem or self.differing or self.unlisted[0] or self.orphan_count)


@dataclass(slots=True)
class Verdict:
    """All replicated tables; ``closed`` letters of skipped transactions were closed by this verify.

    ``unreplicated`` are tables that the topology names and that are not replicated yet: they
    were not compared.
    """

    regions: tuple[str, ...]
    tables: list[TableResult]
    closed: int = 0
    unreplicated: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether no difference was found; never without a table that was compared."""
        return bool(self.tables) and all(table.identical for table in self.tables)

    @property
    def moving(self) -> int:
        """Keys that were still changing at the end: nothing is known of them."""
        return sum(table.moving for table in self.tables)

    @property
    def settled(self) -> bool:
        """Identical, and nothing was moving: at this moment every region had the same rows."""
        return self.identical and not self.moving


async def verify(
    topology: Topology,
    selects: Callable[[str, str], bool] | None = None,
    *,
    settle: float = SETTLE_SECONDS,
    listed: int = LISTED,
    report: Report = lambda line: None,
) -> Verdict:
    """Compare the tables that ``selects(schema, table)`` (None: all) in all regions.

    Raises Retry or Refused for a region that cannot be asked: nothing can be said without it.
    Refused where no table is replicated, too: nothing was compared is not "identical".
    """
    async with _sides(topology) as sides:
        found = await _replicated(sides)
        if not found:
            raise Refused(
                "no table is replicated in any region: there is nothing to compare",
                "run `meshnode init --all`; see [replicate] of the topology if it takes in none",
            )
        skipped = [await _skipped(side) for side in sides]
        names = sorted(name for name in found if selects is None or selects(*name))
        padded = await _padded(sides[0])
        works = [await _prepare(sides, name, found[name], padded) for name in names]
        await _run(sides, [work for work in works if work.comparison], settle, report)
        results = [await _result(sides, work, settle, listed) for work in works]
        verdict = Verdict(tuple(side.name for side in sides), results)
        verdict.unreplicated = await _unreplicated(topology, sides, found)
        if selects is None and verdict.settled:
            verdict.closed = await _close(sides, skipped)
        return verdict


@dataclass(slots=True)
class _Work:
    """A table on its way: its comparison (None if it has a problem) and its orphans by side."""

    result: TableResult
    comparison: TableComparison | None = None
    orphans: dict[tuple[int, str], Orphans] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        """Whether another look could still change what was found."""
        return self.comparison is not None and bool(
            self.comparison.candidates
            or self.comparison.pending
            or any(each.count for each in self.orphans.values())
        )

    @property
    def untold(self) -> bool:
        """Whether a key that never changed was not seen often enough to count."""
        return self.comparison is not None and any(
            each.changes == 0 and each.looks < SAME_LOOKS
            for each in self.comparison.candidates.values()
        )


@asynccontextmanager
async def _sides(topology: Topology) -> AsyncIterator[list[Side]]:
    async with AsyncExitStack() as stack:
        sides = []
        for region in topology.regions:
            login = accounts.secrets(topology, region.name, "admin")
            connection = await stack.enter_async_context(await control.connect(region, login))
            sides.append(Side(region.name, connection))
        yield sides


async def _replicated(sides: Sequence[Side]) -> dict[Name, set[str]]:
    """Tables in ``meshnode.tables`` of any region, with the names of the regions that have it."""
    found: dict[Name, set[str]] = {}
    for side in sides:
        try:
            rows = await side.connection.rows("SELECT schema_name, table_name FROM meshnode.tables")
        except Refused as error:
            if control.code_of(error) in NOT_INSTALLED:
                raise Refused(
                    f"region {side.name} has no schema meshnode", "run `meshnode init --all`"
                ) from error
            raise
        for name in rows:
            found.setdefault(tuple(name), set()).add(side.name)
    return found


async def _unreplicated(
    topology: Topology, sides: Sequence[Side], replicated: dict[Name, set[str]]
) -> tuple[str, ...]:
    """Tables that the topology names, that some region has, and that ``init`` has not seen."""
    there = {name for side in sides for name in await catalog.base_tables(side.connection)}
    return tuple(
        ".".join(name) for name in sorted(there - replicated.keys()) if topology.matches(*name)
    )


async def _padded(side: Side) -> set[str]:
    rows = await side.connection.rows(
        "SELECT COLLATION_NAME FROM information_schema.COLLATIONS WHERE PAD_ATTRIBUTE = 'PAD SPACE'"
    )
    return {row[0] for row in rows}


async def _gc_limit(sides: Sequence[Side]) -> int:
    """The highest limit of any region; it only rises, so it is asked for before each look."""
    limits = await asyncio.gather(
        *(side.connection.value("SELECT gc_limit FROM meshnode.member") for side in sides)
    )
    return max(int(limit or 0) for limit in limits)


async def _prepare(sides: Sequence[Side], name: Name, regions: set[str], padded: set[str]) -> _Work:
    work = _Work(TableResult(".".join(name)))
    absent = [side.name for side in sides if side.name not in regions]
    if absent:
        work.result.problem = f"is not replicated in {', '.join(absent)}: run `meshnode init --all`"
        return work
    tables = [await catalog.read(side.connection, *name) for side in sides]
    missing = [side.name for side, table in zip(sides, tables, strict=True) if table is None]
    if missing:
        work.result.problem = (
            f"does not exist in {', '.join(missing)}: if it was dropped, drop it everywhere and "
            "take it out of the mesh (docs/OPERATING.md, 'Taking a table out')"
        )
        return work
    present = [table for table in tables if table is not None]
    problem = _shape_problem(sides, present)
    if problem:
        work.result.problem = problem
        return work
    columns = compared_columns(present)
    shared = {column.name for column in columns}
    extra = {
        column.name
        for table in present
        for column in table.shape.columns
        if any(other.column(column.name) is None for other in present)
    }
    if extra:
        work.result.note = f"compared without {', '.join(sorted(extra))}: not in every region"
    assert all(column.name in shared for column in present[0].shape.columns if column.is_stamp)
    work.result.table = present[0]
    work.comparison = TableComparison(sides, present[0], columns, padded)
    return work


def _shape_problem(sides: Sequence[Side], tables: Sequence[Table]) -> str:
    for side, table in zip(sides, tables, strict=True):
        if table.shape.stamp_indexes is None:
            return f"has no stamp columns in {side.name}: run `meshnode init --all`"
        if not table.key:
            return f"has no primary key in {side.name}"
    first = tables[0]
    for side, table in zip(sides[1:], tables[1:], strict=True):
        fit, back = compare(first.shape, table.shape), compare(table.shape, first.shape)
        if isinstance(fit, Unfit) and isinstance(back, Unfit):
            return f"differs between {sides[0].name} and {side.name}: {fit.reason}"
    return ""


async def _run(
    sides: Sequence[Side], works: Sequence[_Work], settle: float, report: Report
) -> None:
    """Scan every table once, then look again until nothing differs or the time is over.

    What differs and never changed is looked at often enough to be told, however long that takes.
    """
    loop = asyncio.get_running_loop()
    for work in works:
        assert work.comparison is not None
        said = loop.time()

        def progress(rows: int, name: str = work.result.name) -> None:
            nonlocal said
            if loop.time() - said > 2:
                said = loop.time()
                report(f"{name}: {rows} rows compared")

        await work.comparison.scan(await _gc_limit(sides), progress)
        work.orphans = await _orphans(work.comparison)
    end = loop.time() + settle
    late = 0
    while any(work.open for work in works):
        if loop.time() >= end:
            # Looks may take long, and what never changed must not pass for moving.
            late += 1
            if late >= SAME_LOOKS or settle <= 0 or not any(work.untold for work in works):
                break
        await asyncio.sleep(min(1.0, settle / (SAME_LOOKS + 1)))
        limit = await _gc_limit(sides)
        waiting = 0
        for work in works:
            if work.open and work.comparison is not None:
                await work.comparison.look(limit)
                now = await _orphans(work.comparison, work.orphans)
                work.orphans = {
                    at: verify_orphans.still(work.orphans[at], each) for at, each in now.items()
                }
                waiting += len(work.comparison.candidates)
        if waiting:
            report(f"{waiting} keys differ; looking again until they settle")


async def _orphans(
    comparison: TableComparison, known: dict[tuple[int, str], Orphans] | None = None
) -> dict[tuple[int, str], Orphans]:
    """Orphans by side and foreign key; only where there were some, if ``known`` is given."""
    found = {}
    for number, side in enumerate(comparison.sides):
        if known is None:
            keys = await verify_orphans.foreign_keys(side.connection, comparison.table)
        else:
            keys = [each.foreign_key for (at, _), each in known.items() if at == number]
        for key in keys:
            found[number, key.name] = await verify_orphans.find(
                side.connection, comparison.table, comparison.keys, key
            )
    return {at: each for at, each in found.items() if each.count}


async def _result(sides: Sequence[Side], work: _Work, settle: float, listed: int) -> TableResult:
    result, comparison = work.result, work.comparison
    if comparison is None:
        return result
    result.rows, result.moving = comparison.rows, comparison.retired
    needed = SAME_LOOKS if settle > 0 else 1
    standing: list[Candidate] = []
    for candidate in comparison.candidates.values():
        if candidate.looks >= needed:
            standing.append(candidate)
        else:
            result.moving += 1
    result.differing = len(standing)
    result.differences = [
        Difference(
            candidate.values,
            {side.name: state for side, state in zip(sides, candidate.states, strict=True)},
        )
        for candidate in standing[:listed]
    ]
    if comparison.pending:
        result.unlisted = await comparison.unlisted(await _gc_limit(sides))
    _add_orphans(sides, work, listed)
    return result


def _add_orphans(sides: Sequence[Side], work: _Work, listed: int) -> None:
    """The same orphan in several regions is one finding."""
    rows: dict[tuple[str, tuple], OrphanRow] = {}
    most: dict[str, int] = {}
    for (number, name), orphans in work.orphans.items():
        most[name] = max(most.get(name, 0), orphans.count)
        for token, values in orphans.keys.items():
            parent = ".".join(orphans.foreign_key.parent)
            row = rows.setdefault((name, token), OrphanRow(values, name, parent, ()))
            row.regions = (*row.regions, sides[number].name)
    work.result.orphan_count = max(len(rows), sum(most.values()))
    work.result.orphans = list(rows.values())[:listed]


async def _skipped(side: Side) -> list[int]:
    """The letters of transactions that were skipped until now."""
    rows = await side.connection.rows("SELECT id FROM meshnode.dead_letter WHERE state = 'skipped'")
    return [int(row[0]) for row in rows]


async def _close(sides: Sequence[Side], skipped: Sequence[Sequence[int]]) -> int:
    """Close these letters: one that was written since may be of rows that were compared before."""
    closed = 0
    for side, letters in zip(sides, skipped, strict=True):
        if letters:
            among = ", ".join(map(str, letters))
            closed += await side.connection.execute(
                "UPDATE meshnode.dead_letter SET state = 'closed', closed_at = UTC_TIMESTAMP(6),"
                f" note = 'verified' WHERE state = 'skipped' AND id IN ({among})"
            )
    return closed
