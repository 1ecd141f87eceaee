"""Child rows whose parent is missing.

Applied rows are not checked against foreign keys (the cascades of their origin are in the stream
already), so two regions can make an orphan together: one deletes the parent while the
other inserts a child.  It is then the same in all regions, and no comparison shows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from meshnode.mysql.catalog import Table
from meshnode.mysql.control import Control
from meshnode.mysql.keyvalues import KeyReader, Values
from meshnode.mysql.schema import quoted, quoted_table

KEEP_ORPHANS = 1_000
"""Orphans of one foreign key in one region that are named; more are counted."""

_KEYS = """
SELECT CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME,
  REFERENCED_COLUMN_NAME
FROM information_schema.KEY_COLUMN_USAGE
WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND REFERENCED_TABLE_NAME IS NOT NULL
ORDER BY CONSTRAINT_NAME, ORDINAL_POSITION"""


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns of a child table and the columns of the parent that they name."""

    name: str
    parent: tuple[str, str]
    columns: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Orphans:
    """What one foreign key misses in one region: keys seen at every look so far, and how many."""

    foreign_key: ForeignKey
    keys: dict[tuple, Values] = field(default_factory=dict)
    count: int = 0


async def foreign_keys(connection: Control, table: Table) -> list[ForeignKey]:
    """The foreign keys of ``table`` as child."""
    found: dict[str, tuple[tuple[str, str], list[tuple[str, str]]]] = {}
    for name, column, schema, parent, referenced in await connection.rows(
        _KEYS, (table.shape.schema, table.shape.table)
    ):
        found.setdefault(name, ((schema, parent), []))[1].append((column, referenced))
    return [ForeignKey(name, parent, tuple(columns)) for name, (parent, columns) in found.items()]


async def find(
    connection: Control, table: Table, keys: KeyReader, foreign_key: ForeignKey
) -> Orphans:
    """The rows of ``table`` that name a parent which is not there; NULL names none."""
    child = quoted_table(table.shape.schema, table.shape.table)
    parent = quoted_table(*foreign_key.parent)
    named = " AND ".join(f"c.{quoted(column)} IS NOT NULL" for column, _ in foreign_key.columns)
    same = " AND ".join(
        f"p.{quoted(referenced)} = c.{quoted(column)}" for column, referenced in foreign_key.columns
    )
    where = f"FROM {child} c WHERE {named} AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE {same})"
    rows = await connection.rows(
        f"SELECT {keys.tokens}, {keys.select} {where} LIMIT {KEEP_ORPHANS + 1}"
    )
    count = len(rows)
    if count > KEEP_ORPHANS:
        count = int(await connection.value(f"SELECT COUNT(*) {where}"))
    size = len(keys)
    kept: Sequence[tuple] = rows[:KEEP_ORPHANS]
    return Orphans(foreign_key, {row[:size]: row[size:] for row in kept}, count)


def still(before: Orphans, now: Orphans) -> Orphans:
    """The orphans of two looks: those that stayed."""
    kept = {token: values for token, values in now.keys.items() if token in before.keys}
    # Beyond what is named only the counts can be compared.
    named = min(before.count, now.count) <= KEEP_ORPHANS
    count = len(kept) if named else min(before.count, now.count)
    return Orphans(now.foreign_key, kept, count)
