"""Writing one peer's items: the steps of a plan, and the transactions around them.

Theory of operation.  A plan is carried out in one order, whoever makes it: lock, decide,
read what is about to lose, write, look at the other side, record (`carry_out`).
A `PeerWriter` adds what an apply transaction of one stream needs: it opens with the
fence, which moves the row of ``meshnode.applied`` from the item applied last; only when the
COMMIT is answered does the writer move on itself.  So a fence that does not hold says
that the row was moved by somebody else, or by a COMMIT whose answer was lost, and in both cases
the stream is read again from where the row stands.

The long way (`meshnode.actors.apply_loop`), the straight one and parking all write
through the one writer of their stream.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from meshnode.actors.avoided import Avoided
from meshnode.actors.board import Board, PeerProgress
from meshnode.actors.fitting import Fitting
from meshnode.actors.intake import Ready
from meshnode.core.change import NetKey
from meshnode.core.plan import Plan, Work, make_plan
from meshnode.core.resolve import Local
from meshnode.errors import Fenced, Retry
from meshnode.faultpoints import fault, sending
from meshnode.store.port import Applying, Writing
from meshnode.store.values import Fence, Progress
from meshnode.topology import Region

SETTLE_SECONDS = 0.2
"""A fence that does not hold was overtaken, by a lost COMMIT that went through after all or by a
takeover.  Whichever it is gets so long to come to its end before the stream starts again."""


async def carry_out(
    session: Writing,
    works: Sequence[Work],
    origin: int,
    decide: Callable[[Mapping[NetKey, Local]], Plan],
    *,
    deep: bool,
    wait: bool,
) -> Plan:
    """Do in the open transaction what ``decide`` makes of the rows as they stand; what was done.

    ``origin`` published ``works``; ``deep`` and ``wait`` are those of `Writing.lock`.
    """
    state = await session.lock(works, deep, wait)
    plan = decide(state)
    images = await session.standing(plan)
    await session.write(plan)
    await session.look(plan)
    await session.record(plan, images, origin)
    return plan


class PeerWriter:
    """Writes what ``peer`` published into ``region``, on ``session``, from ``stored`` on.

    ``seq`` is that of the last item applied, ``incarnation`` that of the stream.  ``begun``: the
    fence of the present transaction is written, so that a lock is one of a row.
    """

    def __init__(
        self,
        region: Region,
        peer: Region,
        session: Applying,
        fitting: Fitting,
        board: Board,
        stored: Progress,
    ) -> None:
        self.region = region
        self.peer = peer
        self.session = session
        self.fitting = fitting
        self.board = board
        self.seq = stored.seq
        self.incarnation = stored.incarnation
        self.begun = False
        self.progress: PeerProgress = board.peer(peer.id)
        self.progress.seq, self.progress.frontier = stored.seq, stored.frontier
        self.progress.heard_us, self.progress.commit_us = stored.heard_us, stored.commit_us
        self.progress.position = stored.position

    def fence(self, batch: Sequence[Ready]) -> Fence:
        """The first write of the transaction that applies ``batch``."""
        mark = batch[-1].mark
        return Fence(self.peer.id, self.incarnation, mark, self.seq, self.board.apply_epoch)

    async def begin(self, batch: Sequence[Ready], format_bytes: bytes) -> None:
        """Open the transaction that applies ``batch``; Fenced or Retry if that is not ours to do.

        ``format_bytes`` is the format description that its images follow, if there are any.
        """
        self.begun = False
        if not await self.session.begin(format_bytes, self.fence(batch)):
            await self._fenced()
        self.begun = True
        fault("applier.fenced")

    async def write(
        self,
        works: Sequence[Work],
        *,
        deep: bool,
        wait: bool,
        split: bool,
        avoided: Avoided | None = None,
    ) -> Plan:
        """Carry ``works`` out in the open transaction unless ``avoided`` forbids; what was done."""

        def decide(state: Mapping[NetKey, Local]) -> Plan:
            fault("applier.locked")
            plan = make_plan(works, state, self.board.ancestry, self.fitting.wide, split)
            self.progress.observer.decided()
            if avoided is not None:
                avoided.plan(plan)
            return plan

        return await carry_out(self.session, works, self.peer.id, decide, deep=deep, wait=wait)

    async def commit(self) -> None:
        """Make the transaction last; `moved` when its answer has come."""
        fault("applier.commit")
        await sending("applier.commit.sent", self.session.commit())
        fault("applier.committed")

    def moved(self, batch: Sequence[Ready]) -> None:
        """The transaction that applies ``batch`` is committed: the next one begins behind it."""
        mark = batch[-1].mark
        self.seq = mark.seq
        progress = self.progress
        progress.seq, progress.position = mark.seq, mark.position
        progress.frontier = max(progress.frontier, mark.frontier)
        progress.heard_us = mark.heard_us
        progress.commit_us = max(progress.commit_us, mark.commit_us)
        progress.batch(sum(ready.rows for ready in batch), sum(ready.size for ready in batch))

    async def _fenced(self) -> None:
        """The row of this stream is not as this process left it: find out why."""
        await self.session.rollback()
        await asyncio.sleep(SETTLE_SECONDS)
        stored = await self.session.progress(self.peer.id)
        board = self.board
        if stored is not None and stored.epoch > board.apply_epoch:
            raise Fenced(
                f"region {self.region.name}: meshnode.applied has epoch {stored.epoch}, "
                f"this node applies under {board.apply_epoch}",
                "another node of this region took over: run only one",
            )
        self.session.close()
        seq = None if stored is None else stored.seq
        raise Retry(f"meshnode.applied for {self.peer.name} moved to item {seq}: reading it again")
