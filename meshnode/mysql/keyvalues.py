"""Keys read with SQL: their values as literals, as wire keys, and as tokens of equality.

Where there is a binlog, keys come out of row images.  A comparison of whole tables reads them
with SELECT instead, in expressions that lose nothing: text and bytes as hex,
numbers and dates as MySQL prints them.  From such a value each of three things
can be made: a literal that finds the row again, the bytes that the key has in a row
image, and, together with the server's weights, a token that is equal for two keys
exactly when MySQL calls them equal.
"""

import calendar
from collections.abc import Collection, Sequence

from meshnode.core.shape import Column, FieldType
from meshnode.mysql.catalog import Table
from meshnode.mysql.keys import BINARY_COLLATION
from meshnode.mysql.rowimage import fixed_size, prefix_size
from meshnode.mysql.schema import quoted

Values = tuple[object, ...]
"""The values of a key in column order, as :attr:`KeyReader.select` returns them."""

_NUMBERS = frozenset(
    {
        FieldType.TINY,
        FieldType.SHORT,
        FieldType.INT24,
        FieldType.LONG,
        FieldType.LONGLONG,
        FieldType.YEAR,
        FieldType.ENUM,
        FieldType.SET,
        FieldType.BIT,
    }
)
_TIMES = frozenset({FieldType.TIME2, FieldType.DATETIME2, FieldType.TIMESTAMP2, FieldType.DATE})
_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


class KeyReader:
    """How the primary key of one table is read.

    ``select`` are expressions for the values, in column order; ``tokens`` for what
    tells keys apart, one for each key column as well.  ``padded`` are the names
    of the collations that pad with spaces.  Sessions must be in UTC.
    """

    def __init__(self, table: Table, padded: Collection[str]) -> None:
        self._columns = table.shape.key_columns
        described = {key.name: key for key in table.key}
        self._keys = [described[column.name] for column in self._columns]
        names = [column.name for column in self._columns]
        self._index_order = [names.index(name) for name in table.key_order]
        self.select = ", ".join(_source(column) for column in self._columns)
        self.tokens = ", ".join(
            f"HEX(WEIGHT_STRING({_trimmed(key.name, key.collation in padded)}))"
            if key.collation is not None
            and column.collation != BINARY_COLLATION
            and column.type not in (FieldType.ENUM, FieldType.SET)
            else _source(column)
            for column, key in zip(self._columns, self._keys, strict=True)
        )
        self.order = ", ".join(quoted(name) for name in table.key_order)

    def __len__(self) -> int:
        return len(self._columns)

    def literals(self, values: Values) -> list[str]:
        """SQL literals, in column order."""
        return [
            _literal(column, key.charset, value)
            for column, key, value in zip(self._columns, self._keys, values, strict=True)
        ]

    def among(self, keys: Sequence[Values]) -> str:
        """A condition that is true for the rows with one of the ``keys``."""
        names = [quoted(column.name) for column in self._columns]
        if len(names) == 1:
            return f"{names[0]} IN ({', '.join(self.literals(values)[0] for values in keys)})"
        if any(column.type in (FieldType.ENUM, FieldType.SET) for column in self._columns):
            # Within a row comparison a label counts as text and never equals its number.
            return " OR ".join(
                "("
                + " AND ".join(
                    f"{name} = {literal}"
                    for name, literal in zip(names, self.literals(values), strict=True)
                )
                + ")"
                for values in keys
            )
        texts = ", ".join(f"({', '.join(self.literals(values))})" for values in keys)
        return f"({', '.join(names)}) IN ({texts})"

    def between(self, low: Values | None, high: Values | None) -> str:
        """A condition for the keys above ``low`` up to ``high``, in the order of the index."""
        parts = []
        if low is not None:
            parts.append(self._beyond(low, ">", ">"))
        if high is not None:
            parts.append(self._beyond(high, "<", "<="))
        return " AND ".join(parts) or "TRUE"

    def _beyond(self, values: Values, strict: str, last: str) -> str:
        """A row comparison written out: MySQL takes no range from ``(a, b) > (1, 2)``."""
        literals = self.literals(values)
        options = []
        for depth, place in enumerate(self._index_order):
            final = depth == len(self._index_order) - 1
            terms = [
                f"{quoted(self._columns[before].name)} = {literals[before]}"
                for before in self._index_order[:depth]
            ]
            sign = last if final else strict
            terms.append(f"{quoted(self._columns[place].name)} {sign} {literals[place]}")
            options.append(" AND ".join(terms))
        return "(" + " OR ".join(options) + ")"

    def wire_key(self, values: Values) -> bytes:
        """The key as it stands in a row image: its pieces in column order."""
        return b"".join(
            encode_piece(column, value) for column, value in zip(self._columns, values, strict=True)
        )


def encode_piece(column: Column, value: object) -> bytes:
    """One value, as read by :class:`KeyReader`, in the form that it has in a row image."""
    kind, size = column.type, fixed_size(column)
    if kind in _NUMBERS:
        number = int(value)
        if kind == FieldType.YEAR:
            return bytes((number - 1900 if number else 0,))
        order = "big" if kind == FieldType.BIT else "little"
        return number.to_bytes(size, order, signed=number < 0)
    if kind == FieldType.NEWDECIMAL:
        return _decimal(str(value), column.meta)
    if kind in _TIMES:
        return _temporal(kind, str(value), column.meta)
    raw = bytes.fromhex(str(value))
    if kind == FieldType.STRING and column.collation == BINARY_COLLATION:
        raw = raw.rstrip(b"\0")
    return len(raw).to_bytes(prefix_size(column), "little") + raw


def _source(column: Column) -> str:
    name = quoted(column.name)
    if column.type in _UNSIGNED:
        return f"CAST({name} AS UNSIGNED)"
    if column.type in _NUMBERS:
        return name
    if column.type == FieldType.NEWDECIMAL or column.type in _TIMES:
        return f"CAST({name} AS CHAR)"
    return f"HEX({name})"


_UNSIGNED = frozenset({FieldType.ENUM, FieldType.SET, FieldType.BIT, FieldType.YEAR})
"""Types that read as numbers only when asked to."""


def _trimmed(name: str, pads: bool) -> str:
    return f"TRIM(TRAILING ' ' FROM {quoted(name)})" if pads else quoted(name)


def _literal(column: Column, charset: str | None, value: object) -> str:
    if column.type in _NUMBERS or column.type == FieldType.NEWDECIMAL:
        return str(value)
    if column.type in _TIMES:
        return f"'{value}'"
    return f"_{charset} X'{value}'" if charset else f"X'{value}'"


def _decimal(text: str, meta: int) -> bytes:
    precision, scale = meta >> 8, meta & 0xFF
    negative = text.startswith("-")
    whole, _, fraction = text.lstrip("-").partition(".")
    whole = whole.rjust(precision - scale, "0")[-(precision - scale) :] if precision > scale else ""
    fraction = fraction.ljust(scale, "0")
    head = len(whole) % 9
    groups = [whole[:head], *(whole[at : at + 9] for at in range(head, len(whole), 9))]
    groups += [fraction[at : at + 9] for at in range(0, scale, 9)]
    raw = bytearray(b"".join(int(g).to_bytes(_DIGIT_BYTES[len(g)], "big") for g in groups if g))
    if negative and any(raw):
        raw = bytearray(byte ^ 0xFF for byte in raw)
    raw[0] ^= 0x80
    return bytes(raw)


def _temporal(kind: int, text: str, digits: int) -> bytes:
    if kind == FieldType.DATE:
        year, month, day = map(int, text.split("-"))
        return (year << 9 | month << 5 | day).to_bytes(3, "little")
    negative = text.startswith("-") and kind == FieldType.TIME2
    text, _, fraction = text.lstrip("-").partition(".")
    stored = digits + digits % 2
    small = int(fraction.ljust(stored, "0")) if digits else 0
    date, _, clock = text.rpartition(" ")
    hour, minute, second = map(int, clock.split(":"))
    time = hour << 12 | minute << 6 | second
    size = stored // 2
    if kind == FieldType.TIME2:
        value = time << 8 * size | small
        value = (-value if negative else value) + (1 << 8 * (3 + size) - 1)
        return value.to_bytes(3 + size, "big")
    year, month, day = map(int, date.split("-"))
    if kind == FieldType.TIMESTAMP2:
        zero = year == 0
        seconds = 0 if zero else calendar.timegm((year, month, day, hour, minute, second))
        return seconds.to_bytes(4, "big") + small.to_bytes(size, "big")
    whole = ((year * 13 + month) << 5 | day) << 17 | time
    return (whole + 0x8000000000).to_bytes(5, "big") + small.to_bytes(size, "big")
