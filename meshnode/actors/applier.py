"""The applier: writes one peer's transactions into the local MySQL.

A batch is as many whole items as are waiting.  When something is in the way the
same batch is tried again with more knowledge or patience: a surprise brings a
deeper look, a lock halves the batch until a single item is left that may wait
for it, a row that cannot stand halves it too, and in a single item is found and
parked.  A COMMIT whose answer was lost is settled by the row of
``meshnode.applied``: a new start reads it and goes on from there.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import islice

from meshnode.actors.batching import next_batch
from meshnode.actors.board import Board, PeerProgress
from meshnode.actors.effort import Effort
from meshnode.actors.fitting import Fitting
from meshnode.actors.intake import RUN_ROWS, Intake, Ready, TableCache, parts_of, tables_of
from meshnode.actors.kernel import Actor, Mailbox, together, within
from meshnode.actors.observer import observed
from meshnode.actors.parking import apply_parking, apply_part
from meshnode.actors.pauses import hold
from meshnode.actors.straight import StraightWay
from meshnode.actors.tally import Tally
from meshnode.actors.watcher import View
from meshnode.bus.port import Bus, BusReader
from meshnode.core import check
from meshnode.core.ledger import Ledger
from meshnode.core.plan import Plan, Work, make_plan
from meshnode.core.wire import Sender, decode
from meshnode.errors import Busy, Fenced, Halt, Replan, Retry, RowError
from meshnode.faultpoints import fault, sending
from meshnode.store.port import Applying, Store
from meshnode.store.values import Fence
from meshnode.topology import Region

KEEP_ALIVE_SECONDS = 10.0
"""An idle session says something to its server this often."""

SURPRISES = 20
"""Plans made anew for one batch before the stream starts again."""

PATIENT_SURPRISES = 5
"""After so many even an exact item is taken apart, in case the images do not fit the rows here."""

DUPLICATES = 2
"""Times that a duplicate key counts as a surprise before it counts as another unique key's."""


class Applier(Actor):
    """Applies the stream of ``peer`` in ``region``."""

    def __init__(
        self,
        view: View,
        region: Region,
        peer: Region,
        store: Store,
        bus: Bus,
        board: Board,
    ) -> None:
        super().__init__(f"applier {peer.name}")
        self.view = view
        self.region = region
        self.peer = peer
        self.store = store
        self.bus = bus
        self.board = board
        self.sender = Sender(view.now.mesh, peer.id, peer.name)
        self.progress = board.peers.setdefault(peer.id, PeerProgress())

    async def run(self) -> None:
        """Apply from the stored position on until something fails."""
        await self.board.claimed()
        async with self.store.applying(self.name) as applying:
            reader = self.bus.reader(self.peer.name)
            try:
                await self._run(applying, reader)
            finally:
                # Before the reader: the store lets go of the rows at once.
                applying.close()
                await reader.close()

    async def _run(self, applying: Applying, reader: BusReader) -> None:
        stored = await applying.progress(self.peer.id)
        if stored is None:
            raise Halt(
                f"{applying.server} has no row for {self.peer.name} in meshnode.applied",
                "run `meshnode init` for this region",
            )
        self.seq = stored.seq
        self.incarnation = stored.incarnation or await self._first_incarnation(reader)
        progress = self.progress
        progress.seq, progress.frontier = stored.seq, stored.frontier
        progress.heard_us, progress.commit_us = stored.heard_us, stored.commit_us
        progress.position = stored.position

        self.applying = applying
        self.fitting = Fitting(applying, self.view, self.board)
        self.straight = StraightWay(self)
        self.cache = TableCache()
        inbox: Mailbox[Ready] = Mailbox(1)
        await self.board.pauses.refresh(applying)
        ledger = Ledger(self.peer.name, self.incarnation, stored.seq, stored.stream_epoch)
        intake = self.intake = Intake(
            reader, self.sender, ledger, stored.position, self.cache, inbox, self.board, self.state
        )
        intake.heard_us, intake.heard_beat = stored.heard_us, stored.heard_beat
        intake.frontier = stored.frontier
        self._budget(inbox)
        self.board.queues["incoming", self.peer.name] = inbox
        self.running()
        await together(intake.run(), self._apply(inbox))

    async def _first_incarnation(self, reader: BusReader) -> int:
        """The incarnation of a stream that was never read: its first record says it."""
        self.state.set("waiting", f"{self.peer.name} has not published anything yet")
        records = await reader.read(b"", 1)
        return decode(records[0].payload, self.sender).incarnation

    async def _apply(self, inbox: Mailbox[Ready]) -> None:
        pending: deque[Ready] = deque()
        effort = Effort()
        while True:
            if not pending:
                await self._wait(inbox)
                self._budget(inbox)
                pending.extend(inbox.take(self.view.now.limits.batch_bytes))
            await hold(self.board, self.peer, self.region.name, self.state, self.applying)
            batch = next_batch(pending, effort.items, self.view.now.limits.batch_rows)
            if any(ready.segments for ready in batch):
                following = partial(self._following, pending, inbox, len(batch), effort)
                if await self.straight.take(batch, following):
                    self._done(pending, batch, effort)
                else:
                    self._take_apart(pending, batch)
                continue
            try:
                with observed(self.progress.observer, batch):
                    await self._try(batch, effort)
            except Busy as error:
                await self.applying.rollback()
                self.board.counts["busy"] += 1
                if len(batch) > 1:
                    effort.items = max(1, len(batch) // 2)
                else:
                    self.state.set("running", f"waits for a row lock: {error.what}")
                    effort.locked(time.monotonic())
                    await self._pause(effort)
            except Replan:
                await self.applying.rollback()
                self.board.counts["replans"] += 1
                effort.deep = True
                effort.surprises += 1
                effort.split = effort.surprises > PATIENT_SURPRISES
                if effort.surprises > SURPRISES:
                    raise
                await self._pause(effort)
            except RowError as error:
                await self.applying.rollback()
                self._row_error(batch, effort, error)
            except Retry as error:
                await self.applying.rollback()
                if self.applying.closed:
                    raise
                self.board.counts["retries"] += 1
                self.state.set("running", f"tries again: {error.what}")
                effort.items = max(1, len(batch) // 2)
                await self._pause(effort)
            else:
                self._done(pending, batch, effort)

    def _budget(self, inbox: Mailbox[Ready]) -> None:
        limits = self.view.now.limits
        inbox.capacity = 2 * limits.batch_bytes
        self.intake.run_rows = min(RUN_ROWS, limits.batch_rows)

    async def _wait(self, inbox: Mailbox[Ready]) -> None:
        """Wait for the next step; the server ends sessions that say nothing meanwhile."""
        while not len(inbox):
            if not await within(KEEP_ALIVE_SECONDS, inbox.wait()):
                await self.applying.keep_alive()

    def _following(
        self, pending: deque[Ready], inbox: Mailbox[Ready], taken: int, effort: Effort
    ) -> list[Ready]:
        """The batch behind the first ``taken`` steps, as far as it has come in."""
        limits = self.view.now.limits
        if len(pending) == taken:
            pending.extend(inbox.take(limits.batch_bytes))
        return next_batch(islice(pending, taken, None), effort.items, limits.batch_rows)

    def _take_apart(self, pending: deque[Ready], batch: list[Ready]) -> None:
        """Put the items of the runs of ``batch`` in their place: they go the long way."""
        for _ in batch:
            pending.popleft()
        for ready in reversed(batch):
            steps = [ready] if ready.segments is None else self.intake.taken_apart(ready)
            pending.extendleft(reversed(steps))

    def _done(self, pending: deque[Ready], batch: list[Ready], effort: Effort) -> None:
        for _ in batch:
            pending.popleft()
        mark = batch[-1].mark
        self.seq = mark.seq
        progress = self.progress
        progress.seq, progress.position = mark.seq, mark.position
        progress.frontier = max(progress.frontier, mark.frontier)
        progress.heard_us = mark.heard_us
        progress.commit_us = max(progress.commit_us, mark.commit_us)
        progress.batch(sum(ready.rows for ready in batch), sum(ready.size for ready in batch))
        effort.reset()
        effort.grow()
        if not self.intake.failing:
            self.state.set("running")

    def _row_error(self, batch: list[Ready], effort: Effort, error: RowError) -> None:
        """A row does not go in: look again, halve, reorder, and at last park it.

        Parking is a try like the others: it may meet a lock or a surprise, too.
        """
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

    async def _pause(self, effort: Effort) -> None:
        await asyncio.sleep(effort.pause)
        effort.pause = min(effort.pause * 2, 0.5)

    async def _try(self, batch: list[Ready], effort: Effort) -> None:
        """One whole try at ``batch``: everything or an error."""
        if batch[0].refusal is not None:
            raise batch[0].refusal
        if batch[0].huge is not None:
            await self._try_huge(batch, effort)
            return
        if effort.park:
            await self._park(batch[0], effort)
            return
        works = await self._works(batch)
        format_bytes = next((ready.format for ready in batch if ready.format), b"")
        await self._begin(batch, format_bytes if works else b"")
        if works:
            tally = Tally(len(works))
            tally.add(await self.write(works, effort))
            await self._commit()
            tally.settle(self.board, self.progress)
        else:
            await self._commit()

    async def _works(self, batch: list[Ready]) -> list[Work]:
        works: list[Work] = []
        wanted: set = set()
        name = self.peer.name
        # All at once: a change of definitions between two would forget what the first taught.
        await self.fitting.require(
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
            await self.applying.learn(wanted)
        for ready in batch:
            item = ready.item
            if item is not None and item.entries:
                incoming = ready.incoming
                if incoming is None:
                    incoming = check.check(item, ready.tables, ready.scanned, name)
                works.append(Work(item, ready.scanned, incoming))
        return works

    def fence(self, batch: Sequence[Ready]) -> Fence:
        """The first write of the transaction that applies ``batch``."""
        mark = batch[-1].mark
        return Fence(self.peer.id, self.incarnation, mark, self.seq, self.board.epoch)

    async def _begin(self, batch: list[Ready], format_bytes: bytes) -> None:
        if not await self.applying.begin(format_bytes, self.fence(batch)):
            await self._fenced()
        fault("applier.fenced")

    async def _commit(self) -> None:
        fault("applier.commit")
        await sending("applier.commit.sent", self.applying.commit())
        fault("applier.committed")

    async def _fenced(self) -> None:
        """The row of this stream is not as this process left it: find out why."""
        await self.applying.rollback()
        await asyncio.sleep(0.2)
        stored = await self.applying.progress(self.peer.id)
        board = self.board
        if stored is not None and stored.epoch > board.epoch and not board.raising:
            raise Fenced(
                f"region {self.region.name}: meshnode.applied has epoch {stored.epoch}, "
                f"this node {board.epoch}",
                "another node of this region took over: run only one",
            )
        self.applying.close()
        seq = None if stored is None else stored.seq
        raise Retry(f"meshnode.applied for {self.peer.name} moved to item {seq}: reading it again")

    async def write(self, works: list[Work], effort: Effort) -> Plan:
        """Steps 2 to 5 for ``works`` in the open transaction; what was done."""
        applying = self.applying
        state = await applying.lock(works, effort.deep, effort.wait)
        fault("applier.locked")
        plan = make_plan(works, state, self.board.ancestry, self.fitting.wide, effort.split)
        self.progress.observer.decided()
        images = await applying.standing(plan)
        await applying.write(plan)
        await applying.look(plan)
        await applying.record(plan, images, self.peer.id)
        return plan

    async def _try_huge(self, batch: list[Ready], effort: Effort) -> None:
        """A transaction in parts: all in one local transaction, one part in memory at a time."""
        huge = batch[0].huge
        await self._begin(batch, batch[0].format)
        tally = Tally(1)
        # A reader of its own: the intake waits in the other one for what comes next.
        reader = self.bus.reader(self.peer.name)
        try:
            async for item, tables in parts_of(
                huge, reader, self.sender, self.cache, self.incarnation
            ):
                await self.fitting.require(tables_of(item, tables))
                if effort.fresh:
                    segments = await self.straight.take_part(item, tables)
                    if segments:
                        tally.add_straight(segments)
                        continue
                scanned = check.scan(item, tables, self.peer.name)
                wanted = check.keys(item, tables, scanned, self.peer.name)
                if wanted:
                    await self.applying.learn(wanted)
                incoming = check.check(item, tables, scanned, self.peer.name)
                work = Work(item, scanned, incoming)
                if effort.park:
                    await apply_part(self, work, effort, batch[0].format, tally)
                else:
                    tally.add(await self.write([work], effort))
        finally:
            await reader.close()
        await self._commit()
        tally.settle(self.board, self.progress)

    async def _park(self, ready: Ready, effort: Effort) -> None:
        """Apply a single item but for the rows that cannot stand here, which are parked.

        So are rows that clients hold locked, if it is time not to wait for them any more.
        """
        (work,) = await self._works([ready])
        await self._begin([ready], ready.format)
        tally = Tally(1)
        await apply_parking(self, work, effort, ready.format, tally)
        await self._commit()
        tally.settle(self.board, self.progress)
