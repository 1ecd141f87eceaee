"""The settings of the region's server, looked at while the node runs: the doctor sees the start.

Anybody may change them at any time.  While one is as the doctor would refuse it, this actor is
shown as halted, with the reason; it goes on looking.  While commits would not outlive a crash
nothing is published: the publisher waits at the :class:`~meshnode.actors.hold.Hold` between
two frames, heartbeats and all, so that peers notice, too.

Settings that are right again do not make durable what was committed before.  The next commit
does, with everything before it, so the hold ends when the heart has committed a beat that it
began after they were seen to be right.  Between a change and the look that finds it, about a
second, frames still go out.  Without a session nobody knows, and nothing goes out either.
"""

import asyncio
import logging

from meshnode.actors.board import Board
from meshnode.actors.kernel import Actor
from meshnode.core.settings import SETTINGS, Unfit, unfit
from meshnode.store.port import Counting, Store

ROUND_SECONDS = 1.0

BEATS = 2
"""Of two beats that are committed one after the other the second began after the first."""

NAMES = tuple(setting.variable for setting in SETTINGS)

log = logging.getLogger("meshnode")


class SettingsGuard(Actor):
    """Watches the settings of the region's server; shown as ``settings``.

    With ``lab`` missing durability is only logged.
    """

    def __init__(self, store: Store, board: Board, lab: bool) -> None:
        super().__init__("settings")
        self.store = store
        self.board = board
        self.lab = lab
        self.warned: list[str] = []
        self.beats: list[int] = []
        board.hold.close()

    async def run(self) -> None:
        """Look every second."""
        await self.board.claimed()
        try:
            async with self.store.counting() as session:
                while True:
                    await self.look(session)
                    await asyncio.sleep(ROUND_SECONDS)
        finally:
            self.beats = []
            self.board.hold.close()

    async def look(self, session: Counting) -> None:
        """One look; what is wrong is shown."""
        found = self._allowed(session.server, unfit(await session.settings(NAMES)))
        lost = [each for each in found if each.setting.durable]
        if lost:
            self.beats = []
            self.board.hold.close("; ".join(map(str, lost)))
        elif not self.board.hold.reason or self._flushed():
            self.board.hold.open()
        if found:
            self._halted(session.server, found)
        elif not self.board.hold.closed:
            self.running()

    def _halted(self, server: str, found: list[Unfit]) -> None:
        what = f"{server}: " + "; ".join(map(str, found))
        if self.board.hold.closed:
            what += "; nothing is published meanwhile"
        remedy = "; ".join(each.setting.remedy for each in found)
        remedy += "; the node goes on by itself then"
        if self.state.halted(what, remedy, again=self.state.state == "halted"):
            log.error("%s halted: %s; remedy: %s", self.name, what, remedy)

    def _allowed(self, server: str, found: list[Unfit]) -> list[Unfit]:
        """What of it the doctor would refuse; what it would only warn of is logged once."""
        if not self.lab:
            return found
        warned = [str(each) for each in found if each.setting.durable]
        if warned and warned != self.warned:
            log.warning("allowed in a lab only: %s: %s", server, "; ".join(warned))
        self.warned = warned
        return [each for each in found if not each.setting.durable]

    def _flushed(self) -> bool:
        """Whether a beat was begun and committed since the first look that found all well."""
        beat = self.board.beat_us
        if beat not in self.beats[-1:]:
            self.beats.append(beat)
        return len(self.beats) > BEATS
