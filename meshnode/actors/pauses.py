"""Pauses: peers whose stream an operator holds, and where the applier waits meanwhile.

Theory of operation.  A pause is a row of ``meshnode.paused``, so it outlives the node and
may be made while the node is away.  An applier reads the table when it starts, and
the board keeps what was read; the census reads it again every second, and the ops port
puts its own changes on the board at once.  The applier asks between two batches
only: what is under way is finished, and no lock is held while it waits.
"""

import asyncio
from typing import TYPE_CHECKING

from meshnode.actors.kernel import within
from meshnode.store.port import Session
from meshnode.store.values import Pause

if TYPE_CHECKING:
    from meshnode.actors.board import Board
    from meshnode.actors.kernel import State
    from meshnode.topology import Region

LOOK_SECONDS = 1.0


class Pauses:
    """Which peers are paused at this moment, by region id."""

    def __init__(self) -> None:
        self.now: dict[int, Pause] = {}
        self._changed = asyncio.Event()
        self._taken = 0

    async def refresh(self, session: Session) -> None:
        """Read the table, unless somebody takes over what it says in the meantime."""
        taken = self._taken
        found = await session.pauses()
        # What was read before a change was committed must not undo it here.
        if taken == self._taken:
            self.replace(found)

    def replace(self, found: dict[int, Pause]) -> None:
        """Take over what the table says; who waits looks again if it differs."""
        self._taken += 1
        if found != self.now:
            self.now = found
            self._changed.set()
            self._changed = asyncio.Event()

    async def changed(self, seconds: float) -> None:
        """Wait until something changes, at most so long."""
        await within(seconds, self._changed.wait())


async def hold(board: "Board", peer: "Region", own: str, state: "State", session: Session) -> None:
    """Return when ``peer`` is not paused; to be called between two batches.

    ``own`` is the name of this region, ``state`` the applier's.
    """
    paused = False
    while (pause := board.pauses.now.get(peer.id)) is not None:
        paused = True
        because = f": {pause.reason}" if pause.reason else ""
        state.set(
            "paused", f"by an operator{because}", f"meshnode resume {peer.name} --region {own}"
        )
        # The operator's moment, not that of the last start.
        state.since = pause.since
        await board.pauses.changed(LOOK_SECONDS)
        await session.keep_alive()
    if paused:
        state.set("running")
