"""Rows that were parked because of a unique value, tried again: it may be free by now.

Theory of operation.  Streams are not ordered among each other.  A value that one region frees may
be taken in a second one, and a third one may hear of the second first: there the row has no
place until the first one's stream has come as far.  It has when every peer's frontier is past the
row's stamp; so that is when the row is tried, and whenever one more is parked or another letter
has closed, which may be the very one that frees the value.  Besides, it is tried ever more
rarely, because a client may free the value too.

A row whose value is truly another's stays parked, and nothing is written for a try in vain.
"""

import time

from meshnode.actors.board import Board
from meshnode.actors.replay import Replay

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 300.0
"""Between two passes through all such letters, while nothing happens."""

LETTERS_A_ROUND = 20


class Taken:
    """Goes through the letters that were parked because of a unique value, with ``replay``."""

    def __init__(self, replay: Replay, board: Board) -> None:
        self.replay = replay
        self.board = board
        self._parked = 0
        self._early = 0
        """The least time of those that were tried before all frontiers had passed it; 0: none."""
        self._after = 0
        """Where the present pass is; 0 between two."""
        self._soon()

    async def round(self, closed: int) -> int:
        """Try some if it is time; how many closed.  ``closed``: other letters since the last."""
        passed = min((peer.frontier for peer in self.board.peers.values()), default=0)
        parked = self.board.counts["parked"]
        if closed or parked != self._parked or 0 < self._early <= passed:
            self._soon()
        self._parked = parked
        now = time.monotonic()
        if not self._after:
            if now < self._due:
                return 0
            self._due = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_SECONDS)
            self._early = 0
        letters = await self.replay.session.taken(LETTERS_A_ROUND, self._after)
        self._after = letters[-1].number if len(letters) == LETTERS_A_ROUND else 0
        times = [each.entry.stamp.ts for each in letters if each.entry is not None]
        if self._early:
            times.append(self._early)
        self._early = min((ts for ts in times if ts > passed), default=0)
        found = await self.replay.again(letters)
        if found:
            self._soon()
        return found

    def _soon(self) -> None:
        """Something has changed: the next pass begins at once."""
        self._due = 0.0
        self._pause = FIRST_SECONDS
