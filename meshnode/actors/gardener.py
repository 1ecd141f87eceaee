"""The gardener: drops tombstones that nobody can need, old records, and read segments.

Tombstones go by stability, never by age: when their time is below what every
other member has promised here, and below the own promise as it stands in the
published stream.  A parked row holds its origin's promise down.
"""

import asyncio
import time

from meshnode.accounts import Account
from meshnode.actors.board import Board
from meshnode.actors.kernel import Actor
from meshnode.actors.sessions import session_of
from meshnode.actors.watcher import View
from meshnode.bus.port import BusWriter
from meshnode.core.frontier import gc_limit
from meshnode.mysql.session import Session
from meshnode.topology import Region

ROUND_SECONDS = 10.0
CHUNK_ROWS = 1000


class Gardener(Actor):
    """Keeps the bookkeeping of ``region`` from growing."""

    def __init__(
        self, view: View, region: Region, login: Account, writer: BusWriter, board: Board
    ) -> None:
        super().__init__("gardener")
        self.view = view
        self.region = region
        self.login = login
        self.writer = writer
        self.board = board

    async def run(self) -> None:
        """Make a round every ten seconds."""
        await self.board.claimed()
        async with session_of(self.region, self.login, "gardener", self.board) as session:
            self.running()
            while True:
                await self.round(session)
                await asyncio.sleep(ROUND_SECONDS)

    async def round(self, session: Session) -> None:
        """One round; each step is safe to repeat."""
        await self.drop_tombstones(session)
        await self.forget_records(session)
        await self.retain()

    async def drop_tombstones(self, session: Session) -> None:
        """Delete stable tombstones in small transactions; note the limit before the first."""
        peers = await session.query("SELECT origin, frontier FROM meshnode.applied")
        members = {peer.id for peer in self.view.now.peers(self.region.name)}
        known = {origin: frontier for origin, frontier in peers if origin in members}
        if set(known) != members:
            return
        parked = await session.query(
            "SELECT ts FROM meshnode.dead_letter WHERE state IN ('open', 'replay')"
        )
        limit = gc_limit(known.values(), self.board.tail.frontier, (ts for (ts,) in parked))
        if not limit:
            return
        tables = await session.query("SELECT digest FROM meshnode.tables")
        for (digest,) in tables:
            table = f"meshnode.`t_{digest}`"
            found = await session.query(f"SELECT 1 FROM {table} WHERE _mesh_ts <= {limit} LIMIT 1")
            if not found:
                continue
            await session.query(
                f"UPDATE meshnode.member SET gc_limit = GREATEST(gc_limit, {limit})"
            )
            while True:
                await session.query(
                    f"DELETE FROM {table} WHERE _mesh_ts <= {limit} LIMIT {CHUNK_ROWS}"
                )
                self.board.counts["gc_tombstones"] += session.found
                if session.found < CHUNK_ROWS:
                    break
                await asyncio.sleep(0)

    async def forget_records(self, session: Session) -> None:
        """Delete closed letters and conflict records beyond their time, in chunks."""
        days = self.view.now.limits.keep_closed_days
        for statement in (
            "DELETE FROM meshnode.conflict_log"
            f" WHERE at < UTC_TIMESTAMP() - INTERVAL {days} DAY LIMIT {CHUNK_ROWS}",
            "DELETE FROM meshnode.dead_letter WHERE state = 'closed'"
            f" AND closed_at < UTC_TIMESTAMP() - INTERVAL {days} DAY LIMIT {CHUNK_ROWS}",
        ):
            await session.query(statement)

    async def retain(self) -> None:
        """Let the bus forget what every member has applied of the own stream."""
        if self.board.raising or not self.board.tail.position:
            return
        members = [peer.id for peer in self.view.now.peers(self.region.name)]
        applied = [self.board.acknowledged.get(member) for member in members]
        await self.writer.retain(applied, time.time())
