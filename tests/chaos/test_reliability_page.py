"""``docs/RELIABILITY.md`` is equal to what there is: threats, promises, tests, scenarios."""

import re
from pathlib import Path

from chaos import judge, long
from chaos.scenarios import SCENARIOS
from chaos.workloads import WORKLOADS
from meshnode.faultpoints import POINTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "RELIABILITY.md").read_text()
NAMED = re.compile(r"`((?:[a-z0-9_]+/)+test_[a-z0-9_]+\.py)(?:::(test_[a-z0-9_]+))?`")
NUMBERS = {13: "thirteen", 16: "sixteen", 17: "seventeen", 18: "eighteen", 19: "nineteen"}
THREATS = 44
HONEST = ("documented limit", "not tested", "there is no such check", "there is none")


def rows(letter: str) -> dict[str, str]:
    """The rows of the page's tables that begin with such a name, e.g. T1, and not with figures."""
    found = re.findall(rf"^\| ({letter}\d+) \| ([^\d].*) \|$", PAGE, re.MULTILINE)
    assert len(found) == len(dict(found)), "a name has two rows"
    return dict(found)


def test_every_threat_has_a_test_or_says_that_it_has_none() -> None:
    threats = rows("T")
    assert list(threats) == [f"T{number}" for number in range(1, THREATS + 1)]
    for name, row in threats.items():
        assert NAMED.search(row) or any(word in row.lower() for word in HONEST), name


def test_every_test_that_is_named_exists() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > THREATS
    for path, function in named:
        place = path if path.startswith("tests/") else f"tests/{path}"
        if path.startswith(("docs/", "meshnode/")):
            continue
        file = ROOT / place
        assert file.is_file(), path
        if function:
            assert f"def {function}(" in file.read_text(), f"{path}::{function}"


def test_every_promise_has_a_row_and_a_line_of_the_judge() -> None:
    promises = [f"I{number}" for number in range(1, 15)]
    assert list(rows("I")) == promises
    assert re.findall(r"^(I\d+) ", judge.__doc__ or "", re.MULTILINE) == promises


def test_every_scenario_and_workload_is_told() -> None:
    told = {name for name in (*rows("C"), *rows("L")) if name != "C1"}
    assert told == {*SCENARIOS, *long.LONG} - {"C1"}
    for name in long.MISSING:
        assert re.search(rf"\b{name}\b", PAGE), name
    for name in WORKLOADS:
        assert re.search(rf"\b{name}\b", PAGE), name
    for name, scenario in (SCENARIOS | long.LONG).items():
        row = rows(name[0])[name]
        if name != "L1":
            assert set(re.findall(r"\bW\d\b", row)) == set(scenario.workloads), name


def test_the_number_of_fault_points_is_told() -> None:
    assert f"at {NUMBERS[len(POINTS)]} named places" in PAGE
