"""When rows that were parked because of a unique value are tried again."""

import pytest

from meshnode.actors import taken as module
from meshnode.actors.board import Board
from meshnode.actors.taken import LETTERS_A_ROUND, LONGEST_SECONDS, Taken
from meshnode.core.wire import UPSERT, Entry
from meshnode.store.values import Letter


class Replays:
    """Letters ``there``, of which those in ``free`` go in."""

    def __init__(self, *there: Letter) -> None:
        self.session = self
        self.there = list(there)
        self.free: set[int] = set()
        self.tried: list[int] = []

    async def taken(self, most: int, after: int) -> list[Letter]:
        return [each for each in self.there if each.number > after][:most]

    async def again(self, letters: list[Letter]) -> int:
        self.tried += [each.number for each in letters]
        before = len(self.there)
        self.there = [each for each in self.there if each.number not in self.free]
        return before - len(self.there)


def letter(number: int, ts: int = 5) -> Letter:
    entry = Entry(0, b"", UPSERT, ts, 2, 1, 2, True)
    return Letter(number, 2, 7, "b:7", 1062, None, entry)


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(module, "time", type("Clock", (), {"monotonic": lambda: now[0]}))
    return now


def board_at(frontier: int) -> Board:
    board = Board(3)
    board.peer(1).frontier = frontier
    board.peer(2).frontier = 100
    return board


async def test_a_letter_is_tried_when_every_peer_is_past_it(clock) -> None:
    board, replays = board_at(4), Replays(letter(1))
    taken = Taken(replays, board)
    await taken.round(0)
    await taken.round(0)
    assert replays.tried == [1]
    board.peer(1).frontier = 5
    replays.free = {1}
    assert await taken.round(0) == 1
    assert replays.tried == [1, 1]


async def test_a_letter_is_tried_when_another_has_closed_or_one_more_is_parked(clock) -> None:
    board, replays = board_at(9), Replays(letter(1))
    taken = Taken(replays, board)
    await taken.round(0)
    await taken.round(1)
    assert replays.tried == [1, 1]
    board.counts["parked"] += 1
    await taken.round(0)
    await taken.round(0)
    assert replays.tried == [1, 1, 1]


async def test_what_is_truly_taken_is_tried_ever_more_rarely(clock) -> None:
    replays = Replays(letter(1))
    taken = Taken(replays, board_at(9))
    seconds = 3 * 3600
    for _ in range(seconds):
        await taken.round(0)
        clock[0] += 1.0
    assert 0 <= len(replays.tried) - seconds // int(LONGEST_SECONDS) <= 9


async def test_a_round_tries_few_and_the_next_one_goes_on(clock) -> None:
    count = 2 * LETTERS_A_ROUND + 1
    replays = Replays(*(letter(number) for number in range(1, count + 1)))
    taken = Taken(replays, board_at(9))
    for rounds in range(1, 4):
        await taken.round(0)
        assert len(replays.tried) == min(rounds * LETTERS_A_ROUND, count)
    await taken.round(0)
    assert replays.tried == list(range(1, count + 1))
