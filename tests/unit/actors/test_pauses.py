"""An applier that waits while its peer is paused, and what is to be seen of it."""

import asyncio

import pytest

from meshnode.actors.board import Board
from meshnode.actors.kernel import State
from meshnode.actors.pauses import Pauses, hold
from meshnode.store.values import Pause
from meshnode.topology import MysqlAddress, Region

PEER = Region(2, "two", MysqlAddress("b"))


class Idle:
    """A session that counts how often it was kept alive."""

    kept = 0

    async def keep_alive(self) -> None:
        self.kept += 1


async def test_who_is_not_paused_does_not_wait():
    state = State("applier two")
    state.set("running", "waits for a row lock")
    await hold(Board(1), PEER, "one", state, Idle())
    assert (state.state, state.reason) == ("running", "waits for a row lock")


async def test_a_pause_holds_and_says_why_and_since(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("meshnode.actors.pauses.LOOK_SECONDS", 0.01)
    board, state, session = Board(1), State("applier two"), Idle()
    board.pauses.replace({2: Pause(1234.5, "ticket 4711")})
    task = asyncio.create_task(hold(board, PEER, "one", state, session))
    while session.kept < 2:
        assert not task.done()
        await asyncio.sleep(0)
    assert (state.state, state.since) == ("paused", 1234.5)
    assert state.reason == "by an operator: ticket 4711"
    assert state.remedy == "meshnode resume two --region one"
    board.pauses.replace({3: Pause(1.0, "")})
    await task
    assert (state.state, state.reason, state.remedy) == ("running", "", "")


async def test_a_change_wakes_at_once():
    pauses = Pauses()
    waiting = asyncio.create_task(pauses.changed(3600))
    await asyncio.sleep(0)
    pauses.replace({})
    await asyncio.sleep(0)
    assert not waiting.done(), "nothing has changed"
    pauses.replace({2: Pause(1.0, "")})
    await waiting


class Slow(Idle):
    """A session that answers when it is told to."""

    def __init__(self, paused: dict[int, Pause]) -> None:
        self.paused = paused
        self.answer = asyncio.Event()

    async def pauses(self) -> dict[int, Pause]:
        await self.answer.wait()
        return self.paused


async def test_what_was_read_before_a_change_does_not_undo_it():
    pauses, slow = Pauses(), Slow({})
    reading = asyncio.create_task(pauses.refresh(slow))
    await asyncio.sleep(0)
    # The ops port has paused the peer after the server had read the table.
    pauses.replace({2: Pause(1.0, "")})
    slow.answer.set()
    await reading
    assert 2 in pauses.now
    slow.paused = {3: Pause(2.5, "ticket 4711")}
    await pauses.refresh(slow)
    assert pauses.now == {3: Pause(2.5, "ticket 4711")}
