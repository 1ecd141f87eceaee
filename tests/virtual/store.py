"""The store port over a database in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from meshnode.core.change import Table
from meshnode.core.mend import Restamped
from meshnode.core.settings import SETTINGS
from meshnode.mysql.maps import make_table
from meshnode.store.values import Pause

from .applying import MemoryApplying
from .bookkeeping import MEMBER
from .claiming import MemoryClaiming
from .database import Database
from .housekeeping import MemoryBeating, MemoryCounting, MemoryGardening
from .loop import Process, outside
from .resolving import MemoryResolving
from .session import MemorySession, Wire

Session = TypeVar("Session", bound=MemorySession)


class MemoryStore:
    """The database of ``region``, and who is connected to it.

    ``paused`` and ``skipped``: the peers that an operator holds, and the transactions that one
    has told the node to leave out.
    """

    def __init__(self, region: str, database: Database, wire: Wire | None = None) -> None:
        self.region = region
        self.own: int = database.records[MEMBER].region
        self.database = database
        self.wire = wire or Wire()
        self.sessions: dict[MemorySession, None] = {}
        self.paused: dict[int, Pause] = {}
        self.skipped: set[str] = set()
        self.settings = {each.variable: each.value for each in SETTINGS}
        self._leaving: set[asyncio.Task] = set()

    def table_of(self, body: bytes) -> Table:
        """The table that a TABLE_MAP body of a frame means: rows are kept as MySQL logs them."""
        return make_table(body)

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
    async def claiming(self, restamped: Restamped) -> AsyncIterator[MemoryClaiming]:
        """A session for the origin."""
        async with self.opened(MemoryClaiming(self, "mender", restamped)) as session:
            yield session

    @asynccontextmanager
    async def resolving(self, restamped: Restamped) -> AsyncIterator[MemoryResolving]:
        """A session for the resolver."""
        async with self.opened(MemoryResolving(self, "resolver", restamped)) as session:
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

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[MemoryCounting]:
        """A session for the census, or for who watches the settings."""
        async with self.opened(MemoryCounting(self, "census")) as session:
            yield session
