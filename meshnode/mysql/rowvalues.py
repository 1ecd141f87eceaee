"""Full decode of an image, for people: conflict records and parked rows.

Nothing on the data path depends on it.  Each value becomes something JSON can
hold without losing a bit: numbers as they are, DECIMAL and times as MySQL's text,
bytes as ``0x`` and hex digits, JSON as its text.  Text that Python cannot decode
becomes ``{"charset": name, "hex": digits}``, so that it cannot be mistaken for
text that looks like hex.  A column that the image does not hold is left out.
"""

import struct
from collections.abc import Callable, Mapping

from meshnode.core.shape import Column, FieldType, Shape
from meshnode.mysql.json import json_text
from meshnode.mysql.numeric import decimal_text
from meshnode.mysql.rowimage import MalformedRow, fixed_size, piece_end, prefix_size
from meshnode.mysql.temporal import date_text, datetime_text, time_text, timestamp_text

Value = None | int | float | str | dict[str, str]

_CODECS = {
    "utf8mb4": "utf-8",
    "utf8mb3": "utf-8",
    "utf8": "utf-8",
    "ascii": "ascii",
    "latin1": "cp1252",
    "latin2": "iso8859_2",
    "latin5": "iso8859_9",
    "latin7": "iso8859_13",
    "greek": "iso8859_7",
    "hebrew": "iso8859_8",
    "cp850": "cp850",
    "cp852": "cp852",
    "cp866": "cp866",
    "cp1250": "cp1250",
    "cp1251": "cp1251",
    "cp1256": "cp1256",
    "cp1257": "cp1257",
    "koi8r": "koi8_r",
    "koi8u": "koi8_u",
    "tis620": "tis_620",
    "gbk": "gbk",
    "gb2312": "gb2312",
    "gb18030": "gb18030",
    "big5": "big5",
    "sjis": "shift_jis",
    "cp932": "cp932",
    "ujis": "euc_jp",
    "euckr": "euc_kr",
    "ucs2": "utf_16_be",
    "utf16": "utf_16_be",
    "utf16le": "utf_16_le",
    "utf32": "utf_32_be",
}

_INTEGERS = frozenset(
    {FieldType.TINY, FieldType.SHORT, FieldType.INT24, FieldType.LONG, FieldType.LONGLONG}
)
_TIMES = {
    FieldType.DATE: date_text,
    FieldType.TIME2: time_text,
    FieldType.DATETIME2: datetime_text,
    FieldType.TIMESTAMP2: timestamp_text,
}
_BINARY = 63


def row_values(
    shape: Shape,
    image: bytes,
    charsets: Mapping[int, str],
    bitmap: bytes | None = None,
) -> dict[str, Value]:
    """The values of ``image`` by column name.

    ``bitmap`` says which columns are there (None: all).  ``charsets`` maps collation
    ids to character set names.
    """
    count = len(shape.columns)
    every = (1 << count) - 1
    present = every if bitmap is None else int.from_bytes(bitmap, "little") & every
    size = (present.bit_count() + 7) // 8
    nulls, pos = int.from_bytes(image[:size], "little"), size
    values: dict[str, Value] = {}
    for index, column in enumerate(shape.columns):
        if not present >> index & 1:
            continue
        null, nulls = nulls & 1, nulls >> 1
        if null:
            values[column.name] = None
            continue
        stop = piece_end(column, image, pos)
        if stop > len(image):
            raise MalformedRow(f"column `{column.name}` of table {shape.name} is cut short")
        values[column.name] = column_value(column, image[pos:stop], charsets)
        pos = stop
    if pos != len(image):
        raise MalformedRow(f"an image of table {shape.name} is {len(image) - pos} bytes too long")
    return values


def key_values(shape: Shape, key: bytes, charsets: Mapping[int, str]) -> dict[str, Value]:
    """The values of a row key by column name."""
    values, pos = {}, 0
    for column in shape.key_columns:
        stop = piece_end(column, key, pos)
        if stop > len(key):
            raise MalformedRow(f"key {key.hex()} is no key of table {shape.name}")
        values[column.name] = column_value(column, key[pos:stop], charsets)
        pos = stop
    return values


def column_value(column: Column, piece: bytes, charsets: Mapping[int, str]) -> Value:
    """The value of one piece (length prefix included)."""
    decode = _DECODERS.get(column.type)
    if decode is not None:
        return decode(column, piece, charsets)
    content = piece if fixed_size(column) is not None else piece[prefix_size(column) :]
    if column.type in _TEXTS and column.collation != _BINARY:
        return _text(content, column.collation, charsets)
    if column.type == FieldType.STRING:
        content = content.ljust(column.meta, b"\0")
    return f"0x{content.hex()}"


_TEXTS = frozenset({FieldType.VARCHAR, FieldType.VAR_STRING, FieldType.STRING, FieldType.BLOB})


def _text(raw: bytes, collation: int, charsets: Mapping[int, str]) -> Value:
    charset = charsets.get(collation, f"collation {collation}")
    try:
        return raw.decode(_CODECS[charset])
    except (KeyError, UnicodeDecodeError):
        return {"charset": charset, "hex": raw.hex()}


def _integer(column: Column, raw: bytes, _: Mapping[int, str]) -> int:
    return int.from_bytes(raw, "little", signed=not column.unsigned)


def _enum(column: Column, raw: bytes, charsets: Mapping[int, str]) -> Value:
    """The label; the number where there is none, such as 0, the error value."""
    index = int.from_bytes(raw, "little")
    if not 0 < index <= len(column.labels):
        return index
    return _text(column.labels[index - 1], column.collation, charsets)


def _set(column: Column, raw: bytes, charsets: Mapping[int, str]) -> Value:
    """The labels with commas between them, which no label contains."""
    bits = int.from_bytes(raw, "little")
    if bits >> len(column.labels):
        return bits
    labels = [
        _text(label, column.collation, charsets)
        for place, label in enumerate(column.labels)
        if bits >> place & 1
    ]
    return ",".join(labels) if all(isinstance(label, str) for label in labels) else bits


def _time(column: Column, raw: bytes, _: Mapping[int, str]) -> str:
    return _TIMES[column.type](raw, column.meta)


_DECODERS: dict[int, Callable[[Column, bytes, Mapping[int, str]], Value]] = {
    **dict.fromkeys(_INTEGERS, _integer),
    **dict.fromkeys(_TIMES, _time),
    FieldType.YEAR: lambda _, raw, __: f"{raw[0] + 1900 if raw[0] else 0:04d}",
    FieldType.FLOAT: lambda _, raw, __: struct.unpack("<f", raw)[0],
    FieldType.DOUBLE: lambda _, raw, __: struct.unpack("<d", raw)[0],
    FieldType.NEWDECIMAL: lambda column, raw, _: decimal_text(raw, column.meta),
    FieldType.ENUM: _enum,
    FieldType.SET: _set,
    FieldType.JSON: lambda column, raw, _: json_text(raw[prefix_size(column) :]),
}
