"""Brokers at a new address are followed where the very same topics stand, and nowhere else."""

import asyncio

import pytest

from meshnode import health
from meshnode.bus.port import PositionAhead, RetentionPassed, TopicRewritten
from meshnode.errors import Refused, Retry
from meshnode.health import require_same_topics


class Reader:
    """A topic that says ``answer`` of a position; without one it is not there."""

    def __init__(self, there: bool, answer: Exception | float | None) -> None:
        self.there, self.answer = there, answer
        self.closed = False

    async def end(self) -> bytes:
        if not self.there:
            await asyncio.Event().wait()
        return b"end"

    async def unread_age(self, position: bytes, now: float) -> float | None:
        assert position == b"place"
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def close(self) -> None:
        self.closed = True


class Bus:
    def __init__(self, **readers: Reader) -> None:
        self.readers = readers

    def reader(self, region: str) -> Reader:
        return self.readers[region]


PLACES = {"east": b"place", "west": b"place"}


@pytest.mark.parametrize("answer", [None, 3.0, RetentionPassed("it keeps less", "re-seed")])
async def test_the_same_topics_are_followed(answer: Exception | float | None) -> None:
    bus = Bus(east=Reader(True, answer), west=Reader(True, None))
    await require_same_topics(bus, PLACES)
    assert all(reader.closed for reader in bus.readers.values())


@pytest.mark.parametrize(
    "there,answer,words",
    [
        (True, TopicRewritten("topic m.west was deleted and made again"), "made again"),
        (True, PositionAhead("the topic has lost records"), "has lost records"),
        (True, Retry("Kafka at k:1 cannot be used"), "cannot be used"),
        (True, Refused("user or password is wrong"), "password is wrong"),
        (False, None, "is not there, or does not answer"),
    ],
)
async def test_another_history_is_refused(
    there: bool, answer: Exception | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.05)
    bus = Bus(east=Reader(True, None), west=Reader(there, answer))
    with pytest.raises(Refused, match=words) as caught:
        await require_same_topics(bus, PLACES)
    assert "the topic of region west cannot be followed" in caught.value.what
    assert "another history" in caught.value.remedy
    assert all(reader.closed for reader in bus.readers.values())


async def test_a_topic_that_was_never_read_or_written_is_not_asked_for() -> None:
    await require_same_topics(Bus(), {})
