"""DECIMAL in MySQL's packed form, as exact text and back to nothing else.

Groups of nine digits take four bytes, big-endian; the odd digits, at the outer
ends, take as few bytes as they need.  The first bit is inverted so that bytes
sort as numbers, and a negative number has all bits inverted.
"""

_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


def decimal_size(meta: int) -> int:
    """Bytes of a packed DECIMAL with ``precision << 8 | scale``."""
    precision, scale = meta >> 8, meta & 0xFF
    return sum(digits // 9 * 4 + _DIGIT_BYTES[digits % 9] for digits in (precision - scale, scale))


def decimal_text(raw: bytes, meta: int) -> str:
    """The number with exactly its scale's digits, as MySQL prints it."""
    precision, scale = meta >> 8, meta & 0xFF
    negative = not raw[0] & 0x80
    data = bytes((raw[0] ^ 0x80,)) + raw[1:]
    if negative:
        data = bytes(byte ^ 0xFF for byte in data)
    whole = precision - scale
    pos, digits = 0, []
    for width in (whole % 9, *(9,) * (whole // 9)):
        pos = _group(data, pos, width, digits)
    number = "".join(digits).lstrip("0") or "0"
    digits.clear()
    for width in (*(9,) * (scale // 9), scale % 9):
        pos = _group(data, pos, width, digits)
    if scale:
        number += "." + "".join(digits)
    return "-" + number if negative else number


def _group(data: bytes, pos: int, width: int, digits: list[str]) -> int:
    size = _DIGIT_BYTES[width]
    if size:
        digits.append(f"{int.from_bytes(data[pos : pos + size], 'big'):0{width}d}")
    return pos + size
