"""The origin side of a node: tailer, mender and publisher, which stand and fall together.

They pass a region's transactions from its binlog to its topic.  Whenever one of
them fails, all start again from what the topic itself says was published: there
is no other checkpoint.
"""

import asyncio
from itertools import takewhile

from meshnode.accounts import Account
from meshnode.actors.board import Board, Tail
from meshnode.actors.kernel import Actor, Mailbox
from meshnode.actors.mender import Draft, Mender
from meshnode.actors.publisher import publish
from meshnode.actors.sessions import session_of
from meshnode.actors.tailer import tail
from meshnode.actors.takeover import (
    Member,
    append_claim,
    check_position,
    first_position,
    joined_tables,
    raise_epoch,
    read_member,
    read_own_end,
)
from meshnode.actors.watcher import View
from meshnode.bus.port import Bus, BusWriter, Position
from meshnode.core.change import Transaction
from meshnode.core.ledger import Ledger
from meshnode.core.mend import Examiner
from meshnode.core.wire import Sender
from meshnode.errors import Fenced, Halt, Retry
from meshnode.mysql.assemble import Assembler
from meshnode.mysql.gtid import GtidSet
from meshnode.mysql.lookup import read_collations
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.maps import TableMaps
from meshnode.mysql.mending import Mending
from meshnode.mysql.notices import Notices
from meshnode.mysql.session import Session
from meshnode.mysql.stream import open_stream
from meshnode.topology import Region

OPEN_SECONDS = 30.0
DRAFTS_WAITING = 2


class Origin(Actor):
    """Publishes the local transactions of ``region``; shown as ``tailer``."""

    def __init__(
        self,
        view: View,
        region: Region,
        tail_login: Account,
        apply_login: Account,
        bus: Bus,
        writer: BusWriter,
        board: Board,
    ) -> None:
        super().__init__("tailer")
        self.view = view
        self.region = region
        self.tail_login = tail_login
        self.apply_login = apply_login
        self.bus = bus
        self.writer = writer
        self.board = board
        self.sender = Sender(view.now.mesh, region.id, region.name)
        self.epochs: set[int] = set()

    async def run(self) -> None:
        """Resume from the topic's end and publish until something fails."""
        async with session_of(self.region, self.apply_login, "mender", self.board) as session:
            await self._run(session)

    async def _run(self, session: Session) -> None:
        member, ledger = await self._take_over(session)
        tables = await joined_tables(session)
        if ledger.resume:
            resume = GtidSet(ledger.resume)
        else:
            resume = await first_position(session, tables)
        await check_position(session, resume, self.region.name)

        collations = await read_collations(session)
        lookups = Lookups(collations)
        active = [(schema, name) for schema, name, since in tables if since.issubset(resume)]
        notices = Notices(self.region.name, self.region.id)
        skipped = await session.query(
            "SELECT tx_id FROM meshnode.dead_letter"
            f" WHERE origin = {self.region.id} AND seq = 0 AND state IN ('skipped', 'closed')"
        )
        limits = self.view.now.limits
        any_case = bool(await session.value("SELECT @@lower_case_table_names"))
        assembler = Assembler(
            TableMaps(active, lookups.charsets, any_case), notices, limits.part_bytes,
            [str(tx_id) for (tx_id,) in skipped],
        )  # fmt: skip
        max_packet = int(str(await session.value("SELECT @@max_allowed_packet")))
        mending = Mending(session, self.region.id, lookups, lookups.charsets, max_packet)
        mender = Mender(
            mending, lookups, Examiner(self.region.id, ledger.promised), self.board,
            assembler.maps.known, resume.copy(),
        )  # fmt: skip
        await mender.load()
        stream = await open_stream(self.region, self.tail_login, resume)
        transactions: Mailbox[Transaction | Halt] = Mailbox(4 * limits.frame_target_bytes)
        drafts: Mailbox[Draft | Halt] = Mailbox(DRAFTS_WAITING)
        self.running()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(tail(stream, assembler, transactions, self.board))
                group.create_task(self._mend(mender, transactions, drafts))
                group.create_task(publish(self.writer, drafts, ledger, member, self.board))
        finally:
            stream.close()

    async def _mend(
        self, mender: Mender, inbox: Mailbox[Transaction | Halt], outbox: Mailbox[Draft | Halt]
    ) -> None:
        kept: list[Transaction | Halt] = []
        while True:
            if not kept:
                await inbox.wait()
                kept = inbox.take(self.view.now.limits.frame_target_bytes)
            first = kept[0]
            if isinstance(first, Halt):
                await outbox.put(first, 1)
                return
            batch = list(
                takewhile(
                    lambda tx, fde=first.format: not isinstance(tx, Halt) and tx.format == fde,
                    kept,
                )
            )
            kept = kept[len(batch) :]
            self.board.format = batch[0].format
            await outbox.put(await mender.draft(batch), 1)

    async def _take_over(self, session: Session) -> tuple[Member, Ledger]:
        """Fence whoever wrote before, also this process's own former try; the topic's end."""
        board = self.board
        board.raising = True
        try:
            await self.writer.close()
            kill = self.apply_login.user if not board.epoch else None
            epoch = await raise_epoch(session, kill, self.epochs)
            member = await read_member(session)
            if member.epoch != epoch:
                raise Retry(f"another process of {self.region.name} is starting at this moment")
            board.epoch, board.incarnation = epoch, member.incarnation
            await self.writer.open(OPEN_SECONDS)
            end = await append_claim(self.writer, member)
            ledger = await self._read_own_end(member, end)
        finally:
            board.raising = False
        if ledger.epoch != epoch:
            raise Fenced(
                f"the stream of {self.region.name} was claimed with epoch {ledger.epoch}, "
                f"above this node's {epoch}",
                "run one node for each region",
            )
        board.tail = Tail(end, ledger.seq, ledger.resume, ledger.promised, epoch)
        board.promised = max(board.promised, ledger.promised)
        board.claim()
        return member, ledger

    async def _read_own_end(self, member: Member, end: Position) -> Ledger:
        reader = self.bus.reader(self.region.name)
        try:
            ledger, _ = await read_own_end(reader, member, self.sender, end)
        finally:
            await reader.close()
        return ledger
