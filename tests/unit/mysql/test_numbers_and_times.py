"""DECIMAL, dates and times, packed here by the format's description."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from meshnode.mysql.numeric import decimal_size, decimal_text
from meshnode.mysql.temporal import (
    date_text,
    datetime_text,
    packed_datetime_text,
    packed_time_text,
    time_text,
    timestamp_text,
)


def packed_decimal(negative: bool, whole: str, fraction: str) -> bytes:
    """Digits in groups of nine, the odd ones outside."""
    first = len(whole) % 9
    groups = [whole[:first]] + [whole[i : i + 9] for i in range(first, len(whole), 9)]
    groups += [fraction[i : i + 9] for i in range(0, len(fraction), 9)]
    sizes = {0: 0, 1: 1, 2: 1, 3: 2, 4: 2, 5: 3, 6: 3, 7: 4, 8: 4, 9: 4}
    raw = bytearray(
        b"".join(int(group or "0").to_bytes(sizes[len(group)], "big") for group in groups)
    )
    raw[0] ^= 0x80
    return bytes(byte ^ 0xFF for byte in raw) if negative else bytes(raw)


DIGITS = st.text("0123456789", max_size=35)


@given(st.booleans(), DIGITS, st.text("0123456789", max_size=30))
def test_any_decimal(negative, whole, fraction):
    if not whole and not fraction:
        return
    negative = negative and any(digit != "0" for digit in whole + fraction)
    meta = (len(whole) + len(fraction)) << 8 | len(fraction)
    raw = packed_decimal(negative, whole, fraction)
    assert len(raw) == decimal_size(meta)
    expected = (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")
    assert decimal_text(raw, meta) == "-" * negative + expected


@given(st.integers(0, 6), st.integers(-((838 * 3600 + 3599) * 10**6), (838 * 3600 + 3599) * 10**6))
def test_any_time(digits, microseconds):
    step = 10 ** (6 - digits)
    ticks = abs(microseconds) // step
    sign = -1 if microseconds < 0 and ticks else 1
    seconds, fraction = divmod(ticks, 10**digits)
    stored = digits + digits % 2
    size = stored // 2
    whole = seconds // 3600 << 12 | seconds // 60 % 60 << 6 | seconds % 60
    number = whole << 8 * size | fraction * 10 ** (stored - digits)
    raw = (sign * number + (1 << 8 * (3 + size) - 1)).to_bytes(3 + size, "big")
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    text += f".{fraction:0{digits}d}" if digits else ""
    assert time_text(raw, digits) == "-" * (sign < 0) + text
    if digits == 6:
        assert packed_time_text(sign * number) == "-" * (sign < 0) + text


PARTS = st.tuples(
    st.integers(0, 9999),
    st.integers(0, 12),
    st.integers(0, 31),
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(0, 59),
)


@given(PARTS, st.integers(0, 999999), st.integers(0, 6))
def test_any_datetime_and_date(parts, microseconds, digits):
    year, month, day, hour, minute, second = parts
    date = f"{year:04d}-{month:02d}-{day:02d}"
    assert date_text((year << 9 | month << 5 | day).to_bytes(3, "little")) == date
    fraction = microseconds // 10 ** (6 - digits)
    stored = digits + digits % 2
    whole = ((year * 13 + month) << 5 | day) << 17 | hour << 12 | minute << 6 | second
    raw = (whole | 1 << 39).to_bytes(5, "big")
    raw += (fraction * 10 ** (stored - digits)).to_bytes(stored // 2, "big")
    text = f"{date} {hour:02d}:{minute:02d}:{second:02d}"
    assert datetime_text(raw, digits) == text + (f".{fraction:0{digits}d}" if digits else "")
    assert packed_datetime_text(whole << 24 | microseconds) == f"{text}.{microseconds:06d}"


@given(st.integers(1, 2**32 - 1), st.integers(0, 999))
def test_any_timestamp(seconds, milliseconds):
    raw = seconds.to_bytes(4, "big") + (milliseconds * 10).to_bytes(2, "big")
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    assert timestamp_text(raw, 3) == f"{when:%Y-%m-%d %H:%M:%S}.{milliseconds:03d}"


def test_no_timestamp():
    assert timestamp_text(bytes(4), 0) == "0000-00-00 00:00:00"
    assert timestamp_text(bytes(7), 6) == "0000-00-00 00:00:00.000000"
