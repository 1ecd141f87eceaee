"""An SQL expression that is equal for two rows exactly when their values are.

It compares tables across servers without moving them.  Each column becomes bytes
that lose nothing (a FLOAT as its exact double, text as it is stored, JSON in MySQL's own
normal form), each value is told from its neighbour by its length and NULL from
every value, and SHA-256 stands for the whole.  Long values are hashed first, because CONCAT
gives NULL beyond ``max_allowed_packet``, which would make all long rows look alike.

Generated columns are left out: they follow from the others.  Sessions must be in UTC.
"""

from collections.abc import Iterable, Sequence

from meshnode.core.shape import Column, FieldType
from meshnode.mysql.schema import quoted

_LONG = frozenset(
    {FieldType.BLOB, FieldType.JSON, FieldType.GEOMETRY, FieldType.VECTOR, FieldType.VARCHAR}
)
_LABELS = frozenset({FieldType.ENUM, FieldType.SET, FieldType.BIT})
_NULL = "'~'"


def row_hash(columns: Sequence[Column]) -> str:
    """64 hex digits for the values of ``columns`` of a row, in their order.

    To their text forms it adds what these do not tell: the sign of a zero,
    and the type behind a JSON document (the number 1 as integer, decimal or double).
    Inside a document only the text is compared.
    """
    marks = [f"IFNULL({mark}, '~')" for mark in map(_mark, columns) if mark]
    digest = _row_digest(columns)
    return f"SHA2(CONCAT_WS('/', {digest}, {', '.join(marks)}), 256)" if marks else digest


def _mark(column: Column) -> str | None:
    name = quoted(column.name)
    if column.type in (FieldType.FLOAT, FieldType.DOUBLE):
        return f"LEFT(CAST({name} AS CHAR), 1)"
    if column.type == FieldType.JSON:
        return f"JSON_TYPE({name})"
    return None


def _row_digest(columns: Iterable[Column]) -> str:
    """64 hex digits for the values of ``columns`` of a row, in their order, as text."""
    parts = []
    for column in columns:
        value = _bytes(column)
        if column.type in _LONG:
            parts.append(f"IFNULL(SHA2({value}, 256), {_NULL})")
        else:
            parts.append(f"IFNULL(CONCAT(LENGTH({value}), ':', {value}), {_NULL})")
    return f"SHA2(CONCAT({', '.join(parts)}), 256)"


def table_digest(digest: str) -> str:
    """An aggregate over :func:`row_hash` that does not depend on the order of rows.

    ``digest`` names a column that holds row digests.  128 bits, as two numbers.
    """
    halves = (f"CONV(SUBSTR({digest}, {start}, 16), 16, 10)" for start in (1, 17))
    return ", ".join(f"BIT_XOR(CAST({half} AS UNSIGNED))" for half in halves)


def _bytes(column: Column) -> str:
    name = quoted(column.name)
    kind = column.type
    if kind in (FieldType.FLOAT, FieldType.DOUBLE):
        # A product, not a sum: -0.0 + 0 is 0.
        return f"CAST({name} * 1e0 AS CHAR)"
    if kind in _LABELS:
        return f"CAST(CAST({name} AS UNSIGNED) AS CHAR)"
    if kind == FieldType.JSON:
        return f"CAST(CAST({name} AS CHAR) AS BINARY)"
    if kind in (FieldType.VARCHAR, FieldType.STRING, FieldType.BLOB):
        return f"CAST({name} AS BINARY)"
    if kind in (FieldType.GEOMETRY, FieldType.VECTOR):
        return f"HEX({name})"
    return f"CAST({name} AS CHAR)"
