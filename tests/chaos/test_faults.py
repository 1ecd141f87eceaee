"""Faults do what they are there for, whatever chance the load brings."""

import pytest

from chaos.plan import Fault, Plan, Setting
from chaos.runner import run
from chaos.scenarios import SCENARIOS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


async def test_there_is_a_poisonous_row_even_if_no_client_writes_one(tmp_path) -> None:
    fault = Fault(1.0, "row.poison", ("oregon",), 1.0, {"below": 100_000})
    plan = Plan("C12", 1, 4.0, Setting(regions=2), ("W6",), (fault,))
    result = await run(plan, tmp_path / "run", SCENARIOS["C12"].allowed)
    assert result.good, result.findings
