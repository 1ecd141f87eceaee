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
from meshnode.mysql.rowimage import MalformedRow, fixed_size, prefix_size
from meshnode.mysql.temporal import date_text, datetime_text, time_text, timestamp_text
from meshnode.mysql.wire import pack_first_low

BINARY_COLLATION = 63

_STRUCT_CODES = {
    FieldType.TINY: "B",
    FieldType.SHORT: "H",
    FieldType.LONG: "I",
    FieldType.LONGLONG: "Q",
}
_LABELLED = frozenset({FieldType.ENUM, FieldType.SET})
_TEMPORAL = {
    FieldType.DATE: date_text,
    FieldType.TIME2: time_text,
    FieldType.DATETIME2: datetime_text,
    FieldType.TIMESTAMP2: timestamp_text,
}
_TEXTS = frozenset({FieldType.VARCHAR, FieldType.VAR_STRING, FieldType.STRING, FieldType.BLOB})


def split_key(shape: Shape, key: bytes) -> list[bytes]:
    """The pieces of the key columns, length prefixes included."""
    return _splitter(shape)(key)


def _splitter(shape: Shape) -> Callable[[bytes], list[bytes]]:
    sizes = [(fixed_size(column) or 0, column) for column in shape.key_columns]
    widths = [(size, 0 if size else prefix_size(column)) for size, column in sizes]

    def split(key: bytes) -> list[bytes]:
        pieces, pos = [], 0
        for size, prefix in widths:
            stop = pos + size
            if prefix:
                stop = pos + prefix + int.from_bytes(key[pos : pos + prefix], "little")
            pieces.append(key[pos:stop])
            pos = stop
        if pos != len(key):
            raise _no_key(shape, key)
        return pieces

    return split


def key_checker(shape: Shape) -> Callable[[bytes], bool]:
    """A function that says whether bytes have the form of a key: its pieces and nothing more."""
    sizes = [fixed_size(column) for column in shape.key_columns]
    if None not in sizes:
        whole = sum(size or 0 for size in sizes)
        return lambda key: len(key) == whole
    split = _splitter(shape)

    def is_key(key: bytes) -> bool:
        try:
            split(key)
        except MalformedRow:
            return False
        return True

    return is_key


def _no_key(shape: Shape, key: bytes) -> MalformedRow:
    return MalformedRow(f"key {key.hex()} is no key of table {shape.name}")


def integer_code(column: Column) -> str | None:
    """How :mod:`struct` reads a piece of an integer column; None for others and MEDIUMINT."""
    code = _STRUCT_CODES.get(column.type)
    return code if code is None or column.unsigned else code.lower()


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
    codes = [_STRUCT_CODES.get(column.type, "") for column in columns]
    if all(codes):
        return _integers(shape, codes)
    split = _splitter(shape)
    literals = column_literals(shape, charsets)
    if len(columns) == 1:
        (only,) = literals
        return lambda key: only(*split(key))
    literals = [
        _label(column, _charset(shape, column, charsets)) if column.type in _LABELLED else literal
        for column, literal in zip(columns, literals, strict=True)
    ]

    def literal(key: bytes) -> str:
        texts = [write(piece) for write, piece in zip(literals, split(key), strict=True)]
        return f"({','.join(texts)})"

    return literal


def _integers(shape: Shape, codes: list[str]) -> Callable[[bytes], str]:
    signs = zip(codes, shape.key_columns, strict=True)
    layout = struct.Struct(
        "<" + "".join(code if column.unsigned else code.lower() for code, column in signs)
    )
    template = ",".join(["%d"] * len(codes))
    if len(codes) > 1:
        template = f"({template})"

    def literal(key: bytes) -> str:
        if len(key) != layout.size:
            raise _no_key(shape, key)
        return template % layout.unpack(key)

    return literal


_WIDE_COMMAS = {"ucs2": b"\0,", "utf16": b"\0,", "utf16le": b",\0", "utf32": b"\0\0\0,"}


def _label(column: Column, charset: str) -> Callable[[bytes], str]:
    """The label as text: within a row comparison a label never equals its number."""
    if column.type == FieldType.ENUM:
        # The error value, 0, compares as the empty text.
        texts = [f"_{charset} {_hex(label)}" for label in (b"", *column.labels)]
        return lambda raw: texts[int.from_bytes(raw, "little")]
    comma = _WIDE_COMMAS.get(charset, b",")

    def literal(raw: bytes) -> str:
        bits = int.from_bytes(raw, "little")
        chosen = (label for place, label in enumerate(column.labels) if bits >> place & 1)
        return f"_{charset} {_hex(comma.join(chosen))}"

    return literal


def column_literals(shape: Shape, charsets: Mapping[int, str]) -> list[Callable[[bytes], str]]:
    """A function from piece to literal for each key column, in column order."""
    return [_literal(shape, column, charsets) for column in shape.key_columns]


def _literal(shape: Shape, column: Column, charsets: Mapping[int, str]) -> Callable[[bytes], str]:
    kind = column.type
    if kind in _STRUCT_CODES or kind == FieldType.INT24:
        return lambda raw: str(int.from_bytes(raw, "little", signed=not column.unsigned))
    if kind in _LABELLED:
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
    charset = _charset(shape, column, charsets)
    return lambda raw: f"_{charset} {_hex(raw[prefix:])}"


def _charset(shape: Shape, column: Column, charsets: Mapping[int, str]) -> str:
    charset = charsets.get(column.collation)
    if charset is None:
        raise Halt(
            f"key column `{column.name}` of table {shape.name} has the collation id "
            f"{column.collation}, which this server does not know",
            "install the collation, or change the column's collation everywhere",
        )
    return charset


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
