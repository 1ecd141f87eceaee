"""The straight way of a batch: runs whose every row stands at its base.

Bulk loads and quiet streams are nothing else, and on this way they cost a
fraction (:mod:`meshnode.core.runs`).  It is only ever tried: whatever is in its way,
a lock, a conflict, a row that cannot stand, the transaction is rolled back and the
same items go the long way, which knows what to do.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshnode.actors.intake import Ready
from meshnode.actors.tally import Tally
from meshnode.core.change import Table
from meshnode.core.runs import Segment, eligible, prove, touched
from meshnode.core.wire import UPDATE, Item
from meshnode.errors import Replan, Retry
from meshnode.mysql.apply import set_format
from meshnode.mysql.applying import fence_statement
from meshnode.mysql.session import RowError, Session
from meshnode.mysql.straight import Straight

if TYPE_CHECKING:
    from meshnode.actors.applier import Applier

LEAST_ROWS = 50
"""A batch of fewer rows saves nothing."""

LONGEST_DETOUR = 64
"""Batches that go the long way after failures before the straight one is tried again."""


class StraightWay:
    """Takes the batches of ``applier`` straight where that is possible."""

    def __init__(self, applier: "Applier") -> None:
        self.applier = applier
        self._detour = 0
        self._left = 0

    async def take(self, session: Session, batch: Sequence[Ready]) -> bool:
        """Apply and commit ``batch``; False if that was not possible and nothing is left of it."""
        segments = _segments(batch)
        if segments is None:
            return False
        if self._left:
            self._left -= 1
            return False
        applier = self.applier
        await applier.fitting.require(dict.fromkeys(segment.table for segment in segments))
        straight = self._straight(segments)
        if straight is None:
            return False
        try:
            applier.progress.observer.begun(batch)
            applier.progress.observer.decided()
            done = await self._write(session, batch, straight)
        except (Retry, RowError):
            await applier.undo(session)
            if session.closed:
                raise
            done = False
        if done:
            self._detour = 0
            tally = Tally(sum(len(ready.items) for ready in batch))
            tally.add_straight(segments)
            tally.settle(applier.board, applier.progress)
        else:
            applier.board.counts["detours"] += 1
            self._left = self._detour = min(2 * self._detour + 1, LONGEST_DETOUR)
        return done

    async def take_part(self, session: Session, item: Item, tables: list[Table]) -> list[Segment]:
        """Write a part of a huge transaction in the open one; [] if nothing is left of it.

        Its tables must have been found to fit.  Raises Busy and other errors of the session.
        """
        segments = prove([item], tables) if eligible(item, tables) else None
        straight = self._straight(segments) if segments else None
        if straight is None:
            return []
        await session.query("SAVEPOINT part")
        try:
            await straight.write(session)
        except (Replan, RowError):
            await session.query("ROLLBACK TO SAVEPOINT part")
            self.applier.board.counts["detours"] += 1
            return []
        return segments

    def _straight(self, segments: list[Segment]) -> Straight | None:
        applier = self.applier
        tables = touched(segments)
        wide = applier.fitting.wide
        if tables is None or any(s.table in wide and s.kind == UPDATE for s in segments):
            return None
        return Straight(segments, tables, applier.lookups, applier.max_packet)

    async def _write(self, session: Session, batch: Sequence[Ready], straight: Straight) -> bool:
        applier = self.applier
        await set_format(session, next(ready.format for ready in batch if ready.format))
        fence = fence_statement(
            applier.peer.id,
            applier.incarnation,
            batch[-1].mark,
            applier.seq,
            applier.board.epoch,
        )
        _, fenced = await straight.write(session, [b"BEGIN", fence])
        if fenced.found != 1:
            # The long way finds out why.
            await applier.undo(session)
            return False
        await session.query("COMMIT")
        return True


def _segments(batch: Sequence[Ready]) -> list[Segment] | None:
    """The segments of a batch that is nothing but runs and marks, if it is worth it."""
    if any(ready.item is not None and ready.item.entries for ready in batch):
        return None
    segments = [segment for ready in batch for segment in ready.segments or ()]
    if sum(len(segment.keys) for segment in segments) < LEAST_ROWS:
        return None
    return segments
