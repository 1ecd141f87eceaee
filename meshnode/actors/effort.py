"""What earlier tries at a batch have taught: how the next one is made."""

from meshnode import limits

SHORT_OF_PATIENCE_SECONDS = 60.0
"""For so long after rows were set aside, further locked rows are set aside at once."""


class Effort:
    """How the present batch is tried: what earlier tries have taught."""

    def __init__(self) -> None:
        self.items = 1_000_000
        self._impatient_until = 0.0
        self.reset()

    def reset(self) -> None:
        """A batch went through: the next one starts afresh and may be larger."""
        self.deep = self.wait = self.split = self.park = self.aside = False
        self.surprises = self.duplicates = 0
        self.pause = 0.002
        self._locked_since = 0.0

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

    def grow(self) -> None:
        self.items = min(self.items * 2, 1_000_000)
