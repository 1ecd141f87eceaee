"""The straight way of a batch: runs whose every row stands at its base.

Bulk loads and quiet streams are nothing else, and on this way they cost a
fraction (:mod:`meshnode.core.runs`).  It is only ever tried: whatever is in its way,
a lock, a conflict, a row that cannot stand, the transaction is rolled back and the
same items go the long way, which knows what to do.

The statements of the next batch are made while the server writes this one.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import is_

from meshnode.actors.intake import Ready
from meshnode.actors.tally import Tally
from meshnode.actors.writing import PeerWriter
from meshnode.core.change import Table
from meshnode.core.runs import Segment, eligible, prove, touched
from meshnode.core.wire import UPDATE, Item
from meshnode.errors import Halt, Replan, Retry, RowError
from meshnode.faultpoints import fault, sending

LEAST_ROWS = 50
"""A batch of fewer rows saves nothing."""

LONGEST_DETOUR = 64
"""Batches that go the long way after failures before the straight one is tried again."""


class StraightWay:
    """Takes batches straight where that is possible."""

    def __init__(self, writer: PeerWriter) -> None:
        self.writer = writer
        self._detour = 0
        self._left = 0
        self._ahead: _Prepared | None = None

    async def take(self, batch: Sequence[Ready], following: Callable[[], Sequence[Ready]]) -> bool:
        """Apply and commit ``batch``; False if that was not possible and nothing is left of it.

        ``following`` tells the batch that will be next if this one goes straight.
        """
        if self._left and _segments(batch):
            self._left -= 1
            return False
        prepared = self._prepared(batch)
        if prepared is None:
            return False
        writer = self.writer
        segments = prepared.segments
        await writer.fitting.require(dict.fromkeys(segment.table for segment in segments))
        if self._unfit(segments):
            return False
        asyncio.get_running_loop().call_soon(self._prepare_ahead, following)
        try:
            writer.progress.observer.begun(batch)
            writer.progress.observer.decided()
            done = await self._write(batch, prepared)
        except (Retry, RowError):
            await writer.session.rollback()
            if writer.session.closed:
                raise
            done = False
        if done:
            self._detour = 0
        else:
            writer.board.counts["detours"] += 1
            self._left = self._detour = min(2 * self._detour + 1, LONGEST_DETOUR)
            self._ahead = None
        return done

    async def take_part(self, item: Item, tables: list[Table]) -> list[Segment]:
        """Write a part of a huge transaction in the open one; [] if nothing is left of it.

        Its tables must have been found to fit.  Raises Busy and other errors of the store.
        """
        segments = prove([item], tables) if eligible(item, tables) else None
        statements = self._statements(segments) if segments else None
        if segments is None or statements is None or self._unfit(segments):
            return []
        session = self.writer.session
        await session.save("part")
        try:
            await session.straight(statements, None)
        except (Replan, RowError):
            await session.back_to("part")
            self.writer.board.counts["detours"] += 1
            return []
        fault("straight.part")
        return segments

    def _prepared(self, batch: Sequence[Ready]) -> "_Prepared | None":
        """What is to be sent for ``batch``, made ahead or now; None if it cannot go straight."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.is_for(batch):
            return ahead
        segments = _segments(batch)
        statements = self._statements(segments) if segments else None
        if segments is None or statements is None:
            return None
        return _Prepared(batch, segments, statements)

    def _prepare_ahead(self, following: Callable[[], Sequence[Ready]]) -> None:
        """Use the time in which the server writes."""
        if self._ahead is None and not self._left:
            self._ahead = self._prepared(following())

    def _statements(self, segments: list[Segment]) -> object | None:
        """What `straight` takes; None if these runs cannot go that way."""
        tables = touched(segments)
        if tables is None:
            return None
        try:
            return self.writer.session.prepare(segments, tables)
        except (RowError, Halt):
            # The long way says what is wrong.
            return None

    def _unfit(self, segments: list[Segment]) -> bool:
        """Whether tables have more columns here, which an update would leave as they are."""
        wide = self.writer.fitting.wide
        return any(each.table in wide and each.kind == UPDATE for each in segments)

    async def _write(self, batch: Sequence[Ready], prepared: "_Prepared") -> bool:
        writer = self.writer
        format_bytes = next(ready.format for ready in batch if ready.format)
        opening = format_bytes, writer.fence(batch)
        if not await writer.session.straight(prepared.statements, opening):
            # The long way finds out why.
            await writer.session.rollback()
            return False
        tally = Tally(sum(len(ready.items) for ready in batch))
        tally.add_straight(prepared.segments)
        tally.remember(writer.board.ancestry)
        fault("straight.written")
        await sending("straight.commit.sent", writer.session.commit())
        fault("straight.committed")
        tally.count(writer.board, writer.progress)
        return True


@dataclass(slots=True, eq=False)
class _Prepared:
    """A batch and all that is to be sent for it."""

    batch: Sequence[Ready]
    segments: list[Segment]
    statements: object

    def is_for(self, batch: Sequence[Ready]) -> bool:
        """Whether it was made of just these steps."""
        return len(batch) == len(self.batch) and all(map(is_, batch, self.batch))


def _segments(batch: Sequence[Ready]) -> list[Segment] | None:
    """The segments of a batch that is nothing but runs and marks, if it is worth it."""
    if any(ready.item is not None and ready.item.entries for ready in batch):
        return None
    segments = [segment for ready in batch for segment in ready.segments or ()]
    if sum(len(segment.keys) for segment in segments) < LEAST_ROWS:
        return None
    return segments
