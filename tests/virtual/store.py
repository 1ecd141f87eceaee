"""The store port over a database in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from meshnode.store.values import Pause

from .applying import MemoryApplying
from .database import Database
from .housekeeping import MemoryBeating, MemoryGardening
from .loop import Process, outside
from .session import MemorySession, Wire

Session = TypeVar("Session", bound=MemorySession)


class MemoryStore:
    """The database of ``region``, and who is connected to it."""

    def __init__(self, region: str, database: Database, wire: Wire | None = None) -> None:
        self.region = region
        self.database = database
        self.wire = wire or Wire()
        self.sessions: dict[MemorySession, None] = {}
        self.paused: dict[int, Pause] = {}
        self._leaving: set[asyncio.Task] = set()

    def leaving(self, work: Any) -> None:
        """A connection was closed; the server notices in its own time."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            work.close()
            return
        task = loop.create_task(work, context=outside())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def hang_up(self, process: Process) -> None:
        """The kernel of a killed process closes its connections."""
        for session in [each for each in self.sessions if each.process is process]:
            session.close()

    def kill_others(self, own: MemorySession) -> None:
        """End every other session, as a starting node does."""
        for session in [each for each in self.sessions if each is not own]:
            session.close()

    @asynccontextmanager
    async def opened(self, session: Session) -> AsyncIterator[Session]:
        """``session`` connected, until the end of the block."""
        self.sessions[session] = None
        try:
            yield session
        finally:
            session.close()

    @asynccontextmanager
    async def applying(self, name: str) -> AsyncIterator[MemoryApplying]:
        """A session for the applier ``name``."""
        async with self.opened(MemoryApplying(self, name)) as session:
            yield session

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[MemoryBeating]:
        """A session for the heart."""
        async with self.opened(MemoryBeating(self, "heart")) as session:
            yield session

    @asynccontextmanager
    async def gardening(self) -> AsyncIterator[MemoryGardening]:
        """A session for the gardener."""
        async with self.opened(MemoryGardening(self, "gardener")) as session:
            yield session
