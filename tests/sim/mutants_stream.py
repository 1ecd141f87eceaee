"""Mutants of a region's stream: claims, parts, the frontier and what it allows."""

from collections.abc import Iterator

from meshnode.core.frontier import frontier, gc_limit
from meshnode.core.ledger import Ledger
from meshnode.core.wire import Claim

from .mutants import everywhere, mutant, replaced, rules_of

FAR = 2**62
"""A time after all schedules, in microseconds."""


@mutant(
    "Taking over: frames below the highest claim are void",
    aims=("epochs", ""),
    shown=rules_of("claims", "test_frames_below_the_highest_claim_are_void"),
)
def frames_of_a_dead_process_count() -> Iterator[None]:
    def make(take):
        def trusting(self, record):
            if not isinstance(record, Claim) and record.epoch < self.epoch:
                record.epoch = self.epoch
            return take(self, record)

        return trusting

    with replaced(Ledger, "take", make):
        yield


@mutant(
    "Taking over: the highest claim counts, not the last",
    aims=("epochs", ""),
    shown=rules_of("claims", "test_the_highest_claim_counts"),
)
def the_last_claim_counts() -> Iterator[None]:
    def make(_claim):
        def last(self, claim):
            if claim.epoch < self.epoch:
                self.epoch = claim.epoch - 1
            return _claim(self, claim)

        return last

    with replaced(Ledger, "_claim", make):
        yield


@mutant(
    "Huge transactions: a claim voids the parts of an unfinished one",
    aims=("huge", "epochs", ""),
    shown=rules_of("claims", "test_a_claim_voids_the_parts_before_it"),
)
def a_claim_leaves_parts_standing() -> Iterator[None]:
    def make(_claim):
        def careless(self, claim):
            kept = self.open_parts, self.open_tx
            found = _claim(self, claim)
            self.open_parts, self.open_tx = kept
            self.voided = []
            return found

        return careless

    with replaced(Ledger, "_claim", make):
        yield


@mutant(
    "Numbers: a gap between two items is refused",
    aims=("epochs", "huge"),
    shown=rules_of("claims", "test_a_gap_is_refused"),
)
def a_gap_is_passed_over() -> Iterator[None]:
    def make(_frame):
        def trusting(self, frame):
            fresh = [item.seq for item in frame.items if item.seq > self.seq]
            if fresh and frame.epoch == self.epoch:
                self.seq = fresh[0] - 1
            return _frame(self, frame)

        return trusting

    with replaced(Ledger, "_frame", make):
        yield


@mutant(
    "Heartbeats: f = min(now, oldest open transaction, what others say) - 1 s",
    aims=("calm", ""),
    shown=rules_of("streams", "test_the_promise_waits_for_open_transactions"),
)
def the_frontier_is_now() -> Iterator[None]:
    with everywhere(
        frontier, lambda _: lambda now, oldest_open, heard, previous: max(previous, now)
    ):
        yield


@mutant(
    "Heartbeats: the frontier never falls",
    aims=("frontier", "clocks", ""),
    shown=rules_of("mending", "test_a_promise_never_falls"),
)
def the_frontier_falls() -> Iterator[None]:
    with everywhere(
        frontier, lambda real: lambda now, oldest_open, heard, _: real(now, oldest_open, heard, 0)
    ):
        yield


@mutant(
    "Tombstone GC: by stability, never by age",
    aims=("frontier", ""),
    shown=rules_of("streams", "test_tombstones_do_not_go_by_age"),
)
def tombstones_go_by_age() -> Iterator[None]:
    # At the age of nothing: whatever stands at a round of the gardener.
    with everywhere(gc_limit, lambda _: lambda applied, published, parked: FAR):
        yield


@mutant(
    "Tombstone GC: below the own published frontier too",
    aims=("apart", "frontier", ""),
    shown=rules_of("streams", "test_tombstones_wait_for_the_own_stream"),
)
def tombstones_go_without_the_own_promise() -> Iterator[None]:
    with everywhere(
        gc_limit, lambda real: lambda applied, published, parked: real(applied, FAR, parked)
    ):
        yield


@mutant(
    "Tombstone GC: below what every other member has promised",
    aims=("stale", "frontier", ""),
    shown=rules_of("streams", "test_tombstones_wait_for_the_promise_of_others"),
)
def tombstones_go_without_the_others() -> Iterator[None]:
    with everywhere(
        gc_limit, lambda real: lambda applied, published, parked: real((), published, parked)
    ):
        yield


@mutant(
    "Tombstone GC: a parked row holds its origin's frontier down",
    aims=("letters",),
    shown=rules_of("streams", "test_tombstones_wait_for_parked_rows"),
)
def parked_rows_do_not_hold_tombstones() -> Iterator[None]:
    with everywhere(
        gc_limit, lambda real: lambda applied, published, parked: real(applied, published, ())
    ):
        yield
