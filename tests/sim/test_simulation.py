"""Twenty thousand seeded schedules of whole meshes; every rare branch is met in them.

More of them, and one to look at: ``python -m tests.sim --help``.
"""

import subprocess
import sys

import pytest

from meshnode.core.mend import Examiner

from .aims import AIMS
from .run import fingerprint, run, run_many
from .shrink import failure, shrink, timeline, whole

SCHEDULES = 20_000

MARKS = (
    # Origin side
    "plain",
    "lift lifted", "lift overtaken", "lift held",
    "lift: origin", "lift: promise", "lift: replaced", "lift: tombstone", "lift: partial",
    "lift: locked",
    "late tombstone", "late tombstone held back", "late tombstone took a row",
    "late tombstone below another of its key", "tombstone locked at the look",
    "entry of mend replaced meanwhile", "huge transaction", "parts voided by a claim",
    # Applying
    "applied as it was", "straight", "detour",
    "apply met a lock", "apply surprised by a look", "apply met a row error", "apply deadlocked",
    "insert over an unseen tombstone", "row parked", "locked row set aside", "letter replayed",
    "letter overtaken", "conflict certain", "conflict possible",
    "conflict: insert_insert", "conflict: update_update", "conflict: update_delete",
    "conflict: delete_update", "conflict: delete_delete",
    "tombstone collected", "collected while rows are parked", "stream read again",
    "frame waited for its table", "init lifted a row", "init lifted a tombstone",
    # Failures
    "node crashed", "two nodes of a region", "node fenced", "session killed", "apply fenced",
    "COMMIT arrived after its sender was gone", "COMMIT lost", "record arrived late",
    "record on its way lost", "frame of a dead process",
    "publish waited for the bus", "fault: cut", "fault: clock", "fault: origin", "fault: applier",
    "fault: resolver", "fault: poison",
)  # fmt: skip
"""What must have happened at least twenty times, or these schedules prove little about it."""

AIMED_MARKS = {
    "claims": (
        "claim beaten by a higher one", "epoch that was never claimed",
        "two nodes starting at one moment", "COMMIT lost",
        "COMMIT arrived after its sender was gone",
    ),
    "long": ("apply fenced", "huge transaction", "COMMIT lost"),
    "altered": ("replay of a locked row halted", "replay could not begin", "letter overtaken"),
}  # fmt: skip
"""What is too rare at large: it must have happened in the few schedules that aim at it."""


@pytest.mark.timeout(1200)
def test_every_schedule_ends_as_the_oracle_says_and_every_branch_was_met():
    counts, failures = run_many(range(SCHEDULES))
    shown = {seed: timeline(shrink(whole(seed))) for seed in sorted(failures)[:1]}
    assert not failures, "\n".join([str(failures), *shown.values()])
    missing = {mark: counts[mark] for mark in MARKS if counts[mark] < 20}
    assert not missing


@pytest.mark.parametrize("aim", sorted(AIMS))
def test_schedules_that_aim_at_one_danger(aim):
    counts, failures = run(range(40), show=False, aim=aim)
    assert not failures
    assert counts["transactions"] > 300
    assert all(counts[mark] for mark in AIMED_MARKS.get(aim, ()))


def test_a_schedule_is_the_same_wherever_it_runs():
    """Whatever hash seed a process has, and whatever ran before it."""
    script = "from tests.sim.run import fingerprint; print(*map(fingerprint, range(20)))"
    found = {
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert found == {" ".join(map(fingerprint, range(20))) + "\n"}


def test_a_failing_schedule_is_shrunk_to_what_it_needs(monkeypatch):
    """Without late tombstones one client's cascade is enough."""
    examine = Examiner.examine

    def blind(self, tx, nets, tombstones, locked=frozenset()):
        examined = examine(self, tx, nets, tombstones, locked)
        examined.late.clear()
        return examined

    monkeypatch.setattr(Examiner, "examine", blind)
    seed = next(seed for seed in range(100) if failure(whole(seed)))
    case = shrink(whole(seed))
    assert failure(case)
    assert len(case.orders) <= 6 and not case.faults
    assert case.command in timeline(case)
