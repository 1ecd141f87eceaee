"""The fold over packets: what parts carry, and what an operator's word lets pass."""

import struct
from uuid import UUID

import pytest

from meshnode.core.change import Transaction
from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType
from meshnode.core.stamp import Stamp
from meshnode.errors import Halt
from meshnode.mysql.assemble import Assembler
from meshnode.mysql.builders import build_event, build_rows, build_table_map
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
    return Assembler(maps, Notices("east", 1), PART_BYTES, passed)


def feed(into: Assembler, *packets: bytes) -> list[Transaction]:
    for each in packets:
        into.feed(each)
    return into.out


def test_a_transaction_is_its_rows_and_its_tombstones():
    (tx,) = feed(
        assembler(),
        gtid(5), BEGIN, *rows(EventType.DELETE_ROWS, ROWS, image(1, 10)),
        *rows(EventType.WRITE_ROWS, TOMBSTONES, image(1, 20)), XID,
    )  # fmt: skip

    assert (tx.tx_id, tx.part, tx.last, tx.passed) == (f"{SOURCE}:5", 0, True, [f"{SOURCE}:5"])
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


@pytest.mark.parametrize("stopper", [xa, nameless])
def test_what_stops_the_stream_names_its_transaction_and_can_be_skipped(stopper):
    with pytest.raises(Halt, match=f"{SOURCE}:5.*meshnode skip --region east --tx {SOURCE}:5"):
        feed(assembler(), *stopper(5))

    following = [
        gtid(6), BEGIN, *rows(EventType.WRITE_ROWS, ROWS, image(2, 10)), XID,
    ]  # fmt: skip
    (tx,) = feed(assembler(5), *stopper(5), *following)
    assert tx.passed == [f"{SOURCE}:5", f"{SOURCE}:6"]
    assert [op.rows for op in tx.ops] == [image(2, 10)]
    assert tx.tombstones == []
