"""What a region has stored, byte by byte, for tests that compare regions.

Theory of operation.  A ``SELECT`` shows values through types, character sets and
the client's eyes; two different rows can look alike.  So the rows are deleted,
in each region by itself and after the nodes have ended, and the before images
of those deletes are read from the two binary logs: that is what the storage
engine had, holes in JSON, bits of floats and stamps included.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import pymysql
from mesh import NAMES, Mesh, mesh_of
from recording import executed, record, rows_events
from server_pool import ServerPool
from steps import QUICK

from meshnode.core.gtid import GtidSet
from meshnode.lab.servers import Server
from meshnode.mysql.control import Control
from meshnode.mysql.events import HEADER_SIZE
from meshnode.mysql.rowimage import make_scanner
from meshnode.mysql.schema import digest, quoted_table

LENIENT = "ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO"
"""A client's ``sql_mode`` under which every value of the samples can be written."""

Images = dict[bytes, bytes]
"""Wire key to row image."""


@contextlib.asynccontextmanager
async def lent_mesh(
    pool: ServerPool, folder: Path, statements: Iterable[str], *patterns: str
) -> AsyncIterator[Mesh]:
    """Two running regions with what ``statements`` make in both; lenient sessions."""
    servers = await asyncio.to_thread(pool.take, 2)
    try:
        async with mesh_of(servers, folder, *patterns, limits=QUICK) as mesh:
            await mesh.everywhere(f"SET SESSION sql_mode = '{LENIENT}'", *statements)
            await mesh.init()
            mesh.start()
            yield mesh
    finally:
        pool.give_back()


async def transaction(sql: Control, *statements: str) -> None:
    """Run ``statements`` as one transaction."""
    async with sql.transaction():
        for statement in statements:
            await sql.execute(statement)


async def undisturbed(mesh: Mesh) -> None:
    """Settle; nothing may be parked, and no actor may have stopped."""
    await mesh.settle(60)
    assert mesh.count("parked") == 0, mesh.states()
    for sql in mesh.sql:
        letters = await sql.rows("SELECT table_name, code, cause FROM meshnode.dead_letter LIMIT 5")
        assert not letters, letters


async def same_images(mesh: Mesh, *tables: tuple[str, str]) -> dict[tuple[str, str], Images]:
    """The rows of each ``(schema, table)`` as stored, equal in all regions.

    Of keys without a row the tombstones are equal too, where both regions still
    have one in the same spelling.  Ends the nodes and deletes all rows.
    """
    await undisturbed(mesh)
    await mesh.stop()
    tombs = [("meshnode", f"t_{digest(*table)}") for table in tables]
    found = [await asyncio.to_thread(_stored, server, [*tables, *tombs]) for server in mesh.servers]
    for at, images in enumerate(found[1:], 1):
        for table in tables:
            assert images[table] == found[0][table], _difference(table, found[0], images, at)
        for table, tomb in zip(tables, tombs, strict=True):
            one, two = found[0][tomb], images[tomb]
            gone = one.keys() & two.keys() - images[table].keys()
            assert [one[key] for key in gone] == [two[key] for key in gone], f"{tomb} of {table}"
    return {table: found[0][table] for table in tables}


def _difference(table: tuple[str, str], first: dict, other: dict, at: int) -> str:
    one, two = first[table], other[table]
    keys = [key for key in one.keys() | two.keys() if one.get(key) != two.get(key)]
    shown = "; ".join(
        f"key {key.hex()[:60]}: {_shown(one.get(key))} / {_shown(two.get(key))}" for key in keys[:3]
    )
    return f"{table} differs between one and {NAMES[at]} in {len(keys)} rows: {shown}"


def _shown(image: bytes | None) -> str:
    return "no row" if image is None else image.hex()[:400]


def _stored(server: Server, tables: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Images]:
    with server.connect() as connection:
        before = executed(connection)
        _empty(connection, tables)
    found: dict[tuple[str, str], Images] = {table: {} for table in tables}
    for event in rows_events(record(server, before)):
        shape = event.table_map.shape
        images = found.get((shape.schema, shape.table))
        if images is None or event.rows.before is None or event.rows.after is not None:
            continue
        assert event.rows.full, shape.name
        scan = make_scanner(event.table_map).scan_write
        for start, stop, key, _, _ in scan(event.event, event.rows.start, event.rows.stop):
            assert key not in images
            images[key] = event.event[start:stop]
    return found


def _empty(connection: pymysql.Connection, tables: Sequence[tuple[str, str]]) -> None:
    """Delete all rows; a trigger that writes elsewhere would be in the way."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION foreign_key_checks = 0, sql_mode = ''")
        for schema, table in tables:
            if schema == "meshnode":
                continue
            cursor.execute(
                "SELECT trigger_name FROM information_schema.triggers"
                " WHERE event_object_schema = %s AND event_object_table = %s",
                (schema, table),
            )
            for (name,) in cursor.fetchall():
                cursor.execute(f"DROP TRIGGER {quoted_table(schema, name)}")
        for schema, table in tables:
            cursor.execute(f"DELETE FROM {quoted_table(schema, table)}")
    connection.commit()


Keys = dict[tuple[str, str], tuple[bytes, list[bytes]]]
"""Schema and table to the body of its table map and the wire keys."""


def inserted_keys(server: Server, before: GtidSet) -> Keys:
    """The keys of all rows inserted since ``before``."""
    found: Keys = {}
    for event in rows_events(record(server, before)):
        shape = event.table_map.shape
        if event.rows.before is not None or shape.schema in ("meshnode", "mysql"):
            continue
        _, keys = found.setdefault((shape.schema, shape.table), (event.map_event[HEADER_SIZE:], []))
        scan = make_scanner(event.table_map).scan_write
        keys += (row[2] for row in scan(event.event, event.rows.start, event.rows.stop))
    return found
