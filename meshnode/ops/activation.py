"""From where on the streams have a table: the date of its activation, which no clock can spoil.

A region's stream has what was committed behind the table's row in ``meshnode.tables``.
What stands there of before must be compared and lifted, and a stamp is all that tells the
two apart.  So the row is dated after it is committed: whatever is stamped later commits
later, as long as the clock does not step back.  If it did, rows of before are stamped
above the date.  So the greatest stamp of the rows and tombstones that stand in the table is noted
as well, looked up when the row is committed.  What was committed before it either stands
there still, and is not above that, or was replaced by a greater version, which the stream has.

A region that comes back to a running mesh never reads the stretch of the streams before
the snapshot that it began with.  So all regions are looked at: of what stood in any of them then
nothing is left to a stream.

To take a version for one of before that was not is safe: it is lifted once more than needed.
That is why a broken-off init, which has left a row undated, leaves nothing to the streams.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from meshnode.mysql import bookkeeping
from meshnode.mysql.control import Control
from meshnode.mysql.schema import MESH_SCHEMA, TS_COLUMN, digest, quoted_table, tombstone_table
from meshnode.ops.install_steps import Statement

if TYPE_CHECKING:
    from meshnode.ops.install import Site

Name = tuple[str, str]
"""Schema and table."""

_TABLES = quoted_table(MESH_SCHEMA, "tables")


async def dated(connection: Control) -> set[Name]:
    """The tables whose activation is complete: active, and dated.

    What an older release has activated keeps the date that it got then.
    """
    rows = await connection.rows(
        "SELECT COLUMN_NAME FROM information_schema.COLUMNS"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = 'tables'",
        (MESH_SCHEMA,),
    )
    columns = {row[0] for row in rows}
    if not columns:
        return set()
    where = f" WHERE since_us <> {bookkeeping.UNDATED}" if "since_us" in columns else ""
    rows = await connection.rows(f"SELECT schema_name, table_name FROM {_TABLES}{where}")
    return {(schema, name) for schema, name in rows}


async def date(
    sites: Sequence["Site"],
    undated: Sequence["Site"],
    name: Name,
    run: Callable[["Site", Sequence[Statement]], Awaitable[None]],
    report: Callable[[str], None],
    *,
    dry_run: bool = False,
) -> None:
    """Note in ``undated``, where the table is active by now, the greatest stamp that stands.

    All ``sites`` are looked at: one reading of the table in each.  A dry run cannot know what it
    would find, and shows the statement with a 0.
    """
    newest = 0
    if undated and not dry_run:
        report(f"{'.'.join(name)}: looking for its newest row in {len(sites)} regions")
        newest = max(await asyncio.gather(*(newest_us(site.control, name) for site in sites)))
    for site in undated:
        await run(site, [Statement((bookkeeping.DATE_ROWS,), (newest, digest(*name)))])


async def newest_us(connection: Control, name: Name) -> int:
    """The greatest time in the stamps of the table's rows and tombstones now; 0 without any."""
    await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    await connection.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
    try:
        found = [
            await connection.value(f"SELECT MAX({TS_COLUMN}) FROM {table}")
            for table in (quoted_table(*name), tombstone_table(*name))
        ]
    finally:
        await connection.execute("COMMIT")
    return max(int(each or 0) for each in found)


async def active_since(connection: Control, name: Name) -> int:
    """Above which time the stream of the region has every version of the table that stands there.

    In microseconds since 1970.
    """
    return int(await connection.value(bookkeeping.SINCE, (digest(*name),)))
