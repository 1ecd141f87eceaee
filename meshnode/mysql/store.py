"""The store port over MySQL: which session does what for which actor.

Each block has a connection of its own, known to the node while it lives and closed with the
block.  Statements stand where their reasons to change are: in a module for each kind of session.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from meshnode.core.change import Table
from meshnode.core.mend import Restamped
from meshnode.mysql.applier_session import ApplierSession
from meshnode.mysql.claiming_session import ClaimingSession
from meshnode.mysql.control import Login
from meshnode.mysql.heart_session import HeartSession
from meshnode.mysql.housekeeping import CountingSession, GardeningSession
from meshnode.mysql.lookup import read_collations
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.maps import make_table
from meshnode.mysql.resolver_session import ResolverSession
from meshnode.mysql.session import Session, connect
from meshnode.topology import Region


class MysqlStore:
    """The MySQL of ``region`` under the account ``login``; the binary log is read as ``tail``.

    ``threads`` gets the server's numbers of the sessions that are open, so that the heart does
    not take their transactions for those of clients.
    """

    def __init__(self, region: Region, login: Login, tail: Login, threads: set[int]) -> None:
        self.region = region
        self.login = login
        self.tail = tail
        self.threads = threads

    def table_of(self, body: bytes) -> Table:
        """The table that a TABLE_MAP body of a frame means."""
        return make_table(body)

    @asynccontextmanager
    async def session(self, name: str) -> AsyncIterator[Session]:
        """A bare pinned session; ``name`` is shown in the server's process list."""
        session = await connect(self.region, self.login, name)
        thread = session.thread_id
        self.threads.add(thread)
        try:
            yield session
        finally:
            self.threads.discard(thread)
            session.close()

    @asynccontextmanager
    async def applying(self, name: str) -> AsyncIterator[ApplierSession]:
        """A session for the applier ``name``."""
        async with self.session(name) as session:
            yield ApplierSession(session, Lookups(await read_collations(session)))

    @asynccontextmanager
    async def claiming(self, restamped: Restamped) -> AsyncIterator[ClaimingSession]:
        """A session for the origin, which mends with it."""
        async with self.session("mender") as session:
            lookups = Lookups(await read_collations(session))
            yield ClaimingSession(
                session, self.region, self.login.user, self.tail, lookups, restamped
            )

    @asynccontextmanager
    async def resolving(self, restamped: Restamped) -> AsyncIterator[ResolverSession]:
        """A session for the resolver."""
        async with self.session("resolver") as session:
            lookups = Lookups(await read_collations(session))
            yield ResolverSession(session, self.region.id, lookups, restamped)

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[HeartSession]:
        """A session for the heart."""
        async with self.session("heart") as session:
            yield HeartSession(session, self.region.id, self.threads)

    @asynccontextmanager
    async def gardening(self) -> AsyncIterator[GardeningSession]:
        """A session for the gardener."""
        async with self.session("gardener") as session:
            yield GardeningSession(session)

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[CountingSession]:
        """A session for the census."""
        async with self.session("census") as session:
            yield CountingSession(session)
