"""The fault points of a mesh's nodes: which are armed, and which nodes have died at them."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from meshnode import faultpoints


class Points:
    """The file ``file``, which nodes read that were started with its name in their environment."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._chances: dict[str, float] = {}
        self._sure: Counter[str] = Counter()
        self._seed = 0

    def arm(self, chances: dict[str, float], seed: int) -> None:
        """Arm fault points in all nodes that were started with them."""
        self._chances, self._seed = dict(chances), seed
        self._write_points()

    @contextlib.contextmanager
    def sure(self, point: str) -> Iterator[None]:
        """Every node that passes ``point`` meanwhile dies there."""
        self._sure[point] += 1
        self._write_points()
        try:
            yield
        finally:
            self._sure[point] -= 1
            self._write_points()

    def _write_points(self) -> None:
        chances = self._chances | {name: 1.0 for name, count in self._sure.items() if count > 0}
        points = {name: {"chance": chance} for name, chance in chances.items()}
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps({"seed": self._seed, "points": points}))
        part.rename(self.file)

    def deaths(self) -> dict[str, int]:
        """How many nodes have died at each fault point there is."""
        found = dict.fromkeys(faultpoints.POINTS, 0)
        for line in self.fired():
            found[line["point"]] += line["action"] == "kill"
        return found

    def fired(self) -> list[dict]:
        """What the points did so far."""
        path = self.file.with_name(self.file.name + ".fired")
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]

    @property
    def shot(self) -> set[int]:
        """The processes that a point has ended."""
        return {line["pid"] for line in self.fired() if line["action"] == "kill"}
