"""The applier: writes one peer's transactions into the local MySQL.

A batch is as many whole items as are waiting.  When something is in the way the
same batch is tried again with more knowledge or patience: a surprise brings a
deeper look, a lock halves the batch until a single item is left that may wait
for it, a row that cannot stand halves it too, and in a single item is found and
parked.  A COMMIT whose answer was lost is settled by the row of
``meshnode.applied``: a new start reads it and goes on from there.
"""

import asyncio
from collections import deque

from meshnode.accounts import Account
from meshnode.actors.board import Board, PeerProgress
from meshnode.actors.fitting import Fitting
from meshnode.actors.intake import Intake, Mark, Ready, TableCache, parts_of, tables_of
from meshnode.actors.kernel import Actor, Mailbox
from meshnode.actors.parking import apply_parking
from meshnode.actors.sessions import session_of
from meshnode.actors.watcher import View
from meshnode.bus.port import Bus, BusReader
from meshnode.core import check
from meshnode.core.ledger import Ledger
from meshnode.core.plan import Work, make_plan
from meshnode.core.wire import Sender, decode
from meshnode.errors import Busy, Fenced, Halt, Replan, Retry
from meshnode.mysql.apply import set_format
from meshnode.mysql.applying import Applying, fence
from meshnode.mysql.lookup import read_collations
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.session import RowError, Session
from meshnode.topology import Region

SURPRISES = 20
"""Plans made anew for one batch before the stream starts again."""

PATIENT_SURPRISES = 5
"""After so many even an exact item is taken apart, in case the images do not fit the rows here."""

DUPLICATES = 2
"""Times that a duplicate key counts as a surprise before it counts as another unique key's."""


class Effort:
    """How the present batch is tried: what earlier tries have taught."""

    def __init__(self) -> None:
        self.items = 1_000_000
        self.reset()

    def reset(self) -> None:
        """A batch went through: the next one starts afresh and may be larger."""
        self.deep = self.wait = self.split = self.park = False
        self.surprises = self.duplicates = 0
        self.pause = 0.002

    def grow(self) -> None:
        self.items = min(self.items * 2, 1_000_000)


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
            "SELECT incarnation, seq, HEX(position), stream_epoch, frontier, heard_us, commit_us"
            f" FROM meshnode.applied WHERE origin = {self.peer.id}"
        )
        if not rows:
            raise Halt(
                f"{session.server} has no row for {self.peer.name} in meshnode.applied",
                "run `meshnode init` for this region",
            )
        incarnation, seq, position, epoch, frontier, heard, commit = rows[0]
        place = bytes.fromhex(str(position or ""))
        self.seq = seq
        self.incarnation = incarnation or await self._first_incarnation(reader)
        progress = self.progress
        progress.seq, progress.frontier, progress.heard_us = seq, frontier, heard
        progress.commit_us, progress.position = commit, place

        self.lookups = Lookups(await read_collations(session))
        self.max_packet = int(str(await session.value("SELECT @@max_allowed_packet")))
        self.applying = Applying(session, self.lookups, self.board.ancestry, self.max_packet)
        self.fitting = Fitting(session, self.view, self.board)
        self.cache = TableCache()
        limits = self.view.now.limits
        inbox: Mailbox[Ready] = Mailbox(2 * limits.batch_bytes)
        ledger = Ledger(self.peer.name, self.incarnation, seq, epoch)
        intake = Intake(reader, self.sender, ledger, place, self.cache, inbox, self.board)
        intake.heard_us, intake.frontier = heard, frontier
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
                await inbox.wait()
                pending.extend(inbox.take(self.view.now.limits.batch_bytes))
            batch = self._cut(pending, effort.items)
            try:
                await self._try(session, batch, effort)
            except Busy as error:
                await self._undo(session)
                self.board.counts["busy"] += 1
                if len(batch) > 1:
                    effort.items = max(1, len(batch) // 2)
                else:
                    self.state.set("running", f"waits for a row lock: {error.what}")
                    effort.wait = True
                    await self._pause(effort)
            except Replan:
                await self._undo(session)
                self.board.counts["replans"] += 1
                effort.deep = True
                effort.surprises += 1
                effort.split = effort.surprises > PATIENT_SURPRISES
                if effort.surprises > SURPRISES:
                    raise
                await self._pause(effort)
            except RowError as error:
                await self._undo(session)
                self._row_error(batch, effort, error)
            except Retry as error:
                await self._undo(session)
                if session.closed:
                    raise
                self.board.counts["retries"] += 1
                self.state.set("running", f"tries again: {error.what}")
                effort.items = max(1, len(batch) // 2)
                await self._pause(effort)
            else:
                self._done(pending, batch, effort)

    def _done(self, pending: deque[Ready], batch: list[Ready], effort: Effort) -> None:
        for _ in batch:
            pending.popleft()
        mark = batch[-1].mark
        self.seq = mark.seq
        progress = self.progress
        progress.seq, progress.position = mark.seq, mark.position
        progress.frontier = max(progress.frontier, mark.frontier)
        progress.heard_us = max(progress.heard_us, mark.heard_us)
        progress.commit_us = max(progress.commit_us, mark.commit_us)
        effort.reset()
        effort.grow()
        self.state.set("running")

    def _row_error(self, batch: list[Ready], effort: Effort, error: RowError) -> None:
        """A row does not go in: look again, halve, reorder, and at last park it.

        Parking is a try like the others: it may meet a lock or a surprise, too.
        """
        if error.code == 1062 and effort.duplicates < DUPLICATES:
            effort.duplicates += 1
            effort.deep = True
        elif len(batch) > 1:
            effort.items = max(1, len(batch) // 2)
            effort.duplicates = 0
        elif error.code == 1062 and not effort.split:
            effort.split = True
        elif batch[0].huge is not None:
            raise Halt(
                f"a row of the huge transaction {batch[0].huge.tx_id} cannot apply: {error.what}",
                "remove the cause in this region; the transaction is tried again by itself",
            )
        elif effort.park or batch[0].item is None or not batch[0].item.entries:
            raise error
        else:
            effort.park, effort.items = True, 1

    async def _pause(self, effort: Effort) -> None:
        await asyncio.sleep(effort.pause)
        effort.pause = min(effort.pause * 2, 0.5)

    async def _undo(self, session: Session) -> None:
        if not session.closed:
            await session.rollback()

    def _cut(self, pending: deque[Ready], items: int) -> list[Ready]:
        """The next batch: whole items of one format, one form of each table, within budget."""
        batch: list[Ready] = []
        rows = 0
        forms: dict[str, object] = {}
        format_bytes = b""
        limit = self.view.now.limits.batch_rows
        for ready in pending:
            if batch and (
                len(batch) >= items
                or rows + ready.rows > limit
                or ready.huge is not None
                or batch[0].huge is not None
                or ready.refusal is not None
                or (ready.format and format_bytes and ready.format != format_bytes)
            ):
                break
            if any(forms.setdefault(table.digest, table) is not table for table in ready.used):
                break
            batch.append(ready)
            rows += ready.rows
            format_bytes = format_bytes or ready.format
        return batch

    async def _try(self, session: Session, batch: list[Ready], effort: Effort) -> None:
        """One whole try at ``batch``: everything or an error."""
        if batch[0].refusal is not None:
            raise batch[0].refusal
        if batch[0].huge is not None:
            await self._try_huge(session, batch, effort)
            return
        if effort.park:
            await self._fence_and(session, batch, lambda: apply_parking(self, batch[0]))
            return
        works = await self._works(session, batch)
        format_bytes = next((ready.format for ready in batch if ready.format), b"")
        if works and format_bytes:
            await set_format(session, format_bytes)
        await self._begin(session, batch)
        if works:
            plan = await self._write(works, effort)
            await session.query("COMMIT")
            self._count(works, plan)
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

    async def _write(self, works: list[Work], effort: Effort):
        applying = self.applying
        state = await applying.lock(works, effort.deep, effort.wait)
        plan = make_plan(works, state, self.board.ancestry, self.fitting.wide, effort.split)
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
        done: list = []
        # A reader of its own: the intake waits in the other one for what comes next.
        reader = self.bus.reader(self.peer.name)
        try:
            async for item, tables, scanned in parts_of(
                huge, reader, self.sender, self.cache, self.incarnation
            ):
                await self.fitting.require(tables_of(item, tables))
                wanted = check.keys(item, tables, scanned, self.peer.name)
                if wanted:
                    await self.lookups.fold(session, wanted)
                incoming = check.check(item, tables, scanned, self.peer.name)
                plan = await self._write([Work(item, scanned, incoming)], effort)
                done.append((len(plan.records), plan.rows, int(item.last)))
        finally:
            await reader.close()
        await session.query("COMMIT")
        counts = self.board.counts
        for conflicts, rows, last in done:
            counts["conflicts"] += conflicts
            counts["applied_rows"] += rows
            counts["applied_transactions"] += last

    def _count(self, works: list[Work], plan) -> None:
        self.applying.remember(plan)
        counts = self.board.counts
        counts["applied_transactions"] += len(works)
        counts["applied_rows"] += plan.rows
        counts["conflicts"] += len(plan.records)

    async def _fence_and(self, session: Session, batch: list[Ready], body) -> None:
        """Run ``body`` in a fenced transaction and commit it."""
        works = await self._works(session, batch)
        await set_format(session, batch[0].format)
        await self._begin(session, batch)
        self.parking_work = works[0]
        await body()
        await session.query("COMMIT")
