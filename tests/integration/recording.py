"""Reads a server's binary log as raw events, for tests of the decoder.

Blocking, over PyMySQL: a test executes statements and asks for the events that
they left behind.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

import pymysql

from meshnode.core.gtid import GtidSet
from meshnode.lab.servers import Server
from meshnode.mysql.bodies import Rows, parse_format_description, parse_rows
from meshnode.mysql.events import (
    HEADER_SIZE,
    EventClass,
    EventHeader,
    EventType,
    classify,
    parse_payload,
    take_event,
)
from meshnode.mysql.tablemap import TableMap, parse_table_map

COM_BINLOG_DUMP_GTID = 0x1E
NON_BLOCK = 0x01
THROUGH_GTID = 0x04


@dataclass(frozen=True)
class Recorded:
    """An event without checksum."""

    header: EventHeader
    event: bytes

    @property
    def body(self) -> bytes:
        return self.event[HEADER_SIZE:]


@dataclass(frozen=True)
class RowsEvent:
    """A rows event with the table map before it."""

    table_map: TableMap
    map_event: bytes
    rows: Rows
    event: bytes

    @property
    def images(self) -> bytes:
        return self.event[self.rows.start : self.rows.stop]


def executed(connection: pymysql.Connection) -> GtidSet:
    """What the server has executed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@global.gtid_executed")
        return GtidSet(cursor.fetchone()[0])


def record(server: Server, after: GtidSet) -> list[Recorded]:
    """All events of the transactions that ``after`` does not hold, the FDE among them."""
    with server.connect() as connection:
        with connection.cursor() as cursor:
            cursor.execute(
                "SET @source_binlog_checksum='CRC32', @master_binlog_checksum='CRC32', "
                f"@replica_uuid='{uuid4()}'"
            )
        sent = after.encode()
        head = struct.pack("<HIIQI", NON_BLOCK | THROUGH_GTID, 900, 0, 4, len(sent))
        connection._execute_command(COM_BINLOG_DUMP_GTID, head + sent)
        return list(_events(connection))


def _events(connection: pymysql.Connection) -> Iterator[Recorded]:
    checksum = True
    while True:
        packet = connection._read_packet()
        if packet.is_eof_packet():
            return
        header, event = take_event(packet.get_all_data(), 1, checksum)
        if header.type == EventType.FORMAT_DESCRIPTION:
            checksum = parse_format_description(event, HEADER_SIZE).checksum == 1
        yield Recorded(header, event)


def unpacked(recorded: Sequence[Recorded]) -> Iterator[Recorded]:
    """The same with the events of payloads in place of the payloads."""
    for one in recorded:
        if one.header.type == EventType.TRANSACTION_PAYLOAD:
            for event in parse_payload(one.event, HEADER_SIZE):
                yield Recorded(take_event(event, 0, False)[0], event)
        else:
            yield one


def rows_events(recorded: Sequence[Recorded], table: str = "") -> list[RowsEvent]:
    """The rows events (of ``table``) in order, each with its latest table map."""
    maps: dict[int, tuple[TableMap, bytes]] = {}
    found = []
    for one in unpacked(recorded):
        if one.header.type == EventType.TABLE_MAP:
            table_map = parse_table_map(one.body)
            maps[table_map.table_id] = (table_map, one.event)
        elif classify(one.header.type, one.header.flags) is EventClass.ROWS:
            rows = parse_rows(one.header.type, one.event, HEADER_SIZE)
            table_map, event = maps[rows.table_id]
            if table in ("", table_map.shape.table):
                found.append(RowsEvent(table_map, event, rows, one.event))
    return found


def format_description(recorded: Sequence[Recorded]) -> bytes:
    """The format-description event."""
    return next(one.event for one in recorded if one.header.type == EventType.FORMAT_DESCRIPTION)
