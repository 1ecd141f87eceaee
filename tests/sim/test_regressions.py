"""Schedules that once failed, shrunk, kept as they were drawn, and named by what was wrong.

Each fails again when what mended it is switched off, so it still shows what it was kept for.
``python -m tests.sim --seed N --shrink --freeze`` prints a schedule in the form that
``regressions.json`` keeps.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from meshnode.core.held import HeldBack
from meshnode.ops.alignment import NOTHING

from . import joining, mender
from .gate import MUTANTS
from .joining import Joining
from .journal import Journal
from .mender import Mender
from .mending import Mending
from .mutants_tables import the_tombstone_wins
from .table import key_of
from .weather import thawed
from .world import World

KEPT = json.loads(Path(__file__).with_name("regressions.json").read_text())


@contextmanager
def patched(where: object, name: str, what: Callable) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, what)
        yield


def lifted_too_low() -> AbstractContextManager[None]:
    """A lift went above its base, but not above all that its row had replaced: it came again."""
    return MUTANTS["lifted above the base alone"].off()


def newer_entry_forgotten() -> AbstractContextManager[None]:
    """The entry of a later version was taken out of ``mend`` for the one that had been read."""
    return patched(Mending, "is_about", lambda self, entry, lift: True)


def found_done_for_ever() -> AbstractContextManager[None]:
    """A lift that was found done left its entry, which was found done again and again."""
    return patched(Mending, "is_over", lambda self, lift: False)


def last_late_tombstone_taken() -> AbstractContextManager[None]:
    """Of two late tombstones of one key in one batch the last was written, not the greater."""
    return patched(
        Mending, "greatest", lambda self, late: {key_of(each.key): each for each in late}
    )


def held_tombstone_lowered() -> AbstractContextManager[None]:
    """A late tombstone that waited for a lock was replaced by a lower one."""
    return patched(Mending, "held_stamp", lambda self, known, late: late.stamp)


def held_tombstone_ignored() -> AbstractContextManager[None]:
    """A row written over a delete whose tombstone waited for a lock got the deleted row's stamp."""
    return patched(HeldBack, "raise_tombstones", lambda self, *arguments: None)


def waiting_tombstone_forgotten() -> AbstractContextManager[None]:
    """A tombstone that waited for a lock did not count for a mender that had begun anew."""
    load = Mender.load

    def rows_only(self):
        load(self)
        self.held.late.clear()

    return patched(Mender, "load", rows_only)


def tombstone_of_before_left_alone() -> AbstractContextManager[None]:
    """A delete of before its table joined was known to one region alone: an insert, under a clock
    that was behind, was lost there."""
    decide = joining.decide

    def rows_only(states, *arguments):
        if all(state.row is None for state in states.values()):
            return NOTHING
        return decide(states, *arguments)

    return patched(joining, "decide", rows_only)


def superseded_lifted_all_at_once() -> AbstractContextManager[None]:
    """A row kept its stamp through an update without triggers, was lifted with the touch before,
    and named as its base a version that had been overtaken, which nobody was ever shown."""
    stack = ExitStack()
    stack.enter_context(patched(mender, "surely_overtaken", lambda *lifts: {}))
    stack.enter_context(patched(mender, "turns", lambda lifts: [lifts] if lifts else []))
    return stack


def told_by_the_clock_alone() -> AbstractContextManager[None]:
    """A clock stepped back between a write and the activation of its table: the row was stamped
    above the date of that, so init left it to a stream that had never had it."""
    return patched(Joining, "newest_us", lambda self, database: 0)


def row_below_its_tombstone_buried() -> AbstractContextManager[None]:
    """A clock stepped back between a delete and an insert, before the table joined: init lifted the
    tombstone, and the newer row stayed behind in its own region."""
    return patched(joining, "decide", the_tombstone_wins(joining.decide))


def row_of_its_own_accused() -> AbstractContextManager[None]:
    """An update without triggers kept the stamp of the published row that it replaced, and the
    oracle took the new row for the published one: the fault was the oracle's."""
    return patched(Journal, "rewritten", lambda self, *arguments: None)


OFF = {
    rule.__name__: rule
    for rule in (
        lifted_too_low, newer_entry_forgotten, found_done_for_ever, last_late_tombstone_taken,
        held_tombstone_lowered, held_tombstone_ignored, waiting_tombstone_forgotten,
        tombstone_of_before_left_alone, superseded_lifted_all_at_once,
        told_by_the_clock_alone, row_below_its_tombstone_buried, row_of_its_own_accused,
    )
}  # fmt: skip


def run(name: str) -> None:
    World(KEPT[name]["seed"], plan=thawed(KEPT[name])).run()


@pytest.mark.parametrize("name", sorted(KEPT))
def test_a_schedule_that_failed_once(name):
    run(name)


@pytest.mark.parametrize("name", sorted(KEPT))
def test_it_fails_without_what_mended_it(name):
    with OFF[name](), pytest.raises(AssertionError):
        run(name)
