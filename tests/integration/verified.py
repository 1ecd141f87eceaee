"""Replicated tables as verify sees them, without triggers: a test plants what it wants."""

from contextlib import AsyncExitStack

from regions import control, topology_of

from meshnode.mysql import bookkeeping, catalog, schema
from meshnode.mysql.control import Control
from meshnode.ops import verify as verifying
from meshnode.ops.verify import Difference, TableResult, Verdict
from meshnode.ops.verify_view import key_text, what
from meshnode.topology import Topology


class Regions:
    """``sql[i]`` is the administrator of region i (names one, two, three; ids from 1)."""

    def __init__(self, topology: Topology, sql: list[Control]) -> None:
        self.topology = topology
        self.sql = sql

    async def everywhere(self, *statements: str) -> None:
        for connection in self.sql:
            for statement in statements:
                await connection.execute(statement)

    async def table(self, name: str, definition: str) -> None:
        """Make ``app.<name>`` replicated, with stamps and tombstones, in all regions."""
        for connection in self.sql:
            await connection.execute(f"CREATE TABLE app.`{name}` ({definition})")
            found = await catalog.read(connection, "app", name)
            assert found is not None
            await connection.execute(schema.create_tombstone_table("app", name, found.key))
            await connection.execute(schema.add_stamp_columns("app", name))
            await connection.execute(
                bookkeeping.INSERT_TABLE, (schema.digest("app", name), "app", name, "")
            )

    async def insert(self, table: str, *rows: str, at: int | None = None) -> None:
        """Insert rows, each the text between the brackets of VALUES, under stamp (100, 1)."""
        for number, connection in enumerate(self.sql):
            if at in (None, number):
                names = await connection.rows(f"SHOW COLUMNS FROM app.`{table}`")
                columns = ", ".join(f"`{row[0]}`" for row in names)
                values = ", ".join(f"({row}, 100, 1)" for row in rows)
                # IGNORE: some values at the edge of their type raise a warning.
                await connection.execute(
                    f"INSERT IGNORE INTO app.`{table}` ({columns}) VALUES {values}"
                )

    async def bury(self, table: str, key: str, ts: int, origin: int, at: int | None = None) -> None:
        """Write a tombstone; ``key`` is the text of the key's values."""
        for number, connection in enumerate(self.sql):
            if at in (None, number):
                await connection.execute(
                    f"REPLACE INTO {schema.tombstone_table('app', table)}"
                    f" VALUES ({key}, {ts}, {origin})"
                )

    async def verify(self, *, settle: float = 0.4, **options: object) -> Verdict:
        return await verifying.verify(self.topology, settle=settle, **options)


async def regions_of(stack: AsyncExitStack, servers: list) -> Regions:
    """Regions with an empty schema ``app`` and the bookkeeping."""
    topology = topology_of(servers)
    sql = [await stack.enter_async_context(await control(server)) for server in servers]
    regions = Regions(topology, sql)
    await regions.everywhere(
        "CREATE DATABASE app", bookkeeping.create_schema(), *bookkeeping.create_tables()
    )
    for region, connection in zip(topology.regions, sql, strict=True):
        await connection.execute(bookkeeping.INSERT_MEMBER, ("test", region.id, region.name))
    return regions


def found(verdict: Verdict, table: str) -> TableResult:
    """The result of ``app.<table>``."""
    (result,) = (each for each in verdict.tables if each.name == f"app.{table}")
    return result


def told(result: TableResult) -> dict[str, str]:
    """What is wrong with each key that differs."""
    return {key_text(result.table, each.values): what(each) for each in result.differences}


def regions_with(difference: Difference) -> set[str]:
    """Regions that have anything for the key."""
    return {name for name, state in difference.states.items() if state}
