"""C1: the scripted races of locks and stamps, which are tests of their own.

They need no load and no chance: two or three sessions, step by step, with exact expected rows,
each rule once on and once off.  So the scenario runs those tests and reports how they ended.
"""

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ABOUT = "stamp and lock races: the scripted tests of tests/integration/test_races_*.py"
ROOT = Path(__file__).resolve().parents[1]
FILES = (
    "tests/integration/test_races_stamps.py",
    "tests/integration/test_races_locks.py",
)
SECONDS = 900.0


@dataclass(frozen=True)
class Outcome:
    """How the tests ended; ``log`` is the file with what pytest said."""

    good: bool
    passed: int
    failed: int
    seconds: float
    log: Path

    def __str__(self) -> str:
        word = "good" if self.good else f"WRONG, see {self.log}"
        return (
            f"C1   {self.passed} races passed, {self.failed} failed, {self.seconds:.0f} s: {word}"
        )

    def as_dict(self) -> dict[str, object]:
        """The outcome as JSON takes it."""
        return {
            "scenario": "C1", "good": self.good, "passed": self.passed, "failed": self.failed,
            "seconds": round(self.seconds, 1), "log": str(self.log),
        }  # fmt: skip


def run(folder: Path) -> Outcome:
    """Run the tests; their output goes to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "C1.log"
    began = time.monotonic()
    with log.open("wb") as sink:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *FILES],
            cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            timeout=SECONDS, check=False,
        )  # fmt: skip
    said = log.read_text(errors="replace")

    def count(word: str) -> int:
        found = re.findall(rf"(\d+) {word}", said)
        return int(found[-1]) if found else 0

    return Outcome(
        done.returncode == 0 and count("passed") > 0,
        count("passed"),
        count("failed") + count("error"),
        time.monotonic() - began,
        log,
    )
