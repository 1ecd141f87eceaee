"""The SQL text that makes a table replicable; nothing here talks to a server.

A replicated table carries its version with it: two invisible stamp columns at
its end, written by triggers under the row lock, so that a stamp is there when
the transaction commits.  A deleted key has no row to carry a stamp, so its
version lives on in a tombstone table, which has the key columns of the table
and the two stamp columns.  The version of a key is the greater of the two.

The clock of the triggers is the time inside ``UUID()`` (version 1).  It is UTC,
is read anew by each call, and hears neither ``SET timestamp`` nor ``SET
time_zone``.  Physical time alone is no version: a trigger takes the greater of
the clock and the replaced stamp plus one, which makes it a Lamport clock per
row, so a write beats what it replaced whatever the clocks say.

``REPLACE`` runs BEFORE INSERT first and AFTER DELETE after it, so the tombstone
of the row it removes would be younger than the row that it puts there.
BEFORE INSERT therefore leaves its stamp in ``@_mesh_i``, and a tombstone written
within ``REPLACE_WINDOW_US`` of it steps back to just below it.

Trigger bodies are compared with the server's copy character by character
(``meshnode doctor``): a change of their text here is a change that ``meshnode
init`` rolls out.
"""

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

MESH_SCHEMA = "meshnode"
TS_COLUMN = "_mesh_ts"
ORIGIN_COLUMN = "_mesh_origin"
STAMP_COLUMNS = (TS_COLUMN, ORIGIN_COLUMN)

TRIGGER_SQL_MODE = "ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO"
"""The ``sql_mode`` under which triggers are created, and which MySQL keeps with them.

Not strict, and tolerant of odd dates: a trigger copies key values that are in
the table already, and whatever the client could store must fit the tombstone.
It lacks NO_UNSIGNED_SUBTRACTION, PAD_CHAR_TO_FULL_LENGTH and ANSI_QUOTES, which would change what
the bodies mean.
"""

REPLACE_WINDOW_US = 50_000
"""A forged ``@_mesh_i`` can move a tombstone back by this many microseconds at the most."""

_UUID_EPOCH = 122_192_928_000_000_000
"""Ticks of 100 ns from 1582-10-15, where UUID time starts, to 1970-01-01."""

_TS_BELOW_MAX = 2**64 - 2

_ANY_TIME = "'2000-01-01'"
"""A default that is valid in every time zone and ``sql_mode``; tombstones always name their key."""


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A primary key column as ``information_schema`` describes it.

    ``column_type`` is ``COLUMN_TYPE`` (``varchar(20)``, ``int unsigned``,
    ``enum('a','b')``); ``charset`` and ``collation`` are None for what is not text.
    """

    name: str
    column_type: str
    charset: str | None = None
    collation: str | None = None

    @property
    def data_type(self) -> str:
        return self.column_type.split("(", 1)[0].split(" ", 1)[0].lower()


class TriggerRole(StrEnum):
    """The four triggers of a table; the value is the infix of their names."""

    BEFORE_INSERT = "bi"
    BEFORE_UPDATE = "bu"
    AFTER_UPDATE = "au"
    AFTER_DELETE = "ad"

    @property
    def timing(self) -> str:
        return "BEFORE" if self.value[0] == "b" else "AFTER"

    @property
    def event(self) -> str:
        return {"i": "INSERT", "u": "UPDATE", "d": "DELETE"}[self.value[1]]


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger as it should be: its name (in the table's schema), when it fires, its body."""

    role: TriggerRole
    name: str
    body: str


def quoted(name: str) -> str:
    """``name`` as a quoted identifier, right under every ``sql_mode`` but ANSI_QUOTES too."""
    return "`" + name.replace("`", "``") + "`"


def quoted_table(schema: str, table: str) -> str:
    return f"{quoted(schema)}.{quoted(table)}"


def digest(schema: str, table: str) -> str:
    """16 hex digits that stand for a table in names (a name of 64 characters leaves no room)."""
    return hashlib.sha256(f"{schema}\0{table}".encode()).hexdigest()[:16]


def tombstone_name(schema: str, table: str) -> str:
    """Name of the tombstone table of a table, within :data:`MESH_SCHEMA`."""
    return f"t_{digest(schema, table)}"


def tombstone_table(schema: str, table: str) -> str:
    """The quoted, qualified name of the tombstone table."""
    return tombstones_of(digest(schema, table))


def tombstones_of(digest: str) -> str:
    """The same for the table with this digest."""
    return quoted_table(MESH_SCHEMA, f"t_{digest}")


def trigger_name(role: TriggerRole, schema: str, table: str) -> str:
    return f"_mesh_{role.value}_{digest(schema, table)}"


MESH_TRIGGER = "^_mesh_(bi|bu|au|ad)_([0-9a-f]{16})$"
"""Names of the mesh's triggers, as a regular expression to Python and to MySQL."""


def trigger_digest(name: str) -> str:
    """The digest of the table that a trigger of this name belongs to; '' if it is not the mesh's.

    A trigger stays with its table when that is renamed, and goes on to write tombstones of
    the table that it was made for.
    """
    found = re.match(MESH_TRIGGER, name)
    return found[2] if found else ""


def stamp_column(name: str) -> str:
    """Definition of a stamp column.

    The default is a literal: an expression default of an invisible column is
    ignored by ``INSERT ... VALUES`` without a column list.
    """
    kind = "BIGINT" if name == TS_COLUMN else "TINYINT"
    return f"{quoted(name)} {kind} UNSIGNED NOT NULL DEFAULT 0 INVISIBLE"


def add_stamp_columns(
    schema: str, table: str, missing: tuple[str, ...] = STAMP_COLUMNS, algorithm: str = "INSTANT"
) -> str:
    adds = ", ".join(
        f"ADD COLUMN {stamp_column(name)}" for name in STAMP_COLUMNS if name in missing
    )
    return f"ALTER TABLE {quoted_table(schema, table)} {adds}, ALGORITHM={algorithm}"


def drop_stamp_columns(
    schema: str, table: str, present: tuple[str, ...] = STAMP_COLUMNS, algorithm: str = "INSTANT"
) -> str:
    drops = ", ".join(f"DROP COLUMN {quoted(name)}" for name in STAMP_COLUMNS if name in present)
    return f"ALTER TABLE {quoted_table(schema, table)} {drops}, ALGORITHM={algorithm}"


def _key_column_definition(column: KeyColumn) -> str:
    text = ""
    if column.charset is not None:
        text = f" CHARACTER SET {column.charset} COLLATE {column.collation}"
    # Without a default of its own a TIMESTAMP may get ON UPDATE CURRENT_TIMESTAMP
    # (explicit_defaults_for_timestamp): its tombstone would then move to another key.
    default = f" DEFAULT {_ANY_TIME}" if column.data_type == "timestamp" else ""
    return f"{quoted(column.name)} {column.column_type}{text} NOT NULL{default}"


def create_tombstone_table(schema: str, table: str, key: tuple[KeyColumn, ...]) -> str:
    """``key`` in the order of the table's columns.

    Same types and collations as the table, so that two spellings which are one
    key there are one tombstone here.
    """
    columns = [_key_column_definition(column) for column in key]
    columns.append(f"{quoted(TS_COLUMN)} BIGINT UNSIGNED NOT NULL")
    columns.append(f"{quoted(ORIGIN_COLUMN)} TINYINT UNSIGNED NOT NULL")
    columns.append(f"PRIMARY KEY ({', '.join(quoted(column.name) for column in key)})")
    return (
        f"CREATE TABLE IF NOT EXISTS {tombstone_table(schema, table)} ("
        + ", ".join(columns)
        + ") ENGINE=InnoDB"
    )


def modify_tombstone_table(schema: str, table: str, key: tuple[KeyColumn, ...]) -> str:
    """Follow key columns whose type or order was changed in the table."""
    places = ["FIRST", *(f"AFTER {quoted(column.name)}" for column in key)]
    changes = ", ".join(
        f"MODIFY COLUMN {_key_column_definition(column)} {place}"
        for column, place in zip(key, places)
    )
    return f"ALTER TABLE {tombstone_table(schema, table)} {changes}"


# The trigger bodies.  Local names start with _mesh_, because a local variable
# hides a column of the same name, and the key columns may have any name.

_DECLARE_CLOCK = (
    "  DECLARE _mesh_uuid CHAR(36) CHARACTER SET ascii DEFAULT UUID();\n"
    "  DECLARE _mesh_clock BIGINT UNSIGNED DEFAULT (CAST(CONV(CONCAT("
    "SUBSTR(_mesh_uuid, 16, 3), SUBSTR(_mesh_uuid, 10, 4), SUBSTR(_mesh_uuid, 1, 8)"
    f"), 16, 10) AS UNSIGNED) - {_UUID_EPOCH}) DIV 10;\n"
)

# LEAST keeps the sum within 64 bits: out of range would be error 1690, and the
# client could never write that row again.
_AFTER_OLD = f"LEAST(OLD.{quoted(TS_COLUMN)}, {_TS_BELOW_MAX}) + 1"


def _before_insert(region: int) -> str:
    return (
        "BEGIN\n" + _DECLARE_CLOCK + f"  SET NEW.{quoted(TS_COLUMN)} = _mesh_clock,"
        f" NEW.{quoted(ORIGIN_COLUMN)} = {region}, @_mesh_i = _mesh_clock;\n"
        "END"
    )


def _before_update(region: int) -> str:
    return (
        "BEGIN\n"
        + _DECLARE_CLOCK
        + f"  SET NEW.{quoted(TS_COLUMN)} = GREATEST(_mesh_clock, {_AFTER_OLD}),"
        f" NEW.{quoted(ORIGIN_COLUMN)} = {region};\n"
        "END"
    )


def _write_tombstone(region: int, schema: str, table: str, key: tuple[KeyColumn, ...]) -> str:
    names = ", ".join(quoted(column.name) for column in key)
    values = ", ".join(f"OLD.{quoted(column.name)}" for column in key)
    ts, origin = quoted(TS_COLUMN), quoted(ORIGIN_COLUMN)
    # @_mesh_i is the client's to forge: it is read once, as an unsigned integer, and
    # compared by a difference that cannot leave 64 bits.  Assignments of ON DUPLICATE
    # KEY UPDATE run in order, so the origin is settled while ts is still the old one.
    return (
        _DECLARE_CLOCK
        + "  DECLARE _mesh_insert BIGINT UNSIGNED DEFAULT CAST(@_mesh_i AS UNSIGNED);\n"
        + "  DECLARE _mesh_stamp BIGINT UNSIGNED DEFAULT GREATEST("
        + f"{_AFTER_OLD}, IF(_mesh_insert > 0 AND _mesh_insert <= _mesh_clock"
        + f" AND _mesh_clock - _mesh_insert <= {REPLACE_WINDOW_US},"
        + " _mesh_insert - 1, _mesh_clock));\n"
        + f"  INSERT INTO {tombstone_table(schema, table)} ({names}, {ts}, {origin})\n"
        + f"    VALUES ({values}, _mesh_stamp, {region})\n"
        + "    ON DUPLICATE KEY UPDATE\n"
        + f"    {origin} = IF({ts} < _mesh_stamp OR ({ts} = _mesh_stamp AND {origin} < {region}),"
        + f" {region}, {origin}),\n"
        + f"    {ts} = GREATEST({ts}, _mesh_stamp);\n"
    )


def _same_key(column: KeyColumn) -> str:
    old, new = (f"{row}.{quoted(column.name)}" for row in ("OLD", "NEW"))
    if column.data_type in ("enum", "set"):
        # The index orders these by number; as text the error value 0 equals a label ''.
        old, new = f"{old} + 0", f"{new} + 0"
    return f"{old} <=> {new}"


def _after_update(region: int, schema: str, table: str, key: tuple[KeyColumn, ...]) -> str:
    same = " AND ".join(_same_key(column) for column in key)
    write = _write_tombstone(region, schema, table, key)
    return f"IF NOT ({same}) THEN BEGIN\n{write}END; END IF"


def _after_delete(region: int, schema: str, table: str, key: tuple[KeyColumn, ...]) -> str:
    return f"BEGIN\n{_write_tombstone(region, schema, table, key)}END"


def triggers(
    region: int, schema: str, table: str, key: tuple[KeyColumn, ...]
) -> tuple[Trigger, ...]:
    """The triggers of a table in the order in which they are created.

    BEFORE comes before AFTER: a tombstone must never be written for a row
    whose stamp nobody raises.  ``region`` (1..255) is a literal in each body.
    """
    bodies = {
        TriggerRole.BEFORE_INSERT: _before_insert(region),
        TriggerRole.BEFORE_UPDATE: _before_update(region),
        TriggerRole.AFTER_UPDATE: _after_update(region, schema, table, key),
        TriggerRole.AFTER_DELETE: _after_delete(region, schema, table, key),
    }
    return tuple(
        Trigger(role, trigger_name(role, schema, table), body) for role, body in bodies.items()
    )


def create_trigger(schema: str, table: str, trigger: Trigger) -> str:
    """Run it under :data:`TRIGGER_SQL_MODE` in a utf8mb4 session.

    There is no FOLLOWS clause: a new trigger comes last of its timing and event, which is where
    it must stand to have the last word over user triggers.
    """
    return (
        f"CREATE TRIGGER {quoted_table(schema, trigger.name)} {trigger.role.timing}"
        f" {trigger.role.event} ON {quoted_table(schema, table)} FOR EACH ROW\n{trigger.body}"
    )


def drop_trigger(schema: str, name: str) -> str:
    return f"DROP TRIGGER IF EXISTS {quoted_table(schema, name)}"
