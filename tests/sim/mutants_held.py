"""Mutants of rules about what is held back: rows and late tombstones that wait for a lock.

What they mean for the stream is the core's affair (:mod:`meshnode.core.held`); what is written
down of them, and when, is the mender's and the resolver's.
"""

from collections.abc import Iterator

from meshnode.core.held import HeldBack
from meshnode.core.stamp import ZERO

from .mending import Mending, value_of
from .mutants import mutant, replaced, rules_of


def nothing(*_):
    """A step that is left out."""
    return
    yield


@mutant(
    "Version replaced: also what a version that was held back had replaced",
    aims=("locks", "cascade", ""),
)
def what_a_held_version_replaced_is_forgotten() -> Iterator[None]:
    with replaced(HeldBack, "raise_replaced", lambda _: lambda self, nets: None):
        yield


@mutant(
    "Version replaced: one that the stream never shows is nobody's base",
    aims=("locks", "cascade", ""),
    shown=rules_of("mending", "test_a_base_is_a_version_that_was_shown"),
)
def versions_never_shown_are_named_as_bases() -> Iterator[None]:
    def make(bases):
        def forgetful(self, examined):
            self.rows.clear()
            return bases(self, examined)

        return forgetful

    with replaced(HeldBack, "bases", make):
        yield


@mutant(
    "Held back: a version whose place in mend a later one takes has a record",
    aims=("locks", ""),
    shown=rules_of("held_rows", "test_a_version_that_gives_way_has_a_record"),
)
def a_held_version_gives_way_without_a_record() -> Iterator[None]:
    with replaced(Mending, "record_replaced", lambda _: lambda self, tx, key, lift: None):
        yield


@mutant(
    "Held back: a held row that was never stamped is not one whose stamp nobody saw",
    aims=("locks", "cascade", ""),
    shown=rules_of("held_rows", "test_no_stamp_is_a_stamp"),
)
def a_row_never_stamped_counts_as_unseen() -> Iterator[None]:
    def make(hold):
        def blind(self, lifts):
            for lift in lifts:
                if lift.seen == ZERO:
                    lift.seen = None
            return hold(self, lifts)

        return blind

    with replaced(Mending, "hold", make):
        yield


@mutant(
    "Held back: a key that is locked is noted for later, committed before the append",
    aims=("locks", ""),
    shown=rules_of("mending", "test_what_is_held_back_is_noted"),
)
def held_keys_are_not_noted() -> Iterator[None]:
    with (
        replaced(Mending, "hold", lambda _: nothing),
        replaced(Mending, "hold_late", lambda _: nothing),
    ):
        yield


@mutant(
    "Held back: a lift without an image, found overtaken, leaves the entry that has one",
    aims=("settle",),
    shown=rules_of("held_rows", "test_who_cannot_record_a_version_does_not_settle_it"),
)
def a_bare_lift_settles_what_it_cannot_record() -> Iterator[None]:
    with replaced(Mending, "may_settle", lambda _: lambda self, lift, entry: True):
        yield


@mutant(
    "Held back: a lift without an image keeps the one that its entry has",
    aims=("settle",),
    shown=rules_of("held_rows", "test_who_knows_no_image_leaves_the_one_that_waits"),
)
def a_bare_lift_wipes_the_image_that_waits() -> Iterator[None]:
    with replaced(Mending, "value_to_hold", lambda _: lambda self, known, lift: value_of(lift)):
        yield


@mutant(
    "Late tombstone: an own row below one that was held back is lifted",
    aims=("locks", "cascade", ""),
)
def rows_below_a_held_late_tombstone_stay_there() -> Iterator[None]:
    with replaced(Mending, "rows_below", lambda _: lambda self, late: []):
        yield


@mutant(
    "Late tombstone: what is written while it waits for a lock is lifted above it",
    aims=("waits",),
    shown=rules_of("late_tombstones", "test_a_late_tombstone_that_waits_counts"),
)
def a_late_tombstone_that_waits_counts_for_nothing() -> Iterator[None]:
    """Neither for the mender, nor as a base, nor, when it is written at last, for the resolver."""
    with (
        replaced(HeldBack, "raise_replaced", lambda _: lambda self, nets: None),
        replaced(HeldBack, "raise_tombstones", lambda _: lambda self, *arguments: None),
        replaced(Mending, "rows_below", lambda _: lambda self, late: []),
    ):
        yield
