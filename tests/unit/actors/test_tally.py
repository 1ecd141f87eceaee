"""What is kept of a transaction until it is committed: what the ancestry needs, and no images."""

import pytest

from meshnode import limits
from meshnode.actors.board import Board, PeerProgress
from meshnode.actors.tally import Tally
from meshnode.core.change import Table
from meshnode.core.runs import Segment
from meshnode.core.shape import Column, FieldType
from meshnode.core.stamp import Stamp
from meshnode.core.wire import UPDATE
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.maps import make_table

TABLE: Table = make_table(
    build_table_map(1, "shop", "t", (Column("id", FieldType.LONG, nullable=False),), (0,))
)
BASE, STAMP = Stamp(10, 3), Stamp(20, 2)


def key_of(number: int) -> bytes:
    return number.to_bytes(4, "little")


def part_of(first: int, rows: int) -> Segment:
    """Updates of ``rows`` keys from ``first`` on."""
    keys = [key_of(number) for number in range(first, first + rows)]
    return Segment(TABLE, UPDATE, b"images" * rows, keys, [STAMP] * rows, [BASE] * rows)


def test_a_huge_transaction_leaves_no_images_behind():
    """Its rows may be of any size: kept to its end, they would be all of its parts at once."""
    tally, segments = Tally(1), [part_of(first, 10) for first in range(0, 100, 10)]
    for segment in segments:
        tally.add_straight([segment])
    assert sum(len(kept.keys) for kept in tally.straight) == 100
    assert sum(len(kept.rows) for kept in tally.straight) == 0
    assert all(segment.rows for segment in segments), "the caller's may still be taken apart"


def test_only_what_is_committed_is_counted_and_its_ancestry_is_known_before():
    tally, board, progress = Tally(1), Board(1), PeerProgress()
    tally.add_straight([part_of(0, 10), part_of(10, 5)])
    assert board.ancestry.of((TABLE, key_of(12)), STAMP) is None
    tally.remember(board.ancestry)
    assert board.ancestry.of((TABLE, key_of(12)), STAMP) == (BASE,)
    assert not board.counts
    tally.count(board, progress)
    counted = {"applied_transactions": 1, "applied_rows": 15, "applied_straight": 15}
    assert dict(board.counts) == dict(progress.counts) == counted


@pytest.mark.parametrize("rows", [limits.BASES_KEPT // 4, limits.BASES_KEPT + 1])
def test_of_many_parts_the_newest_are_kept(rows):
    tally = Tally(1)
    for number in range(6):
        tally.add_straight([part_of(number * rows, rows)])
    kept = [segment.keys[0] for segment in tally.straight]
    expected = [5] if rows > limits.BASES_KEPT else [2, 3, 4, 5]
    assert kept == [key_of(number * rows) for number in expected]
