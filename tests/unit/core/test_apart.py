"""Which parts of an item's rows are tried, and how many."""

import pytest

from meshnode.core.apart import ROWS, TRIES, Apart


@pytest.mark.parametrize("rows", ["", "a", "ab"])
def test_of_two_rows_there_is_no_part_that_was_not_tried(rows):
    assert list(Apart().parts(rows)) == []


def test_all_but_one_come_before_pairs():
    found = ["".join(part) for part in Apart().parts("abcde")]
    assert found[:5] == ["abcd", "abce", "abde", "acde", "bcde"]
    assert found[5:8] == ["ab", "ac", "ad"]
    assert len(found) == len(set(found)) == 5 + 10 + 10


def test_the_tries_of_an_item_are_bounded_over_all_rounds():
    apart = Apart()
    first = sum(1 for _ in apart.parts(range(30)))
    assert first == TRIES
    assert list(apart.parts(range(3))) == []


def test_the_rows_of_all_tries_are_bounded_and_large_parts_leave_room_for_pairs():
    sizes = [len(part) for part in Apart().parts(range(ROWS // 2))]
    assert sum(sizes) <= ROWS
    assert sizes[:3] == [ROWS // 2 - 1, ROWS // 2 - 1, 2]
    assert next(Apart().parts(range(ROWS + 2))) == (0, 1)
