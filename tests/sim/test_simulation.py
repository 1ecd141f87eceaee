"""Three hundred seeded schedules of whole meshes, and proof that the oracle sees a broken one.

More of them: ``python -m tests.sim.run --seeds 20000``.
"""

from meshnode.core import plan as plan_module
from meshnode.core.ledger import Ledger
from meshnode.core.mend import Examiner, Reason
from meshnode.core.resolve import Verdict, decide
from meshnode.core.wire import REMOVE

from . import region as region_module
from .run import run

SCHEDULES = 300

MARKS = {
    "applied in the order of the source": "exact",
    "reduced to outcomes": "outcomes",
    "conflict recorded": "conflicts",
    "row lifted": "lifted",
    "lift overtaken": "overtaken",
    "lift held back by a lock": "held",
    "late tombstone": "buried",
    "tombstone collected": "collected",
    "process crashed": "crashes",
    "frame of a dead process": "late frames",
    "apply met a lock": "busy",
}


def test_every_schedule_ends_as_the_oracle_says_and_every_fault_happened():
    counts, failures = run(range(SCHEDULES), show=False)
    assert not failures
    missing = [mark for mark, name in MARKS.items() if counts[name] < 20]
    assert not missing, counts


def dies(seeds: int) -> None:
    _, failures = run(range(seeds), show=False, first_only=True)
    assert failures, "a broken mesh passed: the simulation does not see this fault"


def test_an_insert_that_ignores_its_tombstone_is_seen(monkeypatch):
    judge = Examiner.judge
    monkeypatch.setattr(
        Examiner,
        "judge",
        lambda self, net, tombstone: (
            None if judge(self, net, tombstone) is Reason.TOMBSTONE else judge(self, net, None)
        ),
    )
    dies(60)


def test_a_broken_promise_is_seen(monkeypatch):
    judge = Examiner.judge

    def careless(self, net, tombstone):
        reason = judge(self, net, tombstone)
        return None if reason is Reason.PROMISE else reason

    monkeypatch.setattr(Examiner, "judge", careless)
    dies(100)


def test_a_tie_between_regions_decided_by_arrival_is_seen(monkeypatch):
    def by_time(outcome, new, local):
        verdict = decide(outcome, new, local)
        tie = local.row is not None and new.ts == local.row.ts and outcome != REMOVE
        return Verdict.APPLY if tie and verdict is Verdict.LOST else verdict

    monkeypatch.setattr(plan_module, "decide", by_time)
    dies(100)


def test_a_delete_that_takes_a_row_waiting_to_be_lifted_is_seen(monkeypatch):
    def greedy(outcome, new, local):
        if outcome == REMOVE and local.row is not None and new > local.row:
            return Verdict.APPLY
        return decide(outcome, new, local)

    monkeypatch.setattr(plan_module, "decide", greedy)
    dies(150)


def test_tombstones_collected_by_age_are_seen(monkeypatch):
    monkeypatch.setattr(
        region_module, "gc_limit", lambda applied, published, parked: 2_000_000_000 * 10**6
    )
    dies(100)


def test_frames_of_a_dead_process_that_count_are_seen(monkeypatch):
    take = Ledger.take

    def trusting(self, record):
        if getattr(record, "items", None) and record.epoch < self.epoch:
            record.epoch = self.epoch
        return take(self, record)

    monkeypatch.setattr(Ledger, "take", trusting)
    dies(60)


def test_a_successor_that_forgets_what_was_published_is_seen(monkeypatch):
    start = region_module.Region.start

    def forgetful(self):
        start(self)
        self.at = (max(0, self.at[0] - 1), 0)

    monkeypatch.setattr(region_module.Region, "start", forgetful)
    dies(60)


def test_late_tombstones_left_out_are_seen(monkeypatch):
    examine = Examiner.examine

    def blind(self, tx, nets, tombstones, locked=frozenset()):
        examined = examine(self, tx, nets, tombstones, locked)
        examined.late.clear()
        return examined

    monkeypatch.setattr(Examiner, "examine", blind)
    dies(60)


def test_conflicts_without_record_are_seen(monkeypatch):
    monkeypatch.setattr(plan_module, "conflict", lambda *anything: None)
    dies(20)


def test_a_stamp_that_does_not_rise_is_seen(monkeypatch):
    """Without lifting what is not above its before image."""
    judge = Examiner.judge

    def careless(self, net, tombstone):
        reason = judge(self, net, tombstone)
        return None if reason is Reason.REPLACED else reason

    monkeypatch.setattr(Examiner, "judge", careless)
    dies(100)
