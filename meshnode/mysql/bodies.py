"""The bodies of the events that describe the stream and its transactions.

All functions take ``(buf, pos, end)`` and read ``buf[pos:end]``, an event's body
without checksum; ``parse_gtid(body)`` and ``parse_gtid(event, 19)`` are the same.
Text stays bytes: its character set is the client's, and need not be valid.
"""

import struct
from functools import lru_cache
from uuid import UUID

import msgspec

from meshnode.mysql.events import CHECKSUM_SIZE, EventType
from meshnode.mysql.wire import MalformedEvent, read_length


class Gtid(msgspec.Struct, frozen=True):
    """GTID and GTID_TAGGED: what the next transaction is called and when it committed.

    Times are microseconds since 1970.
    """

    text: str
    flags: int
    last_committed: int
    sequence: int
    immediate_commit_us: int
    original_commit_us: int
    transaction_length: int


def parse_gtid(buf: bytes, pos: int = 0, end: int | None = None) -> Gtid:
    """Reads a GTID (33) or GTID_TAGGED (42) body; the two differ in the first bytes."""
    body = bytes(buf[pos:end])
    try:
        # A GTID's flags are 0 or 1; a tagged one opens with its version, 1, as 2.
        return _parse_tagged(body) if body[0] == 2 else _parse_untagged(body)
    except (IndexError, struct.error, ValueError) as error:
        raise MalformedEvent(f"GTID event is damaged: {error}") from error


_unpack_gtid = struct.Struct("<B16sqBqq").unpack_from


@lru_cache(maxsize=1024)
def _uuid_text(raw: bytes) -> str:
    return str(UUID(bytes=raw))


def _parse_untagged(body: bytes) -> Gtid:
    flags, sid, gno, _, last, sequence = _unpack_gtid(body)
    pos = 42
    immediate = original = length = 0
    if len(body) >= pos + 7:
        immediate = int.from_bytes(body[pos : pos + 7], "little")
        pos += 7
        original = immediate
        if immediate >> 55:
            immediate &= (1 << 55) - 1
            original = int.from_bytes(body[pos : pos + 7], "little")
            pos += 7
        length, pos = read_length(body, pos)
    return Gtid(f"{_uuid_text(sid)}:{gno}", flags, last, sequence, immediate, original, length)


def parse_gtid_name(kind: int, buf: bytes, pos: int = 0, end: int | None = None) -> tuple[str, int]:
    """Source and number alone: what is needed of every transaction, also of one passed over."""
    if kind == EventType.GTID_TAGGED:
        source, _, number = parse_gtid(buf, pos, end).text.rpartition(":")
        return source, int(number)
    _require_gtid(buf, pos, end, _GTID_HEAD)
    sid, number = _unpack_gtid_name(buf, pos + 1)
    return _uuid_text(sid), number


def parse_commit_us(kind: int, buf: bytes, pos: int = 0, end: int | None = None) -> int:
    """When the transaction was first committed, in microseconds since 1970; 0 if it is not said."""
    if kind == EventType.GTID_TAGGED:
        return parse_gtid(buf, pos, end).original_commit_us
    at = pos + _GTID_HEAD
    if (len(buf) if end is None else end) < at + 7:
        return 0
    immediate = int.from_bytes(buf[at : at + 7], "little")
    if not immediate >> 55:
        return immediate
    _require_gtid(buf, pos, end, _GTID_HEAD + 14)
    return int.from_bytes(buf[at + 7 : at + 14], "little")


_GTID_HEAD = 42
"""Bytes of an untagged GTID before its times."""

_unpack_gtid_name = struct.Struct("<16sq").unpack_from


def _require_gtid(buf: bytes, pos: int, end: int | None, size: int) -> None:
    have = (len(buf) if end is None else end) - pos
    if have < size:
        raise MalformedEvent(f"GTID event is damaged: {have} bytes, {size} expected")


class _GtidField:
    FLAGS, UUID, GNO, TAG, LAST, SEQUENCE, IMMEDIATE, ORIGINAL, LENGTH = range(9)
    IMMEDIATE_VERSION, ORIGINAL_VERSION, TICKET = range(9, 12)


def _parse_tagged(body: bytes) -> Gtid:
    _, pos = _varint(body, 0)
    size, pos = _varint(body, pos)
    required, pos = _varint(body, pos)
    if size != len(body):
        raise ValueError(f"it says {size} bytes and has {len(body)}")
    number: dict[int, int] = {}
    uuid, tag = b"", ""
    while pos < len(body):
        field, pos = _varint(body, pos)
        if field == _GtidField.UUID:
            octets = []
            for _ in range(16):
                octet, pos = _varint(body, pos)
                octets.append(octet)
            uuid = bytes(octets)
        elif field == _GtidField.TAG:
            length, pos = _varint(body, pos)
            tag, pos = body[pos : pos + length].decode("ascii"), pos + length
        elif field in (_GtidField.GNO, _GtidField.LAST, _GtidField.SEQUENCE):
            value, pos = _varint(body, pos)
            number[field] = ~(value >> 1) if value & 1 else value >> 1
        elif field <= _GtidField.TICKET:
            number[field], pos = _varint(body, pos)
        elif field <= required:
            raise ValueError(f"field {field} is unknown and must not be ignored")
        else:
            break  # fields are in ascending order, so nothing known follows
    immediate = number.get(_GtidField.IMMEDIATE, 0)
    source = f"{_uuid_text(uuid)}:{tag}" if tag else _uuid_text(uuid)
    return Gtid(
        f"{source}:{number[_GtidField.GNO]}",
        number.get(_GtidField.FLAGS, 0),
        number.get(_GtidField.LAST, 0),
        number.get(_GtidField.SEQUENCE, 0),
        immediate,
        number.get(_GtidField.ORIGINAL, immediate),
        number.get(_GtidField.LENGTH, 0),
    )


def _varint(body: bytes, pos: int) -> tuple[int, int]:
    """MySQL's serialized integer: as many trailing one bits as bytes follow."""
    first = body[pos]
    if not first & 1:
        return first >> 1, pos + 1
    extra = 1
    while extra < 8 and first >> extra & 1:
        extra += 1
    raw = body[pos : pos + 1 + extra]
    if len(raw) != 1 + extra:
        raise IndexError("integer runs beyond the event")
    return int.from_bytes(raw, "little") >> min(extra + 1, 8), pos + 1 + extra


class Query(msgspec.Struct, frozen=True):
    """A statement: DDL, a transaction's BEGIN or COMMIT, or statement-format DML.

    Variables that the event does not carry are None.
    """

    schema: bytes
    sql: bytes
    thread_id: int
    error_code: int
    sql_mode: int | None = None
    client_collation: int | None = None
    connection_collation: int | None = None
    server_collation: int | None = None
    time_zone: bytes | None = None


_STATUS_SIZES = {0: 4, 1: 8, 3: 4, 4: 6, 7: 2, 8: 2, 9: 8, 10: 4, 13: 3, 16: 1, 17: 8, 18: 2}
_STATUS_SIZES.update({19: 1, 20: 1})
_STATUS_TEXTS = {2: (1, 1), 5: (1, 0), 6: (1, 0), 11: (2, 0)}
"""Codes with length-prefixed texts: how many, and bytes after the last one."""


def parse_query(buf: bytes, pos: int = 0, end: int | None = None) -> Query:
    """Reads a QUERY body."""
    body = bytes(buf[pos:end])
    try:
        thread, _, schema_size, error_code, status_size = struct.unpack_from("<IIBHH", body)
        status_end = 13 + status_size
        if status_end + schema_size + 1 > len(body):
            raise IndexError("lengths run beyond the event")
        sql_mode, collations, time_zone = _status(body[13:status_end])
    except (IndexError, struct.error) as error:
        raise MalformedEvent(f"QUERY event is damaged: {error}") from error
    schema_end = status_end + schema_size
    return Query(
        body[status_end:schema_end],
        body[schema_end + 1 :],
        thread,
        error_code,
        sql_mode,
        *collations,
        time_zone,
    )


@lru_cache(maxsize=1024)
def _status(raw: bytes) -> tuple[int | None, tuple[int | None, ...], bytes | None]:
    """sql_mode, collations and time zone; sessions of a kind send the same bytes."""
    found = _variables(raw)
    mode = found.get(1)
    return (
        None if mode is None else int.from_bytes(mode, "little"),
        struct.unpack("<HHH", found[4]) if 4 in found else (None, None, None),
        found.get(5),
    )


def _variables(raw: bytes) -> dict[int, bytes]:
    """The variables up to the first unknown code, whose size nobody knows."""
    found: dict[int, bytes] = {}
    pos = 0
    while pos < len(raw):
        code = raw[pos]
        pos += 1
        if code in _STATUS_SIZES:
            size = _STATUS_SIZES[code]
            found[code] = raw[pos : pos + size]
            pos += size
        elif code in _STATUS_TEXTS:
            texts, after = _STATUS_TEXTS[code]
            for _ in range(texts):
                found[code] = raw[pos + 1 : pos + 1 + raw[pos]]
                pos += 1 + raw[pos]
            pos += after
        elif code == 12:
            count = raw[pos]
            pos += 1
            for _ in range(0 if count == 254 else count):
                pos = raw.index(0, pos) + 1
        else:
            break
    return found


class FormatDescription(msgspec.Struct, frozen=True):
    """The format of the events after it.

    ``checksum`` is the algorithm: 0 none, 1 CRC32.  ``raw`` is the body with its CRC.
    """

    server_version: str
    checksum: int
    post_header_sizes: bytes
    raw: bytes


def parse_format_description(buf: bytes, pos: int = 0, end: int | None = None) -> FormatDescription:
    """Reads a FORMAT_DESCRIPTION body, which always has its own CRC."""
    raw = bytes(buf[pos:end])
    if len(raw) < 57 + EventType.FORMAT_DESCRIPTION + CHECKSUM_SIZE + 1:
        raise MalformedEvent("FORMAT_DESCRIPTION event is too short for MySQL 8.0 or later")
    version = raw[2:52].rstrip(b"\0").decode("ascii", "replace")
    return FormatDescription(version, raw[-CHECKSUM_SIZE - 1], raw[57 : -CHECKSUM_SIZE - 1], raw)


class RowsFlag:
    """Bits of a rows event's own flags."""

    STATEMENT_END = 0x01
    NO_FOREIGN_KEY_CHECKS = 0x02
    RELAXED_UNIQUE_CHECKS = 0x04
    COMPLETE_ROWS = 0x08
    SQL_FOREIGN_KEYS = 0x10


class Rows(msgspec.Struct, frozen=True):
    """Where a rows event keeps its rows.

    ``start`` and ``stop`` are offsets in the buffer that was parsed.  Bits beyond
    ``column_count`` are cleared in the bitmaps.  ``before`` is None for an insert,
    ``after`` for a delete.
    """

    type: int
    table_id: int
    flags: int
    column_count: int
    before: bytes | None
    after: bytes | None
    start: int
    stop: int

    @property
    def full(self) -> bool:
        """Whether every image holds every column, as plain values."""
        if self.type == EventType.PARTIAL_UPDATE_ROWS:
            return False
        every = _every(self.column_count)
        return self.before in (None, every) and self.after in (None, every)


WRITES = frozenset({EventType.WRITE_ROWS, EventType.WRITE_ROWS_V1})
UPDATES = frozenset(
    {EventType.UPDATE_ROWS, EventType.UPDATE_ROWS_V1, EventType.PARTIAL_UPDATE_ROWS}
)
DELETES = frozenset({EventType.DELETE_ROWS, EventType.DELETE_ROWS_V1})
_V1 = frozenset({EventType.WRITE_ROWS_V1, EventType.UPDATE_ROWS_V1, EventType.DELETE_ROWS_V1})


def parse_rows(type_: int, buf: bytes, pos: int = 0, end: int | None = None) -> Rows:
    """Reads the head of a rows event's body; the rows themselves are left alone."""
    stop = len(buf) if end is None else end
    try:
        low, high, flags = _unpack_rows(buf, pos)
        pos += 8
        if type_ not in _V1:
            extra = buf[pos] | buf[pos + 1] << 8
            if extra < 2:
                raise IndexError
            pos += extra
        count, pos = read_length(buf, pos)
        size = (count + 7) // 8
        if pos + size * (2 if type_ in UPDATES else 1) > stop:
            raise IndexError
    except (IndexError, struct.error) as error:
        raise MalformedEvent("rows event is shorter than its own lengths say") from error
    table_id = low | high << 32
    first = _masked(bytes(buf[pos : pos + size]), count)
    pos += size
    if type_ in WRITES:
        return Rows(type_, table_id, flags, count, None, first, pos, stop)
    if type_ in DELETES:
        return Rows(type_, table_id, flags, count, first, None, pos, stop)
    second = _masked(bytes(buf[pos : pos + size]), count)
    return Rows(type_, table_id, flags, count, first, second, pos + size, stop)


_unpack_rows = struct.Struct("<IHH").unpack_from


@lru_cache(maxsize=4096)
def _masked(bitmap: bytes, count: int) -> bytes:
    spare = len(bitmap) * 8 - count
    return bitmap[:-1] + bytes((bitmap[-1] & 0xFF >> spare,)) if spare else bitmap


@lru_cache(maxsize=1024)
def _every(count: int) -> bytes:
    return ((1 << count) - 1).to_bytes((count + 7) // 8, "little")
