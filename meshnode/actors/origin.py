"""The origin side of a node: tailer, mender and publisher, which stand and fall together.

They pass a region's transactions from its binlog to its topic.  Whenever one of
them fails, all start again from what the topic itself says was published: there
is no other checkpoint.
"""

from meshnode.accounts import Account
from meshnode.actors.board import Board, Tail
from meshnode.actors.kernel import Actor, Mailbox, together
from meshnode.actors.mender import Draft, Mender
from meshnode.actors.publisher import publish
from meshnode.actors.sessions import session_of
from meshnode.actors.tailer import tail
from meshnode.actors.takeover import (
    Decisions,
    Member,
    append_claim,
    check_position,
    first_position,
    raise_epoch,
    read_decisions,
    read_member,
    read_own_end,
)
from meshnode.actors.watcher import View
from meshnode.bus.port import Bus, BusWriter, Position
from meshnode.core.change import Transaction
from meshnode.core.ledger import Ledger
from meshnode.core.mend import Examiner
from meshnode.core.wire import Sender
from meshnode.errors import Fenced, Halt, Retry, Stopped
from meshnode.faultpoints import fault
from meshnode.mysql.assemble import Assembler
from meshnode.mysql.gtid import GtidSet
from meshnode.mysql.lookup import read_collations
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.maps import TableMaps
from meshnode.mysql.mender_session import MenderSession
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
        self.unclaimed = 0
        self.stopped: tuple[Stopped, Decisions] | None = None

    async def run(self) -> None:
        """Resume from the topic's end and publish until something fails."""
        async with session_of(self.region, self.apply_login, "mender", self.board) as session:
            await self._stay_stopped(session)
            await self._run(session)

    async def _stay_stopped(self, session: Session) -> None:
        """Do not try again what cannot be streamed until an operator has decided something.

        The transaction reads the same each time.  A huge one that stops at its end would be
        published up to there at each try, and every claim would void those parts.
        """
        if self.stopped is None:
            return
        stop, decided = self.stopped
        if await read_decisions(session, self.region.id) == decided:
            raise stop.with_traceback(None)
        self.stopped = None

    async def _run(self, session: Session) -> None:
        member, ledger = await self._take_over(session)
        decided = await read_decisions(session, self.region.id)
        tables = decided.tables
        if ledger.resume:
            resume = GtidSet(ledger.resume)
        else:
            resume = await first_position(session, tables)
        await check_position(session, resume, self.region.name)

        collations = await read_collations(session)
        lookups = Lookups(collations)
        active = [(schema, name) for schema, name, since in tables if since.issubset(resume)]
        notices = Notices(self.region.name, self.region.id)
        any_case = bool(await session.value("SELECT @@lower_case_table_names"))
        assembler = Assembler(
            TableMaps(active, lookups.charsets, any_case), notices,
            lambda: self.view.now.limits.part_bytes, decided.skipped,
        )  # fmt: skip
        max_packet = int(str(await session.value("SELECT @@max_allowed_packet")))
        mending = MenderSession(session, self.region.id, lookups, max_packet, self.board.restamped)
        mender = Mender(
            mending, Examiner(self.region.id, ledger.promised), self.board,
            assembler.maps.known, resume.copy(),
        )  # fmt: skip
        await mender.load()
        stream = await open_stream(self.region, self.tail_login, resume)
        transactions: Mailbox[Transaction | Halt] = Mailbox(self._transactions_bytes())
        drafts: Mailbox[Draft | Halt] = Mailbox(DRAFTS_WAITING)
        self.board.queues.update({("transactions", ""): transactions, ("drafts", ""): drafts})
        self.running()
        try:
            await together(
                tail(stream, assembler, transactions, self.board),
                self._mend(mender, transactions, drafts),
                publish(self.writer, drafts, ledger, member, self.board),
            )
        except Stopped as error:
            self.stopped = (error, decided)
            raise
        finally:
            stream.close()

    async def _mend(
        self, mender: Mender, inbox: Mailbox[Transaction | Halt], outbox: Mailbox[Draft | Halt]
    ) -> None:
        kept: list[Transaction | Halt] = []
        while True:
            if not kept:
                await inbox.wait()
                inbox.capacity = self._transactions_bytes()
                kept = inbox.take(self.view.now.limits.frame_target_bytes)
            first = kept[0]
            if isinstance(first, Halt):
                await outbox.put(first, 1)
                return
            batch = _of_one_format(kept)
            kept = kept[len(batch) :]
            self.board.format = batch[0].format
            taken = self.board.observer.now()
            draft = await mender.draft(batch)
            draft.taken = taken
            await outbox.put(draft, 1)

    def _transactions_bytes(self) -> int:
        return 4 * self.view.now.limits.frame_target_bytes

    async def _take_over(self, session: Session) -> tuple[Member, Ledger]:
        """Fence whoever wrote before, also this process's own former try; the topic's end."""
        board = self.board
        # Until a claim has gone through: of one that failed nobody knows whether the epoch was
        # raised (the answer to its COMMIT may be lost), and heart and appliers, who find another
        # epoch than the board's, must not take it for a stranger's.
        board.raising = True
        await self.writer.close()
        epoch = await self._raise_epoch(session)
        fault("takeover.raised")
        member = await read_member(session)
        if member.epoch != epoch:
            raise Retry(f"another process of {self.region.name} is starting at this moment")
        board.epoch, board.incarnation = epoch, member.incarnation
        await self.writer.open(OPEN_SECONDS)
        # From here on nobody knows whether a claim of this epoch stands in the topic.
        self.unclaimed = 0
        end = await append_claim(self.writer, member)
        fault("takeover.claimed")
        ledger = await self._read_own_end(member, end)
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

    async def _raise_epoch(self, session: Session) -> int:
        """The epoch to claim with, raised; one that was never claimed serves again.

        While the bus is away every try ends before the claim: the first one has fenced the
        predecessor, and the later ones need not raise the epoch over their own.
        """
        if self.unclaimed and (await read_member(session)).epoch == self.unclaimed:
            return self.unclaimed
        kill = self.apply_login.user if not self.board.epoch else None
        self.unclaimed = await raise_epoch(session, kill, self.board.epochs)
        return self.unclaimed

    async def _read_own_end(self, member: Member, end: Position) -> Ledger:
        reader = self.bus.reader(self.region.name)
        try:
            ledger, _ = await read_own_end(reader, member, self.sender, end)
        finally:
            await reader.close()
        return ledger


def _of_one_format(kept: list[Transaction | Halt]) -> list[Transaction]:
    """The first transactions that follow one format description."""
    batch: list[Transaction] = []
    for tx in kept:
        if isinstance(tx, Halt) or (batch and tx.format != batch[0].format):
            break
        batch.append(tx)
    return batch
