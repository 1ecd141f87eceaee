"""What happened in a run, line by line, and what was found wrong.

Each line is JSON: seconds since the load began, what it is about, details.  It is written at
once, so that it is there when the run itself is killed.
"""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

SHOWN = 8
"""Findings of one check by one judge that are kept with their text; the rest is counted."""


class Journal:
    """The file ``path``; ``findings`` are what must not be, by the name of the check.

    ``suspicions`` (check, text, region) are findings unless that region restamped rows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab")
        self._began = time.monotonic()
        self.findings: list[tuple[str, str]] = []
        self.suspicions: list[tuple[str, str, str]] = []
        self.more = 0
        self._alike: Counter[tuple[str, str]] = Counter()
        self.events: list[dict[str, Any]] = []
        """What the picture shows: faults with their beginning and end."""

    def begin(self) -> None:
        """The load begins: time 0."""
        self._began = time.monotonic()
        self.note("begin")

    @property
    def now(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self._began

    def note(self, about: str, **details: Any) -> None:
        line = {"at": round(self.now, 3), "about": about, **details}
        self._file.write(orjson.dumps(line, default=str) + b"\n")
        self._file.flush()

    def find(self, check: str, text: str) -> None:
        """Something is wrong."""
        self.note("finding", check=check, text=text)
        alike = check, text.partition(":")[0]
        self._alike[alike] += 1
        if self._alike[alike] <= SHOWN:
            self.findings.append((check, text))
        else:
            self.more += 1

    def suspect(self, check: str, text: str, origin: str) -> None:
        """A transaction of ``origin`` was seen in part: wrong, unless rows of it were restamped."""
        self.note("suspicion", check=check, text=text, origin=origin)
        self.suspicions.append((check, text, origin))

    def close(self) -> None:
        self._file.close()
