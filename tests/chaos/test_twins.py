"""Of two processes of a region one gives way and says why, unless a fault point shot it."""

import pytest

from chaos.faults.fencing import FENCED, Twin, judged

REASON = f"halted: {FENCED[0]} of this region"


@pytest.mark.parametrize(
    ("first", "second", "shot", "checks"),
    [
        (Twin(1, False, REASON), Twin(2, True, ""), set(), []),
        (Twin(1, True, ""), Twin(2, False, REASON), set(), []),
        (Twin(1, False, "starting"), Twin(2, True, ""), set(), ["I13"]),
        (Twin(1, False, "starting"), Twin(2, True, ""), {1}, []),
        (Twin(1, False, "starting"), Twin(2, True, ""), {2}, ["I13"]),
        (Twin(1, False, REASON), Twin(2, False, REASON), set(), ["I14"]),
        (Twin(0, False, "starting"), Twin(2, True, ""), set(), []),
        (Twin(0, False, "starting"), Twin(2, False, REASON), set(), ["I14"]),
        (Twin(1, False, REASON), Twin(2, False, "starting"), {2}, []),
    ],
)
def test_the_end_of_two_processes(first: Twin, second: Twin, shot: set, checks: list) -> None:
    assert [check for check, _ in judged([first, second], shot)] == checks
