"""Tables that the topology no longer names leave the mesh: ``meshnode init --all --retire``.

In every region the table's row in ``meshnode.tables`` goes before anything else of it: from there
on its changes are not streamed, and no statement about it stops a stream.  Then go triggers and
stamp columns, and last the tombstone table, by which a run that was broken off is gone on with.
A table that was renamed has kept triggers and stamp columns under its new name: they go before
all else, because the triggers write into the tombstone table of the former one.
What waits for the table is closed with it: parked rows, which nothing could replay any more, and
which would hold back the collection of tombstones for ever; rows to be mended; keys that init left.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from meshnode.errors import Refused
from meshnode.mysql import bookkeeping, catalog, schema
from meshnode.mysql.control import Control
from meshnode.mysql.schema import MESH_SCHEMA, quoted_table
from meshnode.ops import table_rules
from meshnode.ops.install_steps import (
    ALGORITHM_FALLBACK,
    Statement,
    removal_of_strays,
    strays,
)
from meshnode.topology import Topology

if TYPE_CHECKING:
    from meshnode.ops.install import Site

NOTE = "its table was taken out of the mesh"
"""Of the letters that are closed."""

_KNOWN = ("tables", "dead_letter", "unsettled")
_LETTERS = quoted_table(MESH_SCHEMA, "dead_letter")
_WAITING = "state IN ('open', 'replay') AND schema_name = %s AND table_name = %s"

Name = tuple[str, str]
"""Schema and table."""


async def retire(
    topology: Topology,
    sites: Sequence["Site"],
    run: Callable[["Site", Sequence[Statement]], Awaitable[None]],
) -> None:
    """Take out of every region what ``topology`` does not name; ``sites`` are all regions."""
    if len(sites) < len(topology.regions):
        raise Refused(
            "a table leaves the mesh in all regions at once", "`meshnode init --all --retire`"
        )
    for site in sites:
        await run(site, await _without_strays(site.control, topology))
    names = sorted({name for site in sites for name in await _leaving(site.control, topology)})
    for name in names:
        for site in sites:
            await run(site, await _deactivation(site.control, *name))
    for name in names:
        for site in sites:
            await run(site, await _removal(site.control, *name))


async def _without_strays(connection: Control, topology: Topology) -> list[Statement]:
    """The triggers that went with a renamed table, and then its stamp columns.

    No columns of a table that the topology names, or that leaves under this name, and none that
    are not as ``init`` makes them.
    """
    steps = await removal_of_strays(connection)
    there = await _bookkeeping(connection)
    for name in sorted({(stray.schema, stray.table) for stray in await strays(connection)}):
        if topology.matches(*name) or schema.tombstone_name(*name) in there:
            continue
        found = await catalog.read(connection, *name)
        if found is not None and not table_rules.stamp_faults(found):
            steps.append(_without_stamps(name, schema.STAMP_COLUMNS))
    return steps


async def _leaving(connection: Control, topology: Topology) -> set[Name]:
    """What a region has or knows of tables that the topology does not name."""
    there = await _bookkeeping(connection)
    found = {
        name
        for name in await catalog.base_tables(connection)
        if schema.tombstone_name(*name) in there
    }
    for table in _KNOWN:
        if table in there:
            which = "state IN ('open', 'replay')" if table == "dead_letter" else "TRUE"
            rows = await connection.rows(
                f"SELECT schema_name, table_name FROM {quoted_table(MESH_SCHEMA, table)}"
                f" WHERE {which} AND table_name IS NOT NULL"
            )
            found |= {(str(row[0]), str(row[1])) for row in rows}
    return {name for name in found if not topology.matches(*name)}


async def _bookkeeping(connection: Control) -> set[str]:
    rows = await connection.rows(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s", (MESH_SCHEMA,)
    )
    return {row[0] for row in rows}


async def _deactivation(connection: Control, schema_name: str, table_name: str) -> list[Statement]:
    """From here on nothing of the table is streamed."""
    ident = schema.digest(schema_name, table_name)
    steps = []
    if (schema_name, table_name) not in await catalog.base_tables(connection):
        # First, because with its row goes the only trace of a table that was dropped.
        steps += await _without_tombstones(connection, schema_name, table_name)
    if await connection.rows(bookkeeping.SINCE, (ident,)):
        steps.append(Statement((bookkeeping.DEACTIVATE,), (ident,)))
    return steps


async def _removal(connection: Control, schema_name: str, table_name: str) -> list[Statement]:
    """What waits for the table, its triggers, its stamp columns, its tombstones."""
    name = (schema_name, table_name)
    ident = schema.digest(*name)
    steps = []
    if await connection.rows(f"SELECT 1 FROM {_LETTERS} WHERE {_WAITING} LIMIT 1", name):
        closing = f"UPDATE {_LETTERS} SET state = 'closed', closed_at = UTC_TIMESTAMP(6), note = %s"
        steps.append(Statement((f"{closing} WHERE {_WAITING}",), (NOTE, *name)))
    for table in ("mend", "unsettled"):
        where = f"FROM {quoted_table(MESH_SCHEMA, table)} WHERE digest = %s"
        if await connection.rows(f"SELECT 1 {where} LIMIT 1", (ident,)):
            steps.append(Statement((f"DELETE {where}",), (ident,)))
    triggers = await connection.rows(
        "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS"
        " WHERE EVENT_OBJECT_SCHEMA = %s AND EVENT_OBJECT_TABLE = %s ORDER BY 1",
        name,
    )
    ours = {schema.trigger_name(role, *name) for role in schema.TriggerRole}
    steps += [
        Statement((schema.drop_trigger(schema_name, row[0]),)) for row in triggers if row[0] in ours
    ]
    found = await catalog.read(connection, *name)
    if found is not None:
        kept = tuple(each for each in schema.STAMP_COLUMNS if found.column(each) is not None)
        if kept and schema.tombstone_name(*name) in await _bookkeeping(connection):
            steps.append(_without_stamps(name, kept))
        steps += await _without_tombstones(connection, *name)
    return steps


def _without_stamps(name: Name, columns: tuple[str, ...]) -> Statement:
    return Statement(
        (schema.drop_stamp_columns(*name, columns),),
        fallback=schema.drop_stamp_columns(*name, columns, ALGORITHM_FALLBACK),
    )


async def _without_tombstones(
    connection: Control, schema_name: str, table_name: str
) -> list[Statement]:
    if schema.tombstone_name(schema_name, table_name) not in await _bookkeeping(connection):
        return []
    return [Statement((f"DROP TABLE {schema.tombstone_table(schema_name, table_name)}",))]
