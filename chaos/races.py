"""C1: the scripted races of locks and stamps, which are tests of their own.

They need no load and no chance: two or three sessions, step by step, with exact expected rows.
The rules of applying and of stamps are each shown once on and once off
(``test_rules_of_*.py``); the other files show them on, in the races and stops that they are for,
and the mutation gates of the simulations show them off.  The scenario runs those tests and reports
how they ended.
"""

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ABOUT = "stamp and lock races: scripted tests of tests/integration"
ROOT = Path(__file__).resolve().parents[1]
FILES = (
    "tests/integration/test_races_*.py",
    "tests/integration/test_rules_of_*.py",
    "tests/integration/test_straight_way.py",
    "tests/integration/test_triggers.py",
    "tests/integration/test_tombstone_triggers.py",
    "tests/integration/test_stops.py",
    "tests/integration/test_mend_entries.py",
)
SECONDS = 1800.0


@dataclass(frozen=True)
class Outcome:
    """How the tests ended; ``log`` is the file with what pytest said."""

    good: bool
    passed: int
    failed: int
    skipped: int
    seconds: float
    log: Path

    @property
    def line(self) -> str:
        """One line that names no folder."""
        return (
            f"C1   {self.passed} races passed, {self.failed} failed, {self.skipped} skipped,"
            f" {self.seconds:.0f} s: {'good' if self.good else 'WRONG'}"
        )

    def __str__(self) -> str:
        return self.line if self.good else f"{self.line}, see {self.log}"

    def as_dict(self) -> dict[str, object]:
        """The outcome as JSON takes it."""
        return {
            "scenario": "C1", "good": self.good, "passed": self.passed, "failed": self.failed,
            "skipped": self.skipped, "seconds": round(self.seconds, 1),
        }  # fmt: skip


def outcome(code: int, said: str, seconds: float, log: Path) -> Outcome:
    """What pytest's exit ``code`` and last line mean: a race that was skipped is none."""
    last = said.rstrip().rpartition("\n")[2]

    def count(word: str) -> int:
        found = re.search(rf"(\d+) {word}", last)
        return int(found[1]) if found else 0

    passed, skipped = count("passed"), count("skipped")
    failed = count("failed") + count("error")
    good = code == 0 and passed > 0 and not failed and not skipped
    return Outcome(good, passed, failed, skipped, seconds, log)


def scripted() -> list[Path]:
    """The files with the tests."""
    return sorted(path for pattern in FILES for path in ROOT.glob(pattern))


def run(folder: Path) -> Outcome:
    """Run the tests; their output goes to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "C1.log"
    files = [str(path.relative_to(ROOT)) for path in scripted()]
    began = time.monotonic()
    with log.open("wb") as sink:
        try:
            code = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
                cwd=ROOT, stdout=sink, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                timeout=SECONDS, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = -1
    said = log.read_text(errors="replace")
    return outcome(code, said, time.monotonic() - began, log)
