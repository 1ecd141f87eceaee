"""Which version init publishes: the greatest, never a guess, never a loss."""

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core.stamp import ZERO, Stamp
from meshnode.ops.alignment import NO_STREAM, Action, Progress, Reach, State, decide, missed

SINCE = 1_000
NOTHING = State(None, None, None)


def row(ts: int, origin: int = 0, digest: str = "a", tombstone: Stamp | None = None) -> State:
    return State(Stamp(ts, origin), digest, tombstone)


def grave(ts: int, origin: int = 1) -> State:
    return State(None, None, Stamp(ts, origin))


@pytest.mark.parametrize(
    ("states", "action", "region"),
    [
        ([row(0), row(0)], Action.NONE, 0),
        ([row(5, 1), row(5, 1)], Action.NONE, 0),
        ([NOTHING, NOTHING], Action.NONE, 0),
        ([grave(5), NOTHING], Action.LIFT_TOMBSTONE, 1),
        ([grave(5), grave(7), NOTHING], Action.LIFT_TOMBSTONE, 2),
        ([grave(5), grave(5)], Action.NONE, 0),
        ([grave(SINCE + 1), NOTHING], Action.NONE, 0),
        ([NOTHING, row(0)], Action.LIFT_ROW, 2),
        ([row(0), row(0), NOTHING], Action.LIFT_ROW, 1),
        ([row(0), row(5, 2)], Action.LIFT_ROW, 2),
        ([row(5, 1), row(5, 2)], Action.LIFT_ROW, 2),
        ([row(0, digest="a"), row(0, digest="b")], Action.REFUSE, 0),
        ([row(0, digest="a"), row(0, digest="b"), row(3, 3)], Action.LIFT_ROW, 3),
        ([row(5, 1, "a"), row(5, 1, "b")], Action.REFUSE, 0),
        ([row(0), grave(5)], Action.LIFT_TOMBSTONE, 2),
        ([row(0), grave(0, 0)], Action.LIFT_ROW, 1),
        ([row(5, 1), grave(5, 1)], Action.LIFT_ROW, 1),
        ([row(6, 1, tombstone=Stamp(7, 1)), row(6, 1)], Action.LIFT_ROW, 1),
        ([NOTHING, row(6, 2, tombstone=Stamp(7, 2)), grave(7, 2)], Action.LIFT_ROW, 2),
        ([row(6, 1, tombstone=Stamp(7, 1)), row(0, tombstone=Stamp(7, 1))], Action.LIFT_ROW, 1),
        ([row(6, 1, tombstone=Stamp(7, 1)), grave(8, 2)], Action.LIFT_TOMBSTONE, 2),
        ([row(6, 1, tombstone=Stamp(SINCE + 1, 1)), NOTHING], Action.STREAM, 0),
        ([row(0), grave(SINCE + 1)], Action.STREAM, 0),
        ([row(0), row(SINCE + 1, 2)], Action.STREAM, 0),
        ([row(SINCE + 1, 2), row(SINCE + 1, 2)], Action.NONE, 0),
    ],
)
def test_one_key(states: list[State], action: Action, region: int) -> None:
    decision = decide(dict(enumerate(states, 1)), SINCE)
    assert (decision.action, decision.region) == (action, region)


def test_a_row_below_its_tombstone_was_written_after_the_delete() -> None:
    """The clock stepped back between the two, and no node watched the table yet."""
    again = {1: row(6, 1, tombstone=Stamp(7, 1)), 2: row(5, 2, "b"), 3: NOTHING}
    decision = decide(again, SINCE)
    assert (decision.action, decision.region) == (Action.LIFT_ROW, 1)
    assert (decision.seen, decision.above) == (Stamp(6, 1), Stamp(7, 1))


def test_a_seed_overrules_rows_without_a_version_only() -> None:
    differ = {1: row(0, digest="a"), 2: row(0, digest="b"), 3: NOTHING}
    assert decide(differ, SINCE, seed=2).region == 2
    assert decide(differ, SINCE, seed=3).action is Action.REFUSE
    assert decide({1: row(0), 2: row(5, 2, "b")}, SINCE, seed=1).region == 2


def test_nothing_is_left_to_a_stream_that_a_region_will_not_read() -> None:
    """Its own clock dates its table: behind the others', rows of before look newer than it."""
    newer = row(SINCE + 1, 2)
    assert decide({1: NOTHING, 2: newer}, SINCE).action is Action.STREAM
    lifted = decide({1: NOTHING, 2: newer}, NO_STREAM)
    assert (lifted.action, lifted.region, lifted.above) == (Action.LIFT_ROW, 2, newer.row)
    buried = decide({1: NOTHING, 2: grave(SINCE + 1, 2)}, NO_STREAM)
    assert (buried.action, buried.region) == (Action.LIFT_TOMBSTONE, 2)


STATES = st.builds(
    State,
    row=st.none() | st.builds(Stamp, st.integers(0, 4), st.integers(0, 3)),
    digest=st.sampled_from("ab"),
    tombstone=st.none() | st.builds(Stamp, st.integers(1, 4), st.integers(1, 3)),
).map(lambda s: s if s.row is not None else State(None, None, s.tombstone))


@given(st.lists(STATES, min_size=1, max_size=4), st.none() | st.integers(1, 4))
def test_whatever_is_lifted_beats_every_version(states: list[State], seed: int | None) -> None:
    every = dict(enumerate(states, 1))
    decision = decide(every, SINCE, seed)
    top = max(state.version for state in states)
    if decision.action is Action.LIFT_ROW:
        assert every[decision.region].row == decision.seen
        assert every[decision.region].version == decision.above == top
    elif decision.action is Action.LIFT_TOMBSTONE:
        assert every[decision.region].tombstone == top
        assert all(state.row is None for state in states if state.version == top)
    elif decision.action is Action.NONE:
        rows = {(state.row, state.digest) for state in states}
        assert rows == {(None, None)} or (len(rows) == 1 and states[0].row == top)
    else:
        assert decision.reason and top >= ZERO


@given(st.lists(STATES, min_size=2, max_size=3))
def test_the_order_of_regions_changes_no_outcome(states: list[State]) -> None:
    """Region ids break ties only between equal rows or tombstones."""

    def outcome(order: tuple[State, ...]) -> tuple:
        every = dict(enumerate(order, 1))
        decision = decide(every, SINCE)
        lifted = every.get(decision.region, NOTHING)
        return decision.action, decision.above, lifted.digest if lifted.row else None

    outcomes = {outcome(order) for order in permutations(states)}
    actions = {action for action, *_ in outcomes}
    assert len(actions) == 1
    if actions == {Action.LIFT_ROW}:
        assert len(outcomes) == 1


def test_rows_that_a_seed_overrules_are_named_and_only_those_that_nobody_else_would_record() -> (
    None
):
    states = {1: row(0, digest="a"), 2: row(0, digest="b"), 3: row(0, digest="b"), 4: NOTHING}
    assert decide(states, SINCE, seed=1).losers == (2, 3)
    assert decide(states, SINCE, seed=3).losers == (1,)
    # Over another version the applier sees that its row was not known, and records it.
    assert decide({1: row(0), 2: row(5, 2, "b")}, SINCE, seed=1).losers == ()


# What was deleted elsewhere, and is not applied yet where it stands.


def test_a_row_is_lifted_where_no_delete_can_have_been_missed() -> None:
    states = {1: row(0), 2: NOTHING, 3: row(0), 4: NOTHING}
    asked: list[tuple[int, int]] = []

    def of_four(holder: int, other: int) -> bool:
        asked.append((holder, other))
        return holder == 1 and other == 4

    decision = decide(states, SINCE, None, of_four)
    assert (decision.action, decision.region) == (Action.LIFT_ROW, 3)
    # Only regions without the row are asked about.
    assert {other for _, other in asked} == {2, 4}


def test_a_row_that_may_have_been_deleted_is_left_with_the_regions_named() -> None:
    for since in (SINCE, NO_STREAM):
        decision = decide({1: NOTHING, 2: row(0)}, since, None, lambda *_: True)
        assert (decision.action, decision.region, decision.other) == (Action.BEHIND, 2, 1)
    seeded = {1: row(0, digest="a"), 2: row(0, digest="b"), 3: NOTHING}
    decision = decide(seeded, SINCE, 2, lambda holder, other: holder == 2)
    assert (decision.action, decision.region) == (Action.BEHIND, 2)
    # Nothing is deleted where a row stands, and a tombstone that is there speaks for itself.
    assert decide({1: row(0), 2: row(5, 2)}, SINCE, None, lambda *_: True).region == 2
    buried = decide({1: row(0), 2: grave(5)}, SINCE, None, lambda *_: True)
    assert buried.action is Action.LIFT_TOMBSTONE


OTHER = Progress(Reach(7, 50, 20), {1: Reach(5, 9), 3: Reach(6, 30)}, collects=True)
"""Region 2 without the row, when it was looked at."""


def holder(beat: int = 21, third: tuple[int, int] = (6, 30), parked: bool = False) -> Progress:
    """Region 1 with the row."""
    applied = {2: Reach(7, 50, beat), 3: Reach(*third)}
    return Progress(Reach(5, 100, 40), applied, parked=parked)


@pytest.mark.parametrize(
    ("at", "other", "expected"),
    [
        (holder(), OTHER, False),
        (holder(beat=20), OTHER, True),
        (holder(third=(6, 29)), OTHER, True),
        (holder(third=(5, 99)), OTHER, True),
        (holder(third=(8, 1)), OTHER, False),
        (holder(parked=True), OTHER, True),
        (holder(beat=20), replace(OTHER, collects=False), False),
        # A node that is away: what it has noted of its stream is all there is.
        (holder(beat=20), replace(OTHER, silent=True), False),
        (holder(beat=20), replace(OTHER, silent=True, own=Reach(7, 51, 20)), True),
        # Emptied and not started: that there is no row says nothing.
        (holder(beat=0), replace(OTHER, own=Reach(0, 0, 0)), False),
        # Started anew: its former stream says nothing of the present one.
        (holder(), replace(OTHER, own=Reach(8, 1, 1)), True),
        # Rows of a region that was never in the mesh.
        (replace(holder(beat=0), own=Reach(0, 0, 0)), OTHER, False),
        # Its own deletes nobody can miss.
        (holder(), replace(OTHER, applied={1: Reach(5, 101)}), False),
    ],
)
def test_what_a_region_may_have_missed(at: Progress, other: Progress, expected: bool) -> None:
    assert missed(1, at, 2, other) is expected
