"""The resolver: works off beside the stream what was held back from it.

Keys whose row was locked when it had to be lifted (``meshnode.mend``) are tried
again until the lock is gone; dead letters that an operator wants replayed go
through the ordinary decision; letters whose key has been overtaken are closed.
"""

import asyncio

from meshnode.accounts import Account
from meshnode.actors.board import Board
from meshnode.actors.kernel import Actor
from meshnode.actors.sessions import session_of
from meshnode.actors.watcher import View
from meshnode.mysql.leftovers import Leftovers
from meshnode.mysql.lookup import read_collations
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.session import Session
from meshnode.topology import Region

ROUND_SECONDS = 1.0
CLOSE_EVERY = 10
"""Rounds between two looks for letters that have been overtaken."""


class Resolver(Actor):
    """Works off mend rows and dead letters of ``region``."""

    def __init__(self, view: View, region: Region, login: Account, board: Board) -> None:
        super().__init__("resolver")
        self.view = view
        self.region = region
        self.login = login
        self.board = board
        # Kept over a restart: what changes meanwhile, or before the first look, counts too.
        self.definitions: object = None

    async def run(self) -> None:
        """Make a round every second."""
        await self.board.claimed()
        async with session_of(self.region, self.login, "resolver", self.board) as session:
            await self._run(session)

    async def _run(self, session: Session) -> None:
        lookups = Lookups(await read_collations(session))
        max_packet = int(str(await session.value("SELECT @@max_allowed_packet")))
        leftovers = Leftovers(
            session, self.region.id, lookups, self.board.ancestry, self.board.restamped, max_packet
        )
        self.running()
        rounds = 0
        board = self.board
        while True:
            if board.format:
                lifted, overtaken = await leftovers.mend(board.format, lambda: board.promised)
                board.counts["lifts"] += lifted
                board.counts["mended"] += lifted
                board.counts["overtaken"] += overtaken
            # The tailer sees a definition change too, but it may lag.
            now = await leftovers.definitions()
            if now != self.definitions:
                board.definitions += 1
                self.definitions = now
            await leftovers.replay(lambda: board.epoch, self.view.now.matches)
            if rounds % CLOSE_EVERY == 0:
                await leftovers.close_overtaken()
            rounds += 1
            await asyncio.sleep(ROUND_SECONDS)
