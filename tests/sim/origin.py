"""The origin side of a node: it takes its stream over, mends and publishes.

After any error all of it starts again from what the topic says.  A record that was on
its way to the topic then may still arrive, or never.
"""

from collections import deque
from typing import NamedTuple

from meshnode.core.epoch import is_successors
from meshnode.core.ledger import Ledger
from meshnode.core.wire import VERSION, Claim, Frame, Record

from .actor import Actor, Fenced
from .clockwork import Process, Steps
from .database import APPLIED, MEMBER, Deadlock, Killed, Locked, RowError
from .intake import INCARNATION
from .mender import Draft, Mender
from .table import TABLES

DRAFTS_WAITING = 2

MAPS = [table.map_body for table in TABLES]


class Tail(NamedTuple):
    """The newest acknowledged frame: where a successor begins to read."""

    position: int = 0
    seq: int = 0
    resume: str = ""
    frontier: int = 0
    epoch: int = 0


class Member(NamedTuple):
    """The row of ``member``."""

    epoch: int = 0
    tail: Tail = Tail()


class Origin(Actor):
    """Tailer, mender and publisher of one life; the node begins another after an error."""

    def run(self) -> Steps:
        """Take over, then publish until something fails."""
        while True:
            try:
                yield from self._run()
            except Fenced:
                self.node.fenced()
                return
            except (Locked, Deadlock, RowError, Killed):
                self.counts["origin started again"] += 1
                self.end_publisher()
                yield 1 + int(self.rng.random() * 50_000)

    def end_publisher(self) -> None:
        self.node.end(self.node.publisher)
        self.node.publisher = None

    def _run(self) -> Steps:
        ledger = yield from self.take_over()
        node, region = self.node, self.region
        if node.claim_killed:
            node.claim_killed = False
            raise Killed
        mender = Mender(node)
        mender.start(ledger.promised, self.first_position(ledger))
        node.mender = mender
        self.drafts: deque[Draft] = deque()
        self.ledger = ledger
        node.publisher = node.spawn("publisher", self.publish())
        while True:
            if mender.at_end():
                node.tailing = self.clockwork.current
                yield None
                node.tailing = None
                continue
            yield 1 + int(self.rng.random() * region.tail_pause)
            batch = mender.read(1 + int(self.rng.random() * region.tail_most))
            if not batch:
                continue
            draft = yield from mender.draft(batch)
            while len(self.drafts) >= DRAFTS_WAITING:
                self.waiting: Process | None = self.clockwork.current
                yield None
            self.drafts.append(draft)
            self.clockwork.wake(node.publisher)

    # Taking over

    def take_over(self) -> Steps:
        """Fence whoever wrote before, this node's own former try too; the topic's end."""
        node = self.node
        node.raising = True
        member = yield from self.epoch_to_claim()
        node.apply_epoch = node.apply_epoch or member.epoch
        node.epoch = member.epoch
        yield from self.reach()
        if self.superseded(member.epoch):
            self.counts["superseded while the bus was away"] += 1
            raise Killed
        node.unclaimed = 0
        end = yield from self.claim(member.epoch)
        ledger = self.read_own_end(member, end)
        node.raising = False
        if ledger.epoch != member.epoch:
            self.counts["claim beaten by a higher one"] += 1
            raise Fenced
        node.tail = Tail(end, ledger.seq, ledger.resume, ledger.promised, member.epoch)
        node.promised = max(node.promised, ledger.promised)
        node.claim()
        return ledger

    def kill_others(self) -> None:
        """KILL the account's other sessions: what they had not committed is taken back."""
        database = self.database
        for tx in list(database.open):
            if tx.node is not None and tx.node is not self.node:
                self.counts["session killed"] += not tx.over
                database.rollback(tx)
        for node in self.region.nodes():
            if node is not self.node and not node.stopped:
                node.killed()

    def epoch_to_claim(self) -> Steps:
        """The member row with an epoch to claim; one that no claim was sent with serves again."""
        node = self.node
        if self.serves_again(self.member().epoch):
            self.counts["epoch that was never claimed"] += 1
            return self.member()
        if not node.epoch:
            self.kill_others()
        yield self.step()
        node.unclaimed = (yield from self.raise_epoch()).epoch
        member = self.member()
        if member.epoch != node.unclaimed:
            self.counts["two nodes starting at one moment"] += 1
            raise Killed
        return member

    def member(self) -> Member:
        """The row of ``member`` as a read without locks has it."""
        return self.database.plain(None, MEMBER)

    def raise_epoch(self) -> Steps:
        """The member row with the next epoch; of a process's first also every ``applied`` row."""
        database, node = self.database, self.node
        first = not node.epoch
        tx = self.begin("takeover" if first else "epoch")
        try:
            yield from self.take(tx, MEMBER)
            member = database.records[MEMBER]
            member = member._replace(epoch=member.epoch + 1)
            if self.is_of_another(member.epoch - 1):
                raise Fenced
            database.set(tx, MEMBER, member)
            if node.slowness:
                yield self.step()
            for peer in self.region.peers if self.fences_appliers(first) else ():
                yield from self.take(tx, APPLIED + peer)
                progress = database.records[APPLIED + peer]
                database.set(tx, APPLIED + peer, progress._replace(own_epoch=member.epoch))
        except (Locked, Deadlock, Killed, Fenced):
            database.rollback(tx)
            raise
        # Until here what fails is taken back for certain, and the next to set it may be another.
        node.epochs.update((member.epoch - 1, member.epoch))
        yield from self.commit(tx)
        return member

    def is_of_another(self, epoch: int) -> bool:
        """Whether the epoch that stands there, or that of ``applied``, is a successor's."""
        node, records = self.node, self.database.records
        applied = max(records[APPLIED + peer].own_epoch for peer in self.region.peers)
        found = is_successors(epoch, node.epochs, applied, node.apply_epoch)
        self.counts["epoch of a COMMIT that was lost"] += found and epoch in node.epochs
        return found

    def superseded(self, epoch: int) -> bool:
        """Whether another process has raised the epoch, or killed the session that asks."""
        node = self.node
        killed, node.claim_killed = node.claim_killed, False
        return killed or self.member().epoch != epoch

    def serves_again(self, epoch: int) -> bool:
        """Whether this process has raised the epoch, and sent no claim with it."""
        return bool(epoch) and epoch == self.node.unclaimed

    def fences_appliers(self, first: bool) -> bool:
        """Whether a claim raises the epoch of the ``applied`` rows: these tell processes apart."""
        return first

    def claim(self, epoch: int) -> Steps:
        """Append a claim; the position behind it."""
        claim = Claim(VERSION, "shop", self.number, INCARNATION, epoch)
        return (yield from self.append(claim))

    def read_own_end(self, member: Member, end: int) -> Ledger:
        """Fold the own topic from the newest tail known to ``end``."""
        tail = member.tail
        ledger = Ledger(
            str(self.number), INCARNATION, tail.seq, tail.epoch,
            resume=tail.resume, promised=tail.frontier,
        )  # fmt: skip
        for place in range(tail.position, end):
            ledger.take(self.region.topic.record(place))
        return ledger

    def first_position(self, ledger: Ledger) -> int:
        """How many transactions of the binlog the stream has passed."""
        return int(ledger.resume) if ledger.resume else self.region.since

    # Publishing

    def publish(self) -> Steps:
        """Append a frame for each draft."""
        node, ledger = self.node, self.ledger
        while True:
            while not self.drafts:
                yield None
            draft = self.drafts.popleft()
            waiting = getattr(self, "waiting", None)
            if waiting is not None:
                self.waiting = None
                self.clockwork.wake(waiting)
            if not draft.items:
                continue
            for item in draft.items:
                ledger.seq += 1
                item.seq = ledger.seq
                if item.beat is not None:
                    ledger.promised = max(ledger.promised, item.beat.frontier)
            frame = Frame(
                VERSION, "shop", self.number, INCARNATION, node.epoch, "9.7.0", b"",
                draft.promised, str(draft.resume), MAPS, draft.items,
            )  # fmt: skip
            position = yield from self.append(frame)
            if draft.items[-1].last:
                node.tail = Tail(
                    position, ledger.seq, frame.resume, ledger.promised, frame.epoch
                )  # fmt: skip

    def append(self, record: Record) -> Steps:
        """Send a record to the topic and wait for the answer; the position behind it."""
        yield from self.reach()
        parcel = self.region.send(record, self.node)
        while not parcel.position:
            parcel.sender = self.clockwork.current
            yield None
        return parcel.position

    def reach(self) -> Steps:
        """Wait until the topic can be reached."""
        while self.region.silenced:
            self.counts["publish waited for the bus"] += 1
            yield from self.region.heard()
