"""What of a topic does not count against its size."""

from meshnode.bus.allowance import Allowance

LONG, MOST = 80, 100


def test_short_transactions_count() -> None:
    allowance = Allowance(LONG, MOST)
    for floor in range(0, 1000, 79):
        allowance.note(floor, floor + 79)
        assert allowance.counted(0, floor + 79) == floor + 79


def test_a_long_one_does_not_count_while_it_comes_nor_when_it_is_there() -> None:
    allowance = Allowance(LONG, MOST)
    allowance.note(50, 50)
    for end in (130, 500):
        allowance.note(50, end)
        assert allowance.counted(0, end) == 50
    allowance.note(510, 520)
    assert allowance.counted(0, 520) == 60
    assert allowance.counted(300, 520) == 10, "whoever stands in it has only what follows to read"
    assert allowance.counted(515, 520) == 5


def test_it_counts_again_when_as_much_follows_as_the_topic_may_hold() -> None:
    allowance = Allowance(LONG, MOST)
    allowance.note(50, 50)
    allowance.note(500, 500)
    allowance.note(550, 600)
    assert allowance.counted(0, 600) == 150
    allowance.note(600, 601)
    assert allowance.counted(0, 601) == 601


def test_only_the_newest_long_one_does_not_count() -> None:
    allowance = Allowance(LONG, MOST)
    for floor in (0, 500, 900):
        allowance.note(floor, floor)
    assert allowance.counted(0, 900) == 500


def test_what_stood_there_before_the_first_word_counts() -> None:
    allowance = Allowance(LONG, MOST)
    allowance.note(500, 510)
    assert allowance.counted(0, 510) == 510
