"""What clients were told and what each region showed: the oracle's own notes.

It knows values and histories, no decisions: nothing of ``meshnode`` is used.
"""

from collections import defaultdict
from dataclasses import dataclass

Key = tuple[int, int]
"""Region and key."""


@dataclass(frozen=True)
class Write:
    """An acknowledged write; ``seen`` are the values that its region had shown at the key.

    ``stamped``: a trigger gave it a version of its own.  Two writes without look
    like one version to everybody, so a record of the loser is not always possible.
    """

    region: int
    key: int
    seen: frozenset[int]
    stamped: bool


@dataclass(frozen=True)
class Change:
    """A region shows ``value`` from here on; ``by`` names the tombstone of an applied delete."""

    source: str
    value: int | None
    by: tuple | None = None


class Journal:
    """Everything the oracle is told while the schedule runs."""

    def __init__(self) -> None:
        self.values = 0
        self.writes: dict[int, Write] = {}
        self.passed: dict[int, frozenset[int]] = {}
        """What was seen by values that their own transaction wrote over: of a transaction in
        parts a peer may show one, while the last is on its way as a lift."""
        self.deletes: dict[tuple, frozenset[int]] = {}
        self.history: dict[Key, list[Change]] = defaultdict(list)
        self.seen: dict[Key, set[int]] = defaultdict(set)
        self.records: set[int] = set()
        """Values that a conflict record of some region holds."""

    def new_value(self) -> int:
        self.values += 1
        return self.values

    def committed(self, region: int, client) -> None:
        """A client's transaction: the rows it left (``None``: none) and what it did on its way."""
        for key, value in client.made:
            self.passed[value] = frozenset(self.seen[region, key])
        for key, stamp in client.deleted:
            self.deletes[(key, tuple(stamp))] = frozenset(self.seen[region, key])
        for key, row in client.rows.items():
            seen = frozenset(self.seen[region, key])
            if row is not None:
                self.writes[row[1]] = Write(region, key, seen, client.triggers)
            self._show(region, key, "local", None if row is None else row[1])

    def applied(self, region: int, before, after) -> None:
        """An apply transaction moved the region from ``before`` to ``after``."""
        for key in before.rows.keys() | after.rows.keys():
            old, new = before.rows.get(key), after.rows.get(key)
            if old != new and (old is None or new is None or old[1] != new[1]):
                by = None if new is not None else (key, tuple(after.tombs[key]))
                self._show(region, key, "apply", None if new is None else new[1], by)

    def buried(self, region: int, key: int) -> None:
        """A late tombstone took the row."""
        self._show(region, key, "late tombstone", None)

    def recorded(self, image: bytes) -> None:
        """A conflict record holds ``image`` as the loser."""
        self.records.add(int.from_bytes(image[9:13], "little"))

    def _show(self, region: int, key: int, source: str, value, by=None) -> None:
        self.history[region, key].append(Change(source, value, by))
        if value is not None:
            self.seen[region, key].add(value)

    def unexplained(self) -> list[str]:
        """Acknowledged writes that vanished in their own region, unseen by what beat them."""
        found = []
        for value, write in self.writes.items():
            changes = self.history[write.region, write.key]
            place = next(n for n, change in enumerate(changes) if change.value == value)
            if place + 1 == len(changes):
                continue
            after = changes[place + 1]
            if after.source == "local" or not write.stamped:
                continue
            if after.value is not None:
                seen = self.passed[after.value]
            else:
                seen = self.deletes.get(after.by, frozenset())
            if value in seen or value in self.records:
                continue
            found.append(
                f"write {value} of key {write.key} in region {write.region} "
                f"gave way to {after} without a record"
            )
        return found
