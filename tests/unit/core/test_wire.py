"""Frames and claims on the bus: round trip, and whatever else may lie there."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core.stamp import Stamp
from meshnode.core.wire import (
    HEARTBEAT,
    PART,
    TRANSACTION,
    VERSION,
    Beat,
    Claim,
    Entry,
    Frame,
    Item,
    Op,
    Sender,
    decode,
    encode,
)
from meshnode.errors import Halt

SENDER = Sender("shop", 2, "east")

numbers = st.integers(0, 2**64 - 1)
small = st.integers(0, 255)
ops = st.builds(Op, small, small, st.binary(max_size=40))
entries = st.builds(
    Entry, small, st.binary(max_size=20), small, numbers, small, numbers, small, st.booleans()
)
beats = st.builds(Beat, numbers, numbers, numbers, st.text(max_size=10))
items = st.builds(
    Item, numbers, st.sampled_from((TRANSACTION, PART, HEARTBEAT)), st.text(max_size=10), numbers,
    numbers, st.booleans(), st.booleans(), st.lists(ops, max_size=3), st.lists(entries, max_size=3),
    st.none() | beats, numbers, st.binary(max_size=25),
)  # fmt: skip
frames = st.builds(
    Frame, st.just(VERSION), st.just("shop"), st.just(2), numbers, numbers, st.text(max_size=8),
    st.binary(max_size=30), numbers, st.text(max_size=30), st.lists(st.binary(max_size=30)),
    st.lists(items, max_size=4),
)  # fmt: skip
claims = st.builds(Claim, st.just(VERSION), st.just("shop"), st.just(2), numbers, numbers)

FRAME = Frame(
    VERSION, "shop", 2, 7, 3, "9.7.0", b"fde", 50, "a:1-9", [b"map"],
    [
        Item(1, TRANSACTION, "a:9", 5, ops=[Op(0, 1, b"rows")],
             entries=[Entry(0, b"k", 0, 60, 2, 10, 1, True)]),
        Item(2, HEARTBEAT, "a:10", 6, beat=Beat(1, 100, 50, "{}")),
    ],
)  # fmt: skip


@given(frames | claims)
def test_what_is_written_is_read(record):
    assert decode(encode(record), SENDER) == record


def test_a_frame_without_trace_contexts_is_read():
    fields = msgspec.msgpack.decode(encode(FRAME))
    fields[-1] = [item[:-1] for item in fields[-1]]
    assert decode(msgspec.msgpack.encode(fields), SENDER) == decode(encode(FRAME), SENDER)


def test_an_entry_shows_its_stamps():
    entry = Entry(0, b"k", 0, 60, 2, 10, 1, True)
    assert (entry.stamp, entry.base) == (Stamp(60, 2), Stamp(10, 1))


@given(st.binary(max_size=60))
def test_other_bytes_halt_the_stream(payload):
    with pytest.raises(Halt, match="east"):
        decode(payload, SENDER)


@given(st.data())
def test_a_damaged_frame_is_a_record_or_a_halt(data):
    payload = bytearray(encode(FRAME))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(small)
    try:
        record = decode(bytes(payload), SENDER)
    except Halt:
        return
    assert isinstance(record, Frame | Claim)


def test_every_cut_halts():
    payload = encode(FRAME)
    for size in range(len(payload)):
        with pytest.raises(Halt, match="malformed"):
            decode(payload[:size], SENDER)


def test_bytes_nested_beyond_reason_halt():
    claim = msgspec.msgpack.encode(["C", VERSION, "shop", 2, 7, 3])
    payload = bytes((claim[0] + 1,)) + claim[1:] + b"\x91" * 100_000
    with pytest.raises(Halt, match="malformed"):
        decode(payload, SENDER)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": VERSION + 1}, f"wire version {VERSION + 1}, this node {VERSION}"),
        ({"mesh": "other"}, "mesh 'other'"),
        ({"region": 3}, "region 3"),
    ],
)
@pytest.mark.parametrize("record", [FRAME, Claim(VERSION, "shop", 2, 7, 3)], ids=["frame", "claim"])
def test_a_record_of_somebody_else_halts(record, change, said):
    with pytest.raises(Halt, match="east") as caught:
        decode(encode(msgspec.structs.replace(record, **change)), SENDER)
    assert said in caught.value.what
    assert caught.value.remedy
