"""Key literals, key images and their bitmaps."""

import pytest
from recorded import CHARSETS, rows, shape, table_map

from meshnode.core.shape import Column, FieldType, Shape
from meshnode.errors import Halt
from meshnode.mysql.bodies import parse_rows
from meshnode.mysql.builders import build_rows
from meshnode.mysql.events import EventType
from meshnode.mysql.keys import (
    exponent_text,
    key_bitmap,
    key_image,
    key_is_binary,
    key_literal,
    split_key,
    stamp_bitmap,
    stamp_image,
)
from meshnode.mysql.partialimage import scan_partial
from meshnode.mysql.rowimage import MalformedRow

F = FieldType


def keyed(*columns: Column) -> Shape:
    return Shape("s", "t", columns, tuple(range(len(columns))))


def column(type_: int, meta: int = 0, **fields) -> Column:
    return Column("k", int(type_), meta, nullable=False, **fields)


@pytest.mark.parametrize(
    ("one", "piece", "literal"),
    [
        (column(F.TINY), "ff", "-1"),
        (column(F.TINY, unsigned=True), "ff", "255"),
        (column(F.INT24), "ffffff", "-1"),
        (column(F.LONGLONG, unsigned=True), "ff" * 8, "18446744073709551615"),
        (column(F.LONGLONG), "00" * 7 + "80", "-9223372036854775808"),
        (column(F.BIT, 10), "0201", "X'0201'"),
        (column(F.FLOAT, 4), "cdcc8c3f", "1.100000023841858e0"),
        (column(F.DOUBLE, 8), "00000000000024c0", "-10.0e0"),
        (column(F.YEAR), "00", "0"),
        (column(F.YEAR), "7c", "2024"),
        (column(F.DATE), "000000", "'0000-00-00'"),
        (column(F.DATE), "5fce0f", "'2023-02-31'"),
        (column(F.TIME2, 6), "7f3747fe1dc0", "'-12:34:56.123456'"),
        (column(F.TIME2), "800000", "'00:00:00'"),
        (column(F.TIMESTAMP2, 2), "00000000" + "00", "'0000-00-00 00:00:00.00'"),
        (column(F.TIMESTAMP2), "00000001", "'1970-01-01 00:00:01'"),
        (column(F.DATETIME2), "8000000000", "'0000-00-00 00:00:00'"),
        (column(F.ENUM, 2), "2c01", "300"),
        (column(F.SET, 1), "80", "128"),
        (column(F.SET, 8), "ff" * 8, "-1"),
        (column(F.STRING, 3, collation=63), "0111", "X'110000'"),
        (column(F.STRING, 300, collation=63), "0100ab", f"X'ab{'00' * 299}'"),
        (column(F.VARCHAR, 10, collation=63), "021100", "X'1100'"),
        (column(F.VARCHAR, 10, collation=8), "0181", "_latin1 X'81'"),
        (column(F.STRING, 40, collation=255), "026162", "_utf8mb4 X'6162'"),
        (column(F.VARCHAR, 400, collation=255), "0000", "_utf8mb4 X''"),
        (column(F.NEWDECIMAL, 4 << 8 | 2), "7fed", "-0.18"),
    ],
)
def test_literals(one, piece, literal):
    assert key_literal(keyed(one), CHARSETS)(bytes.fromhex(piece)) == literal


def test_composite_keys():
    table = keyed(column(F.VARCHAR, 10, collation=8), column(F.LONG))
    key = b"\x02it" + (7).to_bytes(4, "little")
    assert split_key(table, key) == [b"\x02it", b"\x07\0\0\0"]
    assert key_literal(table, CHARSETS)(key) == "(_latin1 X'6974',7)"


def test_labels_are_text_within_a_composite_key():
    enum = column(F.ENUM, 1, collation=8, labels=(b"a", b"\xe4"))
    several = column(F.SET, 1, collation=255, labels=(b"x", b"y", b"z"))
    write = key_literal(keyed(enum, several), CHARSETS)
    assert write(b"\x02\x05") == "(_latin1 X'e4',_utf8mb4 X'782c7a')"
    assert write(b"\0\0") == "(_latin1 X'',_utf8mb4 X'')"
    wide = column(F.SET, 1, collation=54, labels=(b"\0x", b"\0y"))
    write = key_literal(keyed(wide, column(F.LONG)), {54: "utf16"})
    assert write(b"\x03\x07\0\0\0") == "(_utf16 X'0078002c0079',7)"


def test_integer_keys():
    table = keyed(column(F.TINY), column(F.SHORT, unsigned=True), column(F.LONGLONG))
    write = key_literal(table, {})
    assert write(b"\xff" + b"\xff\xff" + b"\xff" * 8) == "(-1,65535,-1)"
    with pytest.raises(MalformedRow):
        write(bytes(10))


@pytest.mark.parametrize("key", [b"", b"\x05it", b"\x02it", b"\x02it\x01\0\0\0\0"])
def test_bytes_that_are_no_key(key):
    table = keyed(column(F.VARCHAR, 10, collation=8), column(F.LONG))
    with pytest.raises(MalformedRow, match=r"s\.t"):
        split_key(table, key)
    with pytest.raises(MalformedRow):
        key_literal(table, CHARSETS)(key)


def test_a_single_integer_key_checks_its_size():
    with pytest.raises(MalformedRow):
        key_literal(keyed(column(F.LONG)), CHARSETS)(b"abc")


def test_which_keys_compare_as_bytes():
    assert key_is_binary(keyed(column(F.LONG), column(F.VARCHAR, 9, collation=63)))
    assert key_is_binary(keyed(column(F.ENUM, 1, collation=255)))
    assert key_is_binary(keyed(column(F.NEWDECIMAL, 1 << 8)))
    assert not key_is_binary(keyed(column(F.LONG), column(F.VARCHAR, 9, collation=255)))
    assert not key_is_binary(keyed(column(F.DOUBLE, 8)))


def test_keys_that_cannot_be_looked_up():
    with pytest.raises(Halt, match="collation id 999"):
        key_literal(keyed(column(F.VARCHAR, 9, collation=999)), CHARSETS)
    with pytest.raises(Halt, match="`k`"):
        key_literal(keyed(column(F.JSON, 4)), CHARSETS)


@pytest.mark.parametrize("value", [0.0, -0.0, 1e300, 5e-324, 123.0, 0.1])
def test_exponent_text_is_exact_and_a_double(value):
    text = exponent_text(value)
    assert "e" in text
    assert repr(float(text)) == repr(value)


def test_key_and_stamp_images_make_an_event():
    table = shape()
    (_, (update, change), *_) = rows()
    key = (1).to_bytes(8, "little")
    assert key_bitmap(table) == b"\x01\0\0"
    assert stamp_bitmap(table) == b"\0\0\x03"
    body = build_rows(
        EventType.UPDATE_ROWS,
        5,
        3,
        18,
        key_bitmap(table),
        stamp_bitmap(table),
        key_image(table, key) + stamp_image(2**64 - 1, 255),
    )
    found = parse_rows(EventType.UPDATE_ROWS, body)
    ((before, after),) = scan_partial(table, found, body)
    assert before.key == after.key == key
    assert (after.ts, after.origin) == (2**64 - 1, 255)
    assert update.full and table_map().shape is table and change


def test_a_table_without_stamps_has_no_stamp_bitmap():
    with pytest.raises(Halt, match=r"s\.t"):
        stamp_bitmap(keyed(column(F.LONG)))


def test_a_key_of_nine_columns_has_two_null_bytes():
    table = keyed(*(column(F.TINY) for _ in range(9)))
    assert key_image(table, bytes(9)) == bytes(11)
