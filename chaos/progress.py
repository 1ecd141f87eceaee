"""Whether something goes on, judged without a clock that has to be right (I8).

Theory of operation.  Whoever is watched has a number that only grows: the newest beat of an origin
that a region has applied, the transactions that a client was answered.  It has to reach a
*goal*, and may take as long as it moves.  It stands still only when it has not moved for a patience
that no slow machine needs, and that time counts only while somebody looked: between two looks at
most ``MOST_STEP`` is added, so that a machine that froze as a whole is no finding.

Nothing here waits or asks anybody; :mod:`chaos.unhurt` does.
"""

from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

PATIENCE_SECONDS = 120.0
MOST_STEP = 1.0

Name = TypeVar("Name", bound=Hashable)


class Chase(Generic[Name]):
    """``goals`` are the numbers to be reached, by name, from the time ``now`` (seconds) on."""

    def __init__(self, goals: Mapping[Name, int], now: float) -> None:
        self.open = dict(goals)
        self._at: dict[Name, int | None] = dict.fromkeys(goals)
        self._stood = dict.fromkeys(goals, 0.0)
        self._looked = now

    def look(self, now: float, numbers: Mapping[Name, int]) -> None:
        """What stands where at the time ``now``; whoever is not in ``numbers`` has not moved."""
        step = min(MOST_STEP, max(0.0, now - self._looked))
        self._looked = now
        for name, goal in list(self.open.items()):
            number = numbers.get(name, self._at[name])
            if number is not None and number >= goal:
                del self.open[name]
            elif number != self._at[name]:
                self._at[name], self._stood[name] = number, 0.0
            else:
                self._stood[name] += step

    def leave(self, names: Iterable[Name]) -> None:
        """These need not reach their goals any more."""
        for name in names:
            self.open.pop(name, None)

    def still(self, patience: float = PATIENCE_SECONDS) -> list[Name]:
        """Those that have not moved for ``patience`` seconds of looking, in order of goals."""
        return [name for name in self.open if self._stood[name] >= patience]


def behind(beats: Mapping[str, int], heard: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
    """The pairs (reader, origin) of which the reader has not applied the origin's ``beats``."""
    return [
        (reader, origin)
        for origin, beat in beats.items()
        for reader in beats
        if reader != origin and heard.get((reader, origin), -1) < beat
    ]


def ahead(region: str, tail: int, applied: Mapping[str, int], ends: Mapping[str, int]) -> list[str]:
    """What is wrong with the positions of ``region`` (I9); ``ends`` are the topics' last items.

    ``tail`` is the item that its tailer has noted as published, ``applied`` the items that its
    appliers have noted, by origin; both were read before the topics.
    """
    noted = {region: tail} | dict(applied)
    return [
        f"{region} has noted item {seq} of {origin}, whose topic ends with item {ends[origin]}"
        for origin, seq in noted.items()
        if origin in ends and seq > ends[origin]
    ]
