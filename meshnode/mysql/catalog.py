"""Reads ``information_schema`` into the shape that rows of a table will have.

The binlog describes a table by its table map, the server by its catalogue.
Before rows are exchanged the two are compared, so both must lead to the same
:class:`~meshnode.core.shape.Shape`: whatever a table map of a table says,
:func:`read` says of that table too (a test holds one against the other for
every column type).  Beyond the shape it gives what the catalogue alone knows:
the order of the key in its index, generated columns, defaults, unique keys.

Labels of ENUM and SET are the one thing the catalogue may not give exactly: it
holds them in utf8mb3, so a label with a character beyond that reads as ``?``.
Such a table is not wrong, but its shape will not fit its rows and its stream
waits; ``Table.lossy_labels`` names the columns.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import msgspec

from meshnode.core import shape as shapes
from meshnode.core.shape import STAMPS, Column, FieldType, Fit, Shape, buries
from meshnode.mysql.schema import MESH_SCHEMA, KeyColumn, tombstone_name


class Rows(Protocol):
    """The part of a connection that the catalogue needs."""

    async def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple]: ...


class Default(StrEnum):
    """What a column gets when an insert does not name it."""

    LITERAL = "literal"
    EXPRESSION = "expression"
    GENERATED = "generated"
    AUTO_INCREMENT = "auto_increment"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Table:
    """A base table as its server describes it.

    ``key`` is the primary key in column order, like ``shape.key``; ``key_order`` are the
    names in the order of its index; all are empty without one.  ``defaults`` stands
    beside ``shape.columns``; NULL by default counts as a literal.  ``row_format`` and
    ``index_types`` (of any index) are in MySQL's own capitals.
    """

    shape: Shape
    engine: str
    key: tuple[KeyColumn, ...]
    defaults: tuple[Default, ...]
    key_order: tuple[str, ...] = ()
    unique_keys: tuple[str, ...] = ()
    lossy_labels: tuple[str, ...] = ()
    row_format: str = ""
    index_types: frozenset[str] = frozenset()
    self_dated: tuple[str, ...] = ()
    """Columns that become the present time with each update of their row (ON UPDATE)."""
    generated: tuple[tuple[str, str], ...] = ()
    """Generated columns and their expressions, as the server spells them."""

    @property
    def name(self) -> str:
        return self.shape.name

    @property
    def expressions(self) -> dict[str, str]:
        """The expressions of generated columns by name."""
        return dict(self.generated)

    @property
    def literal(self) -> list[bool]:
        """Whether each column gets a literal when an insert does not name it."""
        return [default is Default.LITERAL for default in self.defaults]

    def column(self, name: str) -> Column | None:
        index = self.shape.index_of(name)
        return None if index is None else self.shape.columns[index]


_COLUMNS = """
SELECT c.COLUMN_NAME, c.DATA_TYPE, c.COLUMN_TYPE, c.CHARACTER_OCTET_LENGTH, c.NUMERIC_PRECISION,
  c.NUMERIC_SCALE, c.DATETIME_PRECISION, c.IS_NULLABLE, c.CHARACTER_SET_NAME, c.COLLATION_NAME,
  l.ID, c.COLUMN_DEFAULT, c.EXTRA, c.GENERATION_EXPRESSION
FROM information_schema.COLUMNS c
  LEFT JOIN information_schema.COLLATIONS l ON l.COLLATION_NAME = c.COLLATION_NAME
WHERE c.TABLE_SCHEMA = %s AND c.TABLE_NAME = %s ORDER BY c.ORDINAL_POSITION"""

_INDEXES = """
SELECT INDEX_NAME, COLUMN_NAME, SUB_PART, NON_UNIQUE, INDEX_TYPE FROM information_schema.STATISTICS
WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY INDEX_NAME, SEQ_IN_INDEX"""

_TABLE = """
SELECT ENGINE, ROW_FORMAT FROM information_schema.TABLES
WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND TABLE_TYPE = 'BASE TABLE'"""

_INTEGERS = {
    "tinyint": FieldType.TINY,
    "smallint": FieldType.SHORT,
    "mediumint": FieldType.INT24,
    "int": FieldType.LONG,
    "bigint": FieldType.LONGLONG,
}
_TEMPORAL = {
    "time": FieldType.TIME2,
    "datetime": FieldType.DATETIME2,
    "timestamp": FieldType.TIMESTAMP2,
}
_BLOBS = {"tiny": 1, "": 2, "medium": 3, "long": 4}
_BYTES_COLLATION = 63
_BYTES = {"binary", "varbinary", "vector"} | {f"{size}blob" for size in _BLOBS}
_GEOMETRIES = {
    "geometry": 0,
    "point": 1,
    "linestring": 2,
    "polygon": 3,
    "multipoint": 4,
    "multilinestring": 5,
    "multipolygon": 6,
    "geomcollection": 7,
    "geometrycollection": 7,
}


async def read(connection: Rows, schema: str, table: str) -> Table | None:
    """The table, or None where there is no base table of that name."""
    found = await connection.rows(_TABLE, (schema, table))
    if not found:
        return None
    described = await connection.rows(_COLUMNS, (schema, table))
    indexes: dict[str, list[tuple[str | None, int]]] = {}
    kinds = set()
    for index, column, prefix, repeats, kind in await connection.rows(_INDEXES, (schema, table)):
        kinds.add(str(kind).upper())
        if not int(repeats):
            indexes.setdefault(index, []).append((column, int(prefix or 0)))
    columns = [await _column(connection, row) for row in described]
    primary = [(str(name), prefix) for name, prefix in indexes.pop("PRIMARY", [])]
    places = {column.name: position for position, column in enumerate(columns)}
    by_position = sorted((places[name], prefix) for name, prefix in primary)
    prefixed = any(prefix for _, prefix in by_position)
    return Table(
        shape=Shape(
            schema=schema,
            table=table,
            columns=tuple(columns),
            key=tuple(position for position, _ in by_position),
            prefixes=tuple(prefix for _, prefix in by_position) if prefixed else (),
        ),
        engine=str(found[0][0]),
        # In column order, so that a tombstone's key reads like the row's in an image.
        key=tuple(_key_column(described[position]) for position, _ in by_position),
        defaults=tuple(_default(row) for row in described),
        key_order=tuple(name for name, _ in primary),
        unique_keys=tuple(sorted(indexes)),
        lossy_labels=tuple(
            column.name for column in columns if any(b"?" in label for label in column.labels)
        ),
        row_format=str(found[0][1]).upper(),
        index_types=frozenset(kinds),
        self_dated=tuple(row[0] for row in described if "on update" in row[12].lower()),
        generated=tuple((row[0], str(row[13])) for row in described if row[13]),
    )


def fits(source: Table, local: Table) -> Fit:
    """Whether rows of ``source`` can be written to ``local``, and how."""
    return shapes.fits(source.shape, local.shape, local.literal)


def with_stamps(table: Table) -> Table:
    """The table as `init` makes it: stamp columns that it has not come behind all others."""
    missing = [column for column in STAMPS if table.column(column.name) is None]
    return replace(
        table,
        shape=msgspec.structs.replace(table.shape, columns=(*table.shape.columns, *missing)),
        defaults=(*table.defaults, *(Default.LITERAL for _ in missing)),
    )


async def buried(connection: Rows, shape: Shape) -> bool:
    """Whether the tombstone table of a table of this shape is there and has its key."""
    name = tombstone_name(shape.schema, shape.table)
    tombstones = await read(connection, MESH_SCHEMA, name)
    return tombstones is not None and buries(tombstones.shape, shape)


async def shape(connection: Rows, schema: str, table: str) -> Shape | None:
    """The shape alone, or None where there is no base table of that name."""
    found = await read(connection, schema, table)
    return found and found.shape


async def base_tables(connection: Rows, schemas: Iterable[str] | None = None) -> list[tuple]:
    """``(schema, table)`` of every base table in order, system schemas and the mesh's aside."""
    rows = await connection.rows(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES"
        " WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN"
        " ('mysql', 'sys', 'information_schema', 'performance_schema', 'meshnode')"
        " ORDER BY TABLE_SCHEMA, TABLE_NAME"
    )
    wanted = None if schemas is None else set(schemas)
    return [tuple(row) for row in rows if wanted is None or row[0] in wanted]


def _key_column(row: tuple) -> KeyColumn:
    return KeyColumn(name=row[0], column_type=row[2], charset=row[8], collation=row[9])


async def _column(connection: Rows, row: tuple) -> Column:
    (name, data_type, column_type, octets, precision, scale, fraction, nullable, charset) = row[:9]
    collation, extra = row[10], row[12]
    unsigned = "unsigned" in column_type.rsplit(")", 1)[-1].split()
    described: dict[str, int] = {}
    labels: tuple[bytes, ...] = ()
    kind = data_type.lower()
    if kind in _INTEGERS:
        described = {"type": _INTEGERS[kind]}
    elif kind in _TEMPORAL:
        described = {"type": _TEMPORAL[kind], "meta": int(fraction)}
    elif kind in _GEOMETRIES:
        described = {"type": FieldType.GEOMETRY, "meta": 4, "geometry": _GEOMETRIES[kind]}
    elif kind.endswith(("blob", "text")):
        described = {"type": FieldType.BLOB, "meta": _BLOBS[kind[:-4]]}
    elif kind in ("char", "binary"):
        described = {"type": FieldType.STRING, "meta": int(octets)}
    elif kind in ("varchar", "varbinary"):
        described = {"type": FieldType.VARCHAR, "meta": int(octets)}
    elif kind in ("enum", "set"):
        labels = await _labels(connection, column_type, charset)
        described = _labelled(kind, len(labels))
    elif kind == "decimal":
        described = {"type": FieldType.NEWDECIMAL, "meta": int(precision) << 8 | int(scale)}
    elif kind == "bit":
        described = {"type": FieldType.BIT, "meta": int(precision)}
    elif kind == "vector":
        size = int(column_type[len("vector(") : -1])
        described = {"type": FieldType.VECTOR, "meta": 4, "dimension": size}
    else:
        described = _PLAIN[kind]
        unsigned = unsigned or kind == "year"
    return Column(
        name=name,
        unsigned=unsigned,
        nullable=nullable == "YES",
        collation=int(collation or (_BYTES_COLLATION if kind in _BYTES else 0)),
        labels=labels,
        visible="INVISIBLE" not in extra.upper().split(),
        **described,
    )


_PLAIN: dict[str, dict[str, int]] = {
    "float": {"type": FieldType.FLOAT, "meta": 4},
    "double": {"type": FieldType.DOUBLE, "meta": 8},
    "date": {"type": FieldType.DATE},
    "year": {"type": FieldType.YEAR},
    "json": {"type": FieldType.JSON, "meta": 4},
}


def _labelled(kind: str, count: int) -> dict[str, int]:
    if kind == "enum":
        return {"type": FieldType.ENUM, "meta": 1 if count < 256 else 2}
    size = (count + 7) // 8
    return {"type": FieldType.SET, "meta": size if size <= 4 else 8}


_LABEL = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)


def parse_labels(column_type: str) -> tuple[str, ...]:
    """The labels of ``enum('a','b''c')``, unquoted."""
    inner = column_type[column_type.index("(") + 1 : column_type.rindex(")")]
    unescape = {"0": "\0", "n": "\n", "r": "\r", "t": "\t", "b": "\b", "Z": "\x1a"}

    def plain(text: str) -> str:
        text = text.replace("''", "'")
        return re.sub(r"\\(.)", lambda m: unescape.get(m[1], m[1]), text, flags=re.DOTALL)

    return tuple(plain(found[1]) for found in _LABEL.finditer(inner))


async def _labels(connection: Rows, column_type: str, charset: str) -> tuple[bytes, ...]:
    labels = parse_labels(column_type)
    if charset in ("utf8mb4", "utf8mb3", "ascii") or all(
        label.isascii() and charset not in ("ucs2", "utf16", "utf16le", "utf32") for label in labels
    ):
        return tuple(label.encode() for label in labels)
    # The server knows its character sets better than Python does.
    asked = ", ".join(f"HEX(CONVERT(%s USING {charset}))" for _ in labels)
    (answer,) = await connection.rows(f"SELECT {asked}", labels)
    return tuple(bytes.fromhex(text) for text in answer)


def _default(row: tuple) -> Default:
    nullable, default, extra, generation = row[7], row[11], row[12].upper(), row[13]
    if generation:
        return Default.GENERATED
    if "AUTO_INCREMENT" in extra:
        return Default.AUTO_INCREMENT
    if "DEFAULT_GENERATED" in extra:
        return Default.EXPRESSION
    if default is not None or nullable == "YES":
        return Default.LITERAL
    return Default.NONE
