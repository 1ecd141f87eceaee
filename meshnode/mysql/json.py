"""MySQL's binary JSON, as the text MySQL prints.

Objects and arrays begin with tables of offsets.  Values are found by these
offsets only: after updates in place there is garbage between them.  Small
values stand in the tables themselves.  Types that JSON does not have (DECIMAL,
dates, bytes) are *opaque*: a column type code and the bytes; they print as MySQL
prints them, bytes as ``base64:type<code>:<base64>``.
"""

import json
import math
import struct
from base64 import b64encode

from meshnode.core.shape import FieldType
from meshnode.mysql.numeric import decimal_size, decimal_text
from meshnode.mysql.temporal import packed_date_text, packed_datetime_text, packed_time_text
from meshnode.mysql.wire import MalformedEvent

_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY = 0, 1, 2, 3
_LITERAL, _DOUBLE, _STRING, _OPAQUE = 4, 0xB, 0xC, 0xF
_INTEGERS = {5: "<h", 6: "<H", 7: "<i", 8: "<I", 9: "<q", 10: "<Q"}
_LITERALS = {0: "null", 1: "true", 2: "false"}
_INLINED_SMALL = frozenset({4, 5, 6})
_INLINED_LARGE = frozenset({4, 5, 6, 7, 8})
_MAX_DEPTH = 101


def json_text(data: bytes) -> str:
    """The document as text; an empty value, which old servers wrote, is ``null``.

    Bytes that are not valid UTF-8, which no server writes, print as escapes.
    """
    if not data:
        return "null"
    try:
        return _value(data[0], data, 1, 1)
    except (IndexError, struct.error, KeyError, ValueError) as error:
        raise MalformedEvent(f"JSON value of {len(data)} bytes is damaged: {error}") from error


def _value(kind: int, data: bytes, pos: int, depth: int) -> str:
    if kind <= _LARGE_ARRAY:
        if depth > _MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        return _container(kind, data, pos, depth)
    if kind == _LITERAL:
        return _LITERALS[data[pos]]
    if kind in _INTEGERS:
        return str(struct.unpack_from(_INTEGERS[kind], data, pos)[0])
    if kind == _DOUBLE:
        return _double_text(struct.unpack_from("<d", data, pos)[0])
    if kind == _STRING:
        return _quoted(_sized(data, pos))
    if kind == _OPAQUE:
        return _opaque(data[pos], _sized(data, pos + 1))
    raise ValueError(f"type {kind} is unknown")


def _container(kind: int, data: bytes, base: int, depth: int) -> str:
    large = kind in (_LARGE_OBJECT, _LARGE_ARRAY)
    is_object = kind in (_SMALL_OBJECT, _LARGE_OBJECT)
    width, code = (4, "<I") if large else (2, "<H")
    inlined = _INLINED_LARGE if large else _INLINED_SMALL

    def number(at: int) -> int:
        return struct.unpack_from(code, data, at)[0]

    count = number(base)
    if number(base + width) > len(data) - base:
        raise ValueError("a container runs beyond the end")
    keys_at = base + 2 * width
    entries_at = keys_at + is_object * count * (width + 2)
    if entries_at + count * (width + 1) > len(data):
        raise ValueError("a container has more entries than bytes")
    parts = []
    for index in range(count):
        entry = entries_at + index * (width + 1)
        child = data[entry]
        at = entry + 1 if child in inlined else base + number(entry + 1)
        text = _value(child, data, at, depth + 1)
        if is_object:
            key_entry = keys_at + index * (width + 2)
            start = base + number(key_entry)
            size = struct.unpack_from("<H", data, key_entry + width)[0]
            text = f"{_quoted(_exact(data, start, size))}: {text}"
        parts.append(text)
    return f"{{{', '.join(parts)}}}" if is_object else f"[{', '.join(parts)}]"


def _sized(data: bytes, pos: int) -> bytes:
    """Bytes behind a length of 7 bits a byte, low ones first."""
    size = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return _exact(data, pos, size)
        shift += 7
        if shift > 28:
            raise ValueError("a length has more than 5 bytes")


def _exact(data: bytes, pos: int, size: int) -> bytes:
    if pos + size > len(data):
        raise ValueError("a string runs beyond the end")
    return data[pos : pos + size]


def _quoted(raw: bytes) -> str:
    return json.dumps(raw.decode("utf-8", "backslashreplace"), ensure_ascii=False)


def _double_text(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError("a double is not finite")
    return repr(value).replace("e+", "e")


def _opaque(kind: int, raw: bytes) -> str:
    if kind == FieldType.NEWDECIMAL:
        meta = raw[0] << 8 | raw[1]
        if len(raw) != 2 + decimal_size(meta):
            raise ValueError("a DECIMAL has the wrong size")
        return decimal_text(raw[2:], meta)
    if kind in _PACKED:
        return f'"{_PACKED[kind](struct.unpack("<q", raw)[0])}"'
    return f'"base64:type{kind}:{b64encode(raw).decode("ascii")}"'


_PACKED = {
    FieldType.DATE: packed_date_text,
    11: packed_time_text,
    12: packed_datetime_text,
    7: packed_datetime_text,
}
"""Inside JSON, TIME, DATETIME and TIMESTAMP have the type codes of old formats."""
