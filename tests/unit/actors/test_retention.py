"""The retention that is left of a peer's stream, and when nothing can be said of it."""

import asyncio

import pytest

from meshnode.actors.board import Board
from meshnode.actors.retention import Retention
from meshnode.bus.port import RetentionPassed
from meshnode.errors import Retry
from meshnode.topology import MysqlAddress, Region

PEER = Region(2, "two", MysqlAddress("b"))
KEPT = 3600.0


class Topic:
    """A reader whose oldest unread record is ``age`` seconds old, or that fails with it."""

    def __init__(self, age: float | Exception | None) -> None:
        self.age = age
        self.asked: list[bytes] = []
        self.was_asked = asyncio.Event()
        self.closed = False

    async def unread_age(self, position: bytes, now: float) -> float | None:
        self.asked.append(position)
        self.was_asked.set()
        if isinstance(self.age, Exception):
            raise self.age
        return self.age

    async def close(self) -> None:
        self.closed = True


class Silent(Topic):
    async def unread_age(self, position: bytes, now: float) -> float | None:
        await asyncio.Event().wait()


class Bus:
    def __init__(self, topic: Topic) -> None:
        self.topic = topic

    def reader(self, region: str) -> Topic:
        assert region == "two"
        return self.topic


def board_at(position: bytes) -> Board:
    board = Board(1)
    board.received(2, 0)
    board.peers[2].position = position
    board.peers[2].retention_left = 7.0
    return board


@pytest.mark.parametrize(
    "age,left",
    [
        (600.0, 3000.0),
        (None, KEPT),  # nothing is unread
        (4000.0, 0.0),
        (RetentionPassed("gone"), 0.0),
        (Retry("the broker is away"), None),
    ],
)
async def test_what_is_left(age, left):
    board = board_at(b"here")
    topic = Topic(age)
    await Retention([PEER], KEPT, Bus(topic), board).look(2, topic)
    assert board.peers[2].retention_left == left
    assert topic.asked == [b"here"]


async def test_a_bus_that_does_not_answer_holds_nothing_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("meshnode.actors.retention.ANSWER_SECONDS", 0.01)
    board = board_at(b"here")
    topic = Silent(None)
    await Retention([PEER], KEPT, Bus(topic), board).look(2, topic)
    assert board.peers[2].retention_left is None


async def test_before_anything_was_applied_nobody_is_asked():
    board, topic = board_at(b""), Topic(5.0)
    await Retention([PEER], KEPT, Bus(topic), board).look(2, topic)
    assert topic.asked == []


async def test_it_asks_when_the_region_is_claimed_and_closes_its_readers():
    board, topic = board_at(b"here"), Topic(600.0)
    actor = Retention([PEER], KEPT, Bus(topic), board)
    task = asyncio.create_task(actor.run())
    await asyncio.sleep(0)
    assert topic.asked == []
    board.claim()
    await asyncio.wait_for(topic.was_asked.wait(), 20)
    assert actor.state.state == "running"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert topic.closed
