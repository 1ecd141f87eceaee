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


async def test_what_asks_a_server_waits_until_it_is_there(tmp_path) -> None:
    """A server is down while one fault sets a position back in it, and one opens a transaction."""
    killed, late = ("oregon",), {"back": 5.0}
    faults = (
        Fault(1.0, "mysql.kill", killed, 5.0),
        Fault(2.0, "stream.rewind", ("oregon", "virginia"), 0.5, late),
        Fault(2.0, "clock.back-under", killed, 0.5, {"seconds": 2.0}),
    )
    plan = Plan("C9", 1, 8.0, Setting(regions=2, clocks=True), ("W3", "W5"), faults)
    result = await run(plan, tmp_path / "run", SCENARIOS["C9"].allowed)
    assert result.good, result.findings
    assert set(result.kinds) == {fault.kind for fault in faults}
