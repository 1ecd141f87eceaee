"""The loop of an applier: batch after batch of one stream, until something fails.

Theory of operation.  A batch is as many whole items as are waiting.  One of runs goes the
straight way first (`meshnode.actors.straight`); what cannot is taken apart into its items.
Everything else goes the long way: one transaction for a batch (`meshnode.actors.writing`).
When something is in the way it is rolled back, and the same steps are tried again with more
knowledge or patience, which `Effort` keeps: a surprise brings a deeper look, a lock halves
the batch until a single item is left that may wait for it, a row that cannot stand halves it
too, and in a single item is found and parked.  What has gone in leaves ``pending``, so an error
that ends the loop loses nothing: a new start reads ``meshnode.applied`` and goes on from there.
"""

import asyncio
import logging
import time
from collections import deque
from functools import partial
from itertools import islice

from meshnode.actors.batching import next_batch
from meshnode.actors.effort import Effort
from meshnode.actors.intake import RUN_ROWS, Huge, Intake, Ready, parts_of, tables_of
from meshnode.actors.kernel import State, within
from meshnode.actors.observer import observed
from meshnode.actors.parking import apply_parking, apply_part
from meshnode.actors.patience import PatientReader
from meshnode.actors.pauses import hold
from meshnode.actors.straight import StraightWay
from meshnode.actors.tally import Tally
from meshnode.actors.watcher import View
from meshnode.actors.writing import PeerWriter
from meshnode.bus.port import Bus
from meshnode.core import check
from meshnode.core.plan import Plan, Work
from meshnode.errors import Busy, Replan, Retry, RowError

KEEP_ALIVE_SECONDS = 10.0
"""An idle session says something to its server this often."""

SURPRISES = 20
"""Plans made anew for one batch before the stream starts again."""

PATIENT_SURPRISES = 5
"""After so many even an exact item is taken apart, in case the images do not fit the rows here."""

DUPLICATES = 2
"""Times that a duplicate key counts as a surprise before it counts as another unique key's."""

LONGEST_PAUSE = 0.5
"""Seconds between two tries at most: somebody waits for these rows."""


log = logging.getLogger("meshnode")


class ApplyLoop:
    """Applies with ``writer`` what ``intake`` reads; ``state`` is the applier's."""

    def __init__(
        self, view: View, bus: Bus, intake: Intake, writer: PeerWriter, state: State
    ) -> None:
        self.view = view
        self.bus = bus
        self.intake = intake
        self.writer = writer
        self.state = state
        self.region, self.peer, self.board = writer.region, writer.peer, writer.board
        self.session = writer.session
        self.straight = StraightWay(writer)
        self.inbox = intake.outbox
        self.pending: deque[Ready] = deque()
        self.effort = Effort()
        self._budget()

    async def run(self) -> None:
        """Apply batch after batch until something fails that a new try does not mend."""
        inbox, pending, effort = self.inbox, self.pending, self.effort
        while True:
            if not pending:
                await self._wait()
                self._budget()
                pending.extend(inbox.take(self.view.now.limits.batch_bytes))
            await hold(self.board, self.peer, self.region.name, self.state, self.session)
            batch = next_batch(pending, effort.items, self.view.now.limits.batch_rows)
            if effort.avoided:
                batch = self._unsuspected(batch)
            if any(ready.segments for ready in batch):
                following = partial(self._following, len(batch))
                if not effort.aside and await self.straight.take(batch, following):
                    self._done(batch)
                else:
                    self._take_apart(batch)
                continue
            try:
                with observed(self.writer.progress.observer, batch):
                    await self._try(batch)
            except Busy as error:
                await self.session.rollback()
                self.board.counts["busy"] += 1
                if len(batch) > 1:
                    effort.items = max(1, len(batch) // 2)
                else:
                    self.state.set("running", f"waits for a row lock: {error.what}")
                    if self.writer.begun:
                        effort.locked(time.monotonic())
                    await self._pause()
            except Replan:
                await self.session.rollback()
                self.board.counts["replans"] += 1
                effort.deep = True
                effort.surprises += 1
                effort.split = effort.surprises > PATIENT_SURPRISES
                if effort.surprises > SURPRISES:
                    raise
                await self._pause()
            except RowError as error:
                await self.session.rollback()
                self._row_error(batch, error)
            except Retry as error:
                await self.session.rollback()
                if self.session.closed:
                    raise
                self.board.counts["retries"] += 1
                self._failed(batch, error)
                effort.items = max(1, len(batch) // 2)
                await self._pause()
            else:
                self._done(batch)

    def _budget(self) -> None:
        """The topology may have changed."""
        limits = self.view.now.limits
        self.inbox.capacity = 2 * limits.batch_bytes
        self.intake.run_rows = min(RUN_ROWS, limits.batch_rows)

    async def _wait(self) -> None:
        """Wait for the next step; the server ends sessions that say nothing meanwhile."""
        while not len(self.inbox):
            if not await within(KEEP_ALIVE_SECONDS, self.inbox.wait()):
                await self.session.keep_alive()

    def _following(self, taken: int) -> list[Ready]:
        """The batch behind the first ``taken`` steps, as far as it has come in."""
        limits, pending = self.view.now.limits, self.pending
        if len(pending) == taken:
            pending.extend(self.inbox.take(limits.batch_bytes))
        return next_batch(islice(pending, taken, None), self.effort.items, limits.batch_rows)

    def _unsuspected(self, batch: list[Ready]) -> list[Ready]:
        """``batch`` up to the first step that may meet a lock that was just waited for in vain.

        That one is tried by itself, and what is still locked is set aside at once.
        """
        effort = self.effort
        for place, ready in enumerate(batch):
            if effort.avoided.suspects(ready.used):
                if not place:
                    effort.park = effort.aside = True
                return batch[: place or 1]
        return batch

    def _take_apart(self, batch: list[Ready]) -> None:
        """Put the items of the runs of ``batch`` in their place: they go the long way."""
        for _ in batch:
            self.pending.popleft()
        for ready in reversed(batch):
            steps = [ready] if ready.segments is None else self.intake.taken_apart(ready)
            self.pending.extendleft(reversed(steps))

    def _done(self, batch: list[Ready]) -> None:
        for _ in batch:
            self.pending.popleft()
        self.writer.moved(batch)
        self.effort.reset()
        self.effort.grow()
        if not self.intake.failing:
            self.state.set("running")

    def _row_error(self, batch: list[Ready], error: RowError) -> None:
        """A row does not go in: look again, halve, reorder, and at last park it.

        Parking is a try like the others: it may meet a lock or a surprise, too.
        """
        effort = self.effort
        self.board.counts["row_errors"] += 1
        if error.duplicate and effort.duplicates < DUPLICATES:
            effort.duplicates += 1
            effort.deep = True
        elif len(batch) > 1:
            effort.items = max(1, len(batch) // 2)
            effort.duplicates = 0
        elif error.duplicate and not effort.split:
            effort.split = True
        elif effort.park:
            raise error
        else:
            effort.park, effort.items = True, 1

    def _failed(self, batch: list[Ready], error: Retry) -> None:
        """Show ``error``, as a halt where a single item meets the same again and again."""
        if not (self.effort.failed(error.code) and len(batch) == 1):
            self.state.set("running", f"tries again: {error.what}")
            return
        remedy = "remove what MySQL names: the row may not fit an index of this table here; it is "
        remedy += "tried again by itself"
        if self.state.halted(error.what, remedy, again=self.state.state == "halted"):
            log.error("%s halted: %s; remedy: %s", self.state.name, error.what, remedy)

    async def _pause(self) -> None:
        await asyncio.sleep(self.effort.pause)
        self.effort.pause = min(self.effort.pause * 2, LONGEST_PAUSE)

    async def _try(self, batch: list[Ready]) -> None:
        """One whole try at ``batch``: everything or an error."""
        if batch[0].refusal is not None:
            raise batch[0].refusal
        if batch[0].huge is not None:
            await self._try_huge(batch, batch[0].huge)
            return
        works = await self._works(batch)
        if works and self.effort.park:
            await self._park(batch[0], *works)
            return
        format_bytes = next((ready.format for ready in batch if ready.format), b"")
        await self.writer.begin(batch, format_bytes if works else b"")
        if works:
            tally = Tally(len(works))
            tally.add(await self._write(works))
            await self._commit(tally)
        else:
            await self.writer.commit()

    async def _write(self, works: list[Work]) -> Plan:
        effort = self.effort
        return await self.writer.write(
            works, deep=effort.deep, wait=effort.wait, split=effort.split
        )

    async def _commit(self, tally: Tally) -> None:
        tally.remember(self.board.ancestry)
        await self.writer.commit()
        tally.count(self.board, self.writer.progress)

    async def _works(self, batch: list[Ready]) -> list[Work]:
        works: list[Work] = []
        wanted: set = set()
        name, fitting = self.peer.name, self.writer.fitting
        # All at once: a change of definitions between two would forget what the first taught.
        await fitting.require(
            dict.fromkeys(
                table
                for ready in batch
                if ready.item is not None and ready.item.entries
                for table in ready.used
            )
        )
        for ready in batch:
            if ready.item is not None and ready.item.entries and ready.incoming is None:
                wanted |= check.keys(ready.item, ready.tables, ready.scanned, name)
        if wanted:
            await self.session.learn(wanted)
        for ready in batch:
            item = ready.item
            if item is not None and item.entries:
                incoming = ready.incoming
                if incoming is None:
                    incoming = check.check(item, ready.tables, ready.scanned, name)
                works.append(Work(item, ready.scanned, incoming))
        return works

    async def _try_huge(self, batch: list[Ready], huge: Huge) -> None:
        """A transaction in parts: all in one local transaction, one part in memory at a time."""
        effort, name = self.effort, self.peer.name
        await self.writer.begin(batch, batch[0].format)
        tally = Tally(1)
        # A reader of its own: the intake waits in the other one for what comes next.
        reader = PatientReader(self.bus.reader(name), self.session.keep_alive)
        try:
            async for item, tables in parts_of(huge, self.intake.stream, reader):
                await self.writer.fitting.require(tables_of(item, tables))
                if effort.fresh:
                    segments = await self.straight.take_part(item, tables)
                    if segments:
                        tally.add_straight(segments)
                        continue
                scanned = check.scan(item, tables, name)
                wanted = check.keys(item, tables, scanned, name)
                if wanted:
                    await self.session.learn(wanted)
                incoming = check.check(item, tables, scanned, name)
                work = Work(item, scanned, incoming)
                if effort.park:
                    await apply_part(self.writer, work, effort, batch[0].format, tally)
                else:
                    tally.add(await self._write([work]))
        finally:
            await reader.close()
        await self._commit(tally)

    async def _park(self, ready: Ready, work: Work) -> None:
        """Apply a single item but for the rows that cannot stand here, which are parked.

        So are rows that clients hold locked, if it is time not to wait for them any more.
        """
        await self.writer.begin([ready], ready.format)
        tally = Tally(1)
        await apply_parking(self.writer, work, self.effort, ready.format, tally)
        await self._commit(tally)
