"""Patience with rows that clients hold locked."""

from meshnode import limits
from meshnode.actors.effort import SAME_FAILURES, SHORT_OF_PATIENCE_SECONDS, Effort


def test_locked_rows_are_waited_for_and_then_set_aside():
    effort = Effort()
    effort.locked(100.0)
    assert effort.wait and not effort.aside
    effort.locked(100.0 + limits.LOCKED_SECONDS - 0.1)
    assert not effort.aside
    effort.locked(100.0 + limits.LOCKED_SECONDS)
    assert effort.aside and effort.park


def test_the_next_lock_is_not_waited_for_as_long_again():
    """A client that holds a row for hours costs the stream of that row no time any more."""
    effort = Effort()
    effort.locked(100.0)
    effort.locked(200.0)
    effort.reset()
    assert not (effort.aside or effort.park or effort.wait)
    effort.locked(200.0 + SHORT_OF_PATIENCE_SECONDS - 1)
    assert effort.aside
    effort.reset()
    effort.locked(200.0 + 3 * SHORT_OF_PATIENCE_SECONDS)
    assert not effort.aside, "it is patient again"


def test_time_is_counted_from_the_first_lock_of_a_batch():
    effort = Effort()
    effort.locked(100.0)
    effort.reset()
    effort.locked(100.0 + limits.LOCKED_SECONDS)
    assert not effort.aside


def test_the_same_number_again_and_again_is_no_passing_trouble() -> None:
    effort = Effort()
    assert [effort.failed(1114) for _ in range(SAME_FAILURES + 1)] == [False] * SAME_FAILURES + [
        True
    ]
    assert not effort.failed(1030), "another one begins anew"
    assert not any(effort.failed(0) for _ in range(2 * SAME_FAILURES))
    for _ in range(SAME_FAILURES):
        effort.failed(1114)
    effort.reset()
    assert not effort.failed(1114)
