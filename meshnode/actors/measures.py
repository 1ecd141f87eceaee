"""Small counting instruments for the board: cheap to feed, read whenever somebody asks.

An actor feeds them on its way, in constant time and without waiting; nothing is worked
out before a reader comes.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence

BATCH_ROWS = (1, 4, 16, 64, 256, 1024, 4096, 16384)
"""Bounds of the batch sizes, in rows; a batch is at most ``limits.BATCH_ROWS`` unless one
transaction alone is larger."""

DELAYS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0)
"""Bounds of the event loop's delay, in seconds."""

WINDOW_SECONDS = 30.0


class Histogram:
    """Counts of values by fixed upper bounds, ascending; above the last one nothing is told apart.

    ``counts`` has one more entry than ``bounds``; ``total`` is the sum of all values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count ``value`` in the first bucket whose bound it does not exceed."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, int]]:
        """``(bound, how many values up to it)``, the last bound being ``+Inf``."""
        told = []
        below = 0
        for bound, count in zip((*map(float, self.bounds), "+Inf"), self.counts):
            below += count
            told.append((str(bound), below))
        return told


class RecentMaximum:
    """The greatest value noted within the last 30 to 60 seconds."""

    __slots__ = ("_clock", "_former", "_now", "_turned")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._now: float | None = None
        self._former: float | None = None
        self._turned = clock()

    def note(self, value: float) -> None:
        self._turn()
        self._now = value if self._now is None else max(self._now, value)

    def value(self) -> float | None:
        """The maximum; None when nothing was noted lately."""
        self._turn()
        noted = [value for value in (self._now, self._former) if value is not None]
        return max(noted, default=None)

    def _turn(self) -> None:
        """Two halves, so that no list of values has to be kept."""
        now = self._clock()
        passed = now - self._turned
        if passed >= WINDOW_SECONDS:
            self._former = self._now if passed < 2 * WINDOW_SECONDS else None
            self._now = None
            self._turned = now
