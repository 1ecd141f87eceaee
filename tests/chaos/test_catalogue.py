"""The catalogue C1 to C12 in the length of every change; each run has a new seed, which it prints.

C1 is scripted tests of tests/integration (``chaos.races.FILES``), which run there.
"""

import random

import pytest

from chaos import report
from chaos.runner import Result, run
from chaos.scenarios import SCENARIOS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

LEAST_FAULTS = 150
RESULTS: dict[str, Result] = {}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_scenario(name: str, tmp_path_factory) -> None:
    """No divergence, no unrecorded loss, nothing applied twice, everything goes on."""
    seed = random.randrange(1 << 30)
    scenario = SCENARIOS[name]
    # Not the test's own folder, which pytest deletes: a failed run leaves plan and journal.
    folder = tmp_path_factory.mktemp("chaos") / f"{name}-{seed}"
    result = RESULTS[name] = await run(scenario.plan(seed, False), folder, scenario.allowed)
    report.write([result], None, folder)
    print(report.text(result))
    assert result.good, report.text(result)
    assert result.fault_count >= len(result.plan.faults)
    if result.points:
        died = sum(1 for count in result.points.values() if count)
        assert died > len(result.points) / 2, f"deaths at fault points: {report.deaths(result)}"


def test_enough_went_wrong() -> None:
    """A catalogue that hardly hurts proves little."""
    if RESULTS.keys() < SCENARIOS.keys():
        pytest.skip("counted when the whole catalogue is run")
    assert sum(result.fault_count for result in RESULTS.values()) >= LEAST_FAULTS
