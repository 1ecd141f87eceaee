"""What an apply transaction did: gathered plan by plan, and counted once it is committed.

A rollback must leave no trace in the counters.  What was written over what is another matter: it
is told by the streams, and stays true where it was rolled back and comes once more.  It has to be
known before the COMMIT is sent, as another applier may lock the row, and ask who wrote over what,
before its answer is here.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

from meshnode import limits
from meshnode.actors.board import Board, PeerProgress
from meshnode.core.change import NetKey
from meshnode.core.plan import Ancestry, Plan
from meshnode.core.runs import Segment
from meshnode.core.stamp import Stamp


class Tally:
    """The sums of one transaction's plans; of what was written as much as the ancestry keeps.

    Of runs these are the columns: their images are let go of.
    """

    def __init__(self, transactions: int = 0) -> None:
        self.counts: Counter[str] = Counter(applied_transactions=transactions)
        self.conflicts: Counter[tuple[str, str]] = Counter()
        self.disputed: Counter[str] = Counter()
        self.written: deque[tuple[NetKey, Stamp, Stamp]] = deque(maxlen=limits.BASES_KEPT)
        self.straight: deque[Segment] = deque()

    def add(self, plan: Plan) -> None:
        """A plan was carried out."""
        self.counts["applied_rows"] += plan.rows
        self.counts["conflicts"] += len(plan.records)
        for record in plan.records:
            self.conflicts[record.incoming.at[0].title, record.conflict.kind] += 1
            self.disputed[record.item.tx_id] += 1
        self.written.extend(plan.written)

    def add_straight(self, segments: Sequence[Segment]) -> None:
        """Runs were written straight."""
        rows = sum(len(segment.keys) for segment in segments)
        self.counts["applied_rows"] += rows
        self.counts["applied_straight"] += rows
        # A huge transaction lasts for long, and its rows may be large.
        self.straight.extend(replace(segment, rows=b"") for segment in segments)
        kept = sum(len(segment.keys) for segment in self.straight)
        while kept > limits.BASES_KEPT and len(self.straight) > 1:
            kept -= len(self.straight.popleft().keys)

    def remember(self, ancestry: Ancestry) -> None:
        """The transaction is about to be committed."""
        for at, stamp, base in self.written:
            ancestry.note(at, stamp, base)
        for segment in self.straight:
            ancestry.note_all(segment.table, segment.keys, segment.stamps, segment.bases)

    def count(self, board: Board, progress: PeerProgress) -> None:
        """The transaction is committed."""
        board.counts.update(self.counts)
        board.conflicts.update(self.conflicts)
        progress.counts.update(self.counts)
        progress.observer.applied(self.disputed, self.counts["parked"])
