"""The origin side of a node: tailer, mender and publisher, which stand and fall together.

They pass a region's transactions from its binlog to its topic.  Whenever one of
them fails, all start again from what the topic itself says was published: there
is no other checkpoint.
"""

from itertools import chain

from meshnode.actors.board import Board, Tail
from meshnode.actors.kernel import Actor, Mailbox, together, within
from meshnode.actors.mender import Draft, Mender
from meshnode.actors.publisher import publish
from meshnode.actors.tailer import tail
from meshnode.actors.takeover import (
    append_claim,
    check_position,
    first_position,
    raise_epoch,
    read_own_end,
    to_be_found,
)
from meshnode.actors.watcher import View
from meshnode.bus.port import Bus, BusWriter, Position
from meshnode.core.change import Table, Transaction, in_form
from meshnode.core.gtid import GtidSet
from meshnode.core.ledger import Ledger, Published
from meshnode.core.mend import Examiner
from meshnode.core.wire import Sender
from meshnode.errors import Fenced, Retry, Stopped
from meshnode.faultpoints import fault
from meshnode.store.port import Claiming, Store
from meshnode.store.values import Decisions, Log, Member
from meshnode.topology import Region

OPEN_SECONDS = 30.0
ROOM_SECONDS = 5.0
DRAFTS_WAITING = 2


class Origin(Actor):
    """Publishes the local transactions of ``region``; shown as ``tailer``."""

    def __init__(
        self,
        view: View,
        region: Region,
        store: Store,
        bus: Bus,
        writer: BusWriter,
        board: Board,
    ) -> None:
        super().__init__("tailer")
        self.view = view
        self.region = region
        self.store = store
        self.bus = bus
        self.writer = writer
        self.board = board
        self.sender = Sender(view.now.mesh, region.id, region.name)
        self.unclaimed = 0
        self.stopped: tuple[Stopped, Decisions] | None = None

    async def run(self) -> None:
        """Resume from the topic's end and publish until something fails."""
        async with self.store.claiming(self.board.restamped) as session:
            await self._stay_stopped(session)
            await self._run(session)

    async def _stay_stopped(self, session: Claiming) -> None:
        """Do not try again what cannot be streamed until an operator has decided something.

        The transaction reads the same each time.  A huge one that stops at its end would be
        published up to there at each try, and every claim would void those parts.
        """
        if self.stopped is None:
            return
        stop, decided = self.stopped
        if await session.decisions() == decided:
            raise stop.with_traceback(None)
        self.stopped = None

    async def _run(self, session: Claiming) -> None:
        member, ledger = await self._take_over(session)
        decided = await session.decisions()
        history = await session.history()
        if ledger.resume:
            resume = GtidSet(ledger.resume)
        else:
            resume = first_position(history, decided.tables)
        check_position(session.server, history, resume, self.region.name)
        log = await session.open_log(
            str(resume),
            to_be_found(ledger.newest, resume, GtidSet(history.purged)),
            [each[:2] for each in decided.tables if GtidSet(each.since).issubset(resume)],
            decided.skipped,
            lambda: self.view.now.limits.part_bytes,
        )
        try:
            examiner = Examiner(self.region.id, ledger.promised)
            mender = Mender(session, examiner, self.board, log.known, resume)
            await mender.load()
            await self._publish(log, mender, ledger, member)
        except Stopped as error:
            self.stopped = (error, decided)
            raise
        finally:
            log.stream.close()

    async def _publish(self, log: Log, mender: Mender, ledger: Ledger, member: Member) -> None:
        """Pass on what is logged until something fails."""
        transactions: Mailbox[Transaction | Exception] = Mailbox(self._transactions_bytes())
        drafts: Mailbox[Draft | Exception] = Mailbox(DRAFTS_WAITING)
        self.board.queues.update({("transactions", ""): transactions, ("drafts", ""): drafts})
        self.running()
        await together(
            tail(log.stream, log.assembler, transactions, self.board),
            self._mend(mender, transactions, drafts),
            publish(self.writer, drafts, ledger, member, self.board),
        )

    async def _mend(
        self,
        mender: Mender,
        inbox: Mailbox[Transaction | Exception],
        outbox: Mailbox[Draft | Exception],
    ) -> None:
        kept: list[Transaction | Exception] = []
        while True:
            if not kept:
                await inbox.wait()
                inbox.capacity = self._transactions_bytes()
                target = self.view.now.limits.frame_target_bytes
                # Who is behind would send many small frames, each of which costs a flush of the
                # bus, requests to a broker, and questions to MySQL here and there.
                await inbox.gather(target)
                kept = inbox.take(target)
            first = kept[0]
            if isinstance(first, Exception):
                await outbox.put(first, 1)
                return
            batch = of_one_form(kept)
            kept = kept[len(batch) :]
            self.board.format = batch[0].format
            taken = self.board.observer.now()
            draft = await mender.draft(batch)
            draft.taken = taken
            while not await within(ROOM_SECONDS, outbox.put(draft, 1)):
                # Nothing goes out for a while; the server ends sessions that say nothing.
                await mender.mending.keep_alive()

    def _transactions_bytes(self) -> int:
        return 4 * self.view.now.limits.frame_target_bytes

    async def _take_over(self, session: Claiming) -> tuple[Member, Ledger]:
        """Fence whoever wrote before, also this process's own former try; the topic's end."""
        board = self.board
        # Until a claim has gone through: of one that failed nobody knows whether the epoch was
        # raised (the answer to its COMMIT may be lost), and heart and appliers, who find another
        # epoch than the board's, must not take it for a stranger's.
        board.raising = True
        await self.writer.close()
        epoch = await self._raise_epoch(session)
        fault("takeover.raised")
        member = await self._own_member(session, epoch)
        board.apply_epoch = board.apply_epoch or epoch
        board.epoch, board.incarnation = epoch, member.incarnation
        await self.writer.open(OPEN_SECONDS)
        # That can take long.  The claim of a process that was superseded meanwhile would be void,
        # and at the bus it would shut the successor out.
        await self._own_member(session, epoch)
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
        newest = ledger.newest or Published("", 0)
        board.tail = Tail(end, ledger.seq, ledger.resume, ledger.promised, epoch, *newest)
        board.promised = max(board.promised, ledger.promised)
        board.claim()
        return member, ledger

    async def _raise_epoch(self, session: Claiming) -> int:
        """The epoch to claim with, raised; one that was never claimed serves again.

        While the bus is away every try ends before the claim: the first one has fenced the
        predecessor, and the later ones need not raise the epoch over their own.
        """
        if self.unclaimed and (await session.member()).epoch == self.unclaimed:
            return self.unclaimed
        self.unclaimed = await raise_epoch(session, self.board.apply_epoch, self.board.epochs)
        return self.unclaimed

    async def _own_member(self, session: Claiming, epoch: int) -> Member:
        """The member row; Retry when it no longer has ``epoch``: the next try finds out whose."""
        member = await session.member()
        if member.epoch != epoch:
            raise Retry(f"another process of {self.region.name} is starting at this moment")
        return member

    async def _read_own_end(self, member: Member, end: Position) -> Ledger:
        reader = self.bus.reader(self.region.name)
        try:
            ledger, _ = await read_own_end(reader, member, self.sender, end)
        finally:
            await reader.close()
        return ledger


def of_one_form(kept: list[Transaction | Exception]) -> list[Transaction]:
    """The first transactions that follow one format description, and one form of each table.

    A key is known by its table as it is defined, so what a batch learns of one must not be
    forgotten where the definition changes; and peers apply rows of one form at a time.
    """
    batch: list[Transaction] = []
    forms: dict[str, Table] = {}
    for tx in kept:
        if isinstance(tx, Exception) or (batch and tx.format != batch[0].format):
            break
        same = in_form([each.table for each in chain(tx.ops, tx.partial)], forms)
        if batch and not same:
            break
        batch.append(tx)
    return batch
