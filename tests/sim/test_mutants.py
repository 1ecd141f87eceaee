"""Every rule of the mesh, switched off, is seen by the simulation.

The same as ``python -m tests.sim.gate``, with one killing schedule for each mutant and
fewer schedules at most, so that a mutant which lives does not hold up all tests.
"""

import re
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from . import mutants_table
from .gate import Verdict, clean, judge, workers
from .mutants import MUTANTS
from .mutants_survivors import SURVIVORS, UNSHOWN

pytestmark = pytest.mark.timeout(1500)

BUDGET = 500
"""Schedules in which a mutant must die here; ``make mutants`` allows 20,000."""

SURVIVOR_BUDGET = 60
"""Schedules that a known survivor runs here."""

JUDGED = [name for name in MUTANTS if name not in UNSHOWN]


@pytest.fixture(scope="module")
def verdicts() -> Iterator[dict[str, Future[Verdict]]]:
    """The verdict on each mutant, worked out beside the tests."""
    with workers() as pool:
        yield {
            name: pool.submit(judge, name, 1, SURVIVOR_BUDGET if name in SURVIVORS else BUDGET)
            for name in JUDGED
        }


@pytest.mark.parametrize("name", JUDGED)
def test_a_mutant_dies_or_is_a_known_survivor(verdicts, name) -> None:
    verdict = verdicts[name].result()
    if name in SURVIVORS:
        assert not verdict.kills, f"no survivor: {verdict.killer} showed it, {verdict.said}"
    else:
        assert verdict.kills, f"{verdict.schedules} schedules did not show it: {verdict.rule}"


def test_the_schedules_pass_with_all_rules_on(verdicts) -> None:
    found = [future.result() for future in verdicts.values()]
    with workers() as pool:
        assert not clean(pool, found)


def test_every_rule_stands_on_the_page_of_mutants() -> None:
    """``python -m tests.sim.mutants_table`` writes it."""
    text = mutants_table.PAGE.read_text()
    assert mutants_table.rows(text) == mutants_table.rows(mutants_table.page({}))
    assert all(f"- **{name}**. {reason}" in text for name, reason in SURVIVORS.items())
    assert "not run" not in text


def test_a_real_test_that_a_mutant_names_is_there() -> None:
    for mutant in MUTANTS.values():
        path, _, test = mutant.shown.partition("::")
        if path:
            assert f"def {test}" in (mutants_table.ROOT / path).read_text(), mutant.shown


def test_every_rule_that_is_needed_is_switched_off_on_real_servers() -> None:
    """By a script that runs with it on and off, or by the stress where chance must help."""
    for name, mutant in MUTANTS.items():
        path, _, test = mutant.shown.partition("::")
        if name in SURVIVORS or test == "test_a_rule_that_is_off_is_seen":
            continue
        on_and_off = rf'@(both|pytest\.mark\.parametrize\("off", RULES\))\nasync def {test}\('
        assert re.search(on_and_off, (mutants_table.ROOT / path).read_text()), name


def test_what_is_not_killed_here_is_a_mutant_with_a_reason() -> None:
    assert SURVIVORS.keys() | UNSHOWN.keys() <= MUTANTS.keys()
    assert not SURVIVORS.keys() & UNSHOWN.keys()
    assert all(reason.endswith(".") for reason in (*SURVIVORS.values(), *UNSHOWN.values()))
