"""The rows of the tests: one table ``shop.t`` with an integer key and a short value.

Columns that are added later stand behind the others, as in MySQL.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "unit" / "core"))

from core_values import PEER, THIRD, image, number_table, wire_key, work_of
from core_values import delete as deleted
from core_values import transaction as transaction_of
from core_values import update as updated
from core_values import write as written

from meshnode.core.change import Table
from meshnode.core.shape import Column, FieldType
from meshnode.core.stamp import ZERO, Stamp
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.maps import make_table

_WIDTHS = {FieldType.TINY: 1, FieldType.LONG: 4}
_OWN_COLUMNS = len(number_table().shape.columns)


def number_of(key: bytes) -> int:
    """The number that a wire key stands for."""
    return int.from_bytes(key, "little", signed=True)


def value_of(table: Table, row: bytes) -> str:
    """The value in a whole row image."""
    ((start, _, key, _, _),) = table.scan_rows(row, 0, len(row))
    place = start + 1 + len(key)
    return row[place + 1 : place + 1 + row[place]].decode()


def added(table: Table) -> int:
    """How many bytes of an image belong to columns that were added."""
    return sum(_WIDTHS[each.type] for each in table.shape.columns[_OWN_COLUMNS:])


def widened(table: Table) -> Table:
    """``table`` with one column more, of one byte."""
    shape = table.shape
    column = Column(f"more{len(shape.columns)}", FieldType.TINY, nullable=False)
    return make_table(
        build_table_map(1, shape.schema, shape.table, (*shape.columns, column), shape.key)
    )


def filled(table: Table, row: bytes, local: Table, known: bytes = b"") -> bytes:
    """An image of ``table`` as ``local`` has it: what it lacks is as in ``known``, or zero."""
    lacks = added(local) - added(table)
    if lacks <= 0:
        return row
    return row + (known[-lacks:] if known else bytes(lacks))


def restamped(table: Table, row: bytes, stamp: Stamp) -> bytes:
    """The image with another stamp."""
    rest = added(table)
    own, more = row[: len(row) - rest], row[len(row) - rest :]
    return own[:-9] + stamp.ts.to_bytes(8, "little") + bytes((stamp.origin,)) + more


__all__ = [
    "PEER", "THIRD", "ZERO", "Stamp", "added", "deleted", "filled", "image", "number_of",
    "number_table", "restamped", "transaction_of", "updated", "value_of", "widened", "wire_key",
    "work_of", "written",
]  # fmt: skip
