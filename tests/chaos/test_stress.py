"""The stress finds nothing in the code as it is, and each rule that is switched off in it."""

import random

import pytest

from chaos.mutants import MUTANTS
from chaos.stress import stress

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

SECONDS = 20.0
RARE = ("look-without-lock", "guarded-delete")
"""Seen after half a minute to some minutes; the other one within seconds."""

LONGEST_SECONDS = 900.0
"""A mutant that lives so long has survived."""


async def test_the_rules_as_they_are(tmp_path) -> None:
    result = await stress(random.randrange(1 << 30), SECONDS, tmp_path / "run")
    assert result.good, result
    assert result.conflicts and result.replans, f"it was no stress: {result}"


@pytest.mark.parametrize(
    "mutant", [pytest.param(name, marks=[pytest.mark.slow] * (name in RARE)) for name in MUTANTS]
)
async def test_a_rule_that_is_off_is_seen(tmp_path, mutant: str) -> None:
    result = await stress(random.randrange(1 << 30), LONGEST_SECONDS, tmp_path / "run", mutant)
    assert not result.good, f"nothing was seen: {result}"
    assert {check for check, _ in result.findings} <= {"I1", "I3"}, result
