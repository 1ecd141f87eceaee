"""Rows whose images do not hold every column: MINIMAL, NOBLOB, and JSON diffs.

Such rows are not passed on; the mesh only needs to know which keys they touched.
The walk goes column by column over the bitmaps and is an order of magnitude
slower than the generated scanner, which is fine for a case that is mended anyway.

An UPDATE in the partial JSON form has a head before its after image: options,
and if they say so one bit for each JSON column of the table that is in the after
image's table definition.  The diffs stand behind the same 4-byte length as a
whole value, so they are skipped like one.
"""

from typing import NamedTuple

from meshnode.core.shape import FieldType, Shape
from meshnode.mysql.bodies import Rows
from meshnode.mysql.events import EventType
from meshnode.mysql.rowimage import MalformedRow, piece_end
from meshnode.mysql.wire import read_length

_PARTIAL_JSON = 1


class PartialImage(NamedTuple):
    """One image; ``key``, ``ts`` and ``origin`` are None where it does not hold them."""

    start: int
    stop: int
    key: bytes | None
    ts: int | None
    origin: int | None


class PartialRow(NamedTuple):
    """A row; one of the images is None for an insert or a delete.

    The after image's key takes the columns that did not change from the before image.
    """

    before: PartialImage | None
    after: PartialImage | None


def scan_partial(shape: Shape, rows: Rows, buf: bytes) -> list[PartialRow]:
    """The rows of a rows event on ``shape``; ``buf`` is what ``rows`` was parsed from."""
    found: list[PartialRow] = []
    pos = rows.start
    try:
        while pos < rows.stop:
            row, pos = _row(shape, rows, buf, pos)
            found.append(row)
    except MalformedRow:
        raise
    except (IndexError, ValueError) as error:
        raise MalformedRow(
            f"row {len(found)} of table {shape.name} at offset {pos} is cut short"
        ) from error
    if pos != rows.stop:
        raise MalformedRow(
            f"row {len(found) - 1} of table {shape.name} ends at {pos}, "
            f"{pos - rows.stop} bytes beyond its event"
        )
    return found


def _row(shape: Shape, rows: Rows, buf: bytes, pos: int) -> tuple[PartialRow, int]:
    before = after = None
    pieces: dict[int, bytes] = {}
    if rows.before is not None:
        pieces, start, pos = _image(shape, buf, pos, rows.before)
        before = _describe(shape, pieces, start, pos, pieces)
    if rows.after is not None:
        if rows.type == EventType.PARTIAL_UPDATE_ROWS:
            options, pos = read_length(buf, pos)
            if options & _PARTIAL_JSON:
                pos += (sum(c.type == FieldType.JSON for c in shape.columns) + 7) // 8
        changed, start, pos = _image(shape, buf, pos, rows.after)
        after = _describe(shape, changed, start, pos, {**pieces, **changed})
    return PartialRow(before, after), pos


def _image(shape: Shape, buf: bytes, pos: int, bitmap: bytes) -> tuple[dict[int, bytes], int, int]:
    """The pieces of the key and stamp columns that are there, start and end."""
    start = pos
    present = int.from_bytes(bitmap, "little")
    count = present.bit_count()
    size = (count + 7) // 8
    nulls = int.from_bytes(buf[pos : pos + size], "little")
    pos += size
    wanted = {*shape.key, *(shape.stamp_indexes or ())}
    pieces: dict[int, bytes] = {}
    for index, column in enumerate(shape.columns):
        if not present >> index & 1:
            continue
        null = nulls & 1
        nulls >>= 1
        if null and index in wanted:
            raise MalformedRow(
                f"row of table {shape.name} at offset {start} has NULL in `{column.name}`"
            )
        if null:
            continue
        stop = piece_end(column, buf, pos)
        if stop > len(buf):
            raise IndexError
        if index in wanted:
            pieces[index] = buf[pos:stop]
        pos = stop
    return pieces, start, pos


def _describe(
    shape: Shape, own: dict[int, bytes], start: int, stop: int, key: dict[int, bytes]
) -> PartialImage:
    whole = all(index in key for index in shape.key)
    stamp = [
        int.from_bytes(own[index], "little") if index in own else None
        for index in shape.stamp_indexes or (-1, -1)
    ]
    return PartialImage(
        start, stop, b"".join(key[index] for index in shape.key) if whole else None, *stamp
    )
