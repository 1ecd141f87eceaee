"""What facts about regions and pairs mean: converged or not, why, and since when."""

import pytest

from meshnode.core.frontier import frontier
from meshnode.ops.status import rates, read_body, with_distance
from meshnode.ops.status_view import render, show
from meshnode.ops.verdict import (
    ActorStatus,
    Letters,
    PairStatus,
    Paused,
    RegionStatus,
    Status,
    gc_held,
    judge,
    moment,
)
from meshnode.topology import (
    Accounts,
    AccountSource,
    Bus,
    Limits,
    MysqlAddress,
    Region,
    Replicate,
    Topology,
)

NOW = 1_800_000_000_000_000
SECOND = 1_000_000
NAMES = ("east", "west", "north")


def topology(heartbeat_seconds: float = 1.0) -> Topology:
    source = AccountSource(user="mesh", password_env="NOBODY_SETS_THIS")
    return Topology(
        mesh="trio",
        replicate=Replicate(tables=("app.*",)),
        bus=Bus(kind="file", dir="/bus"),
        regions=tuple(
            Region(id=number, name=name, mysql=MysqlAddress(host="localhost"))
            for number, name in enumerate(NAMES, 1)
        ),
        accounts=Accounts(tail=source, apply=source, admin=source),
        limits=Limits(heartbeat_seconds=heartbeat_seconds),
    )


def region(name: str, **changes: object) -> RegionStatus:
    facts: dict = {
        "now_us": NOW,
        "wall_us": NOW - SECOND // 2,
        "digest": topology().digest,
        "actors": [ActorStatus("tailer", "running")],
    }
    return RegionStatus(name, NAMES.index(name) + 1, "localhost:3306", **(facts | changes))


def pair(origin: str, at: str, **changes: object) -> PairStatus:
    facts: dict = {"seq": 5, "lag": 1.0, "frontier_us": NOW - 2 * SECOND, "now_us": NOW}
    return PairStatus(origin, at, **(facts | changes))


def mesh(
    regions: dict[str, dict] | None = None,
    pairs: dict[tuple, dict] | None = None,
    of: Topology | None = None,
) -> Status:
    """A healthy mesh but for the given changes, judged."""
    return judge(
        of or topology(),
        [region(name, **(regions or {}).get(name, {})) for name in NAMES],
        [
            pair(origin, at, **(pairs or {}).get((origin, at), {}))
            for at in NAMES
            for origin in NAMES
            if origin != at
        ],
    )


def test_a_healthy_mesh_is_converged() -> None:
    status = mesh()
    assert status.converged
    assert status.problems == status.warnings == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"letters": Letters(open=2, replay=1)}, "3 parked rows"),
        ({"letters": Letters(skipped=1)}, "1 skipped transactions"),
        ({"wall_us": NOW - 11 * SECOND}, "no heartbeat for 11 s"),
        ({"wall_us": 0}, "no heartbeat yet"),
        ({"error": "refused the connection"}, "unreachable: refused the connection"),
        (
            {"actors": [ActorStatus("tailer", "halted", "it is TRUNCATE", "skip it", NOW / 1e6)]},
            "tailer halted since 2027-01-15 08:00:00Z: it is TRUNCATE",
        ),
        ({"actors": [ActorStatus("heart", "failed", "KeyError")]}, "heart failed: KeyError"),
        ({"actors": [ActorStatus("heart", "fenced", "taken over")]}, "heart fenced: taken over"),
    ],
)
def test_what_stands_is_named_with_its_region(changes: dict, words: str) -> None:
    status = mesh({"west": changes})
    assert not status.converged
    assert [(finding.region, finding.what) for finding in status.problems] == [
        ("west", next(f.what for f in status.problems if words in f.what))
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"digest": "0" * 32}, "another topology"),
        ({"actors": [ActorStatus("applier east", "retrying", "deadlock")]}, "retrying: deadlock"),
        ({"actors": [ActorStatus("applier east", "waiting", "shape")]}, "waiting: shape"),
        ({"mend": 3}, "3 rows wait to be mended"),
        (
            {"retention": 7200.0, "retention_left": {1: 3599.0, 2: 3600.0}},
            "forgets what is unread of east in 1.0 h (it keeps records for 2 h)",
        ),
    ],
)
def test_what_runs_but_is_odd_is_a_warning(changes: dict, words: str) -> None:
    status = mesh({"north": changes})
    assert status.converged
    (warning,) = status.warnings
    assert warning.region == "north"
    assert words in warning.what


@pytest.mark.parametrize("edge", [9.9, -3.0])
def test_a_lag_within_bounds_is_no_problem(edge: float) -> None:
    assert mesh(pairs={("east", "west"): {"lag": edge}}).converged


@pytest.mark.parametrize(("lag", "words"), [(12.0, "for 12 s"), (None, "yet")])
def test_a_silent_stream_is_a_problem_of_where_it_should_arrive(lag, words: str) -> None:
    (problem,) = mesh(pairs={("east", "west"): {"lag": lag}}).problems
    assert problem.region == "west"
    assert problem.what == f"nothing heard of east {words}"


def test_a_clock_that_is_ahead_hides_no_standing_stream() -> None:
    """The origin's clock dates its heartbeats into the future; their numbers go by no clock."""
    (problem,) = mesh(pairs={("east", "west"): {"lag": -40.0, "beats": 11}}).problems
    assert problem.region == "west"
    assert problem.what == "11 heartbeats of east are not applied, although the lag is -40 s"
    assert "clocks" in problem.remedy and "`applier east` in west" in problem.remedy
    assert mesh(pairs={("east", "west"): {"lag": -40.0, "beats": 10}}).converged
    # One reason is enough, and a slow pulse is not a silent one.
    (problem,) = mesh(pairs={("east", "west"): {"lag": 12.0, "beats": 12}}).problems
    assert problem.what == "nothing heard of east for 12 s"
    slow = topology(heartbeat_seconds=20.0)
    assert mesh(pairs={("east", "west"): {"beats": 3}}, of=slow).converged
    assert not mesh(pairs={("east", "west"): {"beats": 4}}, of=slow).converged


def test_a_slow_pulse_is_not_a_dead_node() -> None:
    slow = topology(heartbeat_seconds=30.0)
    for age, converged in ((89, True), (91, False)):
        assert mesh({"east": {"wall_us": NOW - age * SECOND}}, of=slow).converged == converged
        assert mesh(pairs={("east", "west"): {"lag": float(age)}}, of=slow).converged == converged


def test_a_lag_is_never_less_than_by_the_clock_of_the_origin() -> None:
    """Where that clock is ahead, the other one makes a stream that stands look fresh."""
    east = region("east", now_us=NOW + 30 * SECOND, wall_us=NOW + 29 * SECOND, beat=100)
    for lag, heard, beats, shown in (
        (-5.0, NOW + 5 * SECOND, 75, 25.0),
        (40.0, NOW + 29 * SECOND, 99, 40.0),
        (None, 0, 0, None),
    ):
        seen = with_distance(pair("east", "west", lag=lag, heard_us=heard, heard_beat=beats), east)
        assert seen.lag == shown
        assert seen.beats == (None if lag is None else 100 - beats)
    away = region("east", error="gone", beat=100)
    seen = with_distance(pair("east", "west", lag=-5.0, heard_us=NOW, heard_beat=1), away)
    assert (seen.lag, seen.beats) == (-5.0, None)


def test_a_dead_node_is_named_once_and_not_again_for_each_of_its_streams() -> None:
    late = {"lag": 30.0}
    late_pairs = [("east", "west"), ("north", "west"), ("west", "north"), ("west", "east")]
    for silent in ({"wall_us": NOW - 30 * SECOND}, {"error": "gone"}):
        status = mesh({"west": silent}, dict.fromkeys(late_pairs, late))
        assert [problem.region for problem in status.problems] == ["west"]


def test_gc_is_held_by_the_oldest_frontier_and_since_when() -> None:
    regions = [region(name) for name in NAMES]
    pairs = [
        pair("east", "west", frontier_us=NOW - 70 * SECOND),
        pair("north", "west", frontier_us=NOW - 90 * SECOND),
        pair("east", "north", frontier_us=NOW - 59 * SECOND),
        pair("west", "north", frontier_us=0, lag=None),
    ]
    (held,) = gc_held(regions, pairs, 1.0)
    assert held.region == "north"
    assert held.what.endswith(f"in west since {moment(NOW - 90 * SECOND)} (90 s)")


def test_a_long_transaction_holds_nothing_back_for_good() -> None:
    """A backup that is open for ten minutes: the frontier is late, and goes on all the same."""
    promised = 0
    for now in range(NOW - 600 * SECOND, NOW - SECOND, SECOND):
        promised = frontier(now, NOW - 600 * SECOND, now - SECOND // 2, promised)
    late = {"frontier_us": promised}
    assert mesh(pairs={("east", "west"): late, ("east", "north"): late}).converged


def test_one_member_that_holds_all_back_is_named_once() -> None:
    old = {"frontier_us": NOW - 80 * SECOND}
    (problem,) = mesh(pairs={("east", "west"): old, ("east", "north"): old}).problems
    assert problem.region == "east"
    assert "in west, north since" in problem.what


def test_rates_are_per_second_between_two_heartbeats() -> None:
    before = region("east", counts={"published_rows": 10, "applied_rows": 4})
    after = region(
        "east",
        wall_us=before.wall_us + 2 * SECOND,
        counts={"published_rows": 40, "applied_rows": 5},
    )
    assert rates(before, after)["published_rows"] == 15.0
    assert rates(before, after)["applied_rows"] == 0.5


def test_a_restart_between_two_looks_gives_no_rates() -> None:
    before = region("east", counts={"published_rows": 10})
    after = region("east", wall_us=before.wall_us + SECOND, counts={"published_rows": 3})
    assert rates(before, after) == {}
    assert rates(before, before) == {}


def test_the_body_of_a_heartbeat_is_taken_as_it_is_written() -> None:
    shown = region("east", actors=[])
    read_body(
        '{"v": 1, "node": "0.1.0", "digest": "d", "applied": {"2": [7, 8, "00ff", 9]},'
        ' "retention": 7200.0, "retention_left": {"2": 60.5},'
        ' "counts": {"lifts": 3}, "actors": [{"name": "applier west", "state": "halted",'
        ' "reason": "gap", "remedy": "look", "since": 12.5, "restarts": 2}]}',
        shown,
    )
    assert (shown.node, shown.digest, shown.counts) == ("0.1.0", "d", {"lifts": 3})
    assert (shown.retention, shown.retention_left) == (7200.0, {2: 60.5})
    assert shown.actors == [ActorStatus("applier west", "halted", "gap", "look", 12.5, 2)]


@pytest.mark.parametrize("body", [None, "{}", '{"v": 2, "counts": {"lifts": 1}}', "[]"])
def test_a_body_of_another_version_says_nothing(body: str | None) -> None:
    shown = region("east", actors=[])
    read_body(body, shown)
    assert shown.counts == {}
    assert shown.actors == []


def test_the_view_shows_lags_verdict_and_remedies() -> None:
    from io import StringIO

    from rich.console import Console

    text = StringIO()
    status = mesh(
        {
            "west": {"error": "[red]gone[/red]", "remedy": "start it"},
            "east": {"rates": {"published_rows": 1234.0}, "counts": {"lifts": 42}},
        },
        {("north", "east"): {"lag": 3.25}},
    )
    Console(file=text, width=160).print(render(status))
    shown = text.getvalue()
    assert "mesh trio, 3 regions" in shown
    assert "not converged" in shown
    assert "! west: unreachable: [red]gone[/red]" in shown
    assert "remedy: start it" in shown
    assert "1,234" in shown
    assert "42" in shown
    assert "3.2" in shown


def test_every_stamp_is_a_moment() -> None:
    assert moment(0) == "1970-01-01 00:00:00Z"
    assert moment(2**64 - 1) == "586524-01-19 08:01:49Z"


def test_a_paused_peer_is_named_once_and_instead_of_its_lag() -> None:
    held = {"lag": 500.0, "paused": Paused(1_700_000_000.0, "ticket 4711")}
    status = mesh(pairs={("east", "west"): held})
    (problem,) = status.problems
    assert problem.region == "west"
    assert problem.what == ("east is paused by an operator since 2023-11-14 22:13:20Z: ticket 4711")
    assert problem.remedy == "meshnode resume east --region west"


def test_a_pause_is_told_also_while_the_node_is_away() -> None:
    held = {"paused": Paused(1_700_000_000.0)}
    status = mesh({"west": {"wall_us": NOW - 60 * SECOND}}, {("east", "west"): held})
    told = [problem.what for problem in status.problems if problem.region == "west"]
    assert "east is paused by an operator since 2023-11-14 22:13:20Z" in told
    assert any(what.startswith("no heartbeat for 60 s") for what in told)


def test_a_finding_stays_on_one_line_where_no_terminal_reads() -> None:
    from io import StringIO

    from rich.console import Console

    reason = "transaction a:7 " + "is a long story " * 30 + "on a replicated table"
    halted = ActorStatus(
        "tailer", "halted", reason, "see docs/OPERATING.md " * 20 + "to the end", 1.0
    )
    text = StringIO()
    show(mesh({"west": {"actors": [halted]}}), Console(file=text, width=160))
    lines = text.getvalue().splitlines()
    assert any("tailer halted" in line and line.endswith(reason) for line in lines)
    assert any("remedy: see" in line and line.endswith("to the end") for line in lines)


def test_tables_that_wait_for_init_are_named_but_do_not_diverge() -> None:
    tables = [f"app.t{number}" for number in range(7)]
    status = mesh({"west": {"unreplicated": tables}, "east": {"unreplicated": tables[:1]}})
    assert status.converged
    (warning,) = status.warnings
    assert set(warning.region.split(", ")) == {"east", "west"}
    assert warning.what == (
        "7 tables that the topology names are not replicated:"
        " app.t0, app.t1, app.t2, app.t3, app.t4 and 2 more"
    )


def test_tables_that_the_topology_no_longer_names_are_a_warning() -> None:
    status = mesh({"west": {"unnamed": ["app.t"]}})
    assert status.converged
    (warning,) = status.warnings
    assert warning.region == "west"
    assert warning.what == "1 tables are replicated that the topology does not name: app.t"
    assert "--retire" in warning.remedy


def test_keys_that_init_left_are_one_finding_for_all_regions() -> None:
    status = mesh({"west": {"unsettled": {"app.t": 3}}, "east": {"unsettled": {"app.t": 3}}})
    (problem,) = status.problems
    assert not status.converged
    assert set(problem.region.split(", ")) == {"east", "west"}
    assert problem.what.startswith("3 keys of app.t were left as they are")
