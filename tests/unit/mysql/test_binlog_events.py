"""Headers, checksums, payloads and bodies on recorded events."""

import zlib
from zlib import crc32

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from recorded import events, fixture, of_type, packets, rows

from meshnode.core.gtid import GtidSet
from meshnode.errors import Halt
from meshnode.mysql import bodies
from meshnode.mysql.builders import build_event
from meshnode.mysql.events import (
    BEFORE_STATUS,
    HEADER_SIZE,
    INTACT,
    EventClass,
    EventType,
    HeaderFlag,
    classify,
    event_name,
    parse_header,
    parse_payload,
    take_event,
)
from meshnode.mysql.wire import MalformedEvent, read_length, write_length


def test_the_types_that_were_recorded():
    types = {header.type for header, _ in events()}
    assert {
        EventType.ROTATE,
        EventType.FORMAT_DESCRIPTION,
        EventType.PREVIOUS_GTIDS,
        EventType.GTID,
        EventType.GTID_TAGGED,
        EventType.QUERY,
        EventType.TABLE_MAP,
        EventType.WRITE_ROWS,
        EventType.UPDATE_ROWS,
        EventType.DELETE_ROWS,
        EventType.PARTIAL_UPDATE_ROWS,
        EventType.TRANSACTION_PAYLOAD,
        EventType.XID,
    } <= types


def test_a_taken_event_is_consistent():
    for packet, (header, event) in zip(packets(), events(), strict=False):
        if header.type == EventType.TRANSACTION_PAYLOAD:
            break
        assert parse_header(event) == header
        assert header.size == len(event)
        checksum = 0 if header.type == EventType.FORMAT_DESCRIPTION else 4
        assert len(packet) == len(event) + checksum


def test_any_flipped_bit_is_noticed():
    packet = packets()[7]
    for place in range(len(packet)):
        damaged = bytearray(packet)
        damaged[place] ^= 0x10
        with pytest.raises(MalformedEvent):
            take_event(bytes(damaged), 0, True)


@pytest.mark.parametrize("size", [0, 5, 18, 30])
def test_a_cut_event_is_noticed(size):
    with pytest.raises(MalformedEvent):
        take_event(packets()[7][:size], 0, True)


def test_every_known_type_has_a_class():
    for name, number in vars(EventType).items():
        if isinstance(number, int) and number not in (0, 1, 7):
            assert classify(number, 0) in EventClass, name
            assert event_name(number) == name
    assert event_name(99) == "99"


def test_unknown_types_stop_unless_ignorable():
    assert classify(99, HeaderFlag.IGNORABLE) is EventClass.IGNORABLE
    with pytest.raises(Halt, match="99"):
        classify(99, 0)
    with pytest.raises(Halt, match="type 1 "):
        classify(1, 0)


def test_format_description():
    description = bodies.parse_format_description(of_type(EventType.FORMAT_DESCRIPTION), 19)
    assert description.server_version.startswith("9.7")
    assert description.checksum == 1
    assert len(description.post_header_sizes) >= EventType.GTID_TAGGED
    with pytest.raises(MalformedEvent):
        bodies.parse_format_description(of_type(EventType.FORMAT_DESCRIPTION), 19, 60)


def test_gtids():
    plain = bodies.parse_gtid(of_type(EventType.GTID), HEADER_SIZE)
    tagged = bodies.parse_gtid(of_type(EventType.GTID_TAGGED), HEADER_SIZE)
    executed = GtidSet(fixture()["executed"])
    assert plain.text in executed
    assert tagged.text in executed
    assert tagged.text.split(":")[1:] == ["batch", "1"]
    assert (plain.flags, tagged.flags) == (1, 0)
    for gtid in (plain, tagged):
        assert gtid.immediate_commit_us == gtid.original_commit_us > 1_790_000_000_000_000
        assert gtid.transaction_length > 0
        assert gtid.sequence == gtid.last_committed + 1


def test_a_transaction_that_came_from_elsewhere_has_two_times():
    body = bytearray(of_type(EventType.GTID)[HEADER_SIZE:])
    when = int.from_bytes(body[42:49], "little")
    body[42:49] = (when | 1 << 55).to_bytes(7, "little") + (when - 5).to_bytes(7, "little")
    gtid = bodies.parse_gtid(bytes(body))
    assert (gtid.immediate_commit_us, gtid.original_commit_us) == (when, when - 5)


@pytest.mark.parametrize("type_", [EventType.GTID, EventType.GTID_TAGGED])
@pytest.mark.parametrize("before", [0, 20])
def test_name_and_time_of_a_transaction_alone(type_, before):
    """What is read of every transaction is what the whole parser says, wherever it stands."""
    body = of_type(type_)[HEADER_SIZE:]
    moved = bytearray(body)
    if type_ == EventType.GTID:
        moved[42:49] = (5 | 1 << 55).to_bytes(7, "little") + (7).to_bytes(7, "little")
    for each in (body, bytes(moved)):
        gtid = bodies.parse_gtid(each)
        place = (type_, bytes(before) + each + b"more", before, before + len(each))
        source, number = bodies.parse_gtid_name(*place)
        assert f"{source}:{number}" == gtid.text
        assert bodies.parse_commit_us(*place) == gtid.original_commit_us


def test_a_cut_name_or_time_is_refused():
    body = of_type(EventType.GTID)[HEADER_SIZE:]
    for size in (0, 10, 41):
        with pytest.raises(MalformedEvent):
            bodies.parse_gtid_name(EventType.GTID, body, 0, size)
    assert bodies.parse_commit_us(EventType.GTID, body, 0, 42) == 0, "8.0 and later say it, always"
    two = body[:42] + (1 << 55).to_bytes(7, "little") + b"\0"
    with pytest.raises(MalformedEvent):
        bodies.parse_commit_us(EventType.GTID, two, 0, len(two))


@pytest.mark.parametrize("type_", [EventType.GTID, EventType.GTID_TAGGED])
def test_a_cut_gtid_is_refused(type_):
    body = of_type(type_)[HEADER_SIZE:]
    for size in (0, 1, 10, 30):
        with pytest.raises(MalformedEvent):
            bodies.parse_gtid(body[:size])


def test_an_unknown_field_of_a_tagged_gtid():
    body = bytearray(of_type(EventType.GTID_TAGGED)[HEADER_SIZE:])
    body += bytes((50 << 1, 7 << 1))
    body[1] = len(body) << 1
    assert bodies.parse_gtid(bytes(body)).text.endswith(":batch:1")
    body[2] = 60 << 1
    with pytest.raises(MalformedEvent, match="field 50"):
        bodies.parse_gtid(bytes(body))


def test_a_set_with_tags_is_encoded_as_the_server_does():
    _, event = take_event(bytes.fromhex(fixture()["previous_gtids"]), 0, True)
    assert GtidSet(fixture()["executed"]).encode() == event[HEADER_SIZE:]


def test_an_event_is_checked_where_it_stands():
    assert crc32(b"\0", BEFORE_STATUS) == 0
    for packet in map(bytes.fromhex, fixture()["events"]):
        assert crc32(b"\0" + packet, BEFORE_STATUS) == INTACT
        for at in (0, 4, len(packet) // 2, len(packet) - 1):
            damaged = packet[:at] + bytes((packet[at] ^ 16,)) + packet[at + 1 :]
            assert crc32(b"\0" + damaged, BEFORE_STATUS) != INTACT


def test_queries():
    texts = [
        bodies.parse_query(event, HEADER_SIZE)
        for header, event in events()
        if header.type == EventType.QUERY
    ]
    create, begin = texts[0], texts[1]
    assert create.schema == b"shop" and create.sql.startswith(b"create table orders")
    assert begin.sql == b"BEGIN" and begin.time_zone == b"+00:00"
    assert create.client_collation is not None and create.error_code == 0
    with pytest.raises(MalformedEvent):
        bodies.parse_query(of_type(EventType.QUERY), HEADER_SIZE, 40)


def test_an_unknown_status_variable_ends_the_list():
    variables = b"\x01" + (4).to_bytes(8, "little") + b"\xc8whatever"
    head = bytes(8) + b"\x02" + b"\0\0" + len(variables).to_bytes(2, "little")
    query = bodies.parse_query(head + variables + b"db\0SELECT \xe9")
    assert (query.schema, query.sql, query.sql_mode) == (b"db", b"SELECT \xe9", 4)
    assert query.client_collation is None


def test_rows_heads():
    write, update, delete, partial = (found for found, _ in rows())
    assert (write.before, delete.after) == (None, None)
    assert write.full and update.full and delete.full and not partial.full
    assert {found.column_count for found, _ in rows()} == {18}
    assert write.after == b"\xff\xff\x03"
    assert write.flags & bodies.RowsFlag.STATEMENT_END
    for found, event in rows():
        assert HEADER_SIZE < found.start < found.stop == len(event)


def test_bits_beyond_the_columns_are_cleared():
    head = (7).to_bytes(6, "little") + b"\1\0" + b"\2\0" + b"\x05"
    found = bodies.parse_rows(EventType.UPDATE_ROWS, head + b"\xff\xe1" + b"rest")
    assert (found.before, found.after) == (b"\x1f", b"\x01")
    assert found.start == len(head) + 2
    old = bodies.parse_rows(EventType.WRITE_ROWS_V1, head[:8] + b"\x05\xff")
    assert old.full and old.start == old.stop


@pytest.mark.parametrize("size", [0, 5, 9, 11, 12])
def test_a_cut_rows_head_is_refused(size):
    _, event = rows()[1]
    with pytest.raises(MalformedEvent):
        bodies.parse_rows(EventType.UPDATE_ROWS, event[HEADER_SIZE : HEADER_SIZE + size])


def payload(content: bytes, compression: int, **claims: int) -> bytes:
    head = b""
    for tag, value in (
        (2, compression),
        (3, claims.get("uncompressed", len(content))),
        (1, claims.get("size", -1)),
    ):
        if value >= 0:
            number = write_length(value)
            head += bytes((tag,)) + write_length(len(number)) + number
    body = zstandard.compress(content) if compression == 0 else content
    return head + b"\0" + body


INNER = [build_event(EventType.XID, 1, bytes(8)), build_event(EventType.QUERY, 2, b"x" * 70000)]


@pytest.mark.parametrize("compression", [0, 255])
def test_payloads_of_both_kinds(compression):
    assert list(parse_payload(payload(b"".join(INNER), compression))) == INNER


@pytest.mark.parametrize("compression", [0, 255])
@pytest.mark.parametrize("cut", [1, 60000, 69999])
def test_a_payload_that_ends_inside_an_event(compression, cut):
    content = b"".join(INNER)[:-cut]
    with pytest.raises(MalformedEvent):
        list(parse_payload(payload(content, compression, uncompressed=-1)))


def test_payloads_that_lie_about_their_size():
    content = b"".join(INNER)
    with pytest.raises(MalformedEvent):
        list(parse_payload(payload(content, 0, uncompressed=len(content) + 1)))
    with pytest.raises(MalformedEvent):
        list(parse_payload(payload(content, 255, size=12)))
    with pytest.raises(MalformedEvent):
        list(parse_payload(payload(content, 0)[:-9]))
    with pytest.raises(Halt, match="method 9"):
        list(parse_payload(payload(content, 9)))


def test_a_compressed_payload_does_not_decompress_all_at_once():
    content = build_event(EventType.QUERY, 1, bytes(1000)) * 100_000
    stream = parse_payload(payload(content, 0))
    assert len(next(stream)) == 1019
    assert sum(1 for _ in stream) == 99_999


@given(st.integers(0, 2**64 - 1))
def test_length_encoded_integers_return(value):
    raw = write_length(value)
    assert read_length(raw + b"more", 0) == (value, len(raw))


@given(st.integers(0, 2**64 - 1))
def test_serialized_integers_of_every_size(value):
    extra = min(8, max(0, (value.bit_length() - 1) // 7))
    marked = value << (extra + 1) | (1 << extra) - 1
    raw = (
        b"\xff" + value.to_bytes(8, "little")
        if extra == 8
        else marked.to_bytes(extra + 1, "little")
    )
    assert bodies._varint(raw, 0) == (value, len(raw))


def test_the_checksum_is_crc32():
    event = build_event(EventType.XID, 1, bytes(8), checksum=True)
    assert zlib.crc32(event[:-4]) == int.from_bytes(event[-4:], "little")
    header, taken = take_event(event, 0, True)
    assert taken == build_event(EventType.XID, 1, bytes(8))
    assert header.size == 27
