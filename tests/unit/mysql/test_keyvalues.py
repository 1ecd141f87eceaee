"""Keys read with SQL become the bytes that a row image has, and literals that find the row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core.shape import Column, FieldType, Shape
from meshnode.mysql.catalog import Default, Table
from meshnode.mysql.keyvalues import KeyReader, encode_piece
from meshnode.mysql.numeric import decimal_size, decimal_text
from meshnode.mysql.schema import KeyColumn
from meshnode.mysql.temporal import date_text, datetime_text, time_text, timestamp_text


@st.composite
def decimals(draw) -> tuple[int, str]:
    precision = draw(st.integers(1, 65))
    scale = draw(st.integers(0, min(30, precision)))
    number = draw(st.integers(-(10**precision) + 1, 10**precision - 1))
    digits = f"{abs(number):0{precision + 1}d}"
    whole, fraction = digits[: len(digits) - scale], digits[len(digits) - scale :]
    text = (whole.lstrip("0") or "0") + ("." + fraction if scale else "")
    return precision << 8 | scale, ("-" if number < 0 else "") + text


@given(decimals())
def test_decimals_are_packed_as_they_are_read(case: tuple[int, str]) -> None:
    meta, text = case
    raw = encode_piece(Column("a", FieldType.NEWDECIMAL, meta), text)
    assert len(raw) == decimal_size(meta)
    assert decimal_text(raw, meta) == text


FRACTION = st.integers(0, 6).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, 10**n - 1 if n else 0))
)


def with_fraction(text: str, fraction: tuple[int, int]) -> str:
    digits, value = fraction
    return f"{text}.{value:0{digits}d}" if digits else text


@given(st.integers(0, 9999), st.integers(0, 12), st.integers(0, 31))
def test_dates_even_those_that_are_none(year: int, month: int, day: int) -> None:
    text = f"{year:04d}-{month:02d}-{day:02d}"
    assert date_text(encode_piece(Column("a", FieldType.DATE), text)) == text


@given(st.sampled_from(["", "-"]), st.integers(0, 838), st.integers(0, 3599), FRACTION)
def test_times_of_both_signs(sign: str, hour: int, rest: int, fraction: tuple[int, int]) -> None:
    text = with_fraction(f"{sign}{hour:02d}:{rest // 60:02d}:{rest % 60:02d}", fraction)
    raw = encode_piece(Column("a", FieldType.TIME2, fraction[0]), text)
    zero = not hour and not rest and not fraction[1]
    assert time_text(raw, fraction[0]) == (text.lstrip("-") if zero else text)


@given(
    st.integers(0, 9999), st.integers(0, 12), st.integers(0, 31), st.integers(0, 86399), FRACTION
)
def test_datetimes(year: int, month: int, day: int, clock: int, fraction: tuple[int, int]) -> None:
    time = f"{clock // 3600:02d}:{clock // 60 % 60:02d}:{clock % 60:02d}"
    text = with_fraction(f"{year:04d}-{month:02d}-{day:02d} {time}", fraction)
    raw = encode_piece(Column("a", FieldType.DATETIME2, fraction[0]), text)
    assert datetime_text(raw, fraction[0]) == text


@given(st.integers(0, 2**32 - 1), FRACTION)
def test_timestamps(seconds: int, fraction: tuple[int, int]) -> None:
    column = Column("a", FieldType.TIMESTAMP2, fraction[0])
    stored = fraction[0] + fraction[0] % 2
    small = fraction[1] * 10 ** (stored - fraction[0])
    raw = seconds.to_bytes(4, "big") + small.to_bytes(stored // 2, "big")
    assert encode_piece(column, timestamp_text(raw, fraction[0])) == raw


@pytest.mark.parametrize(
    ("column", "value", "raw"),
    [
        (Column("a", FieldType.INT24), -2, b"\xfe\xff\xff"),
        (Column("a", FieldType.LONGLONG, unsigned=True), 2**64 - 1, b"\xff" * 8),
        (Column("a", FieldType.YEAR), 0, b"\0"),
        (Column("a", FieldType.YEAR), 2155, b"\xff"),
        (Column("a", FieldType.BIT, 13), 4097, b"\x10\x01"),
        (Column("a", FieldType.ENUM, 2), 258, b"\x02\x01"),
        (Column("a", FieldType.SET, 8), 1 << 63, b"\0" * 7 + b"\x80"),
        (Column("a", FieldType.VARCHAR, 40, collation=255), "616220", b"\x03ab "),
        (Column("a", FieldType.VARCHAR, 400, collation=63), "0000", b"\x02\0\0\0"),
        (Column("a", FieldType.STRING, 4, collation=63), "11000000", b"\x01\x11"),
        (Column("a", FieldType.STRING, 4, collation=63), "00000000", b"\0"),
    ],
)
def test_pieces(column: Column, value: object, raw: bytes) -> None:
    assert encode_piece(column, value) == raw


def reader() -> KeyReader:
    columns = (
        Column("a", FieldType.LONG, nullable=False),
        Column("v", FieldType.LONG),
        Column("b", FieldType.VARCHAR, 40, nullable=False, collation=255),
    )
    key = (KeyColumn("a", "int"), KeyColumn("b", "varchar(10)", "utf8mb4", "utf8mb4_0900_ai_ci"))
    shape = Shape("s", "t", columns, (0, 2))
    table = Table(shape, "InnoDB", key, (Default.NONE,) * 3, key_order=("b", "a"))
    return KeyReader(table, frozenset())


def test_values_are_in_column_order_and_ranges_in_index_order() -> None:
    keys = reader()
    assert keys.select == "`a`, HEX(`b`)"
    assert keys.order == "`b`, `a`"
    assert keys.between(None, None) == "TRUE"
    assert keys.between((5, "78"), None) == (
        "(`b` > _utf8mb4 X'78' OR `b` = _utf8mb4 X'78' AND `a` > 5)"
    )
    assert keys.between(None, (5, "78")).endswith("`a` <= 5)")
    assert keys.among([(5, "78")]) == "(`a`, `b`) IN ((5, _utf8mb4 X'78'))"
    assert keys.wire_key((5, "78")) == b"\5\0\0\0\1x"


def test_labels_of_a_composite_key_are_not_compared_as_rows() -> None:
    columns = (Column("e", FieldType.ENUM, 1), Column("a", FieldType.LONG))
    key = (KeyColumn("e", "enum('x')", "utf8mb4", "utf8mb4_bin"), KeyColumn("a", "int"))
    shape = Shape("s", "t", columns, (0, 1))
    table = Table(shape, "InnoDB", key, (Default.NONE,) * 2, key_order=("e", "a"))
    keys = KeyReader(table, frozenset())
    assert keys.among([(1, 5), (2, 6)]) == "(`e` = 1 AND `a` = 5) OR (`e` = 2 AND `a` = 6)"
