"""What a pulse says of its region, and who waits for whom."""

import pytest

from meshnode.lab import rounds
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
    return Pulse(beat, 0, 0, body, heard or {})


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


class Mending:
    """Two regions whose clock are the looks at them: a beat every third, heard a look later.

    East has one row that a client holds, until it is mended or goes in after look ``free``; what
    is mended stands in the binlog behind the beats that were written before.
    """

    def __init__(self, free: int, aside: bool) -> None:
        self.now = 0
        self.free = free
        self.aside = aside

    @property
    def lifted_before(self) -> int:
        """The first beat of east behind the row that was mended."""
        return 2 + (self.free - 1) // 3

    def heard(self) -> int:
        return 1 + max(0, self.now - 1) // 3

    def look(self) -> dict[str, Pulse]:
        self.now += 1
        beat = 1 + self.now // 3
        lifts = int(not self.aside and self.free <= (beat - 1) * 3)
        held = int(self.now < self.free)
        mends, aside = (0, held) if self.aside else (held, 0)
        body = {"counts": {"lifts": lifts}}
        return {
            "east": Pulse(beat, mends, aside, body, {2: self.heard()}),
            "west": pulse(beat, {1: self.heard()}),
        }


@pytest.mark.parametrize("aside", [False, True])
@pytest.mark.parametrize("free", range(1, 20))
async def test_a_row_that_is_mended_behind_the_beats_is_waited_for(monkeypatch, free, aside):
    mesh = Mending(free, aside)

    class Watch(_Watch):
        async def _look(self):
            return mesh.look(), []

    monkeypatch.setattr(rounds, "_Watch", Watch)
    monkeypatch.setattr(rounds, "LOOK_SECONDS", 0)
    verdict = await rounds.wait(MESH, 60)
    assert verdict.complete
    assert mesh.now >= free
    assert aside or mesh.heard() >= mesh.lifted_before
