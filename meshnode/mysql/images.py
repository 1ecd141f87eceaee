"""Local rows as JSON text, made by the server, for the records of conflicts.

A JSON document stands in it as its text, as :mod:`meshnode.mysql.rowvalues` has it
too: as a part of the record's own document it could be nested too deeply for
the server (3157), and the row that beats it could not apply.
"""

from collections.abc import Sequence

from meshnode import limits
from meshnode.core.change import Table
from meshnode.core.shape import Column, FieldType, Shape
from meshnode.mysql.lookup import Lookup, is_text
from meshnode.mysql.records import text
from meshnode.mysql.schema import quoted
from meshnode.mysql.session import Session

_AS_TEXT = frozenset(
    {
        FieldType.NEWDECIMAL, FieldType.DATE, FieldType.TIME2, FieldType.DATETIME2,
        FieldType.TIMESTAMP2, FieldType.ENUM, FieldType.SET, FieldType.JSON,
    }
)  # fmt: skip
_AS_IS = frozenset(
    {
        FieldType.TINY, FieldType.SHORT, FieldType.INT24, FieldType.LONG, FieldType.LONGLONG,
        FieldType.FLOAT, FieldType.DOUBLE, FieldType.YEAR,
    }
)  # fmt: skip


def _expression(column: Column) -> str:
    name = quoted(column.name)
    if column.type in _AS_IS:
        return name
    if column.type in _AS_TEXT:
        return f"CAST({name} AS CHAR)"
    if is_text(column) or (column.type == FieldType.BLOB and column.collation not in (0, 63)):
        return f"CONVERT({name} USING utf8mb4)"
    return f"CONCAT('0x', LOWER(HEX({name})))"


def image_document(shape: Shape) -> str:
    """An SQL expression: a row as a JSON document, its values by column name."""
    pairs = (f"{text(column.name)},{_expression(column)}" for column in shape.columns)
    return f"JSON_OBJECT({','.join(pairs)})"


async def local_images(
    session: Session, lookup: Lookup, keys: Sequence[bytes], table: Table
) -> dict[bytes, str]:
    """The rows of ``keys`` as JSON text, by canonical key; rows that are gone are absent."""
    if not keys:
        return {}
    document = image_document(lookup.shape)
    asked = {lookup.token(key): table.fold(key) for key in keys}
    once = list(dict.fromkeys(keys))
    found: dict[bytes, str] = {}
    for start in range(0, len(once), limits.LOCK_KEYS):
        rows = await session.query(
            f"SELECT {lookup.select},{document} FROM {lookup.table}"
            f" WHERE {lookup.where(once[start : start + limits.LOCK_KEYS])} FOR UPDATE"
        )
        found.update((asked[lookup.row_token(row)], _string(row[-1])) for row in rows)
    return found


def _string(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
