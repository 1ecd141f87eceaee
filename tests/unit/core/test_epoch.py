"""Whose an epoch is."""

import pytest

from meshnode.core.epoch import is_successors


@pytest.mark.parametrize(
    ("epoch", "ours", "applied", "applies", "expected"),
    [
        (5, (), 4, 0, False),  # the first claim takes over whatever it finds
        (5, (), 5, 0, False),
        (6, (4, 5), 5, 5, True),  # a successor has raised it since
        (6, (4, 5, 6), 5, 5, False),  # a later claim of ours
        (5, (4, 5, 6), 5, 5, False),  # our COMMIT was lost: what stood before it is there still
        (6, (4, 5, 6), 6, 5, True),  # it was lost, and a successor's first claim got its number
        (5, (4, 5), 4, 0, False),  # tried again before the first claim has come through
    ],
)
def test_whose_an_epoch_is(epoch, ours, applied, applies, expected):
    assert is_successors(epoch, ours, applied, applies) is expected
