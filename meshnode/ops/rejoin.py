"""A region that was emptied comes back: where its streams begin, and what was deleted before.

``init --seed-from`` fills an empty region with rows that others lift.  That is enough
while all streams are kept from their first record on; in a mesh that has run for a while
they are not.  So the emptied region takes over from the seed, as of one snapshot, how far the seed
has read every stream (its own up to its newest noted frame), and its tombstones: without these
an older write that is still to come would bring back a deleted row.  What was written later is in
the streams behind these positions, and the lifts are too, because they come last.

The other regions forget how far they had read of the emptied one: it begins a new stream, with
its first record.  What it had promised binds it all the same, because others have collected
tombstones in the belief: the greatest frontier that they know of it is where its own begins, or the
limit up to which any region has collected, if it was no member meanwhile.

All this is done before the region's node has started for the first time.  The positions are
written last, in one transaction, and never again.  From then on the region waits behind a stretch
of the streams that it will never read, so until its node starts, the comparison lifts every row
that it has not, and leaves none to a stream, whatever the clocks say.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from meshnode.errors import Refused, Retry
from meshnode.mysql import catalog
from meshnode.mysql.control import Control
from meshnode.mysql.keyvalues import KeyReader, Values
from meshnode.mysql.schema import (
    MESH_SCHEMA,
    ORIGIN_COLUMN,
    TS_COLUMN,
    quoted,
    quoted_table,
    tombstone_table,
)
from meshnode.ops.install_steps import Statement

if TYPE_CHECKING:
    from meshnode.ops.install import Site

CHUNK_ROWS = 2_000
"""Tombstones copied in one statement."""

SECTION = "docs/OPERATING.md, 'A region that must be re-seeded'"

_MEMBER, _APPLIED = quoted_table(MESH_SCHEMA, "member"), quoted_table(MESH_SCHEMA, "applied")
_HEARTBEAT = quoted_table(MESH_SCHEMA, "heartbeat")
_POSITION = "incarnation, seq, HEX(position), stream_epoch, frontier, heard_us, heard_beat"
_DROPPED_ABOVE = (
    f"SELECT gc_limit > COALESCE((SELECT frontier FROM {_APPLIED} WHERE origin = %s), 0)"
    f" FROM {_MEMBER}"
)
"""Whether tombstones may be gone that lay above the frontier of a region; parameter: its id."""

Name = tuple[str, str]
"""Schema and table."""


class Standing(NamedTuple):
    """What a region has done in the mesh so far.

    ``started``: its node claimed its stream once.  ``joined``: it has a position in another
    stream.  ``active``: a table of it is replicated.
    """

    started: bool
    joined: bool
    active: bool

    @property
    def is_new(self) -> bool:
        """Whether it has neither written nor read a stream."""
        return not self.started and not self.joined


async def standing(connection: Control) -> Standing:
    """Read it; all False where schema ``meshnode`` or a part of it is missing."""
    there = {
        row[0]
        for row in await connection.rows(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s",
            (MESH_SCHEMA,),
        )
    }

    async def any_of(table: str, condition: str) -> bool:
        name = quoted_table(MESH_SCHEMA, table)
        return table in there and bool(
            await connection.rows(f"SELECT 1 FROM {name} WHERE {condition} LIMIT 1")
        )

    return Standing(
        await any_of("member", "incarnation <> 0"),
        await any_of("applied", "incarnation <> 0"),
        await any_of("tables", "TRUE"),
    )


async def reads_from_a_snapshot(connection: Control) -> bool:
    """Whether the region has taken positions over, and its node has not started since."""
    found = await standing(connection)
    return found.joined and not found.started


async def has_read_of_others(connection: Control, members: Collection[int]) -> bool:
    """Whether the region has applied a part of a stream whose region is not among ``members``.

    It was taken out of the mesh, and nobody reads its stream on: what one region has applied of
    it and another has not comes no other way than by a lift.
    """
    among = ", ".join(map(str, members))
    read = f"SELECT 1 FROM {_APPLIED} WHERE incarnation <> 0 AND origin NOT IN ({among}) LIMIT 1"
    return bool(await connection.rows(read))


async def refuse_unseeded(
    sites: Sequence["Site"],
    others: Sequence["Site"],
    tables: Sequence[Name],
    seed_from: str | None,
    *,
    every: bool,
) -> None:
    """Refuse to activate a region of a running mesh that would not begin where a seed is.

    It would read streams from their first records, which may be gone.  One that the others have
    heard of must have no rows: they may have been deleted elsewhere, and the tombstones collected.
    Rows of one that was never in the mesh are compared, as ever.  ``sites`` are the regions
    that are to be activated, ``every`` whether these are all; ``others`` can be asked.
    Refused as well is a region that was taken out of the mesh and comes back too late.
    """
    found = {site.name: await standing(site.control) for site in (*sites, *others)}
    started = [name for name, each in found.items() if each.started]
    if not started:
        return
    await _refuse_late([site for site in (*sites, *others) if found[site.name].started])
    for site in sites:
        if not found[site.name].is_new or found[site.name].active:
            continue
        what = f"region {site.name} is new or was emptied, and the mesh runs already"
        if not every or seed_from is None or not found[seed_from].started:
            raise Refused(
                f"{what}: it cannot begin with the first records of the streams",
                f"`meshnode init --all --seed-from REGION`, REGION one of {', '.join(started)} "
                f"with all the rows; {SECTION}",
            )
        if not any([await _has_heard(each.control, site.region.id) for each in sites]):
            continue
        full = await _tables_with_rows(site.control, tables)
        if full:
            raise Refused(
                f"region {site.name} comes back to a mesh that runs, but there are rows "
                f"in {', '.join(full)}: those that were deleted elsewhere would come back",
                f"save what is there only, and TRUNCATE them in {site.name}; {SECTION}",
            )


async def _refuse_late(started: Sequence["Site"]) -> None:
    """Refuse a region without whose promise others of ``started`` have dropped tombstones.

    They drop none above what they have applied of any member's frontier, and a frontier never
    falls, so this happens only where the region was no member for a time.  What it had written
    before and they have not read may stand below tombstones that are gone.
    """
    for site in started:
        late = [
            each.name
            for each in started
            if each is not site and await each.control.value(_DROPPED_ABOVE, (site.region.id,))
        ]
        if late:
            raise Refused(
                f"region {site.name} was out of the mesh while {', '.join(late)} dropped "
                "tombstones: what it wrote before would bring back rows that were deleted since",
                f"empty {site.name} and seed it again: {SECTION}",
            )


async def _has_heard(connection: Control, origin: int) -> bool:
    """Whether anything of the stream of ``origin`` was ever applied there, also a former one."""
    if not (await standing(connection)).active:
        return False
    read = (
        f"SELECT 1 FROM {_APPLIED} WHERE origin = {origin} AND (incarnation <> 0 OR frontier <> 0)"
    )
    return bool(await connection.rows(read))


async def _tables_with_rows(connection: Control, tables: Sequence[Name]) -> list[str]:
    return [
        ".".join(name)
        for name in tables
        if await connection.rows(f"SELECT 1 FROM {quoted_table(*name)} LIMIT 1")
    ]


async def rejoin(
    sites: Sequence["Site"],
    tables: Sequence[Name],
    seed_from: str,
    has_topic: Callable[[str], Awaitable[bool]],
    run: Callable[["Site", Sequence[Statement]], Awaitable[None]],
    report: Callable[[str], None],
    *,
    dry_run: bool = False,
) -> None:
    """Let every region that was emptied begin where the seed is; the others stay as they are.

    ``sites`` are all regions.  Bookkeeping and tombstone tables are there, but in a dry run.
    ``run`` takes what is changed in the regions that work.  Raises Refused where the emptied
    region ``has_topic`` still, or may have it.
    """
    seed = next(site for site in sites if site.name == seed_from)
    empty = [site for site in sites if site is not seed and await _is_empty(site.control, tables)]
    if not empty or not (await standing(seed.control)).started:
        return
    for site in empty:
        await _require_no_topic(site, sites, has_topic, report)
    await _forget(sites, empty, run)
    if dry_run:
        for site in empty:
            report(f"{site.name}: would begin where {seed.name} is, with its tombstones")
        return
    await seed.control.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    await seed.control.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
    try:
        limit, positions = await _positions(seed)
        copied = 0
        for name in tables:
            copied += await _copy_tombstones(seed.control, [site.control for site in empty], *name)
    finally:
        await seed.control.execute("COMMIT")
    for site in empty:
        promised = max([await _promised(other.control, site.region.id) for other in sites])
        promised = max([promised, *[await _limit(other.control) for other in sites]])
        async with site.control.transaction():
            # The lock keeps its node from starting meanwhile.
            if await site.control.value(f"SELECT incarnation FROM {_MEMBER} FOR UPDATE"):
                raise Refused(
                    f"region {site.name}: its node was started before it could begin where "
                    f"{seed.name} is",
                    f"stop it and begin again: {SECTION}",
                )
            await site.control.execute(
                f"UPDATE {_MEMBER} SET gc_limit = {limit}, tail_frontier = {promised}"
            )
            await site.control.execute(f"UPDATE {_HEARTBEAT} SET frontier = {promised}")
            for origin, position in positions.items():
                await site.control.execute(
                    f"UPDATE {_APPLIED} SET incarnation = %s, seq = %s, position = UNHEX(%s),"
                    " stream_epoch = %s, frontier = %s, heard_us = %s, heard_beat = %s"
                    f" WHERE origin = {origin}",
                    position,
                )
        for other in sites:
            # True from now on, and known there before the region's first heartbeat.
            await other.control.execute(
                f"UPDATE {_APPLIED} SET frontier = GREATEST(frontier, {promised})"
                f" WHERE origin = {site.region.id}"
            )
        report(f"{site.name}: begins where {seed.name} is, with its {copied} tombstones")


async def _require_no_topic(
    site: "Site",
    sites: Sequence["Site"],
    has_topic: Callable[[str], Awaitable[bool]],
    report: Callable[[str], None],
) -> None:
    """Refuse to go on while the emptied ``site`` has its topic, or may have it.

    The others forget how far they had read it, so they would read it once more, and what it
    wrote in its former life would bring back what was deleted since.  One that nobody has heard of
    has no former life.
    """
    harm = "the others would read it again, and bring back rows that were deleted since"
    try:
        there = await has_topic(site.name)
    except (Retry, Refused) as error:
        if not any([await _has_heard(each.control, site.region.id) for each in sites]):
            report(f"{site.name}: see that it has no topic yet, the bus cannot be asked: {error}")
            return
        raise Refused(
            f"region {site.name} was emptied, and it cannot be found out whether its topic is "
            f"gone: {error.what}; if it is not, {harm}",
            f"run this where the bus can be reached; {SECTION}",
        ) from error
    if there:
        raise Refused(
            f"region {site.name} was emptied, but its topic is still there: {harm}",
            f"delete the topic of {site.name}; {SECTION}",
        )


async def _forget(
    sites: Sequence["Site"],
    empty: Collection["Site"],
    run: Callable[["Site", Sequence[Statement]], Awaitable[None]],
) -> None:
    """Let the others begin anew with the streams of the emptied regions."""
    for site in empty:
        which = f"origin = {site.region.id} AND incarnation <> 0"
        for other in sites:
            if other not in empty and await other.control.rows(
                f"SELECT 1 FROM {_APPLIED} WHERE {which}"
            ):
                reset = (
                    f"UPDATE {_APPLIED} SET incarnation = 0, seq = 0, tx_id = '', position = '',"
                    " stream_epoch = 0, heard_us = 0, heard_beat = 0, commit_us = 0"
                    f" WHERE {which}"
                )
                await run(other, [Statement((reset,))])


async def _is_empty(connection: Control, tables: Sequence[Name]) -> bool:
    """Whether the region is new, and either no table of it is active or all are empty.

    One that was activated in another way, and has rows of its own already, begins with the
    first records.
    """
    found = await standing(connection)
    if not found.is_new:
        return False
    return not found.active or not await _tables_with_rows(connection, tables)


async def _promised(connection: Control, origin: int) -> int:
    """The frontier of ``origin`` that is applied there; 0 where there is none."""
    return int(
        await connection.value(f"SELECT frontier FROM {_APPLIED} WHERE origin = {origin}") or 0
    )


async def _limit(connection: Control) -> int:
    """Up to where tombstones may be gone in the region of ``connection``."""
    return int(await connection.value(f"SELECT gc_limit FROM {_MEMBER}") or 0)


async def _positions(seed: "Site") -> tuple[int, dict[int, tuple]]:
    """The seed's limit of collected tombstones, and its place in every stream that has begun."""
    connection = seed.control
    rows = await connection.rows(f"SELECT origin, {_POSITION} FROM {_APPLIED}")
    positions = {origin: tuple(position) for origin, *position in rows if position[0]}
    limit, *own = await connection.row(
        # It has promised what it has collected up to, noted or not.
        "SELECT gc_limit, incarnation, tail_seq, HEX(tail_position), tail_epoch,"
        f" GREATEST(tail_frontier, gc_limit), 0, 0 FROM {_MEMBER}"
    )
    positions[seed.region.id] = tuple(own)
    return limit, positions


async def _copy_tombstones(
    source: Control, targets: Sequence[Control], schema: str, table: str
) -> int:
    """Copy the tombstones of one table; how many there are."""
    found = await catalog.read(source, schema, table)
    if found is None:
        raise Refused(
            f"{source.server}: table {schema}.{table} was dropped meanwhile",
            "drop it in all regions or create it there again, then run this command again",
        )
    # Only read and written, never compared: no collation matters.
    reader = KeyReader(found, ())
    name = tombstone_table(schema, table)
    columns = ", ".join(
        [*(quoted(column.name) for column in found.shape.key_columns), TS_COLUMN, ORIGIN_COLUMN]
    )
    low: Values | None = None
    copied = 0
    while True:
        rows = await source.rows(
            f"SELECT {reader.select}, {TS_COLUMN}, {ORIGIN_COLUMN} FROM {name}"
            f" WHERE {reader.between(low, None)} ORDER BY {reader.order} LIMIT {CHUNK_ROWS}"
        )
        if not rows:
            return copied
        values = ", ".join(
            f"({', '.join(reader.literals(tuple(row[:-2])))}, {row[-2]}, {row[-1]})" for row in rows
        )
        for target in targets:
            await target.execute(f"REPLACE INTO {name} ({columns}) VALUES {values}")
        copied += len(rows)
        low = tuple(rows[-1][:-2])
