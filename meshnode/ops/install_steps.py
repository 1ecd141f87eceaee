"""What is missing in one region, as statements: the steps of init and uninstall.

Each function reads the catalogue and returns what has to be run to get there,
nothing when it is there already.
"""

from dataclasses import dataclass
from typing import NamedTuple

from meshnode import limits
from meshnode.errors import Refused
from meshnode.mysql import bookkeeping as texts
from meshnode.mysql import catalog, schema
from meshnode.mysql.control import SQL_MODE, Control, code_of
from meshnode.mysql.schema import MESH_SCHEMA, quoted_table
from meshnode.topology import Topology

ALGORITHM_FALLBACK = "INPLACE, LOCK=NONE"
"""For tables that cannot change columns instantly (compressed rows, too many row versions)."""

_TRIGGER_MODE = f"SET SESSION sql_mode = '{schema.TRIGGER_SQL_MODE}'"
_SESSION_MODE = f"SET SESSION sql_mode = '{SQL_MODE}'"
_NOT_INSTANT = frozenset({1845, 1846, 4092})
_UNFIT = frozenset({1062, 1264, 1265, 1366, 1406})
"""Rows that are there do not fit a new type: equal keys, or no room for a value."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Statements that belong together, run one after the other in one session.

    ``cleanup`` runs afterwards, each whatever happened.  ``fallback`` takes the
    place of the only statement when the server cannot do it instantly.  ``unfit`` says what
    it means when rows that are there do not fit.
    """

    sql: tuple[str, ...]
    parameters: tuple[object, ...] = ()
    cleanup: tuple[str, ...] = ()
    fallback: str = ""
    unfit: Refused | None = None

    def text(self, connection: Control) -> str:
        parts = (*self.sql, *self.cleanup)
        return ";\n".join(connection.literal(part, self.parameters) for part in parts)

    async def execute(self, connection: Control) -> None:
        try:
            for part in self.sql:
                await connection.execute(part, self.parameters)
        except Refused as error:
            code = code_of(error)
            if self.unfit is not None and code in _UNFIT:
                raise Refused(f"{self.unfit.what}: {error.what}", self.unfit.remedy) from error
            if not self.fallback or code not in _NOT_INSTANT:
                raise
            await self._rebuild(connection)
        finally:
            for part in self.cleanup:
                await connection.execute(part)

    async def _rebuild(self, connection: Control) -> None:
        try:
            await connection.execute(self.fallback)
        except Refused as error:
            if code_of(error) not in _NOT_INSTANT:
                raise
            copying = self.fallback.replace(ALGORITHM_FALLBACK, "COPY")
            raise Refused(
                f"{error.what}: the table must be copied, and writes wait for that",
                f"at a quiet time run {copying}; then run this command again",
            ) from error


async def _present(connection: Control, wanted: str) -> set[str]:
    """Names of the tables of ``meshnode``, or of its rows where ``wanted`` is a table."""
    rows = await connection.rows(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s", (MESH_SCHEMA,)
    )
    tables = {row[0] for row in rows}
    if not wanted:
        return tables
    if wanted not in tables:
        return set()
    column = {"member": "id", "applied": "origin", "heartbeat": "region", "tables": "digest"}
    rows = await connection.rows(
        f"SELECT {column[wanted]} FROM {quoted_table(MESH_SCHEMA, wanted)}"
    )
    return {row[0] for row in rows}


async def _missing_columns(connection: Control, tables: set[str]) -> dict[str, set[str]]:
    """What the bookkeeping of an older release lacks, by table."""
    present: dict[str, set[str]] = {name: set() for name in texts.TABLES if name in tables}
    for name, column in await connection.rows(
        "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s",
        (MESH_SCHEMA,),
    ):
        if name in present:
            present[name].add(column)
    missing = {name: set(texts.column_names(name)) - there for name, there in present.items()}
    return {name: columns for name, columns in missing.items() if columns}


async def _schema_exists(connection: Control) -> bool:
    return bool(
        await connection.rows(
            "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s", (MESH_SCHEMA,)
        )
    )


async def bookkeeping(connection: Control, topology: Topology, region: str) -> list[Statement]:
    """Schema ``meshnode``, its tables, and their rows.

    Raises Refused where they belong to another mesh or region: a copy of another
    region's data directory, or a changed id.
    """
    own = topology.region(region)
    tables = await _present(connection, "")
    steps = []
    if not await _schema_exists(connection):
        steps.append(Statement((texts.create_schema(),)))
    steps += [
        Statement((text,))
        for name, text in zip(texts.TABLES, texts.create_tables(), strict=True)
        if name not in tables
    ]
    for name, missing in (await _missing_columns(connection, tables)).items():
        steps.append(Statement((texts.add_columns(name, missing),)))
    if await _present(connection, "member"):
        mesh, number = await connection.row(
            f"SELECT mesh, region FROM {quoted_table(MESH_SCHEMA, 'member')}"
        )
        if (mesh, number) != (topology.mesh, own.id):
            raise Refused(
                f"region {region}: this server belongs to region {number} of the mesh {mesh!r}, "
                f"not to region {own.id} of {topology.mesh!r}",
                "correct the address or the id in the topology; `meshnode init --uninstall` with "
                "the former topology takes the server out of that mesh",
            )
    else:
        steps.append(Statement((texts.INSERT_MEMBER,), (topology.mesh, own.id, own.name)))
    applied = await _present(connection, "applied")
    steps += [
        Statement((texts.INSERT_APPLIED,), (peer.id,))
        for peer in topology.peers(region)
        if peer.id not in applied
    ]
    if own.id not in await _present(connection, "heartbeat"):
        steps.append(Statement((texts.INSERT_HEARTBEAT,), (own.id,)))
    return steps


async def table(connection: Control, schema_name: str, table_name: str) -> list[Statement]:
    """Tombstone table and stamp columns."""
    found = await catalog.read(connection, schema_name, table_name)
    assert found is not None
    steps = []
    tombstones = await catalog.read(
        connection, MESH_SCHEMA, schema.tombstone_name(schema_name, table_name)
    )
    if tombstones is None:
        steps.append(
            Statement((schema.create_tombstone_table(schema_name, table_name, found.key),))
        )
    elif tombstones.key != found.key or tombstones.self_dated:
        if {key.name for key in tombstones.key} != {key.name for key in found.key}:
            raise Refused(
                f"{found.name}: its primary key is not that of its tombstone table "
                f"{tombstones.name}",
                "give the table its former key, or take it out of the mesh first "
                "(docs/OPERATING.md, 'Taking a table out')",
            )
        steps.append(
            Statement(
                (schema.modify_tombstone_table(schema_name, table_name, found.key),),
                unfit=Refused(
                    f"{found.name}: its key's new type does not fit tombstones that are still held "
                    f"in {tombstones.name}",
                    "let the nodes of all regions run: tombstones go within a minute while all "
                    "regions are heard; then run `meshnode init` again. A stopped node starts only "
                    "with the key's former type (docs/OPERATING.md, 'Changing a table')",
                ),
            )
        )
    missing = tuple(name for name in schema.STAMP_COLUMNS if found.column(name) is None)
    if missing:
        steps.append(
            Statement(
                (schema.add_stamp_columns(schema_name, table_name, missing),),
                fallback=schema.add_stamp_columns(
                    schema_name, table_name, missing, ALGORITHM_FALLBACK
                ),
            )
        )
    return steps


TRIGGERS = """
SELECT TRIGGER_NAME, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER, ACTION_STATEMENT, SQL_MODE,
  DEFINER
FROM information_schema.TRIGGERS
WHERE EVENT_OBJECT_SCHEMA = %s AND EVENT_OBJECT_TABLE = %s
ORDER BY ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER"""


async def triggers(
    connection: Control, region: int, schema_name: str, table_name: str
) -> list[Statement]:
    """Triggers that are missing, altered, of another region or owner, or no longer the last.

    One that is there is replaced under a table lock, so that no write slips
    through between the two.
    """
    found = await catalog.read(connection, schema_name, table_name)
    assert found is not None
    there = {row[0]: row for row in await connection.rows(TRIGGERS, (schema_name, table_name))}
    owner = await connection.value("SELECT CURRENT_USER()")
    last: dict[tuple[str, str], str] = {}
    for name, timing, event, *_ in there.values():
        last[timing, event] = name
    steps = []
    for trigger in schema.triggers(region, schema_name, table_name, found.key):
        create = schema.create_trigger(schema_name, table_name, trigger)
        row = there.get(trigger.name)
        if row is None:
            steps.append(Statement((_TRIGGER_MODE, create), cleanup=(_SESSION_MODE,)))
            continue
        role = trigger.role
        wanted = trigger.body, role.timing, role.event, owner
        same = (row[4], row[1], row[2], row[6]) == wanted
        modes = set(row[5].split(",")) == set(schema.TRIGGER_SQL_MODE.split(","))
        if not same or not modes or last[role.timing, role.event] != trigger.name:
            name = quoted_table(schema_name, table_name)
            steps.append(
                Statement(
                    (
                        _TRIGGER_MODE,
                        f"LOCK TABLES {name} WRITE",
                        schema.drop_trigger(schema_name, trigger.name),
                        create,
                    ),
                    cleanup=("UNLOCK TABLES", _SESSION_MODE),
                )
            )
    return steps


_MESH_TRIGGERS = f"""
SELECT TRIGGER_SCHEMA, TRIGGER_NAME, EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE
FROM information_schema.TRIGGERS WHERE TRIGGER_NAME REGEXP '{schema.MESH_TRIGGER}'
ORDER BY TRIGGER_SCHEMA, TRIGGER_NAME"""
"""AFTER stands before BEFORE there, which is the order in which they can be dropped."""


class Stray(NamedTuple):
    """A trigger of the mesh on a table (``schema``, ``table``) that it was not made for."""

    schema: str
    name: str
    table: str

    @property
    def drop(self) -> str:
        return schema.drop_trigger(self.schema, self.name)


async def strays(connection: Control) -> list[Stray]:
    """Triggers that went with a renamed table, or were copied to another schema.

    They write tombstones of a table that lost no row, and its own cannot be made while their
    names are taken.  A trigger is always in the schema of its table.
    """
    return [
        Stray(home, name, table)
        for home, name, on_schema, table in await connection.rows(_MESH_TRIGGERS)
        if schema.trigger_digest(name) != schema.digest(on_schema, table)
    ]


async def removal_of_strays(connection: Control) -> list[Statement]:
    """Drop them all, before any is made anew.

    Two tables that exchanged their names have each other's.  What is written until a table has
    its own again is mended by the node, as behind any trigger that was dropped.
    """
    return [Statement((stray.drop,)) for stray in await strays(connection)]


async def activation(connection: Control, schema_name: str, table_name: str) -> list[Statement]:
    """The table's row in ``meshnode.tables``, dated after it is committed.

    A row that is stamped later than that date commits later than the activation,
    so the stream has it; one stamped between the two may stand before it in the
    binlog, and is init's to compare.  Where a clock has stepped back the date is not
    enough: :mod:`meshnode.ops.activation`.
    """
    name = schema.digest(schema_name, table_name)
    if name in await _present(connection, "tables"):
        return []
    executed = await connection.value("SELECT @@GLOBAL.gtid_executed")
    gtids = str(executed).replace("\n", "")
    return [
        Statement((texts.INSERT_TABLE,), (name, schema_name, table_name, gtids)),
        Statement((texts.DATE_TABLE,), (name,)),
    ]


async def refuse_running_node(connection: Control, region: str, pulse: float) -> None:
    """Raise Refused if the region's node, with a heartbeat every ``pulse`` seconds, may run."""
    if "heartbeat" not in await _present(connection, ""):
        return
    age = await connection.value(
        "SELECT MIN(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6)) - wall_us)"
        f" FROM {quoted_table(MESH_SCHEMA, 'heartbeat')} h"
        f" JOIN {quoted_table(MESH_SCHEMA, 'member')} m ON m.region = h.region"
        " WHERE wall_us > 0"
    )
    silent = limits.silent_seconds(pulse)
    if age is not None and age < silent * 1e6:
        raise Refused(
            f"region {region}: a node wrote a heartbeat {age / 1e6:.0f} s ago",
            f"stop the node and wait {silent:g} s",
        )


async def removal(connection: Control) -> list[Statement]:
    """Everything that init made: triggers, stamp columns, schema ``meshnode``, in this order.

    With the triggers gone first, no client meets a missing tombstone table.
    """
    steps = [
        Statement((schema.drop_trigger(row[0], row[1]),))
        for row in await connection.rows(_MESH_TRIGGERS)
    ]
    tables = await _present(connection, "")
    columns: dict[tuple[str, str], list[str]] = {}
    for table_schema, table_name, column in await connection.rows(
        "SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.COLUMN_NAME FROM information_schema.COLUMNS c"
        " JOIN information_schema.TABLES t USING (TABLE_SCHEMA, TABLE_NAME)"
        " WHERE t.TABLE_TYPE = 'BASE TABLE' AND c.TABLE_SCHEMA <> %s"
        " AND c.COLUMN_NAME IN (%s, %s) ORDER BY 1, 2",
        (MESH_SCHEMA, *schema.STAMP_COLUMNS),
    ):
        # A column of that name in a table that was never ours is the application's.
        if schema.tombstone_name(table_schema, table_name) in tables:
            columns.setdefault((table_schema, table_name), []).append(column)
    for name, present in columns.items():
        kept = tuple(present)
        steps.append(
            Statement(
                (schema.drop_stamp_columns(*name, kept),),
                fallback=schema.drop_stamp_columns(*name, kept, ALGORITHM_FALLBACK),
            )
        )
    if await _schema_exists(connection):
        steps.append(Statement((texts.drop_schema(),)))
    return steps
