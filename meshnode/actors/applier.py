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
from contextlib import suppress

from meshnode.accounts import Account
from meshnode.actors.batching import next_batch
from meshnode.actors.board import Board, PeerProgress
from meshnode.actors.effort import Effort
from meshnode.actors.fitting import Fitting
from meshnode.actors.intake import Intake, Mark, Ready, TableCache, parts_of, tables_of
from meshnode.actors.kernel import Actor, Mailbox
from meshnode.actors.observer import observed
from meshnode.actors.parking import apply_parking, apply_part
from meshnode.actors.pauses import hold
from meshnode.actors.sessions import session_of
from meshnode.actors.straight import StraightWay
from meshnode.actors.tally import Tally
from meshnode.actors.watcher import View
from meshnode.bus.port import Bus, BusReader
from meshnode.core import check
from meshnode.core.ledger import Ledger
from meshnode.core.plan import Plan, Work, make_plan
from meshnode.core.wire import Sender, decode
from meshnode.errors import Busy, Fenced, Halt, Replan, Retry
from meshnode.mysql.apply import set_format
from meshnode.mysql.applying import Applying, fence
from meshnode.mysql.lookup import read_collations
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.session import RowError, Session
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
        login: Account,
        bus: Bus,
        board: Board,
    ) -> None:
        super().__init__(f"applier {peer.name}")
        self.view = view
        self.region = region
        self.peer = peer
        self.login = login
        self.bus = bus
        self.board = board
        self.sender = Sender(view.now.mesh, peer.id, peer.name)
        self.progress = board.peers.setdefault(peer.id, PeerProgress())

    async def run(self) -> None:
        """Apply from the stored position on until something fails."""
        await self.board.claimed()
        async with session_of(self.region, self.login, self.name, self.board) as session:
            reader = self.bus.reader(self.peer.name)
            try:
                await self._run(session, reader)
            finally:
                # Before the reader: the server lets go of the rows at once.
                session.close()
                await reader.close()

    async def _run(self, session: Session, reader: BusReader) -> None:
        rows = await session.query(
            "SELECT incarnation, seq, HEX(position), stream_epoch, frontier, heard_us, commit_us,"
            f" heard_beat FROM meshnode.applied WHERE origin = {self.peer.id}"
        )
        if not rows:
            raise Halt(
                f"{session.server} has no row for {self.peer.name} in meshnode.applied",
                "run `meshnode init` for this region",
            )
        incarnation, seq, position, epoch, frontier, heard, commit, beat = rows[0]
        place = bytes.fromhex(str(position or ""))
        self.seq = seq
        self.incarnation = incarnation or await self._first_incarnation(reader)
        progress = self.progress
        progress.seq, progress.frontier, progress.heard_us = seq, frontier, heard
        progress.commit_us, progress.position = commit, place

        self.lookups = Lookups(await read_collations(session))
        self.max_packet = int(str(await session.value("SELECT @@max_allowed_packet")))
        self.applying = Applying(session, self.lookups, self.max_packet)
        self.fitting = Fitting(session, self.view, self.board)
        self.straight = StraightWay(self)
        self.cache = TableCache()
        limits = self.view.now.limits
        inbox: Mailbox[Ready] = Mailbox(2 * limits.batch_bytes)
        self.board.queues["incoming", self.peer.name] = inbox
        await self.board.pauses.refresh(session)
        ledger = Ledger(self.peer.name, self.incarnation, seq, epoch)
        intake = self.intake = Intake(
            reader, self.sender, ledger, place, self.cache, inbox, self.board, self.state
        )
        intake.heard_us, intake.heard_beat, intake.frontier = heard, beat, frontier
        intake.run_rows = min(intake.run_rows, limits.batch_rows)
        self.running()
        async with asyncio.TaskGroup() as group:
            group.create_task(intake.run())
            group.create_task(self._apply(session, inbox))

    async def _first_incarnation(self, reader: BusReader) -> int:
        """The incarnation of a stream that was never read: its first record says it."""
        self.state.set("waiting", f"{self.peer.name} has not published anything yet")
        records = await reader.read(b"", 1)
        return decode(records[0].payload, self.sender).incarnation

    async def _apply(self, session: Session, inbox: Mailbox[Ready]) -> None:
        pending: deque[Ready] = deque()
        effort = Effort()
        while True:
            if not pending:
                await self._wait(session, inbox)
                pending.extend(inbox.take(self.view.now.limits.batch_bytes))
            await hold(self.board, self.peer, self.region.name, self.state, session)
            batch = next_batch(pending, effort.items, self.view.now.limits.batch_rows)
            if any(ready.segments for ready in batch):
                if await self.straight.take(session, batch):
                    self._done(pending, batch, effort)
                else:
                    self._take_apart(pending, batch)
                continue
            try:
                with observed(self.progress.observer, batch):
                    await self._try(session, batch, effort)
            except Busy as error:
                await self.undo(session)
                self.board.counts["busy"] += 1
                if len(batch) > 1:
                    effort.items = max(1, len(batch) // 2)
                else:
                    self.state.set("running", f"waits for a row lock: {error.what}")
                    effort.locked(time.monotonic())
                    await self._pause(effort)
            except Replan:
                await self.undo(session)
                self.board.counts["replans"] += 1
                effort.deep = True
                effort.surprises += 1
                effort.split = effort.surprises > PATIENT_SURPRISES
                if effort.surprises > SURPRISES:
                    raise
                await self._pause(effort)
            except RowError as error:
                await self.undo(session)
                self._row_error(batch, effort, error)
            except Retry as error:
                await self.undo(session)
                if session.closed:
                    raise
                self.board.counts["retries"] += 1
                self.state.set("running", f"tries again: {error.what}")
                effort.items = max(1, len(batch) // 2)
                await self._pause(effort)
            else:
                self._done(pending, batch, effort)

    async def _wait(self, session: Session, inbox: Mailbox[Ready]) -> None:
        """Wait for the next step; the server ends sessions that say nothing meanwhile."""
        while not len(inbox):
            with suppress(TimeoutError):
                async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                    await inbox.wait()
                    return
            await session.keep_alive()

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
        if error.code == 1062 and effort.duplicates < DUPLICATES:
            effort.duplicates += 1
            effort.deep = True
        elif len(batch) > 1:
            effort.items = max(1, len(batch) // 2)
            effort.duplicates = 0
        elif error.code == 1062 and not effort.split:
            effort.split = True
        elif effort.park:
            raise error
        else:
            effort.park, effort.items = True, 1

    async def _pause(self, effort: Effort) -> None:
        await asyncio.sleep(effort.pause)
        effort.pause = min(effort.pause * 2, 0.5)

    async def undo(self, session: Session) -> None:
        if not session.closed:
            await session.rollback()

    async def _try(self, session: Session, batch: list[Ready], effort: Effort) -> None:
        """One whole try at ``batch``: everything or an error."""
        if batch[0].refusal is not None:
            raise batch[0].refusal
        if batch[0].huge is not None:
            await self._try_huge(session, batch, effort)
            return
        if effort.park:
            await self._park(session, batch[0], effort)
            return
        works = await self._works(session, batch)
        format_bytes = next((ready.format for ready in batch if ready.format), b"")
        if works and format_bytes:
            await set_format(session, format_bytes)
        await self._begin(session, batch)
        if works:
            tally = Tally(len(works))
            tally.add(await self.write(works, effort))
            await session.query("COMMIT")
            tally.settle(self.board, self.progress)
        else:
            await session.query("COMMIT")

    async def _works(self, session: Session, batch: list[Ready]) -> list[Work]:
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
            await self.lookups.fold(session, wanted)
        for ready in batch:
            item = ready.item
            if item is not None and item.entries:
                incoming = ready.incoming
                if incoming is None:
                    incoming = check.check(item, ready.tables, ready.scanned, name)
                works.append(Work(item, ready.scanned, incoming))
        return works

    async def _begin(self, session: Session, batch: list[Ready]) -> None:
        await session.query("BEGIN")
        mark: Mark = batch[-1].mark
        board = self.board
        if not await fence(session, self.peer.id, self.incarnation, mark, self.seq, board.epoch):
            await self._fenced(session)

    async def _fenced(self, session: Session) -> None:
        """The row of this stream is not as this process left it: find out why."""
        await session.rollback()
        await asyncio.sleep(0.2)
        rows = await session.query(
            f"SELECT seq, epoch FROM meshnode.applied WHERE origin = {self.peer.id}"
        )
        seq, epoch = rows[0] if rows else (None, None)
        board = self.board
        if epoch is not None and epoch > board.epoch and not board.raising:
            raise Fenced(
                f"region {self.region.name}: meshnode.applied has epoch {epoch}, "
                f"this node {board.epoch}",
                "another node of this region took over: run only one",
            )
        session.close()
        raise Retry(f"meshnode.applied for {self.peer.name} moved to item {seq}: reading it again")

    async def write(self, works: list[Work], effort: Effort) -> Plan:
        """Steps 2 to 5 for ``works`` in the open transaction; what was done."""
        applying = self.applying
        state = await applying.lock(works, effort.deep, effort.wait)
        plan = make_plan(works, state, self.board.ancestry, self.fitting.wide, effort.split)
        self.progress.observer.decided()
        images = await applying.standing(plan)
        await applying.write(plan)
        await applying.look(plan)
        await applying.record(plan, images, self.peer.id)
        return plan

    async def _try_huge(self, session: Session, batch: list[Ready], effort: Effort) -> None:
        """A transaction in parts: all in one local transaction, one part in memory at a time."""
        huge = batch[0].huge
        await set_format(session, batch[0].format)
        await self._begin(session, batch)
        tally = Tally(1)
        # A reader of its own: the intake waits in the other one for what comes next.
        reader = self.bus.reader(self.peer.name)
        try:
            async for item, tables in parts_of(
                huge, reader, self.sender, self.cache, self.incarnation
            ):
                await self.fitting.require(tables_of(item, tables))
                if effort.fresh:
                    segments = await self.straight.take_part(session, item, tables)
                    if segments:
                        tally.add_straight(segments)
                        continue
                scanned = check.scan(item, tables, self.peer.name)
                wanted = check.keys(item, tables, scanned, self.peer.name)
                if wanted:
                    await self.lookups.fold(session, wanted)
                incoming = check.check(item, tables, scanned, self.peer.name)
                work = Work(item, scanned, incoming)
                if effort.park:
                    await apply_part(self, work, effort, batch[0].format, tally)
                else:
                    tally.add(await self.write([work], effort))
        finally:
            await reader.close()
        await session.query("COMMIT")
        tally.settle(self.board, self.progress)

    async def _park(self, session: Session, ready: Ready, effort: Effort) -> None:
        """Apply a single item but for the rows that cannot stand here, which are parked.

        So are rows that clients hold locked, if it is time not to wait for them any more.
        """
        (work,) = await self._works(session, [ready])
        await set_format(session, ready.format)
        await self._begin(session, [ready])
        tally = Tally(1)
        await apply_parking(self, work, effort, ready.format, tally)
        await session.query("COMMIT")
        tally.settle(self.board, self.progress)
