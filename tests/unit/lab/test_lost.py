"""Which writes of a key lost: everything that the winner's writers had not seen."""

import pytest

from meshnode.lab.lost import ZERO, accounted_for, letter_counts, lost_writes
from meshnode.lab.topics import Published, Stamp

NO_GC = {"one": 0, "two": 0}


def version(ts: int, origin: int, base: Stamp = ZERO, removed: bool = False) -> Published:
    region = {1: "one", 2: "two"}[origin]
    return Published("lab", "t", b"k", removed, Stamp(ts, origin), base, region, ts)


def losers(entries: list[Published], gc_limits=NO_GC) -> tuple[list[int], bool]:
    winner = max(entries, key=lambda entry: entry.stamp)
    lost = lost_writes(entries, winner, gc_limits)
    return [entry.stamp.ts for entry in lost.writes], lost.cut_short


def test_a_history_without_conflict_loses_nothing():
    first = version(1, 1)
    second = version(2, 2, first.stamp)
    gone = version(3, 1, second.stamp, removed=True)
    assert losers([gone, first, version(4, 2, gone.stamp), second]) == ([], False)


def test_concurrent_writes_over_one_base_lose_to_the_latest():
    base = version(1, 1)
    entries = [base, version(5, 1, base.stamp), version(6, 2, base.stamp)]
    assert losers(entries) == ([5], False)


def test_what_the_loser_was_written_over_lost_with_it():
    entries = [version(5, 1), version(6, 1, Stamp(5, 1)), version(7, 2)]
    assert losers(entries) == ([5, 6], False)


def test_a_delete_that_lost_needs_no_record():
    base = version(1, 1)
    entries = [base, version(5, 1, base.stamp, removed=True), version(6, 2, base.stamp)]
    assert losers(entries) == ([], False)


@pytest.mark.parametrize(("limit", "expected"), [(0, [1]), (2, [])])
def test_an_insert_after_a_collected_delete_follows_it(limit: int, expected: list[int]):
    first = version(1, 1)
    gone = version(2, 1, first.stamp, removed=True)
    entries = [first, gone, version(9, 2)]
    assert losers(entries, {"one": 0, "two": limit}) == (expected, False)


def test_a_partial_image_that_does_not_say_what_it_replaced_follows_its_own_region():
    first, again = version(1, 1), version(5, 1)
    assert losers([first, again, version(7, 1)]) == ([], False)
    # What another region wrote meanwhile was seen by nobody, as far as the streams tell.
    assert losers([first, version(3, 2, first.stamp), again]) == ([3], False)


def test_a_row_that_came_and_went_beneath_a_newer_tombstone_is_not_lost():
    first = version(5, 2)
    gone = version(6, 1, first.stamp, removed=True)
    came = version(3, 1)._replace(seq=7)
    went = version(4, 1, came.stamp, removed=True)._replace(seq=8)
    last = version(9, 2, gone.stamp)
    assert losers([first, gone, came, went, last]) == ([], False)
    assert losers([first, gone, came, last]) == ([3], False)


def test_an_insert_beneath_its_regions_delete_is_not_lost_once_it_was_written_over():
    """The node found the row updated when it came to lift the insert over the delete."""
    first = version(5, 2)
    gone = version(6, 1, first.stamp, removed=True)
    came = version(3, 1)._replace(seq=7)
    again = version(7, 1, gone.stamp)._replace(seq=8)
    last = version(9, 2, gone.stamp)
    assert losers([first, gone, came, again]) == ([], False)
    assert losers([first, gone, came, last]) == ([3], False)
    # Beneath a delete that it need not have seen it lost to that.
    assert losers([first, gone._replace(region="two"), came, again]) == ([3], False)
    assert losers([came._replace(seq=5), first, gone, again]) == ([3], False)


@pytest.mark.parametrize(("limit", "expected"), [(0, [3]), (4, [])])
def test_an_insert_that_names_its_own_delete_follows_a_later_one_that_was_collected(
    limit: int, expected: list[int]
):
    first = version(1, 1)
    named = version(2, 1, first.stamp, removed=True)
    second = version(3, 2, first.stamp)
    collected = version(4, 2, second.stamp, removed=True)
    entries = [first, named, second, collected, version(9, 1, named.stamp)]
    assert losers(entries, {"one": limit, "two": 0}) == (expected, False)
    # Another region's delete it knows by the tombstone, which was there: nothing was collected.
    read = [*entries[:-1], version(9, 1, version(1, 2).stamp)]
    with_tombstone = [version(1, 2, removed=True), *read]
    assert losers(with_tombstone, {"one": limit, "two": 0}) == ([3], False)


def test_an_insert_dated_below_the_delete_that_it_waited_for_follows_it():
    first = version(1, 1)
    gone = version(5, 1, first.stamp, removed=True)
    insert = version(4, 1)._replace(seq=6)
    last = version(9, 1, insert.stamp, removed=True)
    assert losers([first, gone, insert, last]) == ([], False)
    # Another region's insert need not have seen it.
    other = version(4, 2)._replace(seq=6)
    assert losers([first, gone, other, version(9, 2, other.stamp)]) == ([1], False)


def test_an_insert_follows_the_delete_that_it_names_besides_the_one_that_it_may_have_seen():
    first, second = version(1, 1), version(1, 2)
    named = version(2, 1, first.stamp, removed=True)
    third = version(3, 2, second.stamp)
    other = version(4, 2, third.stamp, removed=True)
    insert = version(9, 1, named.stamp)
    again = version(12, 1, insert.stamp, removed=True)
    last = version(20, 2, again.stamp)
    assert losers([first, second, named, third, other, insert, again, last]) == ([], False)


def test_an_insert_whose_key_was_deleted_again_before_its_node_looked():
    """Its node saw the later tombstone only, and says that nothing was there."""
    first = version(1, 1)
    gone = version(2, 2, first.stamp, removed=True)
    back = version(3, 1)
    again = version(4, 1, back.stamp, removed=True)
    last = version(5, 1, again.stamp)
    assert losers([first, gone, back, again, last]) == ([], False)
    # Without the second delete the tombstone was there to be seen.
    assert losers([first, gone, back]) == ([1], False)


def test_an_insert_follows_the_delete_of_its_own_region():
    first = version(1, 2)
    gone = version(2, 1, first.stamp, removed=True)
    assert losers([first, gone, version(3, 1)]) == ([], False)


def test_a_base_that_was_never_published_hides_what_is_older_and_nothing_else():
    entries = [version(1, 1), version(6, 1), version(9, 2, Stamp(5, 2))]
    assert losers(entries) == ([6], True)


def test_an_insert_that_was_deleted_again_names_an_older_delete_of_its_own_region():
    """Rows that came and went in one transaction follow the newest delete below them."""
    first = version(1, 1)
    gone = version(2, 1, first.stamp, removed=True)
    other = version(3, 2, gone.stamp)
    deleted = version(4, 2, other.stamp, removed=True)
    came_and_went = version(5, 1, gone.stamp, removed=True)
    assert losers([first, gone, other, deleted, came_and_went]) == ([], False)
    # A row that stands has been looked at under the tombstone that it names.
    assert losers([first, gone, other, deleted, version(5, 1, gone.stamp)]) == ([3], False)


def test_a_late_tombstone_that_comes_round_again_changes_nothing():
    first = version(1, 1)
    second = version(2, 1, first.stamp)
    gone = version(3, 1, second.stamp, removed=True)
    again = gone._replace(base=ZERO, seq=9)
    assert losers([first, second, gone, version(4, 1, gone.stamp), again]) == ([], False)


def test_a_base_that_was_overtaken_before_its_lift_stands_above_what_its_region_had_published():
    """Its stamp was too low, which is why it had to be lifted."""
    first = version(5, 2)
    gone = version(6, 1, first.stamp, removed=True)._replace(seq=1)
    last = version(9, 1, Stamp(4, 1))._replace(seq=2)
    assert losers([first, gone, last]) == ([], True)
    assert losers([first, last]) == ([5], True)


def test_a_record_accounts_for_what_its_writer_had_replaced():
    first = version(1, 1)
    second = version(2, 1, first.stamp)
    beside = version(3, 1, first.stamp)
    found = accounted_for([first, second, beside], {second.stamp, Stamp(9, 2)})
    assert found == {first.stamp, second.stamp}


def test_a_record_accounts_for_nothing_through_a_version_that_was_never_published():
    first = version(1, 1)
    last = version(3, 1, Stamp(2, 1))
    assert accounted_for([first, last], {last.stamp, Stamp(2, 1)}) == {last.stamp}


@pytest.mark.parametrize(
    "after",
    [version(1, 1, Stamp(2, 1)), version(9, 1, Stamp(2, 1))._replace(seq=1)],
    ids=["a lower stamp", "an earlier place in its own stream"],
)
def test_a_record_accounts_for_nothing_that_its_writer_cannot_have_seen(after):
    before = version(2, 1)
    assert accounted_for([before, after], {after.stamp}) == {after.stamp}


@pytest.mark.parametrize(
    ("state", "note", "counts"),
    [
        ("open", "", True),
        ("open", "the definition differs", True),
        ("replay", "", True),
        ("closed", "overtaken by a later version", True),
        ("closed", "replayed", False),
    ],
)
def test_a_letter_is_a_record_unless_its_row_was_applied_after_all(state, note, counts):
    assert letter_counts(state, note) is counts
