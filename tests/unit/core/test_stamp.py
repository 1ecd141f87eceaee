"""The order of stamps and the times that mending gives."""

from hypothesis import given
from hypothesis import strategies as st

from meshnode.core.stamp import MAX_TS, ZERO, Stamp, late_tombstone, lifted

times = st.integers(0, MAX_TS)


def test_time_counts_before_origin():
    assert Stamp(2, 1) > Stamp(1, 255)
    assert Stamp(1, 2) > Stamp(1, 1)
    assert Stamp(0, 1) > ZERO


def test_text_is_time_and_origin():
    assert str(Stamp(17, 3)) == "17.3"


@given(times, times, times, times)
def test_a_lift_is_above_everything_it_must_beat(clock, seen, replaced, promised):
    ts = lifted(clock, seen, replaced, promised)
    assert ts >= clock
    assert ts > seen
    assert ts > replaced
    assert ts > promised
    assert ts in (clock, seen + 1, replaced + 1, promised + 1), "and no higher than it must be"


@given(times, st.integers(0, 255), st.integers(1, 255))
def test_a_late_tombstone_beats_its_row_and_nothing_later(ts, origin, own):
    stamp = late_tombstone(Stamp(ts, origin), own)
    assert stamp > Stamp(ts, 255)
    assert stamp.origin == own
    assert stamp < Stamp(ts + 2, 0)
