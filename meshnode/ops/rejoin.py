"""A region that was emptied comes back: where its streams begin, and what was deleted before.

``init --seed-from`` fills an empty region with rows that others lift.  That is enough
while all streams are kept from their first record on; in a mesh that has run for a while
they are not.  So the emptied region takes over from the seed, as of one snapshot, how far the seed
has read every stream (its own up to its newest noted frame), and its tombstones: without these
an older write that is still to come would bring back a deleted row.  What was written later is in
the streams behind these positions, and the lifts are too, because they come last.

The other regions forget how far they had read of the emptied one: it begins a new stream, with
its first record.  What it had promised binds it all the same, because others have collected
tombstones in the belief: the greatest frontier that they know of it is where its own begins.

All this is done only before the region's first table is active: rows of before are then
older than their table there, so that the comparison lifts them and leaves none to a stream that
has passed.  The positions are written last, in one transaction, and never again.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from meshnode.ops.install import Site

CHUNK_ROWS = 2_000
"""Tombstones copied in one statement."""

_MEMBER, _APPLIED = quoted_table(MESH_SCHEMA, "member"), quoted_table(MESH_SCHEMA, "applied")
_HEARTBEAT = quoted_table(MESH_SCHEMA, "heartbeat")
_POSITION = "incarnation, seq, HEX(position), stream_epoch, frontier, heard_us, heard_beat"


async def rejoin(
    sites: Sequence["Site"],
    tables: Sequence[tuple[str, str]],
    seed_from: str,
    report: Callable[[str], None],
) -> None:
    """Let every region that was emptied begin where the seed is; the others stay as they are.

    ``sites`` are all regions.  Bookkeeping and tombstone tables are there.
    """
    seed = next(site for site in sites if site.name == seed_from)
    empty = [site for site in sites if site is not seed and await _is_empty(site.control)]
    if not empty or not await seed.control.value(f"SELECT incarnation FROM {_MEMBER}"):
        return
    for site in empty:
        for other in sites:
            if other not in empty:
                await other.control.execute(
                    f"UPDATE {_APPLIED} SET incarnation = 0, seq = 0, tx_id = '', position = '',"
                    " stream_epoch = 0, heard_us = 0, heard_beat = 0, commit_us = 0"
                    f" WHERE origin = {site.region.id} AND incarnation <> 0"
                )
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
        async with site.control.transaction():
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
        report(f"{site.name}: begins where {seed.name} is, with its {copied} tombstones")


async def _is_empty(connection: Control) -> bool:
    """Whether the region has read nothing yet and no table of it is active."""
    read = await connection.value(f"SELECT COUNT(*) FROM {_APPLIED} WHERE incarnation <> 0")
    tables = quoted_table(MESH_SCHEMA, "tables")
    return not read and not await connection.value(f"SELECT COUNT(*) FROM {tables}")


async def _promised(connection: Control, origin: int) -> int:
    """The frontier of ``origin`` that is applied there; 0 where there is none."""
    return int(
        await connection.value(f"SELECT frontier FROM {_APPLIED} WHERE origin = {origin}") or 0
    )


async def _positions(seed: "Site") -> tuple[int, dict[int, tuple]]:
    """The seed's limit of collected tombstones, and its place in every stream that has begun."""
    connection = seed.control
    rows = await connection.rows(f"SELECT origin, {_POSITION} FROM {_APPLIED}")
    positions = {origin: tuple(position) for origin, *position in rows if position[0]}
    limit, *own = await connection.row(
        "SELECT gc_limit, incarnation, tail_seq, HEX(tail_position), tail_epoch, tail_frontier,"
        f" 0, 0 FROM {_MEMBER}"
    )
    positions[seed.region.id] = tuple(own)
    return limit, positions


async def _copy_tombstones(
    source: Control, targets: Sequence[Control], schema: str, table: str
) -> int:
    """Copy the tombstones of one table; how many there are."""
    found = await catalog.read(source, schema, table)
    assert found is not None
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
