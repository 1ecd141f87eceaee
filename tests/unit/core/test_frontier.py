"""The promise a heartbeat makes, and what may be forgotten because of it."""

from hypothesis import given
from hypothesis import strategies as st

from meshnode import limits
from meshnode.core.frontier import frontier, gc_limit

SLACK = limits.FRONTIER_SLACK_US
NOW = 1_800_000_000_000_000


def test_alone_and_idle_it_follows_the_clock():
    assert frontier(NOW, None, None, 0) == NOW - SLACK


def test_it_stays_below_the_oldest_open_transaction():
    started = NOW - 10_000_000
    assert frontier(NOW, started, None, 0) == started - SLACK


def test_a_transaction_that_stays_open_holds_it_back_only_so_far():
    started = NOW - 10 * limits.FRONTIER_OPEN_TX_US
    assert frontier(NOW, started, None, 0) == NOW - limits.FRONTIER_OPEN_TX_US - SLACK


def test_a_clock_that_runs_ahead_promises_for_the_others_clocks():
    heard = NOW - 3_600_000_000
    assert frontier(NOW, None, heard, 0) == heard + limits.FRONTIER_AHEAD_US - SLACK


def test_an_open_transaction_in_the_future_does_not_raise_it():
    assert frontier(NOW, NOW + 1, NOW + 1, 0) == NOW - SLACK


def test_a_clock_that_stepped_back_does_not_lower_it():
    assert frontier(NOW - 3_600_000_000, None, None, NOW) == NOW


times = st.integers(0, 2**63)


@given(times, st.none() | times, st.none() | times, times)
def test_it_never_falls_and_never_passes_the_clock(now, oldest, heard, previous):
    promise = frontier(now, oldest, heard, previous)
    assert promise >= previous
    assert promise == previous or promise <= now - SLACK
    if heard is not None:
        assert promise == previous or promise <= heard + limits.FRONTIER_AHEAD_US - SLACK


def test_the_limit_is_the_least_promise():
    assert gc_limit([30, 20, 40], 25, []) == 20
    assert gc_limit([30, 40], 25, []) == 25
    assert gc_limit([], 25, []) == 25


def test_a_parked_row_keeps_the_tombstones_at_and_above_it():
    assert gc_limit([30, 40], 25, [50, 12]) == 11


def test_the_limit_is_never_negative():
    assert gc_limit([30], 25, [0]) == 0


@given(st.lists(times), times, st.lists(times))
def test_nothing_above_any_bound_goes(applied, published, parked):
    limit = gc_limit(applied, published, parked)
    assert all(limit <= each for each in (published, *applied))
    assert all(limit < max(each, 1) for each in parked)
