"""What the file bus forgets, when, and how loudly."""

import os
from pathlib import Path
from typing import Any

import pytest
from topic_files import append, open_log, read_all, reboot

from meshnode.bus.log import LogOptions, TopicLog
from meshnode.bus.port import Position, TopicRewritten
from meshnode.bus.segment import list_segments

MADE = 1_000_000.0
FRAME = 24 + 76
"""Bytes of one frame below; ten make a segment."""


def ten_segments(topic: Path, **options: Any) -> tuple[TopicLog, list[Position]]:
    """Fill ten segments with ten records each, one segment a second from `MADE` on."""
    now = [MADE]
    made = LogOptions(segment_bytes=10 * FRAME, clock=lambda: now[0], **options)
    log = open_log(topic, made)
    ends: list[Position] = []
    for _ in range(10):
        ends += log.append([bytes(76)] * 10)
        now[0] += 1
    assert len(list_segments(topic)) == 10
    return log, ends


@pytest.fixture
def topic(tmp_path: Path) -> Path:
    return tmp_path / "osaka"


async def test_a_segment_stays_until_every_member_has_applied_all_of_it(topic: Path) -> None:
    log, ends = ten_segments(topic, keep_seconds=0.0)
    assert log.retain([ends[8]], ends[99], now=4e9).dropped_bytes == 0
    done = log.retain([ends[9]], ends[99], now=4e9)
    assert done == (90 * FRAME, 10 * FRAME, 0, ())
    assert log.retain([ends[9]], ends[99], now=4e9).dropped_bytes == 0
    assert len(await read_all(topic)) == 90
    log.close()


def test_a_member_that_has_said_nothing_holds_everything(topic: Path) -> None:
    log, ends = ten_segments(topic, keep_seconds=0.0)
    for applied in ([], [None], [ends[99], None], [ends[99], b""]):
        assert log.retain(applied, ends[99], now=4e9) == (100 * FRAME, 0, 0, ())
    log.close()


async def test_a_segment_stays_for_its_time_after_it_was_full(topic: Path) -> None:
    log, ends = ten_segments(topic, keep_seconds=100.0)
    # The first was full when the second was made: one second in.
    assert log.retain([ends[99]], ends[99], now=MADE + 100.9).dropped_bytes == 0
    assert log.retain([ends[99]], ends[99], now=MADE + 101.0).dropped_bytes == 10 * FRAME
    assert log.retain([ends[99]], ends[99], now=MADE + 104.0).dropped_bytes == 30 * FRAME
    assert len(await read_all(topic)) == 60
    log.close()


async def test_the_newest_record_always_stays(topic: Path) -> None:
    log, ends = ten_segments(topic, keep_seconds=0.0)
    assert log.retain([ends[99]], ends[99], now=4e9) == (10 * FRAME, 90 * FRAME, 0, ())
    assert len(await read_all(topic)) == 10
    log.close()
    append(topic)
    assert len(await read_all(topic)) == 10


async def test_over_the_size_it_goes_and_the_loss_is_told(topic: Path) -> None:
    log, ends = ten_segments(topic, keep_seconds=1e9, max_bytes=75 * FRAME)
    done = log.retain([ends[14]], ends[99], now=MADE)
    # Three segments go; the second of them half applied, the third not at all.
    assert done == (70 * FRAME, 30 * FRAME, 15 * FRAME, (0,))
    assert len(await read_all(topic)) == 70
    done = log.retain([None], ends[99], now=MADE)
    assert done == (70 * FRAME, 0, 0, ())
    log.close()


async def test_even_a_topic_far_too_small_keeps_the_newest_record(topic: Path) -> None:
    log, ends = ten_segments(topic, keep_seconds=1e9, max_bytes=1)
    assert log.retain([None], ends[99], now=MADE) == (10 * FRAME, 90 * FRAME, 90 * FRAME, (0,))
    assert len(await read_all(topic)) == 10
    log.close()


async def test_what_lies_behind_the_floor_stays_whatever_its_size(topic: Path) -> None:
    """The parts of a transaction that is not whole yet: every member will read the first again."""
    log, ends = ten_segments(topic, keep_seconds=0.0, max_bytes=1)
    for applied in ([ends[34]], [ends[34], ends[99]]):
        done = log.retain(applied, ends[34], now=4e9)
    assert done == (70 * FRAME, 0, 0, ())
    assert len(await read_all(topic)) == 70
    assert log.retain([ends[49], None], ends[49], now=4e9) == (
        50 * FRAME,
        20 * FRAME,
        20 * FRAME,
        (1,),
    )
    for applied in ([ends[99]], []):
        assert log.retain(applied, None, now=4e9).dropped_bytes == 0
    log.close()


async def test_a_transaction_larger_than_the_topic_stays_until_as_much_follows(topic: Path) -> None:
    """Members begin to apply it when they have seen its last part; till then they stand before it.

    Whoever was there when it began has as long for it as for anything else.
    """
    log, ends = ten_segments(topic, keep_seconds=0.0, max_bytes=30 * FRAME)
    before = [ends[89]]
    # It was noted up to there when the transaction began.
    assert log.retain(before, ends[89], now=MADE).kept_bytes == 30 * FRAME
    parts = [log.append([bytes(76)] * 10)[-1] for _ in range(4)]
    assert log.retain(before, ends[89], now=MADE).dropped_bytes == 0
    assert log.retain(before, parts[-1], now=MADE).dropped_bytes == 0
    for followed in range(1, 5):
        (*_, end) = log.append([bytes(76)] * 10)
        done = log.retain(before, end, now=MADE)
        assert (done.lost_bytes > 0) == (followed > 3)
    assert done == (30 * FRAME, 60 * FRAME, 60 * FRAME, (0,))
    log.close()


def test_a_position_of_another_topic_drops_nothing(topic: Path) -> None:
    log, ends = ten_segments(topic, keep_seconds=0.0)
    (foreign,) = append(topic.with_name("other"), b"a")
    with pytest.raises(TopicRewritten):
        log.retain([foreign], ends[99], now=4e9)
    with pytest.raises(TopicRewritten):
        log.retain([ends[99]], foreign, now=4e9)
    assert len(list_segments(topic)) == 10
    log.close()


@pytest.mark.parametrize("rounds", [1, 3])
async def test_a_loss_of_power_after_a_round_leaves_a_topic_that_opens(
    topic: Path, rounds: int
) -> None:
    """The directory and the frames are durable, the mark is what was last made so.

    Needed: the mark is made durable before the first segment goes.
    """
    path = topic / "end"
    durable = [b""]

    def sync(fd: int) -> None:
        if path.exists() and os.path.samestat(os.fstat(fd), path.stat()):
            durable.append(path.read_bytes())

    log, ends = ten_segments(topic, keep_seconds=0.0, sync=sync)
    for number in range(rounds):
        done = 49 + 10 * number
        assert log.retain([ends[done]], ends[99], now=4e9).dropped_bytes > 0
        synced = len(durable)
        log.retain([ends[done]], ends[99], now=4e9)
        assert len(durable) == synced, "nothing went"
    log.close()
    path.write_bytes(durable[-1])
    reboot(topic)
    append(topic, b"after")
    assert len(await read_all(topic)) == 100 - done
    assert (await read_all(topic))[-1] == b"after"


async def test_other_files_in_the_topic_are_left_alone(topic: Path) -> None:
    log, ends = ten_segments(topic, keep_seconds=0.0)
    for name in ("notes.log", "00000.txt", "00000000000000000000.log.new"):
        (topic / name).write_text("mine")
    log.retain([ends[99]], ends[99], now=4e9)
    assert {"notes.log", "00000.txt", "00000000000000000000.log.new"} <= set(os.listdir(topic))
    assert len(await read_all(topic)) == 10
    log.close()
