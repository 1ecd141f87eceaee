"""Which rows of one item are tried together, where not all of them can stand.

Theory of operation.  Rows that exchange unique values go in together or not at all: each alone
meets the value that another one still holds.  One more row, whose value belongs to a row beside
the item, lets all of them fail: as a whole because of that row, alone because of each other.
MySQL does not say which one it is, so parts are tried: all but one, then pairs (most exchanges
are of two), all but two, three, and so on.

A part that goes in takes nothing from the others.  In the end no two rows of an item want the same
value, and each gives up one that the others may need.  So the first part that goes in is taken,
and the rest is looked at anew; what is left when nothing goes in any more is parked.

There are many parts, and rows are locked meanwhile: what is tried of one item is bounded.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TypeVar

TRIES = 200
"""Parts of one item that are tried at most."""

ROWS = 20_000
"""Rows that these parts have at most, all together."""

Row = TypeVar("Row")


class Apart:
    """What is tried of one item; ``parts`` may be asked again after each part that went in."""

    def __init__(self) -> None:
        self.tries = TRIES
        self.rows = ROWS

    def parts(self, rows: Sequence[Row]) -> Iterator[tuple[Row, ...]]:
        """Parts of ``rows``, of which neither all together nor any one alone goes in."""
        for size in _sizes(len(rows)):
            if not self.tries:
                return
            if self.rows < size:
                continue
            for part in combinations(rows, size):
                if not self.tries or self.rows < size:
                    break
                self.tries -= 1
                self.rows -= size
                yield part


def _sizes(count: int) -> list[int]:
    """All but one, two, all but two, three, ...: each size once."""
    found: dict[int, None] = {}
    for less in range(1, count):
        found[count - less] = None
        found[less + 1] = None
    return [size for size in found if 1 < size < count]
