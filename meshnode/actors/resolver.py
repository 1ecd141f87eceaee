"""The resolver: works off beside the stream what was held back from it.

Keys whose row was locked when it had to be lifted (``mend``) are tried again until
the lock is gone; dead letters that an operator wants replayed go through the ordinary
decision; letters whose key has been overtaken are closed; those that wait for a unique
value to become free are tried again.
"""

import asyncio
from collections.abc import Callable, Sequence

from meshnode.actors.board import Board
from meshnode.actors.kernel import Actor
from meshnode.actors.replay import Replay
from meshnode.actors.taken import Taken
from meshnode.actors.watcher import View
from meshnode.core.mend import Fate, LateTombstone, Lift
from meshnode.core.stamp import ZERO
from meshnode.errors import Busy
from meshnode.store.port import Resolving, Store

ROUND_SECONDS = 1.0
CLOSE_EVERY = 10
"""Rounds between two looks for letters that have been overtaken."""
KEYS_A_ROUND = 500


class Resolver(Actor):
    """Works off what waits in ``store``."""

    def __init__(self, view: View, store: Store, board: Board) -> None:
        super().__init__("resolver")
        self.view = view
        self.store = store
        self.board = board
        # Kept over a restart: what changes meanwhile, or before the first look, counts too.
        self.definitions: object = None

    async def run(self) -> None:
        """Make a round every second."""
        await self.board.claimed()
        async with self.store.resolving(self.board.restamped) as session:
            await self._run(session)

    async def _run(self, session: Resolving) -> None:
        board = self.board
        letters = Replay(session, board, self.view)
        taken = Taken(letters, board)
        self.running()
        rounds = 0
        while True:
            # The tailer sees a definition change too, but it may lag.  First, because what
            # waits in `mend` may halt the round.
            now = await session.definitions()
            if now != self.definitions:
                board.definitions += 1
                self.definitions = now
            if board.format:
                lifted, overtaken = await mend(session, board.format, lambda: board.promised)
                board.counts["lifts"] += lifted
                board.counts["mended"] += lifted
                board.counts["overtaken"] += overtaken
            closed = await letters.replay()
            if rounds % CLOSE_EVERY == 0:
                closed += await letters.close_overtaken()
            await taken.round(closed)
            rounds += 1
            await asyncio.sleep(ROUND_SECONDS)


async def mend(session: Resolving, fde: bytes, promised: Callable[[], int]) -> tuple[int, int]:
    """Try every held-back key once; how many were lifted and how many overtaken."""
    entries = await session.waiting(KEYS_A_ROUND)
    if not entries:
        return 0, 0
    await session.forget([each for each in entries if each.work is None])
    lifts = [each.work for each in entries if isinstance(each.work, Lift)]
    late = {each.work: each for each in entries if isinstance(each.work, LateTombstone)}
    await session.learn(
        [(work.table, work.key) for work in (*lifts, *late) if work.table.folds is not None]
    )
    # A late tombstone may have to wait on when the row is free already.
    above = {(each.table.digest, each.key): each.stamp for each in late}
    for lift in lifts:
        lift.above = above.get((lift.table.digest, lift.key), ZERO)
    buried, below = await _bury(session, list(late), fde, promised)
    await session.forget([late[each] for each in buried])
    # What is settled takes its entry out itself.
    await session.lift(lifts, fde, promised, hold=False)
    lifted = sum(lift.fate is Fate.LIFTED for lift in (*lifts, *below))
    return lifted, sum(lift.fate is Fate.OVERTAKEN for lift in lifts)


async def _bury(
    session: Resolving, late: Sequence[LateTombstone], fde: bytes, promised: Callable[[], int]
) -> tuple[Sequence[LateTombstone], Sequence[Lift]]:
    """Write late tombstones whose lock is gone, and lift the rows that stand below them.

    Those that are done with, and the lifts.
    """
    locked = await session.bury(late, fde)
    buried = [each for each in late if each not in locked]
    try:
        below = await session.rows_below(buried)
    except Busy:
        return [], []
    await session.lift(below, fde, promised)
    return buried, below
