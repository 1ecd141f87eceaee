"""Opening a topic after a crash, a loss of power, and damage."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from topic_files import (
    SOON,
    append,
    append_unacknowledged,
    flip,
    newest_segment,
    open_log,
    read_all,
    reboot,
)

from meshnode.bus.file import FileBus
from meshnode.bus.log import LogOptions
from meshnode.bus.port import ORIGIN, BusBroken, Corrupt
from meshnode.bus.segment import FRAME_HEADER, SEGMENT_HEADER, list_segments, load_mark

SMALL = LogOptions(segment_bytes=100)


@pytest.fixture
def topic(tmp_path: Path) -> Path:
    return tmp_path / "osaka"


def frame_bytes(payload: bytes) -> int:
    return FRAME_HEADER.size + len(payload)


@pytest.mark.parametrize("rebooted", [False, True])
async def test_a_tail_torn_at_any_byte_is_cut(topic: Path, rebooted: bool) -> None:
    _, kept = append(topic, b"a", b"b")
    append_unacknowledged(topic, [b"never acknowledged"])
    if rebooted:
        reboot(topic)
    pristine = shutil.copytree(topic, topic.with_name("pristine"))
    size = newest_segment(topic).stat().st_size
    for missing in range(1, frame_bytes(b"never acknowledged") + 1):
        shutil.rmtree(topic)
        shutil.copytree(pristine, topic)
        os.truncate(newest_segment(topic), size - missing)
        assert await read_all(topic) == [b"a", b"b"]
        log = open_log(topic)
        assert log.append([]) == []
        log.close()
        assert newest_segment(topic).stat().st_size == size - frame_bytes(b"never acknowledged")
        append(topic, b"next")
        assert await read_all(topic) == [b"a", b"b", b"next"]
    assert kept


async def test_a_tail_with_any_wrong_byte_is_cut(topic: Path) -> None:
    append(topic, b"a", b"b")
    append_unacknowledged(topic, [b"half written", b"after it"])
    segment = newest_segment(topic)
    content, mark = segment.read_bytes(), (topic / "end").read_bytes()
    first = len(content) - frame_bytes(b"half written") - frame_bytes(b"after it")
    for at in range(first, first + frame_bytes(b"half written")):
        segment.write_bytes(content)
        (topic / "end").write_bytes(mark)
        flip(segment, at)
        append(topic)
        assert await read_all(topic) == [b"a", b"b"]


@pytest.mark.parametrize("rebooted", [False, True])
async def test_whole_frames_behind_the_mark_are_kept(topic: Path, rebooted: bool) -> None:
    append(topic, b"a")
    append_unacknowledged(topic, [b"b", b"c"])
    if rebooted:
        reboot(topic)
    assert await read_all(topic) == [b"a"]
    append(topic)
    assert await read_all(topic) == [b"a", b"b", b"c"]


async def test_whole_segments_behind_an_old_mark_are_kept(topic: Path) -> None:
    append(topic, b"a", options=SMALL)
    mark = (topic / "end").read_bytes()
    more = [b"%d" % number * 60 for number in range(9)]
    append(topic, *more, options=SMALL)
    assert len(list_segments(topic)) > 3
    (topic / "end").write_bytes(mark)
    reboot(topic)
    append(topic)
    assert await read_all(topic) == [b"a", *more]


@pytest.mark.parametrize("content", [None, b"", b"\0" * 80, b"x" * 200])
async def test_a_lost_mark_is_made_again_from_the_frames(
    topic: Path, content: bytes | None
) -> None:
    append(topic, *[b"%d" % number * 60 for number in range(5)], options=SMALL)
    mark = load_mark(topic / "end")
    (topic / "end").unlink()
    if content is not None:
        (topic / "end").write_bytes(content)
    assert load_mark(topic / "end") is None
    append(topic)
    assert load_mark(topic / "end") == mark
    assert len(await read_all(topic)) == 5


async def test_acknowledged_frames_that_are_gone_are_not_forgotten(topic: Path) -> None:
    append(topic, b"a", b"acknowledged")
    segment = newest_segment(topic)
    content = segment.read_bytes()
    for missing in range(1, frame_bytes(b"acknowledged") + 1):
        segment.write_bytes(content[:-missing])
        with pytest.raises(Corrupt, match="osaka"):
            open_log(topic)
        assert segment.read_bytes() == content[:-missing], "a refused topic is left alone"
    (topic / "end").unlink()
    append(topic, b"on")
    assert await read_all(topic) == [b"a", b"on"]


async def test_any_wrong_byte_before_the_mark_is_corrupt(topic: Path) -> None:
    append(topic, b"fine", b"acknowledged")
    segment = newest_segment(topic)
    content = segment.read_bytes()
    at_last = SEGMENT_HEADER.size + frame_bytes(b"fine")
    for at in range(at_last, len(content)):
        flip(segment, at)
        for attempt in (open_log, read_all):
            with pytest.raises(Corrupt, match=f"{segment} at byte {at_last}"):
                result = attempt(topic)
                await result  # type: ignore[misc]
        segment.write_bytes(content)
    assert await read_all(topic) == [b"fine", b"acknowledged"]


async def test_the_records_before_a_damaged_one_can_be_read(topic: Path) -> None:
    append(topic, b"fine", b"damaged", b"behind")
    flip(newest_segment(topic), SEGMENT_HEADER.size + frame_bytes(b"fine") + FRAME_HEADER.size)
    append(topic)  # the newest frame is whole: older ones are for their readers to judge
    bus = FileBus(topic.parent)
    reader = bus.reader(topic.name)
    (fine,) = await reader.read(ORIGIN, 1000)
    assert fine.payload == b"fine"
    with pytest.raises(Corrupt):
        await reader.read(fine.after, 1000)
    await bus.close()


async def test_any_wrong_byte_in_a_segment_header_is_corrupt(topic: Path) -> None:
    append(topic, b"a")
    segment = newest_segment(topic)
    for at in range(SEGMENT_HEADER.size - 4):
        flip(segment, at)
        with pytest.raises(Corrupt):
            open_log(topic)
        with pytest.raises(Corrupt):
            await read_all(topic)
        flip(segment, at)


def test_a_missing_segment_is_noticed(topic: Path) -> None:
    append(topic, *[b"x" * 120 for _ in range(4)], options=SMALL)
    bases = list_segments(topic)
    assert len(bases) == 4
    mark = (topic / "end").read_bytes()
    last = newest_segment(topic)
    last.rename(topic / "away")
    with pytest.raises(Corrupt, match="acknowledged, and are gone"):
        open_log(topic)
    (topic / "away").rename(last)
    middle = topic / f"{bases[2]:020d}.log"
    middle.rename(topic / "away")
    (topic / "end").unlink()
    with pytest.raises(Corrupt, match="the segment before it ends at"):
        open_log(topic)
    for base in list_segments(topic):
        (topic / f"{base:020d}.log").unlink()
    (topic / "end").write_bytes(mark)
    with pytest.raises(Corrupt, match="acknowledged, and are gone"):
        open_log(topic)


def test_files_of_different_topics_are_not_mixed(topic: Path) -> None:
    append(topic, b"a")
    other = topic.with_name("other")
    append(other, b"a")
    shutil.copy(other / "end", topic / "end")
    with pytest.raises(Corrupt, match="belongs to another topic"):
        open_log(topic)
    (topic / "end").unlink()
    shutil.copy(newest_segment(other), newest_segment(topic))
    with pytest.raises(Corrupt, match="another topic"):
        open_log(topic)
    (topic / "topic").unlink()
    with pytest.raises(Corrupt, match="is missing beside segments"):
        open_log(topic)
    (topic / "topic").write_bytes(b"short")
    with pytest.raises(Corrupt, match="has 5 bytes"):
        open_log(topic)


def test_a_mark_that_names_another_frame_is_corrupt(topic: Path) -> None:
    append(topic, b"a", b"b")
    mark = load_mark(topic / "end")
    assert mark is not None
    wrong = mark._replace(place=mark.place._replace(crc=mark.place.crc ^ 1))
    (topic / "end").write_bytes(wrong.encode())
    with pytest.raises(Corrupt, match="names another frame"):
        open_log(topic)


@pytest.mark.parametrize("made", [[], ["topic"], ["topic", "00000000000000000000.log"]])
async def test_a_topic_half_made_is_made_whole(topic: Path, made: list[str]) -> None:
    append(topic)
    for name in os.listdir(topic):
        if name not in made:
            (topic / name).unlink()
    (topic / "end.new").write_bytes(b"left over")
    append(topic, b"a")
    assert await read_all(topic) == [b"a"]


async def test_after_a_failed_fsync_the_frames_are_written_again(
    topic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(topic, b"a")

    def fail(_: int) -> None:
        raise OSError(5, "injected")

    log = open_log(topic)
    log._options = LogOptions(sync=fail)
    with pytest.raises(BusBroken, match="injected"):
        log.append([b"only in memory"])
    log.close()
    assert await read_all(topic) == [b"a"]

    steps: list[str] = []
    pwrite = os.pwrite

    def note_write(fd: int, data: bytes, at: int) -> int:
        steps.append(f"write {len(data)}")
        return pwrite(fd, data, at)

    def note_sync(fd: int) -> None:
        steps.append("sync")
        os.fdatasync(fd)

    monkeypatch.setattr(os, "pwrite", note_write)
    log = open_log(topic, LogOptions(sync=note_sync))
    log.close()
    again = steps.index(f"write {frame_bytes(b'only in memory')}")
    mark = steps.index(f"write {len((topic / 'end').read_bytes())}")
    assert "sync" in steps[again:mark]
    assert await read_all(topic) == [b"a", b"only in memory"]


async def test_a_reader_waits_for_the_recovery_after_a_loss_of_power(topic: Path) -> None:
    (begin,) = append(topic, b"a")
    mark = (topic / "end").read_bytes()
    read_before = append(topic, b"b", b"c")[0]
    (topic / "end").write_bytes(mark)
    reboot(topic)
    bus = FileBus(topic.parent)
    reader = bus.reader(topic.name)
    assert await reader.end() == begin
    reading = asyncio.create_task(reader.read(read_before, 1000))
    done, _ = await asyncio.wait({reading}, timeout=0.1)
    assert not done, "the end mark is an old one: nothing is wrong with the position"
    append(topic)
    (record,) = await asyncio.wait_for(reading, SOON)
    assert record.payload == b"c"
    await bus.close()
