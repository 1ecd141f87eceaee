"""What a start waits for; brokers at a new address are followed where the same topics stand."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from meshnode import health
from meshnode.bus.port import PositionAhead, RetentionPassed, TopicRewritten
from meshnode.errors import Refused, Retry
from meshnode.health import require_same_topics
from meshnode.ops import doctor
from meshnode.ops.checks import Check, Context, Level
from meshnode.topology import Topology


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


@pytest.mark.parametrize("early", [True, False], ids=["before the checks", "in a check"])
async def test_a_server_that_goes_away_while_it_is_examined_is_waited_for(
    monkeypatch, early: bool
) -> None:
    """What was not answered is no finding of the check that asked, which would end a starting node.

    Nobody asks on.
    """

    async def fine(context: Context) -> list:
        return []

    async def lost(context: Context) -> list:
        raise Retry("lost connection to MySQL", "look at the server")

    async def read(*_, **__) -> Context:
        if early:
            await lost(cast(Context, None))
        nobody: Any = SimpleNamespace(name="east")
        return Context(nobody, nobody, nobody, {}, (9, 7))

    class Session:
        async def __aenter__(self) -> "Session":
            return self

        async def __aexit__(self, *_) -> None:
            pass

        async def rows(self, sql: str) -> list:
            return []

    async def connect(*_) -> Session:
        return Session()

    checks = {name: Check(name, name, do) for name, do in zip("abc", (fine, lost, fine))}
    topology = SimpleNamespace(region=lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(doctor, "REGISTRY", checks)
    monkeypatch.setattr(doctor, "connect", connect)
    monkeypatch.setattr(doctor, "read_context", read)
    monkeypatch.setattr(doctor.accounts, "secrets", lambda *_: None)
    found = await doctor.examine(cast(Topology, topology), "east")
    answered = [] if early else [("a", "", Level.OK)]
    asked = "server" if early else "b"
    assert [(each.check, each.subject, each.level) for each in found] == [
        *answered, ("connection", asked, Level.REFUSE),
    ]  # fmt: skip
    assert await health.away(cast(Topology, topology), "east") == "lost connection to MySQL"
    with pytest.raises(Refused, match="lost connection to MySQL"):
        await health.require_start(cast(Topology, topology), "east")
