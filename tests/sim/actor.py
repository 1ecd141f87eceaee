"""What the actors of a node have in common: a session's statements take time, and may fail.

An actor's process can be ended at every ``yield``.  Its session then lingers, with its
locks and with a COMMIT that may still arrive, until the link breaks for the server too
or a successor kills it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

from .clockwork import Steps
from .database import Deadlock, Locked, Tx

if TYPE_CHECKING:
    from .node import Node

LOCK_WAIT = 2_000_000
"""``innodb_lock_wait_timeout`` of the node's sessions, in microseconds."""

PATIENCE = (2_000, 5_000, 15_000, 40_000)
"""Pauses of the mender before a locked key is tried again."""


class Fenced(Exception):
    """Another process of the region has taken over: this one ends."""


class Actor:
    """An actor of ``node``; its statements take up to ``node.slowness`` microseconds each."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.region = node.region
        self.database = node.region.database
        self.number = node.region.number
        self.rng = node.region.rng
        self.counts = node.region.counts
        self.clockwork = self.database.clockwork

    def step(self) -> int:
        """How long one statement takes."""
        return 1 + int(self.rng.random() * self.node.slowness)

    def begin(self, kind: str) -> Tx:
        tx = self.database.begin(kind, self.node)
        tx.process = self.clockwork.current
        return tx

    def take(self, tx: Tx, record: int) -> Steps:
        """Lock a record for a write, waiting for it; raises Locked or Deadlock."""
        if not self.database.acquire(tx, record):
            yield from self.database.wait(tx, record, LOCK_WAIT)

    def commit(self, tx: Tx) -> Steps:
        """Send COMMIT and wait for the answer; either may be lost with this process."""
        database = self.database
        if self.node.slowness:
            tx.sent = True
            yield self.step()
            database.commit(tx)
            yield self.step() + database.commit_lag
        else:
            database.commit(tx)
            if database.commit_lag:
                yield database.commit_lag

    def halve(
        self,
        entries: Sequence,
        work: Callable[[Sequence], Steps],
        pauses: Sequence[int] = PATIENCE,
    ) -> Generator[int | None, None, list]:
        """Run ``work`` on all entries together, halving what meets a lock; what stayed locked."""
        locked = yield from self._halve_once(entries, work)
        for pause in pauses:
            if not locked:
                break
            yield pause
            locked = yield from self._halve_once(locked, work)
        return locked

    def _halve_once(
        self, entries: Sequence, work: Callable[[Sequence], Steps]
    ) -> Generator[int | None, None, list]:
        locked: list = []
        todo = [entries] if entries else []
        while todo:
            chunk = todo.pop(0)
            try:
                yield from work(chunk)
            except (Locked, Deadlock):
                if len(chunk) == 1:
                    locked.append(chunk[0])
                else:
                    middle = len(chunk) // 2
                    todo[:0] = [chunk[:middle], chunk[middle:]]
        return locked
