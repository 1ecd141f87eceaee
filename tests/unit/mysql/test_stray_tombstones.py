"""Tombstones that come from a trigger on another table are no deletes of theirs.

A trigger stays with its table when that is renamed.  What fires it stands before its tombstone
in the same transaction: rows of its own table, or of another one.
"""

import pytest
from test_assemble import (
    BEGIN,
    DIGEST,
    ROWS,
    TOMBSTONES,
    XID,
    assembler,
    feed,
    gtid,
    image,
    packet,
    rows,
    wire_key,
)

from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType
from meshnode.mysql.assemble import Assembler
from meshnode.mysql.builders import build_rows, build_table_map
from meshnode.mysql.events import EventType
from meshnode.mysql.schema import digest

COLUMNS = (
    Column("id", FieldType.LONGLONG, nullable=False),
    Column(STAMP_TS, FieldType.LONGLONG, unsigned=True, nullable=False, visible=False),
    Column(STAMP_ORIGIN, FieldType.TINY, unsigned=True, nullable=False, visible=False),
)


def gone(table: str, *keys: int, schema: str = "shop") -> list[bytes]:
    """Rows of a delete in the table of this name."""
    table_map = build_table_map(ROWS, schema, table, COLUMNS, (0,))
    images = [image(key, 10) for key in keys]
    return rows(EventType.DELETE_ROWS, ROWS, *images, table_map=table_map)


def buried(key: int) -> list[bytes]:
    """A tombstone of ``shop.t``."""
    return rows(EventType.WRITE_ROWS, TOMBSTONES, image(key, 20))


def tombstones(into: Assembler, *packets: bytes) -> list[int]:
    """The keys of the tombstones in one transaction of these packets."""
    found = [stone for tx in feed(into, gtid(5), BEGIN, *packets, XID) for stone in tx.tombstones]
    assert all(each == DIGEST for each, _, _ in found)
    return [int.from_bytes(key, "little") for _, key, _ in found]


def two_tables() -> Assembler:
    """Of a region that replicates ``shop.u`` too."""
    into = assembler()
    into.maps.active[digest("shop", "u")] = ("shop", "u")
    return into


@pytest.mark.parametrize("table", ["u", "old"])
def test_behind_rows_of_another_table_they_are_left_out(table: str) -> None:
    assert tombstones(two_tables(), *gone(table, 1), *buried(1)) == []
    assert tombstones(two_tables(), *gone(table, 1), *buried(1), *buried(2)) == []


def test_behind_rows_of_their_own_table_they_count() -> None:
    """Whatever else the transaction writes, also a user's trigger between the two."""
    assert tombstones(two_tables(), *gone("t", 1), *gone("u", 2), *gone("old", 3), *buried(1)) == [
        1
    ]
    assert tombstones(two_tables(), *gone("old", 3), *gone("u", 2), *gone("t", 1), *buried(1)) == [
        1
    ]


def test_alone_or_before_all_rows_they_are_the_meshs_own() -> None:
    """What waited in ``mend`` comes round as a tombstone without its delete."""
    assert tombstones(two_tables(), *buried(1)) == [1]
    assert tombstones(two_tables(), *buried(1), *gone("u", 2)) == [1]
    assert tombstones(two_tables(), *gone("conflict_log", 2, schema="meshnode"), *buried(1)) == [1]


def test_rows_in_an_earlier_part_count() -> None:
    """A part holds 60 bytes: the rows of ``t`` stand in the first one."""
    packets = [*gone("t", 1, 2, 3), *gone("u", 1, 2, 3, 4, 5, 6, 7), *gone("u", 8), *buried(1)]
    into = two_tables()
    assert len(feed(into, gtid(5), BEGIN, *packets, XID)) > 1
    assert tombstones(two_tables(), *packets) == [1]


def test_the_next_transaction_begins_anew() -> None:
    into = two_tables()
    assert tombstones(into, *gone("t", 1), *gone("old", 2), *buried(1)) == [1]
    assert tombstones(into, *buried(2)) == [2]
    assert tombstones(into, *gone("old", 3), *buried(3)) == []


def test_a_short_image_of_their_own_table_is_a_row_of_it() -> None:
    (table_map, _), key = gone("t", 1), b"\0" + wire_key(1)
    bare = build_rows(EventType.DELETE_ROWS, ROWS, 1, 3, b"\x01", None, [key])
    short = table_map, packet(EventType.DELETE_ROWS, bare)
    assert tombstones(two_tables(), *gone("u", 2), *short, *gone("u", 3), *buried(1)) == [1]
