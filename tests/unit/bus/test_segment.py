"""The file formats of the file bus, and positions."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from topic_files import append, newest_segment, open_log, read_all

from meshnode.bus import segment
from meshnode.bus.port import ORIGIN, Corrupt, Record, TopicRewritten
from meshnode.bus.segment import FRAME_HEADER, Mark, Place, Segment, load_mark

OFFSETS = st.integers(0, 2**64 - 1)
PLACES = st.builds(
    Place, st.binary(min_size=16, max_size=16), OFFSETS, OFFSETS, st.integers(0, 2**32 - 1)
)


@settings(deadline=None)
@given(PLACES)
def test_a_position_names_its_place(place: Place) -> None:
    assert Place.decode(place.encode(), place.incarnation) == place
    with pytest.raises(TopicRewritten):
        Place.decode(place.encode(), bytes(15) + b"?")


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=255))
def test_bytes_that_are_no_position_are_refused(position: bytes) -> None:
    with pytest.raises(TopicRewritten):
        Place.decode(position, b"the topic's own.")


def test_the_origin_is_in_every_topic() -> None:
    assert Place.decode(ORIGIN, b"the topic's own.") == (b"the topic's own.", 0, 0, 0)


@settings(deadline=None)
@given(PLACES, st.binary(min_size=16, max_size=16))
def test_a_mark_reads_as_written_and_not_with_any_byte_changed(
    tmp_path_factory: pytest.TempPathFactory, place: Place, boot: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "mark"
    mark = Mark(place, boot)
    content = mark.encode()
    path.write_bytes(content)
    assert load_mark(path) == mark
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert load_mark(path) is None


def test_half_of_two_marks_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Mark(Place(bytes(16), 0, 100, 1), bytes(16)).encode()
    new = Mark(Place(bytes(16), 100, 300, 2), bytes(16)).encode()
    looks = [old[:20] + new[20:], new[:52] + old[52:], new]
    (tmp_path / "end").write_bytes(old)
    monkeypatch.setattr(segment.os, "pread", lambda *_: looks.pop(0))
    mark = load_mark(tmp_path / "end")
    assert mark is not None
    assert mark.place.end == 300


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 400), min_size=1, max_size=30),
    max_bytes=st.integers(0, 3000),
    chunk=st.integers(FRAME_HEADER.size, 600),
)
def test_frames_are_read_whole_whatever_the_chunk(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], max_bytes: int, chunk: int
) -> None:
    topic = tmp_path_factory.mktemp("topic")
    sent = [bytes([number]) * size for number, size in enumerate(sizes)]
    append(topic, *sent)
    mark = load_mark(topic / "end")
    assert mark is not None
    opened = Segment(topic, 0, mark.place.incarnation, writable=False)
    place, found = Place(mark.place.incarnation, 0, 0, 0), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "READ_CHUNK", chunk)
        while place != mark.place:
            records: list[Record] = opened.records(place, mark.place.end, max_bytes)
            assert len(records) == 1 or sum(len(one.payload) for one in records) <= max_bytes
            assert records[0].start == place.encode()
            assert all(a.after == b.start for a, b in itertools.pairwise(records))
            place = Place.decode(records[-1].after, mark.place.incarnation)
            found += [record.payload for record in records]
    assert found == sent
    assert opened.records(place, place.end + 1000, 1000) == []


def test_no_frame_is_read_that_crosses_the_limit(tmp_path: Path) -> None:
    append(tmp_path, b"a", b"bb")
    mark = load_mark(tmp_path / "end")
    assert mark is not None
    opened = Segment(tmp_path, 0, mark.place.incarnation, writable=False)
    begin = Place(mark.place.incarnation, 0, 0, 0)
    (only,) = opened.records(begin, mark.place.last, 1000)
    assert only.payload == b"a"
    with pytest.raises(Corrupt):
        opened.records(begin, mark.place.last - 1, 1000)


async def test_a_frame_copied_to_another_place_is_not_valid(tmp_path: Path) -> None:
    topic = tmp_path / "osaka"
    append(topic, b"one", b"two")
    length = FRAME_HEADER.size + 3
    move_last_frame(topic, length)
    with pytest.raises(Corrupt):
        await read_all(topic)
    with pytest.raises(Corrupt):
        open_log(topic)
    (topic / "end").unlink()
    append(topic)
    assert await read_all(topic) == [b"one"]


def move_last_frame(topic: Path, length: int) -> None:
    """Put a copy of the frame before the last in place of the last."""
    path = newest_segment(topic)
    content = path.read_bytes()
    path.write_bytes(content[:-length] + content[-2 * length : -length])
