"""What of a topic of the file bus counts against its size.

Theory of operation.  The owner says again and again how far it has noted its topic, its
*floor*, which moves only with whole transactions.  A member reads a transaction in
parts to its end before it applies the first of them.  If all of it counted, one that
is as large as the topic may be would take with it what members are about to read, however
close they follow.  So the newest such *stretch*, between two floors or behind the floor,
does not count until as much follows it as the topic may hold: a topic has at most its size
and one such stretch.
"""


class Allowance:
    """The stretch of one topic that does not count; offsets and sizes in bytes.

    A stretch is ``long`` bytes or more.  ``most`` is what a topic may hold.
    """

    def __init__(self, long: int, most: int) -> None:
        self._long = long
        self._most = most
        self._floor: int | None = None
        self._stretch = (0, 0)

    def note(self, floor: int, end: int) -> None:
        """The owner has noted its topic up to ``floor``; it ends at ``end``."""
        former = floor if self._floor is None else self._floor
        self._floor = floor
        if floor - former >= self._long:
            self._stretch = former, floor
        elif end - floor >= self._long:
            self._stretch = floor, end
        elif end - self._stretch[1] > self._most:
            self._stretch = 0, 0

    def counted(self, base: int, end: int) -> int:
        """How much between ``base`` and ``end`` counts."""
        first, last = self._stretch
        return end - base - max(0, last - max(base, first))
