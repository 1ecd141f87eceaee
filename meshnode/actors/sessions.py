"""The actors' MySQL sessions: known to the board while they live, closed with the actor."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from meshnode.accounts import Account
from meshnode.actors.board import Board
from meshnode.mysql.session import Session, connect
from meshnode.topology import Region


@asynccontextmanager
async def session_of(
    region: Region, login: Account, name: str, board: Board
) -> AsyncIterator[Session]:
    """A session whose transactions the heart does not take for a client's."""
    session = await connect(region, login, name)
    thread = session.thread_id
    board.threads.add(thread)
    try:
        yield session
    finally:
        board.threads.discard(thread)
        session.close()
