"""Schedules that once failed, shrunk, kept as they were drawn, and named by what was wrong.

Each fails again when what mended it is switched off, so it still shows what it was kept for.
``python -m tests.sim --seed N --shrink --freeze`` prints a schedule in the form that
``regressions.json`` keeps.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from meshnode.core.mend import Examiner, Fate
from meshnode.core.stamp import ZERO

from .mender import Mender
from .mending import Mending
from .resolver import Resolver
from .table import key_of
from .weather import thawed
from .world import World

KEPT = json.loads(Path(__file__).with_name("regressions.json").read_text())


@contextmanager
def patched(where: type, name: str, what: Callable) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, what)
        yield


def lifted_too_low() -> AbstractContextManager[None]:
    """A lift went above its base, but not above all that its row had replaced: it came again."""
    examine = Examiner.examine

    def only_above_the_base(self, *arguments):
        examined = examine(self, *arguments)
        for lift in examined.lifts.values():
            lift.above = ZERO
        return examined

    return patched(Examiner, "examine", only_above_the_base)


def newer_entry_forgotten() -> AbstractContextManager[None]:
    """The entry of a later version was taken out of ``mend`` for the one that had been read."""
    return patched(Resolver, "is_entry", lambda self, found, entry: True)


def found_done_for_ever() -> AbstractContextManager[None]:
    """A lift that was found done left its entry, which was found done again and again."""
    return patched(Resolver, "is_over", lambda self, lift: lift.fate is Fate.OVERTAKEN)


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
    return patched(Mender, "add_late", lambda self, *arguments: None)


OFF = {
    rule.__name__: rule
    for rule in (
        lifted_too_low, newer_entry_forgotten, found_done_for_ever, last_late_tombstone_taken,
        held_tombstone_lowered, held_tombstone_ignored,
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
