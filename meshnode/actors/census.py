"""The census: asks MySQL what only MySQL can count, and puts it on the board.

Metrics and the ops port answer from the board alone, so that no scrape ever waits
for a server.  The census has a session of its own: counting a long table delays
neither the heart nor a stream.  It is also how a pause that was written into
``meshnode.paused`` by hand or from the command line comes to be known.
"""

import asyncio

from meshnode.actors.board import Board, Census
from meshnode.actors.kernel import Actor
from meshnode.store.port import Counting, Store
from meshnode.topology import Region

ROUND_SECONDS = 1.0

COUNT_EVERY = 5
"""Rounds between two counts of letters and rows to mend."""

ESTIMATE_EVERY = 30
"""Rounds between two looks at MySQL's estimates of the tombstones."""


class CensusTaker(Actor):
    """Takes the census of ``region``; shown as ``census``."""

    def __init__(self, region: Region, store: Store, board: Board) -> None:
        super().__init__("census")
        self.region = region
        self.store = store
        self.board = board

    async def run(self) -> None:
        """Read the pauses every second, and count now and then."""
        await self.board.claimed()
        async with self.store.counting() as session:
            rounds = 0
            while True:
                await self.board.pauses.refresh(session)
                if rounds % COUNT_EVERY == 0:
                    await self.count(session)
                if rounds % ESTIMATE_EVERY == 0:
                    await self.estimate(session)
                self.running()
                rounds += 1
                await asyncio.sleep(ROUND_SECONDS)

    async def count(self, session: Counting) -> None:
        """Letters that are not closed, and keys that wait to be mended."""
        letters = dict.fromkeys(("open", "replay", "skipped"), 0)
        parked: dict[str, int] = {}
        stamps = []
        for state, table, count, least in await session.letters():
            letters[state] += count
            if table is not None and state != "skipped":
                parked[table] = parked.get(table, 0) + count
                stamps.append(least)
        mend = await session.waiting()
        former = self.board.census
        self.board.census = Census(
            letters, parked, min(stamps, default=None), mend, former.tombstones
        )

    async def estimate(self, session: Counting) -> None:
        """How many tombstones there are, as InnoDB estimates it: no table is read through."""
        self.board.census.tombstones = await session.tombstones()
