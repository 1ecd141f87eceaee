"""Mutants of rules that live in the appliers, the resolver and the gardener.

What is locked, in which order a transaction's steps come, and what is committed with
what; the model's actors do as the node's do, and these mutants change a step.
"""

from collections.abc import Iterator

from meshnode.core.ledger import Ledger
from meshnode.core.wire import PART

from . import applying as applying_module
from . import straight as straight_module
from .applier import Applier
from .applying import Applying
from .database import PLAIN, Database, Locked
from .heart import Gardener
from .intake import Intake, Ready, about_words
from .mutants import constant, mutant, replaced, rules_of
from .parking import Parking
from .resolver import Resolver


def nothing(*_):
    """A look that is left out."""


@mutant(
    "Tombstone GC: the own frontier as published, not as written",
    aims=("lagging",),
    shown=rules_of("streams", "test_the_own_promise_counts_when_it_is_published"),
)
def the_own_frontier_is_taken_from_the_heartbeat_row() -> Iterator[None]:
    with replaced(Gardener, "own_frontier", lambda _: lambda self: self.node.promised):
        yield


@mutant(
    "Huge transactions: applied when the last part has been seen, at once",
    aims=("huge", ""),
    shown=rules_of("claims", "test_parts_are_applied_when_the_last_is_there"),
)
def parts_are_applied_as_they_come() -> Iterator[None]:
    def make(_):
        def at_once(self, item, mark, place, pending):
            pending.append(Ready(mark, (item,)))

        return at_once

    with replaced(Applier, "part", make):
        yield


@mutant(
    "Fence: what has been applied is not applied again",
    shown=rules_of("streams", "test_an_item_is_applied_once"),
)
def no_dedup() -> Iterator[None]:
    def make(frame):
        def repeating(self, record):
            old = (
                []
                if record.epoch < self.epoch
                else [item for item in record.items if item.seq <= self.seq and item.kind != PART]
            )
            return old + frame(self, record)

        return repeating

    with replaced(Ledger, "_frame", make), replaced(Applier, "stands", lambda _: lambda *_: True):
        yield


@mutant(
    "Fence: seq is as this process left it, and the epoch its own",
    aims=("epochs", ""),
    shown=rules_of("applying", "test_the_fence_of_an_apply_transaction"),
)
def no_fence() -> Iterator[None]:
    with replaced(Applier, "stands", lambda _: lambda self, found: True):
        yield


@mutant(
    "Fence: the epoch is the own",
    aims=("sessions", "epochs", ""),
    shown=rules_of("applying", "test_the_fence_of_an_apply_transaction"),
)
def a_fence_without_the_epoch() -> Iterator[None]:
    with replaced(Applier, "stands", lambda _: lambda self, found: found.seq == self.seq):
        yield


@mutant(
    "Fence: seq is as this process left it",
    aims=("sessions", "epochs", ""),
    shown=rules_of("applying", "test_the_fence_asks_for_the_number"),
)
def a_fence_without_the_seq() -> Iterator[None]:
    with replaced(
        Applier, "stands", lambda _: lambda self, found: found.own_epoch == self.node.apply_epoch
    ):
        yield


@mutant(
    "Fence: the position is committed with the data",
    aims=("epochs", ""),
    shown=rules_of("applying", "test_the_position_commits_with_the_data"),
)
def the_position_is_committed_first() -> Iterator[None]:
    def make(fence):
        def first(self, tx, mark):
            own = self.begin("fence")
            own.logged.applied = True
            try:
                yield from fence(self, own, mark)
            except BaseException:
                self.database.rollback(own)
                raise
            yield from self.commit(own)

        return first

    with replaced(Applier, "fence", make):
        yield


@mutant(
    "Locks: after a surprise the tombstones of all keys are read too",
    aims=("hot", ""),
    shown=rules_of("looking", "test_after_a_surprise_all_tombstones_are_read"),
)
def tombstones_are_not_read_after_a_surprise() -> Iterator[None]:
    def make(lock):
        return lambda self, tx, works, deep, wait: lock(self, tx, works, False, wait)

    with replaced(Applying, "lock", make):
        yield


@mutant(
    "Locks: the rows are locked before the decision",
    aims=("hot", ""),
    shown=rules_of("looking", "test_rows_are_locked_before_the_decision"),
)
def the_decision_rests_on_unlocked_rows() -> Iterator[None]:
    with constant(applying_module, "LOCKING", PLAIN), constant(straight_module, "LOCKING", PLAIN):
        yield


@mutant(
    "Looks: after the upserts: no newer tombstone may stand beside them",
    aims=("hot", ""),
    shown=rules_of("looking", "test_the_look_at_tombstones_after_upserts"),
)
def no_look_after_upserts() -> Iterator[None]:
    with (
        replaced(Applying, "look_at_tombstones", lambda _: nothing),
        replaced(straight_module, "look_at_tombstones", lambda _: nothing),
    ):
        yield


@mutant(
    "Looks: write first, then look",
    aims=("hot", ""),
    shown=rules_of("looking", "test_write_first_then_look"),
)
def the_look_comes_before_the_write() -> Iterator[None]:
    look = Applying.look_at_tombstones

    def make(write_images):
        def looking_first(self, tx, plan):
            look(self, tx, plan)
            yield self.step()
            yield from write_images(self, tx, plan)

        return looking_first

    with (
        replaced(Applying, "write_images", make),
        replaced(Applying, "look_at_tombstones", lambda _: nothing),
        # There is no such order in the straight way: it must not stand in for the look.
        replaced(straight_module, "look_at_tombstones", lambda _: nothing),
    ):
        yield


@mutant(
    "Looks: they are locking reads",
    aims=("hot", ""),
    shown=rules_of("looking", "test_looks_are_locking_reads"),
)
def the_looks_are_plain_reads() -> Iterator[None]:
    with constant(applying_module, "SHARED", PLAIN), constant(straight_module, "SHARED", PLAIN):
        yield


@mutant(
    "Looks: after the tombstones: no row may stand below them",
    aims=("slow",),
    shown=rules_of("looking", "test_the_look_at_rows_after_tombstones"),
)
def no_look_after_tombstones() -> Iterator[None]:
    with replaced(Applying, "look_at_rows", lambda _: nothing):
        yield


@mutant(
    "Looks: never a write that the plan did not see",
    aims=("races", "hot", ""),
    shown="tests/chaos/test_stress.py::test_a_rule_that_is_off_is_seen",
)
def a_guarded_delete_of_what_nobody_planned_for() -> Iterator[None]:
    def make(_):
        def take_it(self, tx, key):
            if not self.database.acquire(tx, key):
                raise Locked
            self.database.remove(tx, key)

        return take_it

    with replaced(Applying, "found_below", make):
        yield


@mutant(
    "Errors: a row that can never apply is parked with its image",
    aims=("parked", ""),
    shown=rules_of("streams", "test_a_row_that_cannot_stand_is_kept"),
)
def rows_that_cannot_apply_are_passed_over() -> Iterator[None]:
    with replaced(Parking, "write_letter", lambda _: nothing):
        yield


@mutant(
    "Errors: what cannot apply is rolled back to its savepoint, whole",
    aims=("parked", ""),
    shown=rules_of("applying", "test_what_cannot_stand_is_undone_as_a_whole"),
)
def what_cannot_apply_is_left_as_it_is() -> Iterator[None]:
    with replaced(Database, "rollback_to", lambda _: lambda self, tx, mark: None):
        yield


@mutant(
    "Letters: one is closed when its key has a version at or above it",
    aims=("parked", ""),
    shown=rules_of("streams", "test_a_letter_is_closed_when_it_is_overtaken"),
)
def letters_are_closed_unread() -> Iterator[None]:
    def make(_):
        def closing(self):
            for record, letter in self._letters(lambda letter: letter.parked):
                closed = letter._replace(state="closed")
                yield from self._settle(record, closed, lambda now: now.parked)

        return closing

    with replaced(Resolver, "close_overtaken", make):
        yield


@mutant(
    "Tables: a frame about one that is not active here yet makes its stream wait, never skip",
    aims=("later",),
    shown=rules_of("streams", "test_a_stream_waits_for_its_table"),
)
def frames_of_a_table_that_is_not_active_are_passed_over() -> Iterator[None]:
    def make(read):
        def skipping(self, place, pending):
            before = len(pending)
            read(self, place, pending)
            if not self.region.knows_words:
                for at in range(before, len(pending)):
                    if any(map(about_words, pending[at].items)):
                        pending[at] = Ready(pending[at].mark)

        return skipping

    with replaced(Intake, "barred", lambda _: lambda self: False), replaced(Intake, "_read", make):
        yield


@mutant(
    "Letters: a replay begins with the loop mark",
    aims=("parked", ""),
    shown=rules_of("streams", "test_a_replay_is_no_local_transaction"),
)
def a_replay_without_the_loop_mark() -> Iterator[None]:
    with replaced(Resolver, "mark_loop", lambda _: nothing):
        yield
