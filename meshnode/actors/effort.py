"""What earlier tries at a batch have taught: how the next one is made.

Theory of operation.  Most batches go in at once, as they came; what costs more is only done when
something was in the way, and forgotten with the batch.  Each flag is one more step from cheap
and hopeful to slow and certain:

- ``deep``: read the tombstone of every key, not only of those that are removed.  After a
  surprise, for the plan was made without knowing of something.
- ``wait``: wait for locked rows for a while, not at all otherwise.  Only a single item does.
- ``split``: write an item's outcomes as all deletes, then all writes, whatever its origin did:
  one row may hold the unique value that another one of the item needs.
- ``park``: find the rows of a single item that cannot stand here, and put them aside.
- ``aside``: count rows that are locked among these.  Who holds them may be away for hours.

``items`` bounds the next batch: halved by trouble, doubled by every success.

``avoided`` outlives the batch: locks that batch after batch would wait for.
"""

from meshnode import limits
from meshnode.actors.avoided import Avoided

SHORT_OF_PATIENCE_SECONDS = 60.0
"""For so long after rows were set aside, further locked rows are set aside at once."""


SAME_FAILURES = 20
"""So often the same number of MySQL passes for trouble that goes away: several seconds."""


class Effort:
    """How the present batch is tried.

    ``surprises`` and ``duplicates`` count what it has met; ``pause``: seconds until the next try.
    """

    def __init__(self) -> None:
        self.items = 1_000_000
        self.avoided = Avoided()
        self._impatient_until = 0.0
        self.reset()

    def reset(self) -> None:
        """A batch went through: the next one starts afresh and may be larger."""
        self.deep = self.wait = self.split = self.park = self.aside = False
        self.surprises = self.duplicates = 0
        self.pause = 0.002
        self._locked_since = 0.0
        self._failures = (0, 0)

    @property
    def fresh(self) -> bool:
        """Whether nothing has been in the way of the batch yet."""
        return not (self.deep or self.wait or self.split or self.park)

    def locked(self, now: float) -> None:
        """A single item has met a row lock; ``now`` in seconds of any steady clock.

        Who holds it may hold it for hours: after a while the rows that can be had are
        applied without it, and at once where that has happened a moment ago.
        """
        self.wait = True
        self._locked_since = self._locked_since or now
        if now - self._locked_since >= limits.LOCKED_SECONDS or now < self._impatient_until:
            self.park = self.aside = True
            self._impatient_until = now + SHORT_OF_PATIENCE_SECONDS

    def failed(self, code: int) -> bool:
        """A try has failed with MySQL's number ``code``; whether it is always the same.

        It may be of a row that cannot stand here, with a number that nobody has foreseen, or of
        a full disk: an operator has to see to it.  0 stands for what goes away by itself.
        """
        before, times = self._failures
        self._failures = (code, times + 1 if code and code == before else 1)
        return self._failures[1] > SAME_FAILURES

    def grow(self) -> None:
        """The next batch may be twice as large."""
        self.items = min(self.items * 2, 1_000_000)
