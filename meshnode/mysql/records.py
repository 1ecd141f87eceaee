"""Rows of ``conflict_log`` and ``dead_letter``, written in the transaction they belong to."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec
import orjson

from meshnode.core.shape import Shape
from meshnode.core.stamp import Stamp
from meshnode.core.wire import Entry
from meshnode.mysql.rowvalues import key_values, row_values
from meshnode.mysql.session import Session

POLICY = "lww"

INSERT_ROWS = 200
"""Records in one INSERT statement."""

INSERT_CHARACTERS = 1024 * 1024
"""Their text (at most 4 bytes a character), unless a single record is longer."""


def text(value: str | None) -> str:
    """A string literal; the sessions have no NO_BACKSLASH_ESCAPES."""
    if value is None:
        return "NULL"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0")
    return f"_utf8mb4'{escaped}'"


def raw(value: bytes) -> str:
    """A binary literal."""
    return f"X'{value.hex()}'"


def json(value: object) -> str:
    """A JSON document as a literal."""
    return text(orjson.dumps(value).decode()) if value is not None else "NULL"


def image_json(shape: Shape, image: bytes | None, charsets: Mapping[int, str]) -> str:
    """The values of an image as a JSON literal, or NULL."""
    return "NULL" if image is None else json(row_values(shape, image, charsets))


def key_json(shape: Shape, key: bytes, charsets: Mapping[int, str]) -> str:
    """The key's values as a JSON literal."""
    return json(key_values(shape, key, charsets))


class ConflictRow(NamedTuple):
    """One record; images are JSON literals."""

    shape: Shape
    key: str
    kind: str
    certainty: str
    reason: str
    winner: Stamp
    loser: Stamp
    winner_image: str
    loser_image: str
    origin: int
    seq: int
    tx_id: str


async def write_conflicts(session: Session, rows: Iterable[ConflictRow]) -> None:
    """Insert the records into ``meshnode.conflict_log``."""
    for statement in conflict_statements(rows):
        await session.query(statement)


def conflict_statements(rows: Iterable[ConflictRow], policy: str = POLICY) -> Iterator[str]:
    """The statements that insert the records."""
    values = (
        f"(UTC_TIMESTAMP(6),{text(row.shape.schema)},{text(row.shape.table)},{row.key},"
        f"{text(row.kind)},{text(row.certainty)},{text(policy)},{text(row.reason[:255])},"
        f"{row.winner.ts},{row.winner.origin},{row.loser.ts},{row.loser.origin},"
        f"{row.winner_image},{row.loser_image},{row.origin},{row.seq},{text(row.tx_id)})"
        for row in rows
    )
    for part in portions(values):
        yield (
            "INSERT INTO meshnode.conflict_log (at, schema_name, table_name, row_key, kind,"
            " certainty, policy, reason, winner_ts, winner_origin, loser_ts, loser_origin,"
            " winner_image, loser_image, origin, seq, tx_id) VALUES " + ",".join(part)
        )


def portions(values: Iterable[str]) -> Iterator[list[str]]:
    """``values`` in order, as many together as one statement takes (at least one).

    Two images of a row with a large blob are many times its size as text.
    """
    part: list[str] = []
    size = 0
    for value in values:
        if part and (len(part) >= INSERT_ROWS or size + len(value) > INSERT_CHARACTERS):
            yield part
            part, size = [], 0
        part.append(value)
        size += len(value)
    if part:
        yield part


class LetterBody(msgspec.Struct, array_like=True):
    """What a replay needs: the format, the table map, the entry, and the after image."""

    version: int
    format: bytes
    table_map: bytes
    entry: Entry
    image: bytes | None


class LetterRow(NamedTuple):
    """A row that cannot apply here; ``body`` is an encoded :class:`LetterBody`."""

    shape: Shape | None
    key: str
    stamp: Stamp
    code: int
    cause: str
    image: str
    body: bytes
    origin: int
    seq: int
    tx_id: str
    state: str = "open"


async def write_letters(session: Session, rows: Iterable[LetterRow]) -> None:
    """Insert the rows into ``meshnode.dead_letter``."""
    for row in rows:
        schema, table = (row.shape.schema, row.shape.table) if row.shape else (None, None)
        await session.query(
            "INSERT INTO meshnode.dead_letter (at, origin, seq, tx_id, schema_name, table_name,"
            " row_key, ts, stamp_origin, code, cause, image, body, state) VALUES "
            f"(UTC_TIMESTAMP(6),{row.origin},{row.seq},{text(row.tx_id)},{text(schema)},"
            f"{text(table)},{row.key},{row.stamp.ts},{row.stamp.origin},{row.code},"
            f"{text(row.cause[:1024])},{row.image},{raw(row.body)},{text(row.state)})"
        )
