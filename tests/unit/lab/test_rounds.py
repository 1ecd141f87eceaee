"""What a pulse says of its region, and who waits for whom."""

from meshnode.lab.rounds import Pulse, _Watch
from meshnode.topology import (
    Accounts,
    AccountSource,
    Bus,
    MysqlAddress,
    Region,
    Replicate,
    Topology,
)

SOURCE = AccountSource(user="mesh", password_env="NOT_SET")
MESH = Topology(
    mesh="test",
    replicate=Replicate(tables=("app.*",)),
    bus=Bus(kind="file", dir="/nonexistent"),
    regions=tuple(
        Region(id=number, name=name, mysql=MysqlAddress(host="127.0.0.1", port=1))
        for number, name in enumerate(("east", "west"), start=1)
    ),
    accounts=Accounts(tail=SOURCE, apply=SOURCE, admin=SOURCE),
)


def pulse(beat: int = 1, heard: dict[int, int] | None = None, **body) -> Pulse:
    return Pulse(beat, 0, body, heard or {})


def behind(marks: dict[str, Pulse], pulses: dict[str, Pulse]) -> list[str]:
    return _Watch(MESH, 0.0)._behind(marks, pulses)


def test_lifts_are_zero_before_the_first_body():
    assert pulse().lifts == 0
    assert pulse(counts={"lifts": 4}).lifts == 4


def test_troubles_name_what_does_not_run():
    actors = [
        {"name": "heart", "state": "running", "reason": ""},
        {"name": "applier oregon", "state": "halted", "reason": "gap"},
        {"name": "tailer", "state": "starting", "reason": ""},
    ]
    assert pulse(actors=actors).troubles() == ["applier oregon halted: gap", "tailer starting"]


def test_a_beat_is_applied_where_its_number_is_reached_whatever_the_clocks_say():
    marks = {"east": pulse(7), "west": pulse(9)}
    assert behind(marks, {"east": pulse(heard={2: 9}), "west": pulse(heard={1: 8})}) == []
    late = behind(marks, {"east": pulse(heard={2: 8}), "west": pulse(heard={})})
    assert late == [
        "east waits for west's beat 9 (the newest heard is 8)",
        "west waits for east's beat 7 (none was ever heard)",
    ]


def test_who_waits_for_a_halted_tailer_says_why():
    halted = {"name": "tailer", "state": "halted", "reason": "transaction a:7 is TRUNCATE of app.t"}
    away = {"name": "applier east", "state": "retrying", "reason": "the bus is away"}
    marks = {"east": pulse(7), "west": pulse(9)}
    (line,) = behind(
        marks,
        {"east": pulse(7, {2: 9}, actors=[halted]), "west": pulse(9, {1: 6}, actors=[away])},
    )
    assert line == (
        "west waits for east's beat 7 (the newest heard is 6); west: applier east retrying: "
        "the bus is away; east: tailer halted: transaction a:7 is TRUNCATE of app.t"
    )


def test_a_halt_that_was_resumed_a_moment_ago_is_not_lost_from_sight():
    """A tailer that is halted tries again and again, and runs for a moment each time."""
    halted = {"name": "tailer", "state": "halted", "reason": "TRUNCATE"}
    running = {"name": "tailer", "state": "running", "reason": ""}
    watch, marks = _Watch(MESH, 0.0), {"east": pulse(7), "west": pulse(9)}
    west = pulse(9, {1: 6})
    watch._behind(marks, {"east": pulse(7, {2: 9}, actors=[halted]), "west": west})
    (line,) = watch._behind(marks, {"east": pulse(7, {2: 9}, actors=[running]), "west": west})
    assert line.endswith("; east: tailer halted: TRUNCATE")
