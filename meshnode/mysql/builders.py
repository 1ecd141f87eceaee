"""Makes the events that the ``BINLOG`` statement applies.

The statement takes base64 of whole statement groups: table maps, rows events,
and STMT_END on the last of them.  A format-description event must have gone
before, alone; it says whether the events carry checksums.  Ours never do: they
pass a transport with checksums of its own, and leaving them out saves a pass
over the bytes.
"""

import struct
import zlib
from base64 import b64encode
from collections.abc import Iterable, Sequence

from meshnode.core.shape import Column, FieldType
from meshnode.mysql.bodies import DELETES, UPDATES, WRITES
from meshnode.mysql.events import CHECKSUM_SIZE, HEADER_SIZE, EventType
from meshnode.mysql.tablemap import CHARACTER, LABELLED, NUMERIC, Tag
from meshnode.mysql.wire import MalformedEvent, pack_first_high, pack_first_low, write_length

_HEADER = struct.Struct("<IBIIIH")


def build_event(
    type_: int,
    server_id: int,
    body: bytes,
    timestamp: int = 0,
    log_pos: int = 0,
    flags: int = 0,
    checksum: bool = False,
) -> bytes:
    """Header and body, with the CRC behind them if ``checksum``.

    ``server_id`` must not be that of the server that applies the event.
    """
    size = HEADER_SIZE + len(body) + (CHECKSUM_SIZE if checksum else 0)
    event = _HEADER.pack(timestamp, type_, server_id, size, log_pos, flags) + body
    return event + zlib.crc32(event).to_bytes(4, "little") if checksum else event


def fde_without_checksum(event: bytes) -> bytes:
    """The format-description event saying that the events after it have no checksum.

    Its own CRC stays, and is made anew: MySQL verifies it whatever the algorithm.
    """
    if len(event) < HEADER_SIZE + CHECKSUM_SIZE + 1 or event[4] != EventType.FORMAT_DESCRIPTION:
        raise MalformedEvent("this is no format-description event")
    plain = event[: -CHECKSUM_SIZE - 1] + b"\0"
    return plain + zlib.crc32(plain).to_bytes(4, "little")


def build_table_map(
    table_id: int,
    schema: str,
    table: str,
    columns: Sequence[Column],
    key: Sequence[int] = (),
    flags: int = 1,
) -> bytes:
    """The body of a TABLE_MAP event with full metadata."""
    metas = b"".join(_meta(column) for column in columns)
    return b"".join(
        (
            table_id.to_bytes(6, "little"),
            flags.to_bytes(2, "little"),
            _text(schema) + b"\0",
            _text(table) + b"\0",
            write_length(len(columns)),
            bytes(_wire_type(column) for column in columns),
            write_length(len(metas)),
            metas,
            pack_first_low([column.nullable for column in columns]),
            *(
                bytes((tag,)) + write_length(len(value)) + value
                for tag, value in _metadata(columns, key)
                if value
            ),
        )
    )


def build_rows(
    type_: int,
    table_id: int,
    flags: int,
    column_count: int,
    before_bitmap: bytes | None,
    after_bitmap: bytes | None,
    rows: bytes | Iterable[bytes],
) -> bytes:
    """The body of a rows event; ``rows`` are the images, one after the other.

    ``before_bitmap`` is None for inserts and ``after_bitmap`` for deletes.
    """
    needed = (type_ not in WRITES, type_ not in DELETES)
    if type_ not in WRITES | UPDATES | DELETES or needed != (
        before_bitmap is not None,
        after_bitmap is not None,
    ):
        raise ValueError(f"rows event {type_} has the wrong bitmaps")
    images = rows if isinstance(rows, bytes) else b"".join(rows)
    return b"".join(
        (
            table_id.to_bytes(6, "little"),
            flags.to_bytes(2, "little"),
            b"\x02\0",
            write_length(column_count),
            before_bitmap or b"",
            after_bitmap or b"",
            images,
        )
    )


def binlog_statement(events: Iterable[bytes]) -> bytes:
    """``BINLOG '<base64>'`` of the events."""
    return b"BINLOG '" + b64encode(b"".join(events)) + b"'"


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    return write_length(len(raw)) + raw


def _wire_type(column: Column) -> int:
    return FieldType.STRING if column.type in LABELLED else column.type


def _meta(column: Column) -> bytes:
    kind, meta = column.type, column.meta
    if kind in LABELLED:
        return bytes((kind, meta))
    if kind == FieldType.STRING:
        return bytes((FieldType.STRING ^ (meta & 0x300) >> 4, meta & 0xFF))
    if kind == FieldType.BIT:
        return bytes((meta % 8, meta // 8))
    if kind == FieldType.NEWDECIMAL:
        return bytes((meta >> 8, meta & 0xFF))
    if kind in (FieldType.VARCHAR, FieldType.VAR_STRING):
        return meta.to_bytes(2, "little")
    return bytes((meta,)) if meta or kind in _ONE_BYTE else b""


_ONE_BYTE = frozenset(
    {
        FieldType.FLOAT,
        FieldType.DOUBLE,
        FieldType.TIMESTAMP2,
        FieldType.DATETIME2,
        FieldType.TIME2,
        FieldType.VECTOR,
        FieldType.JSON,
        FieldType.BLOB,
        FieldType.GEOMETRY,
    }
)


def _metadata(columns: Sequence[Column], key: Sequence[int]) -> list[tuple[int, bytes]]:
    def numbers(values: Iterable[int]) -> bytes:
        return b"".join(write_length(value) for value in values)

    def labels(kind: int) -> bytes:
        return b"".join(
            write_length(len(column.labels))
            + b"".join(write_length(len(label)) + label for label in column.labels)
            for column in columns
            if column.type == kind
        )

    def of(kinds) -> list[Column]:
        return [column for column in columns if column.type in kinds]

    return [
        (Tag.SIGNEDNESS, pack_first_high([column.unsigned for column in of(NUMERIC)])),
        (Tag.COLUMN_CHARSET, numbers(column.collation for column in of(CHARACTER))),
        (Tag.COLUMN_NAME, b"".join(_text(column.name) for column in columns)),
        (Tag.SET_LABELS, labels(FieldType.SET)),
        (Tag.ENUM_LABELS, labels(FieldType.ENUM)),
        (Tag.GEOMETRY_KIND, numbers(c.geometry for c in of({FieldType.GEOMETRY}))),
        (Tag.SIMPLE_KEY, numbers(key)),
        (Tag.LABEL_COLUMN_CHARSET, numbers(column.collation for column in of(LABELLED))),
        (Tag.VISIBILITY, pack_first_high([column.visible for column in columns])),
        (Tag.VECTOR_DIMENSION, numbers(c.dimension for c in of({FieldType.VECTOR}))),
    ]
