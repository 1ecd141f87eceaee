"""Plans as data: the same seed gives the same plan, and everything in one can be performed."""

import random
from pathlib import Path

import msgspec
import pytest

import meshnode
from chaos import drawings, long, picture, races, report
from chaos.faults import KINDS, fencing, points, regions, sources
from chaos.journal import Journal
from chaos.mesh import all_moved
from chaos.mutants import MUTANTS, switched_off
from chaos.plan import Fault, Plan, read_plan
from chaos.runner import Result, greatest, run
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


@pytest.mark.parametrize(("full", "least"), [(False, 150), (True, 215)])
def test_the_catalogue_plans_enough(full: bool, least: int) -> None:
    """Lost COMMITs and what fires by chance come on top of what is planned: 150 are wanted."""
    for seed in range(50):
        assert sum(len(each.plan(seed, full).faults) for each in SCENARIOS.values()) >= least


def test_the_catalogue_is_whole() -> None:
    assert {"C1", *SCENARIOS} == {f"C{number}" for number in range(1, 13)}
    known = {*long.LONG, *long.MISSING}
    assert known == {f"L{number}" for number in range(1, 10)}
    assert drawings.POINT_CHANCES.keys() == POINTS.keys()


@lengths
def test_the_kill_storm_meets_every_fault_point(full: bool) -> None:
    for seed in range(5):
        faults = SCENARIOS["C3"].plan(seed, full).faults
        met = [fault.options["point"] for fault in faults if fault.kind == "node.point"]
        assert sorted(met) == sorted(POINTS)
    assert points.WAYS.keys() <= POINTS.keys()


def test_what_chaos_looks_for_in_logs_is_still_said() -> None:
    package = Path(meshnode.__file__).parent
    said = "".join(path.read_text() for path in package.rglob("*.py"))
    for words in (*fencing.FENCED, sources.LOST, sources.PURGED, regions.HALTED):
        assert words in said, words


def test_the_mutants_of_the_stress_still_fit_the_code() -> None:
    for name in MUTANTS:
        with switched_off(name):
            pass


def test_the_scripted_races_are_there() -> None:
    for pattern in races.FILES:
        assert list(races.ROOT.glob(pattern)), pattern


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
    result.lags = {"a": [(0.5, 0.1), (3.0, 2.5)]}
    result.points = {"heart.tail": 2, "applier.commit": 0}
    told = report.text(result)
    assert "deaths at fault points: heart.tail 2; none at applier.commit" in told
    for words in ("seed 7", "I2: a <lost> write", "plan.json", "journal.jsonl", "--plan"):
        assert words in told
    report.write([result], None, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "a &lt;lost&gt; write" in page and "<lost>" not in page
    assert "node.kill" in picture.svg(result) and "2.5" in picture.svg(result)
    assert "http" not in page.replace("http://www.w3.org", ""), "it loads something from elsewhere"
    content = msgspec.json.decode((tmp_path / "report.json").read_bytes())
    assert content["good"] is False and content["runs"][0]["seed"] == 7
    raced = races.outcome(0, "3 passed in 2.00s", 2.0, tmp_path / "C1.log")
    report.write([result], raced, tmp_path)
    for name in ("report.json", "report.html"):
        assert str(tmp_path) not in (tmp_path / name).read_text(), "it is kept elsewhere"


async def test_a_run_that_breaks_is_a_result_with_a_finding(tmp_path) -> None:
    """The runs after it are performed, and the report of the session is written."""
    plan = Plan("C3", 7, 1.0, SCENARIOS["C3"].setting, ("no such load",))
    result = await run(plan, tmp_path / "run")
    assert not result.good and "no such load" in report.text(result)
    report.write([result], None, tmp_path)
    assert "no such load" in (tmp_path / "report.html").read_text()


def test_the_command_of_a_report_draws_the_same_plan() -> None:
    long_leg, short_leg = long.legs(3, 0.25)
    for plan, words in (
        (SCENARIOS["C3"].plan(7, True), "run C3 --seed 7"),
        (SCENARIOS["C3"].plan(7, False), "run C3 --seed 7 --short"),
        (long_leg, "run L1 --seed 3"),
        (short_leg, "run L1 --plan plan.json"),
    ):
        assert report.command(plan) == f"python -m chaos {words}"


def test_a_thin_series_keeps_its_peaks() -> None:
    series = [(number / 10, float(number == 777)) for number in range(1000)]
    thin = greatest(series, 20)
    assert len(thin) == 20 and max(thin, key=lambda each: each[1]) == (77.7, 1.0)
    assert greatest([]) == [] and greatest([(1.0, 2.0)]) == [(1.0, 2.0)]


@pytest.mark.parametrize(
    ("code", "said", "good"),
    [
        (0, "....\n18 passed in 40.11s\n", True),
        (0, "..s.\n17 passed, 1 skipped in 40.11s\n", False),
        (1, "..F.\n1 failed, 17 passed in 40.11s\n", False),
        (1, "17 passed, 1 error in 40.11s\n", False),
        (0, "18 passed, and then\nno tests ran in 0.01s\n", False),
        (-1, "18 passed", False),
    ],
)
def test_what_pytest_says_of_the_races(code: int, said: str, good: bool, tmp_path) -> None:
    assert races.outcome(code, said, 1.0, tmp_path).good is good


def test_a_mesh_of_which_one_stream_stands_is_not_slow() -> None:
    before = {("a", 2): 5, ("b", 1): 7}
    assert all_moved(before, {("a", 2): 6, ("b", 1): 9})
    assert not all_moved(before, {("a", 2): 6, ("b", 1): 7})
    assert not all_moved(before, {}) and not all_moved({}, before)


def test_legs_fill_the_hours_with_seeds_of_their_own() -> None:
    plans = long.legs(random.randrange(1000), 0.4)
    assert sum(plan.seconds for plan in plans) == pytest.approx(0.4 * 3600)
    assert len({plan.seed for plan in plans}) == len(plans) == 3


def test_an_hour_has_each_of_the_long_scenarios() -> None:
    plans = long.legs(7, 1.0)
    assert sum(plan.seconds for plan in plans) == pytest.approx(3600)
    assert {plan.scenario for plan in plans} == set(long.LONG)
    assert plans[0] == long.LONG["L1"].plan(7, True)
    assert [plan.seed for plan in plans] == list(range(7, 7 + len(plans)))
