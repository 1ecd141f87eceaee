"""Binlog events: headers, checksums, transaction payloads, and what may be ignored.

Everywhere in this package an *event* is the 19-byte header and the body,
without checksum, and with a length field that says so; :func:`take_event`
makes one of what came off the wire.  The bodies are read in
:mod:`meshnode.mysql.bodies`, :mod:`meshnode.mysql.tablemap` and
:mod:`meshnode.mysql.rowimage`.

No event is skipped because it is unknown.  Only the server knows whether an
event matters; it says so with the ignorable flag, and without that flag an
unknown number stops the stream.
"""

import struct
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple
from zlib import crc32

import zstandard

from meshnode.errors import Halt
from meshnode.mysql.wire import MalformedEvent, read_length

HEADER_SIZE = 19
CHECKSUM_SIZE = 4


BEFORE_STATUS = 0x0F6A7026
INTACT = 0x2144DF1C
"""``crc32(packet, BEFORE_STATUS) == INTACT`` checks an event where it stands in its packet.

The CRC-32 of anything with its own CRC behind it is always the same number.  The
status byte before the event (0) does not count: it leads from ``BEFORE_STATUS`` to
the value with which every CRC-32 begins.
"""


class EventType:
    """Event numbers by MySQL's names."""

    UNKNOWN = 0
    START_V3 = 1
    QUERY = 2
    STOP = 3
    ROTATE = 4
    INTVAR = 5
    SLAVE = 7
    APPEND_BLOCK = 9
    DELETE_FILE = 11
    RAND = 13
    USER_VAR = 14
    FORMAT_DESCRIPTION = 15
    XID = 16
    BEGIN_LOAD_QUERY = 17
    EXECUTE_LOAD_QUERY = 18
    TABLE_MAP = 19
    WRITE_ROWS_V1 = 23
    UPDATE_ROWS_V1 = 24
    DELETE_ROWS_V1 = 25
    INCIDENT = 26
    HEARTBEAT = 27
    IGNORABLE = 28
    ROWS_QUERY = 29
    WRITE_ROWS = 30
    UPDATE_ROWS = 31
    DELETE_ROWS = 32
    GTID = 33
    ANONYMOUS_GTID = 34
    PREVIOUS_GTIDS = 35
    TRANSACTION_CONTEXT = 36
    VIEW_CHANGE = 37
    XA_PREPARE = 38
    PARTIAL_UPDATE_ROWS = 39
    TRANSACTION_PAYLOAD = 40
    HEARTBEAT_V2 = 41
    GTID_TAGGED = 42


EVENT_NAMES = {number: name for name, number in vars(EventType).items() if isinstance(number, int)}


class HeaderFlag:
    """Bits of the header's flags."""

    BINLOG_IN_USE = 0x01
    THREAD_SPECIFIC = 0x04
    SUPPRESS_USE = 0x08
    ARTIFICIAL = 0x20
    RELAY_LOG = 0x40
    IGNORABLE = 0x80


class EventClass(Enum):
    """What the reader has to do with an event."""

    GROUP = "begins, ends or describes a transaction"
    ROWS = "carries rows of the table maps before it"
    STATEMENT = "carries a statement's data: rows were not logged"
    STREAM = "belongs to the stream, not to a transaction"
    IGNORABLE = "may be skipped"
    FATAL = "says that the log is not complete"


_CLASSES = {
    EventClass.GROUP: (
        EventType.QUERY,
        EventType.XID,
        EventType.TABLE_MAP,
        EventType.GTID,
        EventType.GTID_TAGGED,
        EventType.ANONYMOUS_GTID,
        EventType.XA_PREPARE,
        EventType.TRANSACTION_PAYLOAD,
    ),
    EventClass.ROWS: (
        EventType.WRITE_ROWS_V1,
        EventType.UPDATE_ROWS_V1,
        EventType.DELETE_ROWS_V1,
        EventType.WRITE_ROWS,
        EventType.UPDATE_ROWS,
        EventType.DELETE_ROWS,
        EventType.PARTIAL_UPDATE_ROWS,
    ),
    EventClass.STATEMENT: (
        EventType.INTVAR,
        EventType.RAND,
        EventType.USER_VAR,
        EventType.APPEND_BLOCK,
        EventType.DELETE_FILE,
        EventType.BEGIN_LOAD_QUERY,
        EventType.EXECUTE_LOAD_QUERY,
    ),
    EventClass.STREAM: (
        EventType.STOP,
        EventType.ROTATE,
        EventType.FORMAT_DESCRIPTION,
        EventType.PREVIOUS_GTIDS,
        EventType.HEARTBEAT,
        EventType.HEARTBEAT_V2,
    ),
    EventClass.IGNORABLE: (
        EventType.IGNORABLE,
        EventType.ROWS_QUERY,
        EventType.TRANSACTION_CONTEXT,
        EventType.VIEW_CHANGE,
    ),
    EventClass.FATAL: (EventType.INCIDENT,),
}

_CLASS_OF = {number: kind for kind, numbers in _CLASSES.items() for number in numbers}


def classify(type_: int, flags: int) -> EventClass:
    """What to do with an event of this type; Halt when nobody can know."""
    kind = _CLASS_OF.get(type_)
    if kind is not None:
        return kind
    if flags & HeaderFlag.IGNORABLE:
        return EventClass.IGNORABLE
    raise Halt(
        f"the binary log holds an event of the unknown type {type_} that must not be ignored",
        "upgrade meshnode to a version that knows this server's events",
    )


class EventHeader(NamedTuple):
    """The 19 bytes before each body; ``size`` counts them.

    ``timestamp`` is in seconds.  ``log_pos`` wraps at 4 GiB and is 0 in payloads:
    never order or resume by it.
    """

    timestamp: int
    type: int
    server_id: int
    size: int
    log_pos: int
    flags: int


_HEADER = struct.Struct("<IBIIIH")
_unpack_header = _HEADER.unpack_from
_FORMAT_DESCRIPTION = EventType.FORMAT_DESCRIPTION


def parse_header(buf: bytes, pos: int = 0) -> EventHeader:
    """The header at ``pos``."""
    return EventHeader(*_fields(buf, pos))


def _fields(buf: bytes, pos: int) -> tuple[int, int, int, int, int, int]:
    try:
        return _unpack_header(buf, pos)
    except struct.error as error:
        raise MalformedEvent(f"{len(buf) - pos} bytes are no event header") from error


def take_event(raw: bytes, pos: int, checksum: bool) -> tuple[EventHeader, bytes]:
    """Makes an event of ``raw[pos:]``: checks its length and CRC, and takes the CRC off.

    A format-description event keeps its CRC, which belongs to its body.
    """
    timestamp, type_, server_id, size, log_pos, flags = fields = _fields(raw, pos)
    if size != len(raw) - pos or size < HEADER_SIZE:
        raise MalformedEvent(f"{event_name(type_)} event says {size} bytes, {len(raw) - pos} came")
    event = raw[pos:] if pos else raw
    if not checksum:
        return EventHeader(*fields), event
    body_end = size - CHECKSUM_SIZE
    if body_end < HEADER_SIZE:
        raise MalformedEvent(f"{event_name(type_)} event has no room for its checksum")
    plain = event[:body_end]
    if crc32(plain) != int.from_bytes(event[body_end:], "little"):
        raise MalformedEvent(f"{event_name(type_)} event has a wrong checksum")
    if type_ == _FORMAT_DESCRIPTION:
        return EventHeader(*fields), event
    return (
        EventHeader(timestamp, type_, server_id, body_end, log_pos, flags),
        plain[:9] + body_end.to_bytes(4, "little") + plain[13:],
    )


def event_name(type_: int) -> str:
    """MySQL's name of the event number, or the number."""
    return EVENT_NAMES.get(type_, str(type_))


class _Field:
    END = 0
    SIZE = 1
    COMPRESSION = 2
    UNCOMPRESSED_SIZE = 3


_ZSTD = 0
_NONE = 255


def parse_payload(buf: bytes, pos: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The events inside the body of a TRANSACTION_PAYLOAD event, one after the other.

    The memory used is that of the largest event, not of the transaction.
    """
    body = memoryview(buf)[pos:end]
    at, fields = 0, {}
    try:
        while True:
            tag, at = read_length(body, at)
            if tag == _Field.END:
                break
            size, at = read_length(body, at)
            fields[tag], at = read_length(body, at)[0], at + size
    except IndexError as error:
        raise MalformedEvent("TRANSACTION_PAYLOAD event has a damaged head") from error
    content = body[at:]
    if fields.get(_Field.SIZE, len(content)) != len(content):
        raise MalformedEvent(
            f"TRANSACTION_PAYLOAD event says {fields[_Field.SIZE]} bytes and has {len(content)}"
        )
    compression = fields.get(_Field.COMPRESSION, _NONE)
    if compression == _NONE:
        read = _reader_of(content)
    elif compression == _ZSTD:
        read = zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True).read
    else:
        raise Halt(
            f"a transaction payload is compressed with the unknown method {compression}",
            "SET GLOBAL binlog_transaction_compression = OFF on that server, or upgrade meshnode",
        )
    total = 0
    try:
        while head := _exactly(read, HEADER_SIZE, total):
            size = parse_header(head).size
            if size < HEADER_SIZE:
                raise MalformedEvent(f"TRANSACTION_PAYLOAD holds an event of {size} bytes")
            event = head + _exactly(read, size - HEADER_SIZE, -1)
            total += size
            yield event
    except zstandard.ZstdError as error:
        raise MalformedEvent(f"TRANSACTION_PAYLOAD does not decompress: {error}") from error
    if fields.get(_Field.UNCOMPRESSED_SIZE, total) != total:
        raise MalformedEvent(
            f"TRANSACTION_PAYLOAD says {fields[_Field.UNCOMPRESSED_SIZE]} bytes, {total} came out"
        )


def _reader_of(content: memoryview):
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        at += size
        return bytes(content[at - size : at])

    return read


def _exactly(read, size: int, may_end: int) -> bytes:
    """``size`` bytes; nothing at all is allowed when ``may_end`` is not -1."""
    parts, missing = [], size
    while missing and (part := read(missing)):
        parts.append(part)
        missing -= len(part)
    if missing and (parts or may_end == -1):
        raise MalformedEvent("TRANSACTION_PAYLOAD ends inside an event")
    return b"".join(parts)
