"""Dates and times as MySQL prints them, from their bytes in a row image.

Text and not Python's types: 0000-00-00, 2024-05-00 and 2023-02-31 are values a
column can hold, and TIME reaches from -838:59:59 to 838:59:59.  A TIME is one
signed number over all its bytes; reading the fraction apart is wrong for
negative ones.  A TIMESTAMP is printed in UTC.
"""

from datetime import UTC, datetime


def date_text(raw: bytes, _digits: int = 0) -> str:
    """3 bytes, little-endian: year, month, day."""
    value = int.from_bytes(raw, "little")
    return f"{value >> 9:04d}-{value >> 5 & 15:02d}-{value & 31:02d}"


def time_text(raw: bytes, digits: int) -> str:
    """3 bytes and the fraction, big-endian, with an offset that makes it positive."""
    value = int.from_bytes(raw, "big") - (1 << 8 * len(raw) - 1)
    sign, value = ("-", -value) if value < 0 else ("", value)
    fraction_bits = 8 * (len(raw) - 3)
    whole, fraction = value >> fraction_bits, value & (1 << fraction_bits) - 1
    return (
        f"{sign}{whole >> 12 & 1023:02d}:{whole >> 6 & 63:02d}:{whole & 63:02d}"
        f"{_fraction_text(fraction, digits)}"
    )


def datetime_text(raw: bytes, digits: int) -> str:
    """5 bytes and the fraction, big-endian; the first bit is always set."""
    value = int.from_bytes(raw[:5], "big") - 0x8000000000
    month = value >> 22
    return (
        f"{month // 13:04d}-{month % 13:02d}-{value >> 17 & 31:02d} "
        f"{value >> 12 & 31:02d}:{value >> 6 & 63:02d}:{value & 63:02d}"
        f"{_fraction_text(int.from_bytes(raw[5:], 'big'), digits)}"
    )


def timestamp_text(raw: bytes, digits: int) -> str:
    """4 bytes of seconds and the fraction, big-endian; 0 is no time at all."""
    seconds = int.from_bytes(raw[:4], "big")
    fraction = _fraction_text(int.from_bytes(raw[4:], "big"), digits)
    if not seconds:
        return "0000-00-00 00:00:00" + fraction
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S") + fraction


def _fraction_text(value: int, digits: int) -> str:
    """The fraction is stored with an even number of digits."""
    if not digits:
        return ""
    stored = digits + digits % 2
    return f".{value:0{stored}d}"[: digits + 1]


def packed_time_text(packed: int) -> str:
    """A TIME inside JSON: a signed number with 24 bits of microseconds."""
    sign, packed = ("-", -packed) if packed < 0 else ("", packed)
    whole = packed >> 24
    return (
        f"{sign}{whole >> 12 & 1023:02d}:{whole >> 6 & 63:02d}:{whole & 63:02d}"
        f".{packed & 0xFFFFFF:06d}"
    )


def packed_datetime_text(packed: int) -> str:
    """A DATETIME or TIMESTAMP inside JSON."""
    whole = packed >> 24
    month = whole >> 22
    return (
        f"{month // 13:04d}-{month % 13:02d}-{whole >> 17 & 31:02d} "
        f"{whole >> 12 & 31:02d}:{whole >> 6 & 63:02d}:{whole & 63:02d}.{packed & 0xFFFFFF:06d}"
    )


def packed_date_text(packed: int) -> str:
    """A DATE inside JSON."""
    return packed_datetime_text(packed)[:10]
