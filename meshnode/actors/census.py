"""The census: asks MySQL what only MySQL can count, and puts it on the board.

Metrics and the ops port answer from the board alone, so that no scrape ever waits
for a server.  The census has a session of its own: counting a long table delays
neither the heart nor a stream.  It is also how a pause that was written into
``meshnode.paused`` by hand or from the command line comes to be known.
"""

import asyncio

from meshnode.accounts import Account
from meshnode.actors.board import Board, Census
from meshnode.actors.kernel import Actor
from meshnode.actors.sessions import session_of
from meshnode.mysql.session import Session
from meshnode.topology import Region

ROUND_SECONDS = 1.0

COUNT_EVERY = 5
"""Rounds between two counts of letters and rows to mend."""

ESTIMATE_EVERY = 30
"""Rounds between two looks at MySQL's estimates of the tombstones."""

_LETTERS = (
    "SELECT state, schema_name, table_name, COUNT(*), MIN(ts) FROM meshnode.dead_letter"
    " WHERE state IN ('open', 'replay', 'skipped') GROUP BY state, schema_name, table_name"
)
_TOMBSTONES = (
    "SELECT t.schema_name, t.table_name, i.TABLE_ROWS FROM meshnode.tables t"
    " JOIN information_schema.TABLES i"
    " ON i.TABLE_SCHEMA = 'meshnode' AND i.TABLE_NAME = CONCAT('t_', t.digest)"
)


class Taker(Actor):
    """Takes the census of ``region``; shown as ``census``."""

    def __init__(self, region: Region, login: Account, board: Board) -> None:
        super().__init__("census")
        self.region = region
        self.login = login
        self.board = board

    async def run(self) -> None:
        """Read the pauses every second, and count now and then."""
        await self.board.claimed()
        async with session_of(self.region, self.login, self.name, self.board) as session:
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

    async def count(self, session: Session) -> None:
        """Letters that are not closed, and keys that wait to be mended."""
        letters = dict.fromkeys(("open", "replay", "skipped"), 0)
        parked: dict[str, int] = {}
        stamps = []
        for state, schema, table, count, ts in await session.query(_LETTERS):
            letters[str(state)] += count
            if table is not None and state != "skipped":
                name = f"{schema}.{table}"
                parked[name] = parked.get(name, 0) + count
                stamps.append(ts)
        mend = int(str(await session.value("SELECT COUNT(*) FROM meshnode.mend")))
        former = self.board.census
        self.board.census = Census(
            letters, parked, min(stamps, default=None), mend, former.tombstones
        )

    async def estimate(self, session: Session) -> None:
        """How many tombstones there are, as InnoDB estimates it: no table is read through."""
        rows = await session.query(_TOMBSTONES)
        self.board.census.tombstones = {
            f"{schema}.{table}": int(count or 0) for schema, table, count in rows
        }
