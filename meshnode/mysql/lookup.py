"""Asking MySQL about keys: which rows exist, with which stamps, and which keys are equal.

Equality of keys is MySQL's.  For keys whose equal values are equal bytes the
wire key is its own canonical form.  For character keys the canonical form is
made of the server's ``WEIGHT_STRING``, asked for once and remembered
(:func:`fold_keys`).  Where the collation pads, spaces at the end do not count:
they are taken off the weights and not off the text, because characters that weigh
nothing or as much as a space may stand there ('a' equals 'a \\0' in utf8mb4_unicode_ci).

A :class:`Lookup` knows one table: how to name its keys in a statement, and how
to tell which of the keys asked for a returned row is.  For that each key
column is selected in a form that can be computed from the wire key as well: an
integer, the text of a decimal or a time, the bytes, or the weight.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from meshnode import limits
from meshnode.core.change import NetKey, Table
from meshnode.core.shape import Column, FieldType, Shape
from meshnode.core.stamp import Stamp
from meshnode.errors import Busy, Halt
from meshnode.mysql.keys import (
    BINARY_COLLATION,
    column_literals,
    integer_code,
    key_is_binary,
    key_literal,
    split_key,
)
from meshnode.mysql.numeric import decimal_text
from meshnode.mysql.rowimage import prefix_size
from meshnode.mysql.schema import quoted, quoted_table, tombstone_table
from meshnode.mysql.session import Session
from meshnode.mysql.temporal import date_text, datetime_text, time_text, timestamp_text

_INTEGERS = frozenset(
    {FieldType.TINY, FieldType.SHORT, FieldType.INT24, FieldType.LONG, FieldType.LONGLONG}
)
_LABELLED = frozenset({FieldType.ENUM, FieldType.SET})
_TEMPORAL = {
    FieldType.DATE: date_text,
    FieldType.TIME2: time_text,
    FieldType.DATETIME2: datetime_text,
    FieldType.TIMESTAMP2: timestamp_text,
}


class Collation(NamedTuple):
    """A row of ``information_schema.collations``."""

    name: str
    charset: str
    pads: bool


async def read_collations(session: Session) -> dict[int, Collation]:
    """All collations of the server, by id."""
    rows = await session.query(
        "SELECT id, collation_name, character_set_name, pad_attribute"
        " FROM information_schema.collations"
    )
    return {
        int(number): Collation(name, charset, pads == "PAD SPACE")
        for number, name, charset, pads in rows
    }


def is_text(column: Column) -> bool:
    """Whether the collation decides which values of the column are equal."""
    return column.type in (FieldType.VARCHAR, FieldType.VAR_STRING, FieldType.STRING) and (
        column.collation != BINARY_COLLATION
    )


def _expression(column: Column, collations: Mapping[int, Collation]) -> str:
    name = quoted(column.name)
    kind = column.type
    if kind in _INTEGERS:
        return name
    if kind in (FieldType.ENUM, FieldType.SET, FieldType.YEAR):
        return f"CAST({name} AS UNSIGNED)"
    if kind in _TEMPORAL or kind == FieldType.NEWDECIMAL:
        return f"CAST({name} AS CHAR)"
    if is_text(column):
        return _weight(name, collations[column.collation])
    return f"HEX({name})"


UNSURE_COLLATIONS = {
    "big5_chinese_ci": "big5_bin",
    "euckr_korean_ci": "euckr_bin",
    "gb18030_chinese_ci": "gb18030_bin",
    "tis620_thai_ci": "tis620_bin",
}
"""Collations whose index and ``WEIGHT_STRING`` disagree on which texts are equal, and the way out.

Measured on 9.7: big5 weighs characters by their strokes alone, euckr compares single bytes of a
character, gb18030 gives the dotless i the weight of I, tis620 sorts padding into the text.
"""

_LEVELS = frozenset({"cp1250_czech_cs", "latin2_czech_cs"})
"""Collations that pad and weigh in levels, so that the weights do not end with those of spaces."""


def _weight(text: str, collation: Collation) -> str:
    """The same for two values of ``text`` exactly if the collation has them equal."""
    if not collation.pads:
        return f"HEX(WEIGHT_STRING({text}))"
    if collation.name in _LEVELS:
        return f"HEX(WEIGHT_STRING(TRIM(TRAILING ' ' FROM {text})))"
    space = f"CONVERT(' ' USING {collation.charset}) COLLATE {collation.name}"
    return f"HEX(TRIM(TRAILING WEIGHT_STRING({space}) FROM WEIGHT_STRING({text})))"


def _token(column: Column) -> Callable[[bytes], object]:
    """From a piece of a wire key to what :func:`_expression` returns for it."""
    kind = column.type
    if kind in _INTEGERS:
        signed = not column.unsigned
        return lambda piece: int.from_bytes(piece, "little", signed=signed)
    if kind in (FieldType.ENUM, FieldType.SET):
        return lambda piece: int.from_bytes(piece, "little")
    if kind == FieldType.YEAR:
        return lambda piece: piece[0] + 1900 if piece[0] else 0
    if kind in _TEMPORAL:
        text, meta = _TEMPORAL[kind], column.meta
        return lambda piece: text(piece, meta)
    if kind == FieldType.NEWDECIMAL:
        meta = column.meta
        return lambda piece: decimal_text(piece, meta)
    if kind == FieldType.BIT:
        return lambda piece: f"{int.from_bytes(piece, 'big'):X}"
    prefix = prefix_size(column)
    width = column.meta if kind == FieldType.STRING else 0
    return lambda piece: piece[prefix:].ljust(width, b"\0").hex().upper()


def _require_sure(shape: Shape, collations: Mapping[int, Collation]) -> None:
    for column in filter(is_text, shape.key_columns):
        known = collations.get(column.collation)
        if known is None:
            raise Halt(
                f"key column `{column.name}` of table {shape.name} has the collation id "
                f"{column.collation}, which this server does not know",
                "install the collation, or change the column's collation everywhere",
            )
        name = known.name
        if name in UNSURE_COLLATIONS:
            raise Halt(
                f"key column `{column.name}` of table {shape.name} has the collation {name}, and "
                "MySQL does not tell which of its values are equal",
                f"use {UNSURE_COLLATIONS[name]} for it everywhere, or exclude the table in the "
                "topology",
            )


class Lookup:
    """One table's keys in SQL, and SQL's rows as keys."""

    def __init__(self, shape: Shape, collations: Mapping[int, Collation]) -> None:
        self.shape = shape
        self.table = quoted_table(shape.schema, shape.table)
        self.tombstones = tombstone_table(shape.schema, shape.table)
        self.binary = key_is_binary(shape)
        charsets = {number: entry.charset for number, entry in collations.items()}
        _require_sure(shape, collations)
        self.literal = key_literal(shape, charsets)
        columns = shape.key_columns
        names = [quoted(column.name) for column in columns]
        self.columns = names[0] if len(names) == 1 else f"({','.join(names)})"
        self.select = ",".join(_expression(column, collations) for column in columns)
        self._tokens = [None if is_text(column) else _token(column) for column in columns]
        self._texts = [
            (place, column, collations[column.collation])
            for place, column in enumerate(columns)
            if is_text(column)
        ]
        self._apart = None
        if len(columns) > 1 and any(column.type in _LABELLED for column in columns):
            writers = column_literals(shape, charsets)
            self._apart = list(zip(names, writers))
        self.integer = len(columns) == 1 and columns[0].type in _INTEGERS
        self.layout = integer_code(columns[0]) if len(columns) == 1 else None
        self._single = self._tokens[0] if len(columns) == 1 and self.binary else None
        self._weights: dict[bytes, tuple[str, ...]] = {}

    def where(self, keys: Iterable[bytes]) -> str:
        """The condition that finds exactly the rows of ``keys`` by primary key.

        A row constructor compares an ENUM or SET as text (measured on 9.7: it
        finds nothing), so keys with one are written out.
        """
        if self._apart is None:
            return f"{self.columns} IN ({','.join(map(self.literal, keys))})"
        return " OR ".join(
            "("
            + " AND ".join(
                f"{name}={write(piece)}"
                for (name, write), piece in zip(self._apart, split_key(self.shape, key))
            )
            + ")"
            for key in keys
        )

    def token(self, key: bytes) -> object:
        """What a row with this key looks like in :attr:`select`."""
        if self._single is not None:
            return self._single(key)
        pieces = split_key(self.shape, key)
        weights = iter(self._weights[key]) if self._texts else iter(())
        return tuple(
            next(weights) if token is None else token(piece)
            for token, piece in zip(self._tokens, pieces)
        )

    def tokens(self, keys: Sequence[bytes]) -> Sequence:
        """:meth:`token` of each key; the keys must be as a scanner found them."""
        if self.layout is None:
            return [self.token(key) for key in keys]
        return struct.unpack(f"<{len(keys)}{self.layout}", b"".join(keys))

    def row_token(self, row: tuple) -> object:
        """The same of a returned row."""
        return row[0] if self._single is not None else row[: len(self._tokens)]

    def fold_expressions(self, key: bytes) -> list[str]:
        """Expressions for the weights of the key's text columns."""
        pieces = split_key(self.shape, key)
        found = []
        for place, column, collation in self._texts:
            raw = pieces[place][prefix_size(column) :].hex()
            text = f"_{collation.charset} X'{raw}' COLLATE {collation.name}"
            found.append(_weight(text, collation))
        return found

    def learn(self, table: Table, key: bytes, weights: Sequence[str]) -> None:
        """Remember the canonical form of ``key``."""
        assert table.folds is not None
        self._weights[key] = tuple(weights)
        token = self.token(key)
        table.folds[key] = repr(token).encode()

    def forget(self, table: Table) -> None:
        """Drop what was learnt, to bound memory; only between batches."""
        self._weights.clear()
        if table.folds is not None:
            table.folds.clear()


async def fold_keys(session: Session, lookup: Lookup, table: Table, keys: Iterable[bytes]) -> None:
    """Learn the canonical forms of ``keys`` from the server."""
    assert table.folds is not None
    missing = [key for key in set(keys) if key not in table.folds]
    step = max(1, limits.LOCK_KEYS // max(1, len(lookup.shape.key)))
    for start in range(0, len(missing), step):
        part = missing[start : start + step]
        expressions = [lookup.fold_expressions(key) for key in part]
        flat = [expression for group in expressions for expression in group]
        row = (await session.query("SELECT " + ",".join(flat)))[0] if flat else ()
        at = 0
        for key, group in zip(part, expressions):
            lookup.learn(table, key, row[at : at + len(group)])
            at += len(group)


PROBE_KEYS = 50
"""From so many keys on it is worth asking first whether their whole range is empty."""

FOR_UPDATE_NOWAIT = "FOR UPDATE NOWAIT"
FOR_SHARE_NOWAIT = "FOR SHARE NOWAIT"
FOR_UPDATE = "FOR UPDATE"


async def read_stamps(
    session: Session,
    lookup: Lookup,
    table: Table,
    keys: Iterable[bytes],
    lock: str,
    tombstones: bool = False,
    fresh: bool = False,
) -> dict[NetKey, Stamp]:
    """The stamps of those ``keys`` that exist, by canonical key, under ``lock``.

    Keys are asked for in one order everywhere, so that two sessions that lock
    the same rows do it in the same order.  Raises Busy when a row is locked.
    ``fresh`` says that the rows are probably not there; that of tombstones is
    always probable.
    """
    by_token = {lookup.token(key): key for key in keys}
    source = lookup.tombstones if tombstones else lookup.table
    if (tombstones or fresh) and lookup.integer and len(by_token) >= PROBE_KEYS:
        low, high = min(by_token), max(by_token)
        if await _nothing_between(session, f"{source} WHERE {lookup.columns}", low, high):
            return {}
    ordered = [by_token[token] for token in in_order(by_token)]
    head = f"SELECT {lookup.select},_mesh_ts,_mesh_origin FROM {source} WHERE "
    found: dict[NetKey, Stamp] = {}
    for start in range(0, len(ordered), limits.LOCK_KEYS):
        part = ordered[start : start + limits.LOCK_KEYS]
        rows = await session.query(f"{head}{lookup.where(part)} {lock}")
        for row in rows:
            key = by_token[lookup.row_token(row)]
            found[(table, table.fold(key))] = Stamp(row[-2], row[-1])
    return found


async def _nothing_between(session: Session, where: str, low: int, high: int) -> bool:
    """Whether no row at all stands between two keys; one question instead of thousands.

    A locking read, like the one it stands for: absent keys cannot be locked
    under READ COMMITTED, so both see the same.  A locked row is left to that one.
    """
    try:
        rows = await session.query(
            f"SELECT 1 FROM {where} BETWEEN {low} AND {high} LIMIT 1 {FOR_SHARE_NOWAIT}"
        )
    except Busy:
        return False
    return not rows


def in_order(tokens: Iterable) -> list:
    """The tokens of keys in the one order in which they are locked everywhere."""
    tokens = list(tokens)
    integers = all(type(token) is int for token in tokens)
    return sorted(tokens, key=None if integers else _order)


def _order(token: object) -> object:
    return token if isinstance(token, int) else repr(token)
