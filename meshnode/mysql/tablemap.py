"""TABLE_MAP events: which table the following rows belong to, and its columns.

A table map stands before the rows of each statement.  Its fixed part gives type
codes with their parameters; with ``binlog_row_metadata=FULL`` a list of tagged
fields follows: signs, collations, names, labels, key.  Those lists are indexed
by *kind* of column, not by position ("the third character column"), so the one
thing to get right is which columns count as which kind.  VECTOR counts as a
character column and YEAR as a number; JSON and GEOMETRY are neither.
"""

from collections.abc import Iterator
from functools import lru_cache

import msgspec

from meshnode.core.shape import Column, FieldType, Shape
from meshnode.errors import Halt
from meshnode.mysql.wire import MalformedEvent, bits_first_high, bits_first_low, read_length

NUMERIC = frozenset(
    {
        FieldType.TINY,
        FieldType.SHORT,
        FieldType.INT24,
        FieldType.LONG,
        FieldType.LONGLONG,
        FieldType.NEWDECIMAL,
        FieldType.FLOAT,
        FieldType.DOUBLE,
        FieldType.YEAR,
    }
)
"""Types with a bit in the sign list."""

CHARACTER = frozenset(
    {
        FieldType.VARCHAR,
        FieldType.VAR_STRING,
        FieldType.STRING,
        FieldType.BLOB,
        FieldType.VECTOR,
    }
)
"""Types with an entry in the collation lists."""

LABELLED = frozenset({FieldType.ENUM, FieldType.SET})

_META_BYTES = {
    **dict.fromkeys((1, 2, 3, 8, 9, 10, 13), 0),
    **dict.fromkeys((4, 5, 17, 18, 19, 242, 245, 252, 255), 1),
    **dict.fromkeys((15, 16, 246, 253, 254), 2),
}


class Tag:
    """Numbers of the tagged metadata fields."""

    SIGNEDNESS = 1
    DEFAULT_CHARSET = 2
    COLUMN_CHARSET = 3
    COLUMN_NAME = 4
    SET_LABELS = 5
    ENUM_LABELS = 6
    GEOMETRY_KIND = 7
    SIMPLE_KEY = 8
    PREFIX_KEY = 9
    LABEL_DEFAULT_CHARSET = 10
    LABEL_COLUMN_CHARSET = 11
    VISIBILITY = 12
    VECTOR_DIMENSION = 13


class TableMap(msgspec.Struct, frozen=True):
    """One TABLE_MAP event.

    ``definition`` is everything after the table id: equal definitions mean equal
    images, whatever the id.  ``named`` is False when the server wrote no column
    names (``binlog_row_metadata`` is not FULL).
    """

    table_id: int
    flags: int
    shape: Shape
    named: bool
    definition: bytes


def parse_table_map(buf: bytes, pos: int = 0, end: int | None = None) -> TableMap:
    """Reads the body of a TABLE_MAP event from ``buf[pos:end]`` (no checksum).

    Every statement has a table map, so what a definition means is kept.
    """
    flags, shape, named, definition = _read_definition(bytes(buf[pos + 6 : end]))
    table_id = int.from_bytes(buf[pos : pos + 6], "little")
    return TableMap(table_id, flags, shape, named, definition)


@lru_cache(maxsize=4096)
def _read_definition(definition: bytes) -> tuple[int, Shape, bool, bytes]:
    """(flags, shape, named, the definition itself: its hash is known)."""
    try:
        return _parse(definition)
    except Halt:
        raise
    except (IndexError, ValueError) as error:
        raise MalformedEvent("TABLE_MAP event is shorter than its own lengths say") from error


def require_names(table_map: TableMap) -> Shape:
    """The shape, or Halt when the source does not write full metadata."""
    if not table_map.named:
        raise Halt(
            f"the binary log of table {table_map.shape.name} carries no column names",
            "SET PERSIST binlog_row_metadata = FULL on that server; statements logged "
            "before need `meshnode skip`",
        )
    return table_map.shape


def _parse(body: bytes) -> tuple[int, Shape, bool, bytes]:
    flags = int.from_bytes(body[:2], "little")
    schema, pos = _text(body, 2)
    table, pos = _text(body, pos + 1)
    count, pos = read_length(body, pos + 1)
    codes = body[pos : pos + count]
    size, pos = read_length(body, pos + count)
    kinds, metas = _types(codes, body[pos : pos + size], f"{schema}.{table}")
    pos += size
    nullable = bits_first_low(body[pos : pos + (count + 7) // 8], count)
    fields = dict(_tagged(body, pos + (count + 7) // 8))

    unsigned = _by_kind(kinds, NUMERIC, fields.get(Tag.SIGNEDNESS), bits_first_high, False)
    collations = _collations(kinds, fields)
    names = list(_texts(fields.get(Tag.COLUMN_NAME, b"")))
    named = len(names) == count
    sets = iter(_label_lists(fields.get(Tag.SET_LABELS, b"")))
    enums = iter(_label_lists(fields.get(Tag.ENUM_LABELS, b"")))
    geometries = _by_kind(
        kinds, {FieldType.GEOMETRY}, fields.get(Tag.GEOMETRY_KIND), _integers_checked, 0
    )
    dimensions = _by_kind(
        kinds, {FieldType.VECTOR}, fields.get(Tag.VECTOR_DIMENSION), _integers_checked, 0
    )
    visible = fields.get(Tag.VISIBILITY)
    visibility = bits_first_high(visible, count) if visible else [True] * count
    columns = tuple(
        Column(
            name=names[index] if named else f"@{index + 1}",
            type=int(kind),
            meta=metas[index],
            unsigned=unsigned[index],
            nullable=nullable[index],
            collation=collations[index],
            labels=next(sets, ())
            if kind == FieldType.SET
            else next(enums, ())
            if kind == FieldType.ENUM
            else (),
            geometry=geometries[index],
            dimension=dimensions[index],
            visible=visibility[index],
        )
        for index, kind in enumerate(kinds)
    )
    key, prefixes = _key(fields)
    if key and key[-1] >= count:
        raise MalformedEvent(f"table map of {schema}.{table}: key column {key[-1]} of {count}")
    return flags, Shape(schema, table, columns, key, prefixes), named, body


def _text(body: bytes, pos: int) -> tuple[str, int]:
    size, pos = read_length(body, pos)
    if pos + size > len(body):
        raise IndexError
    return body[pos : pos + size].decode("utf-8", "surrogateescape"), pos + size


def _texts(raw: bytes) -> Iterator[str]:
    pos = 0
    while pos < len(raw):
        text, pos = _text(raw, pos)
        yield text


def _types(codes: bytes, metas: bytes, name: str) -> tuple[list[int], list[int]]:
    kinds, values, pos = [], [], 0
    for index, code in enumerate(codes):
        size = _META_BYTES.get(code)
        if size is None:
            raise Halt(
                f"column {index + 1} of table {name} has the wire type {code}, "
                f"which this version does not know",
                "upgrade meshnode, or take the table out of the topology",
            )
        if pos + size > len(metas):
            raise IndexError
        kind, value = code, int.from_bytes(metas[pos : pos + size], "little")
        first, second = metas[pos : pos + 2] if size == 2 else (0, 0)
        if code == FieldType.BIT:
            value = second * 8 + first
        elif code == FieldType.NEWDECIMAL:
            value = first << 8 | second
        elif code == FieldType.STRING:
            if first in (FieldType.ENUM, FieldType.SET):
                kind, value = first, second
            else:
                # Two high bits of the length hide, inverted, in the type byte.
                value = ((first & 0x30) ^ 0x30) << 4 | second
        kinds.append(kind)
        values.append(value)
        pos += size
    return kinds, values


def _tagged(body: bytes, pos: int) -> Iterator[tuple[int, bytes]]:
    while pos < len(body):
        tag = body[pos]
        size, pos = read_length(body, pos + 1)
        if pos + size > len(body):
            raise IndexError
        yield tag, body[pos : pos + size]
        pos += size


def _integers(raw: bytes) -> Iterator[int]:
    pos = 0
    while pos < len(raw):
        value, pos = read_length(raw, pos)
        yield value


def _integers_checked(raw: bytes, count: int) -> list[int]:
    values = list(_integers(raw))
    if len(values) != count:
        raise IndexError
    return values


def _by_kind(kinds: list[int], wanted, raw: bytes | None, read, default) -> list:
    """Spreads a list that has entries for ``wanted`` kinds only over all columns."""
    places = [index for index, kind in enumerate(kinds) if kind in wanted]
    result = [default] * len(kinds)
    if raw is not None:
        for place, value in zip(places, read(raw, len(places)), strict=True):
            result[place] = value
    return result


def _collations(kinds: list[int], fields: dict[int, bytes]) -> list[int]:
    result = [0] * len(kinds)
    for wanted, default_tag, column_tag in (
        (CHARACTER, Tag.DEFAULT_CHARSET, Tag.COLUMN_CHARSET),
        (LABELLED, Tag.LABEL_DEFAULT_CHARSET, Tag.LABEL_COLUMN_CHARSET),
    ):
        places = [index for index, kind in enumerate(kinds) if kind in wanted]
        if default_tag in fields:
            default, *pairs = _integers(fields[default_tag])
            values = [default] * len(places)
            for place, collation in zip(pairs[::2], pairs[1::2], strict=True):
                values[place] = collation
        elif column_tag in fields:
            values = _integers_checked(fields[column_tag], len(places))
        else:
            continue
        for place, collation in zip(places, values, strict=True):
            result[place] = collation
    return result


def _label_lists(raw: bytes) -> Iterator[tuple[bytes, ...]]:
    pos = 0
    while pos < len(raw):
        count, pos = read_length(raw, pos)
        labels = []
        for _ in range(count):
            size, pos = read_length(raw, pos)
            labels.append(raw[pos : pos + size])
            pos += size
        if pos > len(raw):
            raise IndexError
        yield tuple(labels)


def _key(fields: dict[int, bytes]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The key's columns in column order (the metadata has them in the key's order)."""
    if Tag.SIMPLE_KEY in fields:
        return tuple(sorted(_integers(fields[Tag.SIMPLE_KEY]))), ()
    if Tag.PREFIX_KEY not in fields:
        return (), ()
    numbers = list(_integers(fields[Tag.PREFIX_KEY]))
    pairs = sorted(zip(numbers[::2], numbers[1::2], strict=True))
    return tuple(column for column, _ in pairs), tuple(prefix for _, prefix in pairs)
