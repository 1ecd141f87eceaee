"""The two encodings that binlog bodies share: length-encoded integers and bitmaps."""

from meshnode.errors import Halt


class MalformedEvent(Halt, ValueError):
    """An event whose bytes contradict themselves: nothing after it can be trusted."""

    def __init__(self, what: str) -> None:
        super().__init__(
            what,
            "check the source's binary log with mysqlbinlog --verify-binlog-checksum; "
            "the stream stays at the transaction before it",
        )


def read_length(buf: bytes, pos: int) -> tuple[int, int]:
    """A length-encoded integer at ``pos``: (value, position after it)."""
    first = buf[pos]
    if first < 0xFB:
        return first, pos + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first)
    if size is None or pos + 1 + size > len(buf):
        raise MalformedEvent(f"length-encoded integer at offset {pos} is damaged")
    return int.from_bytes(buf[pos + 1 : pos + 1 + size], "little"), pos + 1 + size


def write_length(value: int) -> bytes:
    """``value`` as a length-encoded integer."""
    if value < 0xFB:
        return bytes((value,))
    for mark, size in ((0xFC, 2), (0xFD, 3), (0xFE, 8)):
        if value < 1 << 8 * size:
            return bytes((mark,)) + value.to_bytes(size, "little")
    raise ValueError(f"{value} does not fit a length-encoded integer")


def bits_first_low(raw: bytes, count: int) -> list[bool]:
    """The first ``count`` bits, least significant bit of the first byte first."""
    number = int.from_bytes(raw, "little")
    return [bool(number >> index & 1) for index in range(count)]


def bits_first_high(raw: bytes, count: int) -> list[bool]:
    """The first ``count`` bits, most significant bit of the first byte first."""
    return [bool(raw[index >> 3] >> (7 - (index & 7)) & 1) for index in range(count)]


def pack_first_low(bits: list[bool]) -> bytes:
    """The inverse of :func:`bits_first_low`; spare bits are 0."""
    number = sum(1 << index for index, bit in enumerate(bits) if bit)
    return number.to_bytes((len(bits) + 7) // 8, "little")


def pack_first_high(bits: list[bool]) -> bytes:
    """The inverse of :func:`bits_first_high`; spare bits are 0."""
    raw = bytearray((len(bits) + 7) // 8)
    for index, bit in enumerate(bits):
        if bit:
            raw[index >> 3] |= 0x80 >> (index & 7)
    return bytes(raw)
