"""The fold over packets: what parts carry, and what an operator's word lets pass."""

import struct
from uuid import UUID

import pytest
import zstandard

from meshnode import limits
from meshnode.core.change import Transaction
from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType
from meshnode.core.stamp import Stamp
from meshnode.errors import Halt, Stopped
from meshnode.mysql.assemble import Assembler
from meshnode.mysql.builders import build_event, build_rows, build_table_map
from meshnode.mysql.collect import PATIENCE
from meshnode.mysql.events import EventType
from meshnode.mysql.maps import TableMaps
from meshnode.mysql.notices import Notices
from meshnode.mysql.schema import digest

SOURCE = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
DIGEST = digest("shop", "t")
ROWS, TOMBSTONES, MEND = 7, 8, 9
PART_BYTES = 60

_KEY = Column("id", FieldType.LONGLONG, nullable=False)
_STAMP = (
    Column(STAMP_TS, FieldType.LONGLONG, unsigned=True, nullable=False, visible=False),
    Column(STAMP_ORIGIN, FieldType.TINY, unsigned=True, nullable=False, visible=False),
)
_NUMBERS = ("seen_ts", "seen_origin", "base_ts", "base_origin", "base_row")
_MEND = (
    Column("digest", FieldType.STRING, 16, nullable=False, collation=11),
    Column("row_key", FieldType.VARCHAR, 3072, nullable=False, collation=63),
    *(Column(name, FieldType.LONGLONG, unsigned=True, nullable=False) for name in _NUMBERS),
)
MAPS = {
    ROWS: build_table_map(ROWS, "shop", "t", (_KEY, *_STAMP), (0,)),
    TOMBSTONES: build_table_map(TOMBSTONES, "meshnode", f"t_{DIGEST}", (_KEY, *_STAMP), (0,)),
    MEND: build_table_map(MEND, "meshnode", "mend", _MEND, (0,)),
}
COUNTS = {ROWS: 3, TOMBSTONES: 3, MEND: len(_MEND)}


def packet(kind: EventType, body: bytes) -> bytes:
    return b"\0" + build_event(kind, 1, body, checksum=True)


def gtid(number: int) -> bytes:
    body = struct.pack("<B16sqBqq", 1, UUID(SOURCE).bytes, number, 2, 0, 0)
    return packet(EventType.GTID, body)


def query(sql: bytes) -> bytes:
    return packet(EventType.QUERY, struct.pack("<IIBHH", 1, 0, 0, 0, 0) + b"\0" + sql)


def rows(kind: EventType, table: int, *images: bytes, table_map: bytes = b"") -> list[bytes]:
    """A table map and a rows event with full images."""
    count = COUNTS[table]
    full = ((1 << count) - 1).to_bytes((count + 7) // 8, "little")
    before = None if kind == EventType.WRITE_ROWS else full
    after = None if kind == EventType.DELETE_ROWS else full
    return [
        packet(EventType.TABLE_MAP, table_map or MAPS[table]),
        packet(kind, build_rows(kind, table, 1, count, before, after, images)),
    ]


def wire_key(key: int) -> bytes:
    return key.to_bytes(8, "little")


def image(key: int, ts: int, origin: int = 1) -> bytes:
    return b"\0" + wire_key(key) + ts.to_bytes(8, "little") + bytes((origin,))


def mend(key: int, seen: Stamp, base: Stamp, base_row: int) -> bytes:
    numbers = (*seen, *base, base_row)
    raw = wire_key(key)
    return b"".join(
        (
            b"\0\x10", DIGEST.encode(), len(raw).to_bytes(2, "little"), raw,
            *(number.to_bytes(8, "little") for number in numbers),
        )
    )  # fmt: skip


XID = packet(EventType.XID, bytes(8))
BEGIN = query(b"BEGIN")


def assembler(*skipped: int) -> Assembler:
    maps = TableMaps([("shop", "t")], {11: "ascii", 63: "binary"})
    passed = [f"{SOURCE}:{number}" for number in skipped]
    return Assembler(maps, Notices("east", 1), lambda: PART_BYTES, passed)


def feed(into: Assembler, *packets: bytes) -> list[Transaction]:
    return list(into.feed(packets))


def test_a_transaction_is_its_rows_and_its_tombstones():
    (tx,) = feed(
        assembler(),
        gtid(5), BEGIN, *rows(EventType.DELETE_ROWS, ROWS, image(1, 10)),
        *rows(EventType.WRITE_ROWS, TOMBSTONES, image(1, 20)), XID,
    )  # fmt: skip

    assert (tx.tx_id, tx.part, tx.last, tx.passed) == (f"{SOURCE}:5", 0, True, [(SOURCE, 5)])
    assert [(op.kind, op.rows) for op in tx.ops] == [(2, image(1, 10))]
    assert tx.tombstones == [(DIGEST, wire_key(1), Stamp(20, 1))]


def test_every_part_of_a_lift_knows_what_its_rows_had_replaced():
    """The rows of ``mend`` are written before the lifted rows and deleted behind them.

    A part in the middle has neither; taken for an update of a version that was
    published, its rows would be conflicts in every peer.
    """
    notes = [mend(key, Stamp(10, 1), Stamp(5, 2), 0) for key in range(4)]
    lifts = [rows(EventType.UPDATE_ROWS, ROWS, image(key, 10), image(key, 30)) for key in range(4)]
    parts = feed(
        assembler(),
        gtid(5), BEGIN, *rows(EventType.WRITE_ROWS, MEND, *notes),
        *(each for lift in lifts for each in lift),
        *rows(EventType.DELETE_ROWS, MEND, *notes), XID,
    )  # fmt: skip

    assert [part.part for part in parts] == [0, 1, 2, 3]
    assert [part.last for part in parts] == [False, False, False, True]
    for key, part in enumerate(parts):
        note = part.mended[DIGEST, wire_key(key)]
        assert (note.seen, note.base, note.base_row) == (Stamp(10, 1), Stamp(5, 2), False)


def test_a_delete_is_never_parted_from_its_tombstone():
    stream = [gtid(5), BEGIN]
    for key in range(6):
        stream += rows(EventType.DELETE_ROWS, ROWS, image(key, 10))
        stream += rows(EventType.WRITE_ROWS, TOMBSTONES, image(key, 20))
    parts = feed(assembler(), *stream, XID)

    assert len(parts) > 1
    for part in parts:
        gone = [row[2] for op in part.ops for row in op.found]
        assert gone == [key for _, key, _ in part.tombstones]


def xa(number: int) -> list[bytes]:
    """A distributed transaction that deletes a row of a replicated table."""
    prepare = struct.pack("<Biii", 0, 1, 1, 0) + b"x"
    return [
        gtid(number), query(b"XA START X'78',X'',1"),
        *rows(EventType.DELETE_ROWS, ROWS, image(1, 10)),
        *rows(EventType.WRITE_ROWS, TOMBSTONES, image(1, 20)),
        query(b"XA END X'78',X'',1"), packet(EventType.XA_PREPARE, prepare),
    ]  # fmt: skip


def nameless(number: int) -> list[bytes]:
    """A transaction that was logged with ``binlog_row_metadata = MINIMAL``."""
    whole = MAPS[ROWS]
    head = 6 + 2 + 1 + len("shop") + 1 + 1 + len("t") + 1 + 1 + 3 + 1
    bare = whole[:head] + b"\0"
    return [
        gtid(number), BEGIN,
        *rows(EventType.WRITE_ROWS, ROWS, image(1, 10), table_map=bare), XID,
    ]  # fmt: skip


def unstamped(number: int) -> list[bytes]:
    """Rows of a table that was made anew and has no stamp columns yet."""
    plain = build_table_map(ROWS, "shop", "t", (_KEY, _KEY, _KEY), (0,))
    return [
        gtid(number), BEGIN,
        *rows(EventType.WRITE_ROWS, ROWS, b"\0" + 3 * wire_key(1), table_map=plain), XID,
    ]  # fmt: skip


def incident(number: int) -> list[bytes]:
    """What a server writes where it could not log a change: LOST_EVENTS, and its message."""
    return [gtid(number), packet(EventType.INCIDENT, b"\1\0\4lost")]


@pytest.mark.parametrize("stopper", [xa, nameless, unstamped, incident])
def test_what_stops_the_stream_names_its_transaction_and_can_be_skipped(stopper):
    with pytest.raises(Halt, match=f"{SOURCE}:5.*meshnode skip --region east --tx {SOURCE}:5"):
        feed(assembler(), *stopper(5))

    following = [
        gtid(6), BEGIN, *rows(EventType.WRITE_ROWS, ROWS, image(2, 10)), XID,
    ]  # fmt: skip
    (tx,) = feed(assembler(5), *stopper(5), *following)
    assert tx.passed == [(SOURCE, 5), (SOURCE, 6)]
    assert [op.rows for op in tx.ops] == [image(2, 10)]
    assert tx.tombstones == []


def test_a_transaction_taken_back_can_be_skipped_and_leaves_no_hole_behind():
    """A ROLLBACK in the log ends the transaction: its GTID counts as passed."""
    taken_back = [
        gtid(5), BEGIN, *rows(EventType.WRITE_ROWS, ROWS, image(1, 10)), query(b"ROLLBACK"),
    ]  # fmt: skip
    following = [gtid(6), BEGIN, *rows(EventType.WRITE_ROWS, ROWS, image(2, 10)), XID]
    with pytest.raises(Stopped, match=f"{SOURCE}:5.*ROLLBACK"):
        feed(assembler(), *taken_back)

    (tx,) = feed(assembler(5), *taken_back, *following)
    assert tx.passed == [(SOURCE, 5), (SOURCE, 6)]
    assert [op.rows for op in tx.ops] == [image(2, 10)]

    (tx,) = feed(assembler(), gtid(5), BEGIN, query(b"ROLLBACK"), *following)
    assert tx.passed == [(SOURCE, 5), (SOURCE, 6)], "it touched nothing that is replicated"


def test_rows_whose_transaction_has_no_end_are_never_dropped_in_silence():
    torn = [gtid(5), BEGIN, *rows(EventType.WRITE_ROWS, ROWS, image(1, 10))]
    following = [gtid(6), BEGIN, *rows(EventType.WRITE_ROWS, ROWS, image(2, 10)), XID]
    with pytest.raises(Stopped, match=f"{SOURCE}:5 has no end"):
        feed(assembler(), *torn, *following)

    (tx,) = feed(assembler(5), *torn, *following)
    assert tx.passed == [(SOURCE, 5), (SOURCE, 6)]


def test_the_name_of_a_savepoint_is_never_read():
    """Its characters may be of any character set."""
    gbk = b"\4" + struct.pack("<HHH", 28, 28, 28)
    head = struct.pack("<IIBHH", 1, 0, 0, 0, len(gbk)) + gbk + b"\0"
    (tx,) = feed(
        assembler(), gtid(5), BEGIN,
        packet(EventType.QUERY, head + "SAVEPOINT `点検`".encode()),
        *rows(EventType.WRITE_ROWS, ROWS, image(1, 10)), XID,
    )  # fmt: skip
    assert [op.rows for op in tx.ops] == [image(1, 10)]


def test_an_incident_is_loud_wherever_it_stands():
    """The log lacks a change that the server has made: nothing behind it may be published."""
    whole = [gtid(5), BEGIN, *rows(EventType.WRITE_ROWS, ROWS, image(1, 10)), XID]
    following = [gtid(6), BEGIN, *rows(EventType.WRITE_ROWS, ROWS, image(2, 10)), XID]
    lost = packet(EventType.INCIDENT, b"\1\0\4lost")
    for before in ([], whole, whole[:-1]):
        into, seen = assembler(), []
        with pytest.raises(Stopped, match="an incident: the binary log is not complete"):
            for each in (*before, lost, *following):
                seen += into.feed([each])
        assert [op.rows for tx in seen for op in tx.ops] == [image(1, 10)] * (before == whole)


def test_a_skipped_transaction_silences_nothing_behind_it():
    skipped = [gtid(5), BEGIN, *rows(EventType.WRITE_ROWS, ROWS, image(1, 10)), XID]
    with pytest.raises(Stopped, match="an incident: the binary log is not complete"):
        feed(assembler(5), *skipped, packet(EventType.INCIDENT, b"\1\0\4lost"))


def test_deletes_that_no_trigger_saw_are_cut_into_parts():
    """A cascade may delete a million rows, and no tombstone stands between them."""
    stream = [gtid(5), BEGIN]
    for key in range(20):
        stream += rows(EventType.DELETE_ROWS, ROWS, image(key, 10))
    parts = feed(assembler(), *stream, XID)

    assert [part.part for part in parts] == list(range(len(parts)))
    assert max(part.size for part in parts) <= PATIENCE * PART_BYTES
    assert [row[2] for part in parts for op in part.ops for row in op.found] == [
        wire_key(key) for key in range(20)
    ]


def payload(*events: bytes) -> bytes:
    """A transaction payload (zstd) of packets that were built with a checksum."""
    content = b"".join(
        each[1:10] + (len(each) - 5).to_bytes(4, "little") + each[14:-4] for each in events
    )
    packed = zstandard.ZstdCompressor().compress(content)
    size = b"\xfd" + len(packed).to_bytes(3, "little")
    return packet(EventType.TRANSACTION_PAYLOAD, b"\x02\x01\x00\x01\x04" + size + b"\0" + packed)


def test_a_payload_is_the_transaction_that_it_holds():
    inside = [BEGIN, *rows(EventType.WRITE_ROWS, ROWS, image(1, 10)), XID]
    (tx,) = feed(assembler(), gtid(5), payload(*inside))

    assert tx.passed == [(SOURCE, 5)]
    assert [op.rows for op in tx.ops] == [image(1, 10)]


def test_a_payload_is_unpacked_only_as_far_as_its_parts_are_taken():
    """Otherwise a compressed transaction waits in memory with all its rows."""
    inside = [BEGIN]
    for key in range(2_000):
        inside += rows(EventType.WRITE_ROWS, ROWS, image(key, 10))
    into = assembler()
    looked_up: list[bytes] = []
    get = into.maps.get
    into.maps.get = lambda number: looked_up.append(number) or get(number)
    parts = into.feed([gtid(5), payload(*inside, XID)])

    for number in range(3):
        assert next(parts).part == number
        assert len(looked_up) <= (number + 1) * PART_BYTES // len(image(0, 0)) + 1
    (*_, last) = parts
    assert last.last
    assert last.passed == [(SOURCE, 5)]


def test_an_event_with_a_damaged_byte_stops_the_stream():
    whole = rows(EventType.WRITE_ROWS, ROWS, image(1, 10))
    for at in (1, 20, 30, len(whole[1]) - 1):
        damaged = whole[1][:at] + bytes((whole[1][at] ^ 1,)) + whole[1][at + 1 :]
        with pytest.raises(Halt):
            feed(assembler(), gtid(5), BEGIN, whole[0], damaged)


def test_a_partial_image_behind_full_ones_is_seen():
    """Rows events are compared with the one before; another bitmap is another event."""
    full = rows(EventType.UPDATE_ROWS, ROWS, image(1, 10), image(1, 20))
    key_only = b"\0" + wire_key(2)
    bare = build_rows(EventType.UPDATE_ROWS, ROWS, 1, 3, b"\x01", b"\x07", [key_only, image(2, 30)])
    parts = feed(
        assembler(), gtid(5), BEGIN, *full, packet(EventType.UPDATE_ROWS, bare), *full, XID
    )

    assert [op.rows for tx in parts for op in tx.ops] == [image(1, 10) + image(1, 20)] * 2
    assert [tuple(each[1:]) for tx in parts for each in tx.partial] == [
        (wire_key(2), True, Stamp(30, 1), 0)
    ]


def test_partial_images_keep_their_place_among_full_ones():
    """REPLACE with all columns under MINIMAL: the delete shows its key, the insert everything."""
    bare = build_rows(EventType.DELETE_ROWS, ROWS, 1, 3, b"\x01", None, [b"\0" + wire_key(1)])
    whole = rows(EventType.WRITE_ROWS, ROWS, image(1, 20))
    (tx,) = feed(
        assembler(), gtid(5), BEGIN, whole[0], packet(EventType.DELETE_ROWS, bare),
        *rows(EventType.WRITE_ROWS, TOMBSTONES, image(1, 19)), *whole,
        packet(EventType.DELETE_ROWS, bare), XID,
    )  # fmt: skip
    assert [tuple(each[1:]) for each in tx.partial] == [
        (wire_key(1), False, None, 0), (wire_key(1), False, None, 1),
    ]  # fmt: skip


def test_large_before_images_are_cut_to_key_and_stamp(monkeypatch):
    """An update of a large row need not travel twice, nor a delete of it at all."""
    monkeypatch.setattr(limits, "BEFORE_IMAGE_BYTES", 40)
    text = Column("doc", FieldType.BLOB, 4, nullable=False, collation=63)
    body = build_table_map(ROWS, "shop", "t", (_KEY, text, *_STAMP), (0,))

    def large(key: int, ts: int, doc: bytes) -> bytes:
        whole = image(key, ts)
        return whole[:9] + len(doc).to_bytes(4, "little") + doc + whole[9:]

    def event(kind: EventType, *images: bytes) -> bytes:
        before = None if kind == EventType.WRITE_ROWS else b"\x0f"
        after = None if kind == EventType.DELETE_ROWS else b"\x0f"
        return packet(kind, build_rows(kind, ROWS, 1, 4, before, after, images))

    small, big = large(1, 10, b"s"), large(2, 10, b"b" * 50)
    (tx, plain) = feed(
        assembler(),
        gtid(5), BEGIN, packet(EventType.TABLE_MAP, body),
        event(EventType.UPDATE_ROWS, small, large(1, 20, b"b" * 50), big, large(2, 20, b"c" * 60)),
        XID,
        gtid(6), BEGIN, event(EventType.WRITE_ROWS, big), XID,
    )  # fmt: skip

    assert tx.ops[0].rows == b"".join(
        (small, large(1, 20, b"b" * 50), large(2, 10, b""), large(2, 20, b"c" * 60))
    )
    assert [row[2:5] for row in tx.ops[0].found] == [(wire_key(1), 10, 1), (wire_key(2), 10, 1)]
    assert tx.shortened and not plain.shortened
    assert tx.size == len(tx.ops[0].rows)
    assert plain.ops[0].rows == big, "what is written stays whole"
