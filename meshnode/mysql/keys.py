"""Row keys: as SQL that finds the row, and as images that name the row.

A key comes out of a row image (:mod:`meshnode.mysql.rowimage`) and goes two
ways.  As a literal in ``WHERE pk IN (...)`` it must find exactly its row: a
BINARY(n) padded to n bytes, because only INSERT pads; text with the introducer
of its own character set, so that no conversion takes place; a FLOAT as the exact
double; dates as strings, zero dates included (the session must allow them).  As
the before image of an update or delete it is the same bytes behind a null bitmap.
"""

import struct
from collections.abc import Callable, Mapping

from meshnode.core.shape import Column, FieldType, Shape
from meshnode.errors import Halt
from meshnode.mysql.numeric import decimal_text
from meshnode.mysql.rowimage import MalformedRow, fixed_size, piece_end, prefix_size
from meshnode.mysql.temporal import date_text, datetime_text, time_text, timestamp_text
from meshnode.mysql.wire import pack_first_low

BINARY_COLLATION = 63

_INTEGERS = frozenset(
    {FieldType.TINY, FieldType.SHORT, FieldType.INT24, FieldType.LONG, FieldType.LONGLONG}
)
_TEMPORAL = {
    FieldType.DATE: date_text,
    FieldType.TIME2: time_text,
    FieldType.DATETIME2: datetime_text,
    FieldType.TIMESTAMP2: timestamp_text,
}
_TEXTS = frozenset({FieldType.VARCHAR, FieldType.VAR_STRING, FieldType.STRING, FieldType.BLOB})


def split_key(shape: Shape, key: bytes) -> list[bytes]:
    """The pieces of the key columns, length prefixes included."""
    pieces, pos = [], 0
    for column in shape.key_columns:
        stop = piece_end(column, key, pos)
        if stop > len(key):
            break
        pieces.append(key[pos:stop])
        pos = stop
    if pos != len(key) or len(pieces) != len(shape.key):
        raise MalformedRow(f"key {key.hex()} is no key of table {shape.name}")
    return pieces


def key_is_binary(shape: Shape) -> bool:
    """Whether equal keys are equal bytes.

    False for text, where the collation decides, and for FLOAT and DOUBLE, where
    0 equals -0.
    """
    return not any(
        column.type in (FieldType.FLOAT, FieldType.DOUBLE)
        or (column.type in _TEXTS and column.collation != BINARY_COLLATION)
        for column in shape.key_columns
    )


def key_literal(shape: Shape, charsets: Mapping[int, str]) -> Callable[[bytes], str]:
    """A function from a key to SQL: a literal, or ``(a,b)`` for a composite key.

    It fits ``WHERE (<key columns in column order>) IN (...)``.  ``charsets`` maps
    collation ids to character set names, as ``information_schema.collations`` does.
    """
    columns = shape.key_columns
    literals = [_literal(shape, column, charsets) for column in columns]
    if len(columns) == 1 and columns[0].type in _INTEGERS:
        signed, size = not columns[0].unsigned, fixed_size(columns[0])

        def integer(key: bytes) -> str:
            if len(key) != size:
                raise MalformedRow(f"key {key.hex()} is no key of table {shape.name}")
            return str(int.from_bytes(key, "little", signed=signed))

        return integer

    def literal(key: bytes) -> str:
        texts = [write(piece) for write, piece in zip(literals, split_key(shape, key), strict=True)]
        return texts[0] if len(texts) == 1 else f"({','.join(texts)})"

    return literal


def _literal(shape: Shape, column: Column, charsets: Mapping[int, str]) -> Callable[[bytes], str]:
    kind = column.type
    if kind in _INTEGERS:
        return lambda raw: str(int.from_bytes(raw, "little", signed=not column.unsigned))
    if kind in (FieldType.ENUM, FieldType.SET):
        # A SET of 64 labels compares as a signed number, unlike the one INSERT takes.
        signed = fixed_size(column) == 8
        return lambda raw: str(int.from_bytes(raw, "little", signed=signed))
    if kind == FieldType.YEAR:
        return lambda raw: str(raw[0] + 1900 if raw[0] else 0)
    if kind == FieldType.BIT:
        return _hex
    if kind == FieldType.NEWDECIMAL:
        return lambda raw: decimal_text(raw, column.meta)
    if kind in (FieldType.FLOAT, FieldType.DOUBLE):
        code = "<f" if kind == FieldType.FLOAT else "<d"
        return lambda raw: exponent_text(struct.unpack(code, raw)[0])
    if kind in _TEMPORAL:
        text = _TEMPORAL[kind]
        return lambda raw: f"'{text(raw, column.meta)}'"
    if kind not in _TEXTS:
        raise Halt(
            f"key column `{column.name}` of table {shape.name} has the type {kind}, "
            f"which cannot be looked up",
            "take the table out of the topology",
        )
    prefix = prefix_size(column)
    if column.collation == BINARY_COLLATION:
        width = column.meta if kind == FieldType.STRING else 0
        return lambda raw: _hex(raw[prefix:].ljust(width, b"\0"))
    charset = charsets.get(column.collation)
    if charset is None:
        raise Halt(
            f"key column `{column.name}` of table {shape.name} has the collation id "
            f"{column.collation}, which this server does not know",
            "install the collation, or change the column's collation everywhere",
        )
    return lambda raw: f"_{charset} {_hex(raw[prefix:])}"


def _hex(raw: bytes) -> str:
    return f"X'{raw.hex()}'"


def exponent_text(value: float) -> str:
    """The shortest text of the double, with the exponent that makes it a DOUBLE in SQL."""
    text = repr(value)
    return text if "e" in text else text + "e0"


def key_bitmap(shape: Shape) -> bytes:
    """The columns bitmap of an image that holds only the key."""
    return pack_first_low([index in shape.key for index in range(len(shape.columns))])


def key_image(shape: Shape, key: bytes) -> bytes:
    """The image that holds only the key: no NULLs, then the pieces."""
    return bytes((len(shape.key) + 7) // 8) + key


def stamp_bitmap(shape: Shape) -> bytes:
    """The columns bitmap of an image that holds only the stamp."""
    stamps = shape.stamp_indexes
    if stamps is None:
        raise Halt(
            f"table {shape.name} has no stamp columns",
            "run `meshnode init` to bring the table back into the mesh",
        )
    return pack_first_low([index in stamps for index in range(len(shape.columns))])


def stamp_image(ts: int, origin: int) -> bytes:
    """The image that holds only the stamp; ``_mesh_ts`` stands before ``_mesh_origin``."""
    return struct.pack("<BQB", 0, ts, origin)
