"""Records as Kafka messages: what a writer makes of them, and what a reader makes of a log."""

import struct

import pytest
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from meshnode.bus.kafka_record import (
    CODECS,
    Chunk,
    Joiner,
    Place,
    cut,
    pack,
    unpack,
)
from meshnode.bus.port import POSITION_MAX_BYTES, Corrupt, Record, TopicRewritten

TOPIC_ID = bytes(range(16))
START = Place(TOPIC_ID, 0)
STAMP = 1_795_000_000_000
LOG_APPEND_TIME = 0x08
Keyed = tuple[bytes | None, bytes]


def append(log: bytearray, messages: list[Keyed], offset: int, codec: str = "none") -> None:
    """Append a batch as a broker does whose topic has LogAppendTime."""
    batch = bytearray(pack(messages, (7, 1), 0, CODECS[codec]))
    struct.pack_into(">q", batch, 0, offset)
    (attributes,) = struct.unpack_from(">h", batch, 21)
    struct.pack_into(">h", batch, 21, attributes | LOG_APPEND_TIME)
    struct.pack_into(">q", batch, 35, STAMP + offset)
    struct.pack_into(">I", batch, 17, calc_crc32c(bytes(batch[21:])))
    log += batch


def log_of(*messages: Keyed) -> bytes:
    """A log with each message in a batch of its own."""
    log = bytearray()
    for offset, message in enumerate(messages):
        append(log, [message], offset)
    return bytes(log)


def joined(log: bytes, place: Place = START) -> list[Record]:
    joiner = Joiner("m.osaka", place)
    taken = [joiner.take(message) for message in unpack(log, place.offset, "m.osaka")]
    return [record for record in taken if record is not None]


def payloads(records: list[Record]) -> list[bytes]:
    return [record.payload for record in records]


@given(
    st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=5), max_size=6),
    st.integers(1, 12),
    st.sampled_from(sorted(CODECS)),
)
def test_what_was_cut_and_packed_is_joined_again(
    batches: list[list[bytes]], room: int, codec: str
) -> None:
    log, offset, ends = bytearray(), 0, []
    for batch in batches:
        pieces = [cut(payload, room) for payload in batch]
        messages = [message for piece in pieces for message in piece]
        append(log, messages, offset, codec)
        stamp = STAMP + offset
        for piece in pieces:
            offset += len(piece)
            value = piece[-1][1]
            ends.append((offset, stamp, value))
    records = joined(bytes(log))
    assert payloads(records) == [payload for batch in batches for payload in batch]
    before = START.encode()
    for record, (offset, _, _) in zip(records, ends, strict=True):
        assert record.start == before
        assert Place.decode(record.after, TOPIC_ID, "m.osaka").offset == offset
        before = record.after


def test_a_reader_may_begin_at_every_position() -> None:
    messages = [message for payload in (b"abc", b"defghijkl", b"m") for message in cut(payload, 4)]
    log = log_of(*messages)
    records = joined(log)
    for number, record in enumerate(records):
        place = Place.decode(record.after, TOPIC_ID, "m.osaka")
        assert joined(log, place) == records[number + 1 :]
        assert len(record.after) <= POSITION_MAX_BYTES


def test_what_a_dead_writer_left_of_a_long_record_is_nothing() -> None:
    dead, whole = cut(b"dead dead dead", 5), cut(b"whole whole", 5)
    log = log_of((None, b"a"), *dead[:2], (None, b"claim"), *whole)
    assert payloads(joined(log)) == [b"a", b"claim", b"whole whole"]


def test_a_dead_writers_last_chunk_does_not_finish_anothers_record() -> None:
    ours, dead = cut(b"ours ours ours", 5), cut(b"dead dead dead", 5)
    assert payloads(joined(log_of(*ours[:2], dead[2], (None, b"z")))) == [b"z"]
    # Where something stands between its chunks, its writer has given it up too.
    assert payloads(joined(log_of(*ours[:2], (None, b"late"), ours[2]))) == [b"late"]
    assert payloads(joined(log_of(*ours[:2], dead[0], ours[2], (None, b"z")))) == [b"z"]


def test_a_record_whose_first_chunk_is_no_longer_kept_is_left_out() -> None:
    log = log_of(*cut(b"long long long", 5), (None, b"next"))
    assert payloads(joined(log, Place(TOPIC_ID, 1))) == [b"next"]


@pytest.mark.parametrize("key", [b"", b"mine", bytes(17), Chunk(bytes(8), 2, 2).encode()])
def test_a_message_of_somebody_else_is_refused(key: bytes) -> None:
    with pytest.raises(Corrupt, match="offset 1 is none of the mesh"):
        joined(log_of((None, b"a"), (key, b"b")))


def test_a_damaged_batch_is_refused() -> None:
    log = bytearray(log_of((None, b"a"), (None, b"b")))
    log[-2] ^= 1
    with pytest.raises(Corrupt, match=r"m\.osaka from offset 0 on.*wrong checksum"):
        unpack(bytes(log), 0, "m.osaka")


def test_a_batch_cut_off_by_the_end_of_an_answer_comes_with_the_next_one() -> None:
    log = log_of((None, b"a"), (None, b"b"))
    assert [message.value for message in unpack(log[:-1], 0, "m.osaka")] == [b"a"]
    assert unpack(log[:20], 0, "m.osaka") == []


def test_a_message_that_is_left_out_is_noticed() -> None:
    log = bytearray()
    append(log, [(None, b"a")], 0)
    append(log, [(None, b"c")], 2)
    with pytest.raises(Corrupt, match="message at 1 is left out"):
        unpack(bytes(log), 0, "m.osaka")
    with pytest.raises(Corrupt, match="message at 1 is left out"):
        unpack(bytes(log), 1, "m.osaka")


def test_a_batch_may_begin_before_the_offset_that_was_asked_for() -> None:
    log = bytearray()
    append(log, [(None, b"a"), (None, b"b"), (None, b"c")], 5, "zstd")
    assert [message[:1] for message in unpack(bytes(log), 6, "m.osaka")] == [(6,), (7,)]


def test_a_position_names_its_topic_and_the_message_before_it() -> None:
    place = Place(TOPIC_ID, 9, STAMP, 5)
    assert Place.decode(place.encode(), TOPIC_ID, "m.osaka") == place
    assert place.known
    assert not START.known
    assert Place.decode(b"", TOPIC_ID, "m.osaka") == START
    with pytest.raises(TopicRewritten, match=r"m\.osaka was deleted and made again"):
        Place.decode(place.encode(), bytes(16), "m.osaka")
    for garbage in (b"\x00", bytes(37), bytes(255), place.encode()[:-1]):
        with pytest.raises(TopicRewritten, match="no position in Kafka"):
            Place.decode(garbage, TOPIC_ID, "m.osaka")
