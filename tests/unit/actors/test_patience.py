"""A bus that is away for a while in the middle of an apply transaction does not end it."""

import asyncio
from typing import Any

import pytest

from meshnode.actors import patience
from meshnode.actors.patience import PatientReader
from meshnode.errors import Halt, Retry

RECORDS: list[Any] = ["a record"]


class Bus:
    """A reader that gives each of ``answers`` in turn, and the session that is kept meanwhile.

    A number is a read that answers only when the session was kept so often.
    """

    def __init__(self, *answers: list | Exception | int) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []
        self.kept = self.ended = 0
        self.lost = False

    async def read(self, position: bytes, size: int) -> list:
        self.asked.append(position)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            try:
                while self.kept < answer:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            finally:
                self.ended += 1
            return RECORDS
        return answer

    async def keep_alive(self) -> None:
        if self.lost:
            raise Retry("the session is lost")
        self.kept += 1

    async def close(self) -> None:
        self.answers.append([])


async def begun(bus: Bus) -> PatientReader:
    """A reader that has read something before."""
    bus.answers.insert(0, RECORDS)
    reader = PatientReader(bus, bus.keep_alive)  # type: ignore[arg-type]
    assert await reader.read(b"0", 1) == RECORDS
    return reader


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(patience, "SAY_SECONDS", 0.0)


async def test_a_reader_that_fails_is_asked_again_where_it_stood():
    bus = Bus(Retry("gone"), Retry("still gone"), RECORDS)
    reader = await begun(bus)
    assert await reader.read(b"1", 1) == RECORDS
    assert bus.asked == [b"0", b"1", b"1", b"1"]
    assert bus.kept >= 2


async def test_the_session_is_kept_while_the_reader_waits():
    bus = Bus(3)
    reader = await begun(bus)
    async with asyncio.timeout(20):
        assert await reader.read(b"1", 1) == RECORDS
    assert bus.asked == [b"0", b"1"], "and the read is not begun anew"


async def test_before_the_first_part_nothing_is_waited_for():
    bus = Bus(Retry("gone"))
    with pytest.raises(Retry, match="gone"):
        await PatientReader(bus, bus.keep_alive).read(b"0", 1)  # type: ignore[arg-type]


async def test_patience_ends(monkeypatch: pytest.MonkeyPatch):
    """The rows that were written are locked."""
    bus = Bus(Retry("gone"), 1_000_000)
    reader = await begun(bus)
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(Retry, match="gone"):
        await reader.read(b"1", 1)
    with pytest.raises(Retry, match="has not answered"):
        await reader.read(b"1", 1)
    assert bus.ended == 1


@pytest.mark.parametrize("answer", [Halt("rewritten", ""), ValueError("a defect")])
async def test_what_no_patience_helps_is_raised_at_once(answer):
    bus = Bus(answer)
    reader = await begun(bus)
    with pytest.raises(type(answer)):
        await reader.read(b"1", 1)


async def test_a_session_that_is_lost_meanwhile_ends_the_reading():
    bus = Bus(1_000_000)
    reader = await begun(bus)
    bus.lost = True
    with pytest.raises(Retry, match="the session is lost"):
        await reader.read(b"1", 1)
    assert bus.ended == 1
