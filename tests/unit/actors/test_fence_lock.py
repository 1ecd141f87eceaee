"""Somebody holds the row of ``applied``: that is no lock of a client on the rows of an item.

A backup may hold all tables for a while, or the server a session that has been lost.
"""

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from core_values import OWN
from test_ancestry_at_commit import Store, ready, work, writer_over

from meshnode import limits
from meshnode.actors.apply_loop import ApplyLoop
from meshnode.actors.board import Board
from meshnode.actors.intake import Ready
from meshnode.actors.kernel import Mailbox, State
from meshnode.errors import Busy
from meshnode.store.values import Mark


class Held(Store):
    """The row of ``applied`` is held for ``tries`` tries; ``held`` more until a row can be had."""

    tries = held = 0

    def __init__(self) -> None:
        super().__init__(Board(OWN))
        self.done = asyncio.Event()
        self.parked: list[object] = []

    async def begin(self, format_bytes, fence) -> bool:
        self.tries -= 1
        if self.tries >= 0:
            raise Busy("1205: Lock wait timeout exceeded")
        return True

    async def lock(self, works, deep, wait) -> dict:
        self.held -= 1
        if self.held >= 0:
            raise Busy("1205: Lock wait timeout exceeded")
        return await super().lock(works, deep, wait)

    async def park(self, rows, item, origin, format_bytes) -> None:
        self.parked += rows

    async def save(self, name) -> None:
        pass

    back_to = save

    async def commit(self) -> None:
        self.done.set()


async def applied(store: Held, step: Ready) -> None:
    """Run a loop until it has committed ``step``."""
    limits_now = SimpleNamespace(batch_bytes=1000, batch_rows=1000)
    view = SimpleNamespace(now=SimpleNamespace(limits=limits_now))
    intake = SimpleNamespace(outbox=Mailbox(1000), failing=False, run_rows=0)
    parts: list[Any] = [view, MagicMock(), intake, writer_over(store), State("")]
    loop = ApplyLoop(*parts)
    loop.pending.append(step)
    running = asyncio.create_task(loop.run())
    done = asyncio.create_task(store.done.wait())
    await asyncio.wait([running, done], timeout=5, return_when=asyncio.FIRST_COMPLETED)
    for task in (running, done):
        task.cancel()
    assert store.done.is_set(), running


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that have been found locked once are set aside when they are found so again."""
    monkeypatch.setattr(limits, "LOCKED_SECONDS", 0)


def update_step() -> Ready:
    one = work()
    return ready(item=one.item, scanned=one.scanned, incoming=one.incoming, rows=1)


async def test_a_step_without_rows_waits_for_the_fence() -> None:
    store = Held()
    store.tries = 3
    await applied(store, Ready(Mark(1, "", b"", 1, 0, 0, 0)))


async def test_no_row_is_set_aside_because_the_fence_was_held() -> None:
    store = Held()
    store.tries, store.held = 3, 1
    await applied(store, update_step())
    assert store.parked == [], "the row was locked for an instant"
