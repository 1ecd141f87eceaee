"""Rows of one item that cannot apply here, found by halving under savepoints, and set aside.

As the node's ``actors/parking.py``: what fails alone becomes a letter in the transaction
that moves the position, the rest of the item applies.
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple

from meshnode.core.apart import Apart
from meshnode.core.check import Incoming
from meshnode.core.plan import Plan, Work

from .applying import Applying
from .clockwork import Steps
from .database import LETTERS, Locked, RowError, Tx
from .table import key_of

DUPLICATE = 1062

Unable = tuple[Incoming, RowError | Locked]


class Letter(NamedTuple):
    """A row of ``dead_letter``; ``code`` is 0 for one that was only locked.

    ``noted``: a replay found more in its way than a lock.
    """

    origin: int
    work: Work
    incoming: Incoming
    code: int
    state: str
    noted: bool = False

    @property
    def key(self) -> int:
        return key_of(self.incoming.at[1])

    @property
    def stamp(self) -> tuple[int, int]:
        return self.incoming.entry.stamp

    @property
    def parked(self) -> bool:
        """Left to an operator, or waiting for something else than a lock."""
        return self.state == "open" or (self.state == "replay" and not self.code and self.noted)


class Parking(Applying):
    """An apply transaction that sets aside what it cannot apply."""

    peer: int

    def park(
        self, tx: Tx, work: Work, aside: bool, plans: list[Plan]
    ) -> Generator[int | None, None, None]:
        """Apply what can be applied of ``work``; a letter for each of the rest."""
        parked: list[Unable] = []
        apart = Apart()
        yield from self._attempt(tx, work, work.incoming, parked, aside, plans)
        while True:
            again = [incoming for incoming, error in parked if _duplicate(error)]
            left = [each for each in parked if not _duplicate(each[1])]
            yield from self._attempt(tx, work, again, left, aside, plans)
            if len(left) == len(parked):
                settled: Sequence[Incoming] = ()
                for part in apart.parts(again):
                    if (yield from self._whole(tx, work, part, aside, plans)) is None:
                        settled = part
                        break
                if not settled:
                    break
                left = [each for each in parked if all(each[0] is not one for one in settled)]
            parked = left
        for incoming, error in parked:
            code = error.code if isinstance(error, RowError) else 0
            self.write_letter(tx, work, incoming, code)

    def write_letter(self, tx: Tx, work: Work, incoming: Incoming, code: int) -> None:
        """The letter of a row that cannot apply now."""
        letter = Letter(self.peer, work, incoming, code, "open" if code else "replay")
        self.counts["row parked" if code else "locked row set aside"] += 1
        self.database.letters += 1
        record = LETTERS + self.database.letters
        self.database.acquire(tx, record)
        self.database.set(tx, record, letter)
        tx.notes.parked.append((letter.key, tuple(letter.stamp)))

    def _attempt(
        self,
        tx: Tx,
        work: Work,
        incoming: Sequence[Incoming],
        parked: list[Unable],
        aside: bool,
        plans: list[Plan],
    ) -> Steps:
        """Apply the outcomes ``incoming``, halving what fails."""
        if not incoming:
            return
        error = yield from self._whole(tx, work, incoming, aside, plans)
        if error is None:
            return
        if len(incoming) == 1:
            parked.append((incoming[0], error))
            return
        middle = len(incoming) // 2
        yield from self._attempt(tx, work, incoming[:middle], parked, aside, plans)
        yield from self._attempt(tx, work, incoming[middle:], parked, aside, plans)

    def _whole(
        self, tx: Tx, work: Work, incoming: Sequence[Incoming], aside: bool, plans: list[Plan]
    ) -> Generator[int | None, None, RowError | Locked | None]:
        """Apply the outcomes ``incoming``, all or none; why not."""
        mark = self.database.savepoint(tx)
        try:
            part = Work(work.item, work.scanned, list(incoming))
            plan = yield from self.outcomes(tx, [part], True, not aside, True)
        except (RowError, Locked) as error:
            if isinstance(error, Locked) and not aside:
                raise
            self.database.rollback_to(tx, mark)
            return error
        plans.append(plan)
        return None


def _duplicate(error: RowError | Locked) -> bool:
    return isinstance(error, RowError) and error.code == DUPLICATE
