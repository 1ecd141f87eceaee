"""What a table looks like to the rows that travel, and whether two tables fit.

A row image is positional: it names no columns and carries no types.  MySQL
applies it to whatever stands at the same position and, on the tables where that
is wrong, silently turns unsigned into signed, one enum label into another, and
one column into its neighbour.  So two regions exchange rows of a table only
after their *shapes* have been compared: names, order, types, signedness,
collation, labels, nullability and key.

Two shapes fit when they are equal, or when the local table only has more
columns after the source's last one.  The stamp columns are set aside for that
question, because a column added after the table joined the mesh stands behind
them; but the columns that both tables have must be in one order, stamps
included, since images are handed over unparsed.
"""

import itertools
from collections.abc import Callable, Sequence
from enum import IntEnum

import msgspec
from msgspec.structs import replace

STAMP_TS = "_mesh_ts"
STAMP_ORIGIN = "_mesh_origin"


class FieldType(IntEnum):
    """MySQL's type codes; ENUM and SET are told apart from CHAR (all 254 on the wire)."""

    TINY = 1
    SHORT = 2
    LONG = 3
    FLOAT = 4
    DOUBLE = 5
    LONGLONG = 8
    INT24 = 9
    DATE = 10
    YEAR = 13
    VARCHAR = 15
    BIT = 16
    TIMESTAMP2 = 17
    DATETIME2 = 18
    TIME2 = 19
    VECTOR = 242
    JSON = 245
    NEWDECIMAL = 246
    ENUM = 247
    SET = 248
    BLOB = 252
    VAR_STRING = 253
    STRING = 254
    GEOMETRY = 255


class Column(msgspec.Struct, frozen=True):
    """One column as the table map describes it.

    ``meta`` is the type's parameter: bytes of the longest value (CHAR, VARCHAR),
    bytes of the length prefix (BLOB, TEXT, JSON, GEOMETRY, VECTOR), bytes of the
    value (ENUM, SET, FLOAT, DOUBLE), bits (BIT), fraction digits (TIME, DATETIME,
    TIMESTAMP), ``precision << 8 | scale`` (DECIMAL), else 0.  ``collation`` is
    MySQL's id, 63 for bytes, 0 where there is none.  ``labels`` are the bytes of
    the ENUM or SET labels in the column's character set.
    """

    name: str
    type: int
    meta: int = 0
    unsigned: bool = False
    nullable: bool = True
    collation: int = 0
    labels: tuple[bytes, ...] = ()
    geometry: int = 0
    dimension: int = 0
    visible: bool = True

    @property
    def is_stamp(self) -> bool:
        """Whether this is one of the two columns of the row's version."""
        return self.name in (STAMP_TS, STAMP_ORIGIN)


STAMPS = (
    Column(STAMP_TS, FieldType.LONGLONG, unsigned=True, nullable=False, visible=False),
    Column(STAMP_ORIGIN, FieldType.TINY, unsigned=True, nullable=False, visible=False),
)
"""The two columns of a row's version, as `init` makes them."""


class Shape(msgspec.Struct, frozen=True):
    """A table as rows see it.

    ``key`` holds the indexes of the primary key's columns in column order, and
    ``prefixes`` (empty, or one number for each of them) the length in characters
    where the key covers only the start of a column.
    """

    schema: str
    table: str
    columns: tuple[Column, ...]
    key: tuple[int, ...]
    prefixes: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """``schema.table``, for messages."""
        return f"{self.schema}.{self.table}"

    @property
    def key_columns(self) -> tuple[Column, ...]:
        return tuple(self.columns[index] for index in self.key)

    def index_of(self, name: str) -> int | None:
        """Position of the column ``name``, or None."""
        for index, column in enumerate(self.columns):
            if column.name == name:
                return index
        return None

    @property
    def stamp_indexes(self) -> tuple[int, int] | None:
        """Positions of ``_mesh_ts`` and ``_mesh_origin``, or None without stamps."""
        ts, origin = self.index_of(STAMP_TS), self.index_of(STAMP_ORIGIN)
        return None if ts is None or origin is None else (ts, origin)


class Equal(msgspec.Struct, frozen=True):
    """Images of the source are images of the local table."""


class Wider(msgspec.Struct, frozen=True):
    """The local table has ``extra`` more columns.

    ``positions`` are the local indexes of the source's columns, in the order of
    the source's images: the columns bitmap of a converted event.
    """

    extra: int
    positions: tuple[int, ...]


class Unfit(msgspec.Struct, frozen=True):
    """Rows must not pass; ``reason`` names the column and the difference."""

    reason: str


Fit = Equal | Wider | Unfit


def compare(source: Shape, local: Shape) -> Fit:
    """Says whether rows of ``source`` can be written to ``local``, and how."""
    for side, shape in (("source", source), ("local", local)):
        fault = _stamp_fault(shape)
        if fault:
            return Unfit(f"{side} table {shape.name}: {fault}")
    fault = _column_fault(source, local) or _key_fault(source, local)
    if fault:
        return Unfit(f"table {local.name}: {fault}")
    places = {column.name: index for index, column in enumerate(local.columns)}
    positions = tuple(places[column.name] for column in source.columns)
    for before, after in itertools.pairwise(positions):
        if after < before:
            first, second = local.columns[after].name, local.columns[before].name
            return Unfit(
                f"table {local.name}: column `{first}` stands before `{second}` here "
                f"and after it at the source"
            )
    extra = len(local.columns) - len(source.columns)
    return Wider(extra, positions) if extra else Equal()


def fits(source: Shape, local: Shape, literal: Sequence[bool]) -> Fit:
    """The same, and whether the columns that ``local`` alone has can be filled up.

    They must stand behind the source's last one, the stamps included, each with a literal default;
    ``literal`` says so of each column of ``local``.
    """
    fit = compare(source, local)
    if not isinstance(fit, Wider):
        return fit
    count = len(source.columns)
    if fit.positions != tuple(range(count)):
        return Unfit(f"table {local.name} has more columns here, but not behind the source's last")
    for column, filled in zip(local.columns[count:], literal[count:], strict=True):
        if not filled:
            return Unfit(
                f"column `{column.name}` of {local.name} has no literal default, and the source "
                "does not have it"
            )
    return fit


def _stamp_fault(shape: Shape) -> str:
    expected = {STAMP_TS: FieldType.LONGLONG, STAMP_ORIGIN: FieldType.TINY}
    found = [column for column in shape.columns if column.is_stamp]
    if len(found) == 1:
        return f"has the stamp column `{found[0].name}` without its companion"
    for column in found:
        if column.type != expected[column.name] or not column.unsigned or column.nullable:
            return f"stamp column `{column.name}` is {describe(column)}"
    return ""


def _column_fault(source: Shape, local: Shape) -> str:
    if (source.stamp_indexes is None) != (local.stamp_indexes is None):
        side = "source" if source.stamp_indexes is None else "local table"
        return f"the {side} has no stamp columns"
    theirs = [column for column in source.columns if not column.is_stamp]
    ours = [column for column in local.columns if not column.is_stamp]
    for position, column in enumerate(theirs):
        if position >= len(ours):
            return f"column `{column.name}` ({describe(column)}) of the source is missing here"
        if ours[position].name != column.name:
            return (
                f"column {position + 1} is `{ours[position].name}` here and "
                f"`{column.name}` at the source"
            )
        fault = _difference(column, ours[position])
        if fault:
            return f"column `{column.name}`: {fault}"
    return ""


def _difference(source: Column, local: Column) -> str:
    questions: tuple[tuple[str, Callable[[Column], object]], ...] = (
        ("type", describe),
        ("labels", lambda column: column.labels),
        ("collation id", lambda column: column.collation),
        ("nullable", lambda column: column.nullable),
        ("geometry kind", lambda column: column.geometry),
        ("vector dimension", lambda column: column.dimension),
    )
    for what, question in questions:
        if question(source) != question(local):
            return f"{what} is {question(local)} here and {question(source)} at the source"
    return ""


def _key_fault(source: Shape, local: Shape) -> str:
    for side, shape in (("the source", source), ("here", local)):
        if not shape.key:
            return f"there is no primary key {'at ' * (side != 'here')}{side}"
        for index, prefix in zip(shape.key, shape.prefixes, strict=False):
            if prefix:
                return f"the primary key covers only a prefix of `{shape.columns[index].name}`"
    theirs = [column.name for column in source.key_columns]
    ours = [column.name for column in local.key_columns]
    if theirs != ours:
        return f"the primary key is {ours} here and {theirs} at the source"
    return ""


def buries(tombstones: Shape, shape: Shape) -> bool:
    """Whether the keys of ``tombstones`` (key columns, then the stamp) are those of ``shape``.

    The two columns of the stamp are always the last.  A table map without names is taken for the
    table that it is named after.
    """
    ours, theirs = tombstones.columns[:-2], shape.key_columns
    return len(ours) == len(theirs) and all(map(_same_key, ours, theirs))


def _same_key(ours: Column, theirs: Column) -> bool:
    name = theirs.name if ours.name else ""
    alike = replace(theirs, name=name, nullable=False, visible=True)
    return replace(ours, nullable=False, visible=True) == alike


_INTEGERS = frozenset(
    {FieldType.TINY, FieldType.SHORT, FieldType.INT24, FieldType.LONG, FieldType.LONGLONG}
)


def same_keys(source: Shape, local: Shape) -> bool:
    """Whether a key of the one names the same row in the other.

    Not so where labels stand in another order, or a collation has other values equal.  A
    wider integer or text holds the same values.
    """
    return len(source.key) == len(local.key) and all(
        map(_same_values, source.key_columns, local.key_columns)
    )


def _same_values(source: Column, local: Column) -> bool:
    if source.type in _INTEGERS and local.type in _INTEGERS:
        return source.name == local.name
    if source.type == local.type == FieldType.VARCHAR:
        return (source.name, source.collation) == (local.name, local.collation)
    return source == local


def describe(column: Column) -> str:
    """The column's type for a message: wire type, parameter and sign."""
    try:
        name = FieldType(column.type).name
    except ValueError:
        name = f"type {column.type}"
    if column.type == FieldType.NEWDECIMAL:
        name += f"({column.meta >> 8},{column.meta & 0xFF})"
    elif column.meta:
        name += f"({column.meta})"
    return name + " UNSIGNED" * column.unsigned
