"""The heart while its region is not claimed yet."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from meshnode.actors.board import Board
from meshnode.actors.heart import Heart
from meshnode.topology import MysqlAddress, Region

SOON = 10


class SlowStore:
    """Who asks it for a session has gone on to work, and waits."""

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield


@pytest.mark.parametrize("turns", range(6))
async def test_a_heart_that_is_ended_just_when_the_region_is_claimed_ends(turns: int) -> None:
    """A node that was stopped at that very moment never came to its end."""
    board = Board(1)
    region = Region(1, "one", MysqlAddress("127.0.0.1", 1))
    heart = Heart(region, SlowStore(), board, lambda: 60.0, lambda: "", list)
    running = asyncio.create_task(heart.run())
    for _ in range(3):
        await asyncio.sleep(0)
    board.claim()
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running], timeout=SOON)
    assert running.cancelled()
