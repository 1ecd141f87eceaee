"""Real servers as the regions of a mesh, for tests."""

import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from meshnode.accounts import Account
from meshnode.mysql import bookkeeping, catalog, schema
from meshnode.mysql.control import Control, connect_to
from meshnode.topology import (
    Accounts,
    AccountSource,
    Bus,
    MysqlAddress,
    Region,
    Replicate,
    Topology,
)

HOUR_US = 3_600_000_000


def address(server) -> MysqlAddress:
    return MysqlAddress(host=server.host, port=server.port)


async def control(server, user: str | None = None, password: str | None = None) -> Control:
    """A session with ``server``: as its administrator, or as ``user``."""
    login = Account(user or server.user, server.password if password is None else password)
    return await connect_to(address(server), login, server="test")


async def replicable(connection: Control, table: str, definition: str, region: int = 1) -> str:
    """Make ``app.<table>`` with all that the mesh adds; the quoted name of its tombstone table."""
    for statement in (
        f"SET sql_mode = '{schema.TRIGGER_SQL_MODE}'",
        "CREATE DATABASE IF NOT EXISTS app",
        f"CREATE TABLE {schema.quoted_table('app', table)} ({definition})",
        bookkeeping.create_schema(),
        *bookkeeping.create_tables(),
    ):
        await connection.execute(statement)
    found = await catalog.read(connection, "app", table)
    assert found is not None
    for statement in (
        schema.create_tombstone_table("app", table, found.key),
        schema.add_stamp_columns("app", table),
        *(
            schema.create_trigger("app", table, trigger)
            for trigger in schema.triggers(region, "app", table, found.key)
        ),
    ):
        await connection.execute(statement)
    return schema.tombstone_table("app", table)


async def run(connection: Control, *statements: str) -> None:
    for statement in statements:
        await connection.execute(statement)


async def column(connection: Control, sql: str, parameters: Sequence[object] = ()) -> list:
    """The first column of all rows."""
    return [row[0] for row in await connection.rows(sql, parameters)]


def topology_of(servers, *tables: str) -> Topology:
    """A mesh of ``servers``, all reached as their administrator; regions are one, two, three."""
    names = ("one", "two", "three")
    os.environ["MESH_TEST_PASSWORD"] = servers[0].password
    source = AccountSource(user=servers[0].user, password_env="MESH_TEST_PASSWORD")
    return Topology(
        mesh="test",
        replicate=Replicate(tables=tables or ("app.*",)),
        bus=Bus(kind="file", dir="/nonexistent"),
        regions=tuple(
            Region(id=number, name=name, mysql=address(server))
            for number, (name, server) in enumerate(zip(names, servers, strict=False), start=1)
        ),
        accounts=Accounts(tail=source, apply=source, admin=source),
    )


def now_us() -> int:
    """This machine's clock, which is that of the servers too."""
    return time.time_ns() // 1000


async def stamp(connection: Control, key: str = "1", table: str = "app.t") -> tuple[int, int]:
    """Version of the row with this ``id``."""
    found = await connection.row(f"SELECT _mesh_ts, _mesh_origin FROM {table} WHERE id = {key}")
    assert found is not None
    return found


async def write_past_triggers(connection: Control, statement: str) -> None:
    """Run ``statement`` while the table has no BEFORE UPDATE trigger, as applied rows do."""
    name, body = await connection.row(
        "SELECT TRIGGER_NAME, ACTION_STATEMENT FROM information_schema.TRIGGERS"
        " WHERE ACTION_TIMING = 'BEFORE' AND EVENT_MANIPULATION = 'UPDATE'"
        " AND EVENT_OBJECT_TABLE = 't'"
    )
    await run(
        connection,
        f"DROP TRIGGER app.{name}",
        statement,
        f"CREATE TRIGGER app.{name} BEFORE UPDATE ON app.t FOR EACH ROW {body}",
    )


async def sessions(stack: AsyncExitStack, servers) -> list[Control]:
    """A session with each server, closed with the stack."""
    return [await stack.enter_async_context(await control(server)) for server in servers]
