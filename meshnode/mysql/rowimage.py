"""Finds the rows in a rows event: where each image ends, its key and its stamp.

The mesh passes images on as bytes; all it needs of a row is its boundaries, its
primary key and its version.  So instead of decoding values, a *scanner* is
generated for each table: straight-line Python that adds up column widths,
compiled once per table definition.  Neighbouring columns of fixed size become
one addition.  A row without NULLs, the usual case, takes the fast branch; with a
bit set in the null bitmap the other branch tests each nullable column.

Bounds are checked once per row: every length is read at the position reached so
far and only moves it forward, so a length that lies beyond the end leaves the
position beyond the end.

A key is the concatenation of the key columns' pieces in column order, length
prefixes included, exactly as they stand in the image.
"""

import struct
from collections.abc import Callable

import msgspec

from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType, Shape
from meshnode.errors import Halt
from meshnode.mysql.numeric import decimal_size
from meshnode.mysql.tablemap import TableMap
from meshnode.mysql.wire import MalformedEvent

WriteRow = tuple[int, int, bytes, int | None, int | None]
"""(start, stop, key, ts, origin)"""

UpdateRow = tuple[int, int, bytes, int | None, int | None, int, bytes, int | None, int | None]
"""(before start, before stop, key, ts, origin, after stop, key, ts, origin);
the after image starts where the before image stops."""


class MalformedRow(MalformedEvent):
    """A row image that contradicts its table map."""


_FIXED = {
    FieldType.TINY: 1,
    FieldType.YEAR: 1,
    FieldType.SHORT: 2,
    FieldType.INT24: 3,
    FieldType.DATE: 3,
    FieldType.LONG: 4,
    FieldType.FLOAT: 4,
    FieldType.LONGLONG: 8,
    FieldType.DOUBLE: 8,
}

_PREFIXED = frozenset({FieldType.BLOB, FieldType.JSON, FieldType.GEOMETRY, FieldType.VECTOR})


def fixed_size(column: Column) -> int | None:
    """Bytes of the column's value in an image, or None when a length stands before it."""
    kind, meta = column.type, column.meta
    if kind in _FIXED:
        return _FIXED[kind]
    if kind == FieldType.NEWDECIMAL:
        return decimal_size(meta)
    if kind == FieldType.BIT:
        return (meta + 7) // 8
    if kind in (FieldType.ENUM, FieldType.SET):
        return meta
    if kind in (FieldType.TIMESTAMP2, FieldType.DATETIME2, FieldType.TIME2):
        whole = {FieldType.TIMESTAMP2: 4, FieldType.DATETIME2: 5, FieldType.TIME2: 3}[kind]
        return whole + (meta + 1) // 2
    return None


def prefix_size(column: Column) -> int:
    """Bytes of the length that stands before a value of variable size."""
    if column.type in (FieldType.VARCHAR, FieldType.VAR_STRING, FieldType.STRING):
        return 1 if column.meta < 256 else 2
    if column.type in _PREFIXED and 1 <= column.meta <= 4:
        return column.meta
    raise Halt(
        f"column `{column.name}` has the type {column.type} with parameter {column.meta}, "
        f"which this version cannot measure",
        "upgrade meshnode, or take the table out of the topology",
    )


def piece_end(column: Column, buf: bytes, pos: int) -> int:
    """Where the column's piece (length prefix included) that starts at ``pos`` ends."""
    size = fixed_size(column)
    if size is not None:
        return pos + size
    prefix = prefix_size(column)
    return pos + prefix + int.from_bytes(buf[pos : pos + prefix], "little")


def cut_to_key(shape: Shape, image: bytes) -> bytes:
    """A full image with the key and the stamp of ``image`` that says little of the rest.

    Texts and documents are NULL, or empty where they must not be.  Such an image names the
    row that was there; it is not to be written.
    """
    columns = shape.columns
    pos = (len(columns) + 7) // 8
    nulls = int.from_bytes(image[:pos], "little")
    pieces: list[bytes] = []
    head = pos
    for index, column in enumerate(columns):
        if nulls >> index & 1:
            continue
        start, pos = pos, piece_end(column, image, pos)
        if index in shape.key or column.is_stamp or fixed_size(column) is not None:
            pieces.append(image[start:pos])
        elif column.nullable:
            nulls |= 1 << index
        else:
            pieces.append(bytes(prefix_size(column)))
    return nulls.to_bytes(head, "little") + b"".join(pieces)


def cut_before_images(
    shape: Shape, rows: bytes, found: list[WriteRow] | list[UpdateRow], pairs: bool, longest: int
) -> bytes:
    """``rows`` with every before image over ``longest`` bytes cut to its key.

    ``pairs``: after images stand between them, and stay as they are.
    """
    pieces: list[bytes] = []
    for row in found:
        start, stop = row[0], row[1]
        before = rows[start:stop]
        pieces.append(cut_to_key(shape, before) if stop - start > longest else before)
        if pairs:
            pieces.append(rows[stop : row[5]])
    return b"".join(pieces)


class Scanner(msgspec.Struct, frozen=True):
    """The compiled functions of one table definition.

    ``scan_write`` serves inserts and deletes.  Both take ``(buf, pos, end)`` and return a
    list; they raise :class:`MalformedRow` unless the rows end exactly at ``end``.
    Both expect full images; ts and origin are None in a table without stamps.
    """

    shape: Shape
    scan_write: Callable[[bytes, int, int], list[WriteRow]]
    scan_update: Callable[[bytes, int, int], list[UpdateRow]]


_SCANNERS_KEPT = 4096
_scanners: dict[bytes, Scanner] = {}


def make_scanner(table_map: TableMap) -> Scanner:
    """The scanner for rows that follow ``table_map``; kept by its definition."""
    scanner = _scanners.get(table_map.definition)
    if scanner is None:
        if len(_scanners) >= _SCANNERS_KEPT:
            _scanners.clear()
        scanner = _scanners[table_map.definition] = compile_scanner(table_map.shape)
    return scanner


def compile_scanner(shape: Shape) -> Scanner:
    """Generates and compiles the scanner of ``shape``."""
    names = {"MalformedRow": MalformedRow, "TABLE": shape.name}
    for code in ("H", "I", "Q", "QB", "BQ"):
        names[f"read_{code}"] = struct.Struct(f"<{code}").unpack_from
    source = "\n".join(_function("scan_write", shape, 1) + _function("scan_update", shape, 2))
    exec(compile(source, f"<scanner of {shape.name}>", "exec"), names)
    return Scanner(shape, names["scan_write"], names["scan_update"])


def _function(name: str, shape: Shape, images: int) -> list[str]:
    lines = [
        f"def {name}(buf, pos, end):",
        "    rows = []",
        "    append = rows.append",
        "    at = pos",
        "    try:",
        "        while pos < end:",
        "            start = pos",
    ]
    fields = ["start"]
    for image in range(images):
        lines += ["            at = pos"]
        lines += ["            " + line for line in _image(shape, f"{image}")]
        stamp = [f"ts{image}", f"origin{image}"] if shape.stamp_indexes else ["None", "None"]
        fields += [f"stop{image}", f"key{image}", *stamp]
        lines += [f"            pos = stop{image} = p"]
    lines += [
        "            if pos > end:",
        "                break",
        f"            append(({', '.join(fields)}))",
        "    except Exception as error:",
        "        if isinstance(error, MalformedRow): raise",
        "        raise MalformedRow(",
        "            f'row {len(rows)} of table {TABLE} at offset {at} is cut short') from error",
        "    if pos != end:",
        "        raise MalformedRow(",
        "            f'row {len(rows)} of table {TABLE} at offset {at} ends at {pos}, '",
        "            f'{pos - end} bytes beyond its event')",
        "    return rows",
    ]
    return lines


def _image(shape: Shape, tag: str) -> list[str]:
    """Code that walks one image from ``pos`` and leaves its end in ``p``."""
    count = len(shape.columns)
    size = (count + 7) // 8
    spare = size * 8 - count
    never = sum(
        1 << index
        for index, column in enumerate(shape.columns)
        if not column.nullable or index in shape.key or column.is_stamp
    )
    if size == 1:
        nulls = f"nulls = buf[pos] & {0xFF >> spare}"
    else:
        mask = f" & {(1 << count) - 1}" if spare else ""
        nulls = f"nulls = int.from_bytes(buf[pos:pos + {size}], 'little'){mask}"
    lines = [nulls, f"p = pos + {size}"]
    lines += ["if nulls:"]
    lines += [
        f"    if nulls & {never}:",
        "        raise MalformedRow(f'row {len(rows)} of table {TABLE} at offset {pos} '",
        "                           'has NULL in a column that cannot be NULL')",
    ]
    lines += ["    " + line for line in _walk(shape, tag, with_nulls=True)]
    lines += ["else:"]
    lines += ["    " + line for line in _walk(shape, tag, with_nulls=False)]
    return lines


def _walk(shape: Shape, tag: str, with_nulls: bool) -> list[str]:
    """Additions over the columns; ``skip`` gathers the fixed sizes not yet added."""
    lines: list[str] = []
    pieces: list[str] = []
    skip = 0
    columns = shape.columns
    stamps = shape.stamp_indexes or ()

    def advance() -> None:
        nonlocal skip
        if skip:
            lines.append(f"p += {skip}")
            skip = 0

    for index, column in enumerate(columns):
        in_key = index in shape.key
        opens = in_key and index - 1 not in shape.key
        closes = in_key and index + 1 not in shape.key
        optional = with_nulls and column.nullable and not in_key and index not in stamps
        if in_key and opens:
            lines.append(f"k{index} = p + {skip}" if skip else f"k{index} = p")
            first = index
        if index in stamps:
            field, code = ("ts", "Q") if column.name == STAMP_TS else ("origin", "B")
            other = columns[index + 1].name if index + 1 < len(columns) else ""
            previous = columns[index - 1].name if index else ""
            here = f"p + {skip}" if skip else "p"
            if field == "ts" and other == STAMP_ORIGIN:
                lines.append(f"ts{tag}, origin{tag} = read_QB(buf, {here})")
            elif field == "origin" and previous != STAMP_TS:
                lines.append(f"origin{tag} = buf[{here}]")
            elif field == "ts":
                lines.append(f"ts{tag} = read_{code}(buf, {here})[0]")
        size = fixed_size(column)
        if size is not None and not optional:
            skip += size
        else:
            advance()
            step = f"p += {size}" if size is not None else _step(prefix_size(column))
            lines.append(f"if not nulls & {1 << index}: {step}" if optional else step)
        if closes:
            pieces.append(f"buf[k{first}:p + {skip}]" if skip else f"buf[k{first}:p]")
            lines.append(f"key{tag}_{len(pieces)} = {pieces[-1]}")
    advance()
    parts = [f"key{tag}_{number}" for number in range(1, len(pieces) + 1)]
    lines.append(f"key{tag} = {' + '.join(parts) or repr(b'')}")
    return lines


def _step(prefix: int) -> str:
    return {
        1: "p += 1 + buf[p]",
        2: "p += 2 + read_H(buf, p)[0]",
        3: "p += 3 + (buf[p] | buf[p + 1] << 8 | buf[p + 2] << 16)",
        4: "p += 4 + read_I(buf, p)[0]",
    }[prefix]
