"""The applier of one peer's stream: batches, tries, and tries again.

As the node's ``actors/applier.py``: what is in the way of a
batch halves it, deepens the look, waits, or sets a row aside; a session that ends is
begun again from the row of ``applied``.
"""

from collections import deque

from meshnode.actors.effort import Effort
from meshnode.core.ledger import Ledger
from meshnode.core.plan import Plan, Work
from meshnode.core.runs import eligible, prove

from .actor import Fenced
from .clockwork import Process, Steps
from .database import APPLIED, Deadlock, Killed, Locked, RowError, Surprise, Tx
from .intake import INCARNATION, Intake, Progress, Ready
from .journal import Taken
from .parking import Parking
from .straight import write_straight
from .table import TABLES

SURPRISES, PATIENT_SURPRISES, DUPLICATES = 20, 5, 2


class Applier(Intake, Parking):
    """Applies the stream of region ``peer``."""

    def __init__(self, node, peer: int) -> None:
        super().__init__(node)
        self.peer = peer
        self.topic = node.region.topics[peer]
        self.link = node.region.links[peer]
        self.process: Process | None = None
        self.asleep = False
        self.seq = self.frontier = self.heard = 0
        self.topic.readers.append(self.notice)

    def run(self) -> Steps:
        yield from self.node.until_claimed()
        while True:
            try:
                yield from self._run()
            except Fenced:
                self.node.fenced()
                return
            except (Killed, RowError):
                self.counts["applier started again"] += 1
                yield 1 + int(self.rng.random() * 50_000)

    def _run(self) -> Steps:
        progress: Progress = self.database.plain(None, APPLIED + self.peer)
        self.seq, self.frontier, self.heard = progress.seq, progress.frontier, progress.heard
        self.ledger = Ledger(self.topic.sender.name, INCARNATION, progress.seq, progress.epoch)
        self.position = progress.position
        self.open: tuple[int, int, int, int] | None = None
        pending: deque[Ready] = deque()
        effort = Effort()
        detour = left = 0
        while True:
            if not pending:
                yield from self.more(pending)
            batch = self.next_batch(pending, effort)
            if self.region.straight and any(ready.segments for ready in batch):
                runs = all(ready.segments or not ready.items for ready in batch)
                if runs and not left:
                    if (yield from self.straight(batch)):
                        detour = 0
                        self._done(pending, batch, effort)
                        continue
                    left = detour = min(2 * detour + 1, 64)
                left = max(0, left - 1)
                self._take_apart(pending, batch)
                continue
            tx = self.begin("apply")
            try:
                yield from self.attempt(tx, batch, effort)
            except Locked:
                self.database.rollback(tx)
                self.counts["apply met a lock"] += 1
                if len(batch) > 1:
                    effort.items = max(1, len(batch) // 2)
                else:
                    effort.locked(self.clockwork.now / 1_000_000)
                    yield from self._pause(effort)
            except Surprise:
                self.database.rollback(tx)
                self.counts["apply surprised by a look"] += 1
                effort.deep = True
                effort.surprises += 1
                effort.split = effort.surprises > PATIENT_SURPRISES
                if effort.surprises > SURPRISES:
                    raise Killed from None
                yield from self._pause(effort)
            except RowError as error:
                self.database.rollback(tx)
                self._row_error(batch, effort, error)
                yield 1
            except Deadlock:
                self.counts["apply deadlocked"] += 1
                effort.items = max(1, len(batch) // 2)
                yield from self._pause(effort)
            else:
                self._done(pending, batch, effort)

    # Batches

    def next_batch(self, pending: deque[Ready], effort: Effort) -> list[Ready]:
        """The next batch: whole items, a huge transaction alone."""
        most = min(effort.items, 1 + int(self.rng.random() * self.region.apply_most))
        if effort.wait or effort.park:
            # What is tried again is the same batch.
            most = 1
        batch: list[Ready] = []
        for ready in pending:
            if batch and (len(batch) >= most or ready.huge or batch[0].huge):
                break
            batch.append(ready)
        return batch

    def _take_apart(self, pending: deque[Ready], batch: list[Ready]) -> None:
        """The items of runs go the long way, one by one."""
        for _ in batch:
            pending.popleft()
        for ready in reversed(batch):
            if ready.segments is None:
                pending.appendleft(ready)
                continue
            for item in reversed(ready.items):
                mark = ready.mark
                if item.seq != mark.seq:
                    mark = mark._replace(seq=item.seq, position=ready.start)
                pending.appendleft(Ready(mark, (item,)))

    def _done(self, pending: deque[Ready], batch: list[Ready], effort: Effort) -> None:
        for _ in batch:
            pending.popleft()
        self.seq = batch[-1].mark.seq
        effort.reset()
        effort.grow()

    def _row_error(self, batch: list[Ready], effort: Effort, error: RowError) -> None:
        self.counts["apply met a row error"] += 1
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

    def _pause(self, effort: Effort) -> Steps:
        yield int(effort.pause * 1_000_000)
        effort.pause = min(effort.pause * 2, 0.5)

    # One try

    def attempt(self, tx: Tx, batch: list[Ready], effort: Effort) -> Steps:
        """One whole try at ``batch``: everything or an error."""
        tx.logged.applied = True
        huge = batch[0].huge
        items = self.parts_of(huge) if huge else [each for ready in batch for each in ready.items]
        tx.notes = Taken(self.peer, items, [])
        yield from self.fence(tx, batch[-1].mark)
        works = [self.topic.work(item) for item in items if item.entries]
        if not works:
            self.database.commit(tx)
            return
        if self.node.slowness:
            yield self.step()
        plans: list[Plan] = []
        if not huge:
            if works and effort.park:
                yield from self.park(tx, works[0], effort.aside, plans)
            elif works:
                plans.append(
                    (yield from self.outcomes(tx, works, effort.deep, effort.wait, effort.split))
                )
        else:
            self.counts["huge transaction"] += 1
            for work in works:
                yield from self._part(tx, work, effort, plans)
        for plan in plans:
            for at, stamp, base in plan.written:
                self.node.ancestry.note(at, stamp, base)
        yield from self.commit(tx)
        self.counts["applied as it was"] += sum(plan.exact_items for plan in plans)

    def _part(self, tx: Tx, work: Work, effort: Effort, plans: list[Plan]) -> Steps:
        database = self.database
        if effort.fresh and self.region.straight and eligible(work.item, TABLES):
            segments = prove([work.item], TABLES)
            if segments:
                mark = database.savepoint(tx)
                try:
                    if (yield from write_straight(self, tx, segments)):
                        return
                except (Surprise, RowError):
                    database.rollback_to(tx, mark)
        if not effort.park:
            plan = yield from self.outcomes(tx, [work], effort.deep, effort.wait, effort.split)
            plans.append(plan)
            return
        mark = database.savepoint(tx)
        try:
            plan = yield from self.outcomes(tx, [work], effort.deep, effort.wait, effort.split)
        except (RowError, Locked) as error:
            if isinstance(error, Locked) and not effort.aside:
                raise
            database.rollback_to(tx, mark)
            yield from self.park(tx, work, effort.aside, plans)
        else:
            plans.append(plan)

    def straight(self, batch: list[Ready]) -> Steps:
        """Write a batch of runs straight; False if nothing is left of the try."""
        segments = [segment for ready in batch for segment in ready.segments or ()]
        tx = self.begin("apply")
        tx.logged.applied = True
        items = [item for ready in batch for item in ready.items]
        tx.notes = Taken(self.peer, items, [])
        try:
            yield from self.fence(tx, batch[-1].mark)
            if self.node.slowness:
                yield self.step()
            done = yield from write_straight(self, tx, segments)
        except (Surprise, RowError, Locked, Deadlock):
            done = False
        if not done:
            self.database.rollback(tx)
            self.counts["detour"] += 1
            return False
        ancestry = self.node.ancestry
        for segment in segments:
            ancestry.note_all(segment.table, segment.keys, segment.stamps, segment.bases)
        yield from self.commit(tx)
        self.counts["straight"] += 1
        return True

    def fence(self, tx: Tx, mark: Progress) -> Steps:
        """The first write: it must find the row as this process left it."""
        record, database = APPLIED + self.peer, self.database
        if not database.acquire(tx, record):
            yield from self.take(tx, record)
        found: Progress = database.records[record]
        if not self.stands(found):
            database.rollback(tx)
            yield from self._fenced()
        seq, epoch, position, frontier, heard, _ = mark
        after = Progress(
            seq, epoch, position, max(frontier, found.frontier), heard, found.own_epoch
        )
        database.set(tx, record, after)

    def stands(self, found: Progress) -> bool:
        """``WHERE seq = old AND epoch = mine``."""
        return found.seq == self.seq and found.own_epoch == self.node.apply_epoch

    def _fenced(self) -> Steps:
        """The row is not as this process left it: find out why."""
        self.counts["apply fenced"] += 1
        yield 200_000
        found: Progress = self.database.plain(None, APPLIED + self.peer)
        if found.own_epoch > self.node.apply_epoch:
            raise Fenced
        raise Killed
