"""The rows of the tests: one table ``shop.t`` with an integer key and a short value."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "unit" / "core"))

from core_values import PEER, THIRD, image, number_table, wire_key, work_of
from core_values import delete as deleted
from core_values import transaction as transaction_of
from core_values import update as updated
from core_values import write as written

from meshnode.core.change import Table
from meshnode.core.stamp import ZERO, Stamp


def number_of(key: bytes) -> int:
    """The number that a wire key stands for."""
    return int.from_bytes(key, "little", signed=True)


def value_of(table: Table, row: bytes) -> str:
    """The value in a whole row image."""
    ((start, _, key, _, _),) = table.scan_rows(row, 0, len(row))
    place = start + 1 + len(key)
    return row[place + 1 : place + 1 + row[place]].decode()


__all__ = [
    "PEER", "THIRD", "ZERO", "Stamp", "deleted", "image", "number_of", "number_table",
    "transaction_of", "updated", "value_of", "wire_key", "work_of", "written",
]  # fmt: skip
