"""Mutants of applying: decisions, plans and records."""

from collections.abc import Iterator

from meshnode.core.plan import Form, at_base, make_plan
from meshnode.core.resolve import Local, Verdict, conflict, decide, raised
from meshnode.core.stamp import Stamp
from meshnode.core.wire import REMOVE

from .mutants import everywhere, mutant, rules_of

BIAS_US = 5_000_000


@mutant(
    "Decision: the later stamp wins, whoever arrives last",
    aims=("hot", ""),
    shown=rules_of("deciding", "test_the_later_stamp_wins"),
)
def whoever_arrives_last_wins() -> Iterator[None]:
    def make(decide):
        def late(outcome, new, local):
            found = decide(outcome, new, local)
            return Verdict.APPLY if found is Verdict.LOST and outcome != REMOVE else found

        return late

    with everywhere(decide, make):
        yield


@mutant("Decision: a losing delete still raises the tombstone", aims=("hot", ""))
def a_losing_delete_leaves_no_tombstone() -> Iterator[None]:
    with everywhere(raised, lambda _: lambda outcome, new, tomb: tomb):
        yield


@mutant(
    "Decision: an upsert must be above the tombstone too",
    aims=("hot", ""),
    shown=rules_of("deciding", "test_an_upsert_must_be_above_the_tombstone"),
)
def an_upsert_regards_the_row_alone() -> Iterator[None]:
    def make(decide):
        return lambda outcome, new, local: decide(
            outcome, new, local if outcome == REMOVE else Local(local.row, None)
        )

    with everywhere(decide, make):
        yield


@mutant(
    "Decision: a delete that a tombstone has outlived takes no row that waits for its lift",
    aims=("clocks", "hot", ""),
    shown=rules_of("deciding", "test_a_delete_that_is_outlived_takes_no_row"),
)
def a_delete_takes_a_row_that_waits_for_its_lift() -> Iterator[None]:
    def make(decide):
        def greedy(outcome, new, local):
            if outcome == REMOVE and local.row is not None and new > local.row:
                return Verdict.APPLY
            return decide(outcome, new, local)

        return greedy

    with everywhere(decide, make):
        yield


@mutant(
    "Decision: from whether the row exists: a duplicate is a row that is there",
    aims=("hot", "cascade", ""),
)
def a_duplicate_is_decided_by_the_version() -> Iterator[None]:
    def make(decide):
        def by_version(outcome, new, local):
            if outcome != REMOVE and new == local.version:
                return Verdict.DUPLICATE
            return decide(outcome, new, local)

        return by_version

    with everywhere(decide, make):
        yield


@mutant("Decision: at a tie of row and tombstone the row wins", aims=("hot", "cascade", ""))
def at_a_tie_the_delete_wins() -> Iterator[None]:
    def make(decide):
        def tie(outcome, new, local):
            if outcome == REMOVE and new == local.row:
                return Verdict.APPLY
            if outcome != REMOVE and new == local.tomb and local.row is None:
                return Verdict.LOST
            return decide(outcome, new, local)

        return tie

    with everywhere(decide, make):
        yield


@mutant(
    "Plan: sent verbatim only when every key is at its base",
    aims=("hot", ""),
    shown=rules_of("deciding", "test_items_go_verbatim_only_over_their_base"),
)
def items_go_verbatim_whatever_stands_here() -> Iterator[None]:
    with everywhere(at_base, lambda _: lambda incoming, local: True):
        yield


@mutant("Plan: at its base means that the row exists, and has that stamp", aims=("cascade", ""))
def at_its_base_without_looking_whether_the_row_exists() -> Iterator[None]:
    def make(_):
        def by_version(incoming, local):
            base = incoming.entry.base
            return local.version == base and base < incoming.entry.stamp

        return by_version

    with everywhere(at_base, make):
        yield


@mutant(
    "Plan: the deletes of an item come before its writes",
    aims=("wide", ""),
    shown=rules_of("deciding", "test_deletes_come_before_writes"),
)
def writes_come_before_deletes() -> Iterator[None]:
    def make(make_plan):
        def reversed_order(*arguments, **named):
            plan = make_plan(*arguments, **named)
            plan.steps.sort(key=lambda step: step.form is Form.DELETE_BY_KEY)
            return plan

        return reversed_order

    with everywhere(make_plan, make):
        yield


@mutant(
    "Policies: they change a stamp at its origin, never at the receiver",
    aims=("hot", ""),
    shown=rules_of("deciding", "test_a_policy_does_not_change_stamps_at_the_receiver"),
)
def a_policy_biases_the_stamp_at_the_receiver() -> Iterator[None]:
    def make(decide):
        def biased(outcome, new, local):
            if new.origin == 1:
                new = Stamp(new.ts + BIAS_US, new.origin)
            return decide(outcome, new, local)

        return biased

    with everywhere(decide, make):
        yield


@mutant(
    "Conflicts: the loser's image goes to the conflict log",
    aims=("hot", ""),
    shown=rules_of("deciding", "test_the_loser_is_recorded"),
)
def conflicts_leave_no_record() -> Iterator[None]:
    with everywhere(conflict, lambda _: lambda *anything: None):
        yield
