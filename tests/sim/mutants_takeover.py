"""Mutants of what a starting node does before it publishes, and of the way to its end.

The other rules of taking over stand in :mod:`.mutants_tailer` and :mod:`.mutants_stream`.
"""

from collections.abc import Iterator

from .mutants import mutant, replaced, rules_of
from .origin import Origin

STARTERS = "tests/integration/test_crash_starters.py"


@mutant(
    "Taking over: every other session of the node's account is killed",
    aims=("epochs", ""),
    shown=f"{STARTERS}::test_a_node_that_is_frozen_while_it_publishes",
)
def nobody_is_killed() -> Iterator[None]:
    with replaced(Origin, "kill_others", lambda _: lambda self: None):
        yield


@mutant("Taking over: a node whose claim is below the highest before it ends", aims=("epochs",))
def a_beaten_claim_goes_on() -> Iterator[None]:
    def make(read_own_end):
        def deaf(self, member, end):
            ledger = read_own_end(self, member, end)
            ledger.epoch = member.epoch
            return ledger

        return deaf

    with replaced(Origin, "read_own_end", make):
        yield


@mutant(
    "Taking over: an epoch that a claim was sent with does not serve again",
    aims=("claims", "epochs", ""),
    shown=rules_of("taking_over", "test_an_epoch_is_claimed_once"),
)
def a_claimed_epoch_serves_again() -> Iterator[None]:
    with replaced(
        Origin, "serves_again", lambda _: lambda self, epoch: 0 < epoch == self.node.epoch
    ):
        yield


@mutant(
    "Taking over: an epoch that was raised by another process does not serve",
    aims=("claims", "epochs", ""),
    shown=rules_of("taking_over", "test_an_epoch_of_another_process_does_not_serve"),
)
def an_epoch_of_another_process_serves() -> Iterator[None]:
    with replaced(Origin, "serves_again", lambda _: lambda self, epoch: bool(self.node.unclaimed)):
        yield
