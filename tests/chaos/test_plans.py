"""Plans as data: the same seed gives the same plan, and everything in one can be performed."""

import random

import msgspec
import pytest

from chaos import drawings, long, picture, report
from chaos.faults import KINDS
from chaos.journal import Journal
from chaos.plan import Fault, Plan, read_plan
from chaos.runner import Result
from chaos.scenarios import SCENARIOS
from chaos.workloads import WORKLOADS
from meshnode.errors import Refused
from meshnode.faultpoints import POINTS

EVERY = SCENARIOS | long.LONG
lengths = pytest.mark.parametrize("full", [False, True], ids=["short", "full"])
scenarios = pytest.mark.parametrize("name", EVERY)


@scenarios
@lengths
def test_a_seed_gives_one_plan_and_it_survives_the_file(name: str, full: bool, tmp_path) -> None:
    plan = EVERY[name].plan(7, full)
    assert plan == EVERY[name].plan(7, full)
    plan.write(tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan


@scenarios
@lengths
def test_what_a_plan_names_exists(name: str, full: bool) -> None:
    for seed in range(20):
        plan = EVERY[name].plan(seed, full)
        assert set(plan.workloads) <= WORKLOADS.keys()
        assert set(plan.setting.points) <= POINTS.keys()
        for fault in plan.faults:
            assert fault.kind in KINDS, fault
            assert 0 <= fault.start <= plan.seconds and fault.duration >= 0, fault
            assert fault.kind != "commit.lost" or plan.setting.proxied
            assert not fault.kind.startswith("clock.") or plan.setting.clocks


def test_another_seed_gives_another_plan() -> None:
    storms = {str(SCENARIOS["C3"].plan(seed, False).faults) for seed in range(10)}
    assert len(storms) == 10


def test_the_catalogue_is_whole() -> None:
    assert {"C1", *SCENARIOS} == {f"C{number}" for number in range(1, 13)}
    known = {*long.LONG, *long.MISSING}
    assert known == {f"L{number}" for number in range(1, 10)}
    assert drawings.POINT_CHANCES.keys() == POINTS.keys()


def test_a_file_that_is_no_plan_is_refused(tmp_path) -> None:
    (tmp_path / "plan.json").write_text('{"scenario": "C3"}')
    with pytest.raises(Refused, match=r"plan\.json"):
        read_plan(tmp_path / "plan.json")


def test_the_report_names_all_that_a_failure_needs(tmp_path) -> None:
    plan = Plan("C3", 7, 10.0, SCENARIOS["C3"].setting, ("W2",), (Fault(1.0, "node.kill", ("a",)),))
    journal = Journal(tmp_path / "journal.jsonl")
    journal.find("I2", "a <lost> write")
    journal.close()
    result = Result(plan, tmp_path, findings=journal.findings)
    result.faults = [{"kind": "node.kill", "target": ("a",), "options": {}, "from": 1.0, "to": 2.0}]
    result.counts = {"a": [(0.5, 0, 0, 0), (9.0, 12, 1, 0)]}
    result.lags = {"a of b": [(0.5, 0.1), (3.0, 2.5)]}
    told = report.text(result)
    for words in ("seed 7", "I2: a <lost> write", "plan.json", "journal.jsonl", "--plan"):
        assert words in told
    report.write([result], None, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "a &lt;lost&gt; write" in page and "<lost>" not in page
    assert "node.kill" in picture.svg(result) and "2.5" in picture.svg(result)
    assert "http" not in page.replace("http://www.w3.org", ""), "it loads something from elsewhere"
    content = msgspec.json.decode((tmp_path / "report.json").read_bytes())
    assert content["good"] is False and content["runs"][0]["seed"] == 7


def test_legs_fill_the_hours_with_seeds_of_their_own() -> None:
    plans = long.legs(random.randrange(1000), 0.4)
    assert sum(plan.seconds for plan in plans) == pytest.approx(0.4 * 3600)
    assert len({plan.seed for plan in plans}) == len(plans) == 3
