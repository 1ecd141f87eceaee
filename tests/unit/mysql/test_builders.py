"""Built events: what the parsers read back, and what is refused."""

import zlib
from base64 import b64decode

import pytest
from recorded import of_type, rows, table_map

from meshnode.mysql.bodies import parse_format_description, parse_rows
from meshnode.mysql.builders import (
    binlog_statement,
    build_event,
    build_rows,
    build_table_map,
    fde_without_checksum,
)
from meshnode.mysql.events import HEADER_SIZE, EventType, parse_header
from meshnode.mysql.tablemap import parse_table_map
from meshnode.mysql.wire import MalformedEvent


def test_a_format_description_without_checksums():
    recorded = of_type(EventType.FORMAT_DESCRIPTION)
    changed = fde_without_checksum(recorded)
    assert parse_format_description(changed, HEADER_SIZE).checksum == 0
    assert changed[:-5] == recorded[:-5]
    assert zlib.crc32(changed[:-4]) == int.from_bytes(changed[-4:], "little")
    assert parse_header(changed).size == len(changed)
    assert fde_without_checksum(changed) == changed


def test_only_a_format_description_is_one():
    with pytest.raises(MalformedEvent):
        fde_without_checksum(of_type(EventType.QUERY))
    with pytest.raises(MalformedEvent):
        fde_without_checksum(of_type(EventType.FORMAT_DESCRIPTION)[:20])


def test_the_recorded_table_map_rebuilt():
    shape = table_map().shape
    body = build_table_map(1, shape.schema, shape.table, shape.columns, shape.key)
    assert parse_table_map(body).shape == shape


def test_recorded_rows_rebuilt():
    for found, event in rows()[:3]:
        body = build_rows(
            found.type,
            found.table_id,
            found.flags,
            found.column_count,
            found.before,
            found.after,
            event[found.start : found.stop],
        )
        again = parse_rows(found.type, body)
        assert (again.before, again.after, again.flags) == (found.before, found.after, found.flags)
        assert body[again.start : again.stop] == event[found.start : found.stop]


@pytest.mark.parametrize(
    ("type_", "before", "after"),
    [
        (EventType.WRITE_ROWS, b"\1", None),
        (EventType.WRITE_ROWS, b"\1", b"\1"),
        (EventType.UPDATE_ROWS, b"\1", None),
        (EventType.DELETE_ROWS, None, b"\1"),
        (EventType.QUERY, b"\1", b"\1"),
    ],
)
def test_bitmaps_must_suit_the_type(type_, before, after):
    with pytest.raises(ValueError, match="bitmaps"):
        build_rows(type_, 1, 1, 1, before, after, b"")


def test_rows_from_pieces():
    body = build_rows(EventType.WRITE_ROWS, 1, 1, 2, None, b"\3", [b"a", b"bc"])
    assert body.endswith(b"\3abc")


def test_the_statement():
    first, second = build_event(2, 1, b"a"), build_event(2, 1, b"b")
    statement = binlog_statement([first, second])
    assert statement.startswith(b"BINLOG '") and statement.endswith(b"'")
    assert b64decode(statement[8:-1]) == first + second
