"""Who stands still and who is only slow: judged from numbers, without a server (I8, I9)."""

from types import SimpleNamespace

import pytest

from chaos import unhurt
from chaos.faults.links import links_of
from chaos.journal import Journal
from chaos.plan import Fault
from chaos.progress import MOST_STEP, PATIENCE_SECONDS, Chase, ahead, behind
from chaos.unhurt import Unhurt

NAMES = ["a", "b", "c"]


def looks(chase: Chase, numbers: list[dict], step: float = MOST_STEP, since: float = 0.0) -> None:
    for count, each in enumerate(numbers, 1):
        chase.look(since + count * step, each)


def test_who_reaches_its_goal_is_done() -> None:
    chase = Chase({"a": 5, "b": 2}, 0.0)
    looks(chase, [{"a": 1, "b": 1}, {"a": 4, "b": 3}, {"a": 5, "b": 3}])
    assert not chase.open and not chase.still(0.0)


def test_who_does_not_move_stands_still() -> None:
    chase = Chase({"a": 5, "b": 5}, 0.0)
    looks(chase, [{"a": 1, "b": 1}] * int(PATIENCE_SECONDS) + [{"a": 2, "b": 1}])
    assert chase.still() == ["b"]
    assert chase.open == {"a": 5, "b": 5}


def test_a_slow_one_may_take_for_ever() -> None:
    chase = Chase({"a": 1000}, 0.0)
    for number in range(900):
        looks(chase, [{"a": number}] * 100, since=number * 100 * MOST_STEP)
        assert not chase.still()


def test_a_number_that_falls_is_a_move_too() -> None:
    """A mesh that was begun anew counts from the beginning."""
    chase = Chase({"a": 50}, 0.0)
    looks(chase, [{"a": 40}] * 100 + [{"a": 3}])
    assert not chase.still(10.0)


def test_a_machine_that_froze_as_a_whole_is_no_finding() -> None:
    chase = Chase({"a": 5}, 0.0)
    looks(chase, [{"a": 1}] * 5, step=3600.0)
    assert not chase.still()


def test_who_is_never_seen_stands_still_and_who_left_does_not() -> None:
    chase = Chase({"a": 5, "b": 5}, 0.0)
    chase.leave(["b", "c"])
    looks(chase, [{}] * int(PATIENCE_SECONDS))
    assert chase.still() == ["a"]


def test_pairs_that_are_not_level() -> None:
    beats = {"a": 7, "b": 9}
    assert behind(beats, {("a", "b"): 9, ("b", "a"): 8}) == []
    assert behind(beats, {("a", "b"): 8, ("b", "a"): 7}) == [("a", "b")]
    assert behind(beats, {("a", "b"): 9}) == [("b", "a")]


def test_positions_ahead_of_the_topics() -> None:
    ends = {"a": 10, "b": 20}
    assert ahead("a", 10, {"b": 20}, ends) == []
    assert len(ahead("a", 11, {"b": 21}, ends)) == 2
    assert "item 21 of b" in ahead("a", 0, {"b": 21}, ends)[0]


@pytest.mark.parametrize(
    ("kind", "target", "links"),
    [
        ("cut.one-way", ("a", "b"), {("a", "b")}),
        ("link.slow", ("a", "b"), {("a", "b")}),
        ("cut.pair", ("a", "b"), {("a", "b"), ("b", "a")}),
        ("cut.isolate", ("c",), {("a", "c"), ("c", "a"), ("b", "c"), ("c", "b")}),
        ("cut.ring", ("a", "b", "c"), {("a", "c"), ("c", "b"), ("b", "a")}),
    ],
)
def test_the_links_that_a_fault_hurts(kind: str, target: tuple, links: set) -> None:
    assert set(links_of(Fault(0.0, kind, target), NAMES)) == links


class Beats:
    """Three regions; at each look all beats go on, but for the pairs (reader, origin) ``cut``."""

    def __init__(self, *cut: tuple[str, str]) -> None:
        self.cut = set(cut)
        self.beat = dict.fromkeys(NAMES, 1)
        self.heard = {(a, b): 0 for a in NAMES for b in NAMES if a != b}

    def go_on(self) -> None:
        for pair in self.heard.keys() - self.cut:
            self.heard[pair] = self.beat[pair[1]]
        self.beat = {name: beat + 1 for name, beat in self.beat.items()}


class Clock(Journal):
    """A journal whose time goes on with each look."""

    seconds = 0.0

    @property
    def now(self) -> float:
        return self.seconds


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """``watched(beats)``: what watches them, and the journal; no time passes in a wait."""

    def make(beats: Beats) -> tuple[Unhurt, Clock]:
        journal = Clock(tmp_path / "journal.jsonl")

        async def wait(seconds: float) -> None:
            journal.seconds += 1.0
            beats.go_on()

        monkeypatch.setattr(unhurt.asyncio, "sleep", wait)
        return Unhurt(beats, (), journal), journal

    return make


CUT = Fault(0.0, "cut.one-way", ("a", "b"), 2.0)


@pytest.mark.parametrize(
    ("cut", "wrong"),
    [
        # The reader b does not hear a: that is the fault.
        ([("b", "a")], []),
        ([("b", "a"), ("c", "a")], ["c hears no more of a"]),
        ([("b", "a"), ("a", "b"), ("c", "b")], ["a hears no more of b", "c hears no more of b"]),
    ],
)
async def test_who_is_not_hurt_by_a_cut_goes_on(watched, cut: list, wrong: list) -> None:
    watch, journal = watched(Beats(*cut))
    watch.begin([("a", "b")])
    await watch.during(CUT)
    assert {check for check, _ in journal.findings} <= {"I8"}
    found = sorted(text for _, text in journal.findings)
    assert len(found) == len(wrong)
    assert all(words in text for words, text in zip(sorted(wrong), found, strict=True))


async def test_a_link_that_another_fault_hurts_is_left_out(watched) -> None:
    watch, journal = watched(Beats(("b", "a"), ("a", "c")))
    watch.begin([("a", "b")])
    watch.begin([("c", "a")])
    await watch.during(CUT)
    assert journal.findings == []


@pytest.mark.parametrize("healed", [True, False])
async def test_a_link_carries_again_when_its_fault_is_over(watched, healed: bool) -> None:
    beats = Beats(("b", "a"))
    watch, journal = watched(beats)
    watch.begin([("a", "b")])
    await watch.during(CUT)
    if healed:
        beats.cut.clear()
    await watch.healed(CUT, [("a", "b")])
    assert [check for check, _ in journal.findings] == ([] if healed else ["I8"])


async def test_a_client_that_is_blocked_by_a_cut_is_named(watched) -> None:
    client = SimpleNamespace(name="a0", acknowledged={})
    watch, journal = watched(Beats(("b", "a")))
    watch._loads = (SimpleNamespace(name="W1", clients=(client,)),)
    watch.begin([("a", "b")])
    await watch.during(CUT)
    assert "W1 a0" in journal.findings[0][1]
