"""The instruments of the board: buckets, and a maximum that forgets."""

import pytest

from meshnode.actors.measures import WINDOW_SECONDS, Histogram, RecentMaximum


def test_a_value_at_a_bound_is_not_above_it():
    histogram = Histogram((1, 4, 16))
    for value in (0, 1, 2, 4, 5, 16, 17, 1000):
        histogram.observe(value)
    assert histogram.cumulative() == [("1.0", 2), ("4.0", 4), ("16.0", 6), ("+Inf", 8)]
    assert histogram.total == 1045


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_maximum_is_that_of_the_last_minute(clock: Clock):
    recent = RecentMaximum(clock)
    assert recent.value() is None
    recent.note(-3.0)
    recent.note(2.0)
    recent.note(1.0)
    assert recent.value() == 2.0
    clock.now += WINDOW_SECONDS
    recent.note(0.5)
    assert recent.value() == 2.0, "it is at most half a window old"
    clock.now += WINDOW_SECONDS
    assert recent.value() == 0.5
    clock.now += WINDOW_SECONDS
    assert recent.value() is None


def test_a_long_silence_leaves_nothing_of_before(clock: Clock):
    recent = RecentMaximum(clock)
    recent.note(5.0)
    clock.now += 10 * WINDOW_SECONDS
    assert recent.value() is None
    recent.note(-1.0)
    assert recent.value() == -1.0
