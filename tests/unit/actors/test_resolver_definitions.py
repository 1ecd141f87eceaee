"""A definition that changes while the resolver is away is noticed when it is back."""

import pytest

from meshnode.actors import resolver as resolver_module
from meshnode.actors.board import Board
from meshnode.actors.resolver import Resolver
from meshnode.errors import Halt, Retry


class Looks:
    """A region where nothing is left over; its definitions are ``found`` in turn."""

    def __init__(self, *found: object) -> None:
        self.found = list(found)

    async def definitions(self) -> object:
        answer = self.found.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def to_replay(self, most: int, after: int) -> list:
        return []

    async def taken(self, most: int, after: int) -> list:
        return []

    async def parked(self, most: int, after: int) -> list:
        return []


async def test_each_change_counts_once_also_over_a_restart(monkeypatch) -> None:
    """Appliers may have compared a table before the first look: that counts as well."""
    monkeypatch.setattr(resolver_module, "ROUND_SECONDS", 0)
    board = Board(1)
    actor = Resolver(None, None, board)
    seen = []
    for looks in (
        Looks("a", "a", Retry("lost")),
        Looks("b", "b", Retry("lost")),
        Looks("b", Retry("lost")),
    ):
        with pytest.raises(Retry):
            await actor._run(looks)
        seen.append(board.definitions)
    assert seen == [1, 2, 2]


async def test_a_row_that_cannot_be_lifted_does_not_keep_a_change_unseen() -> None:
    """Held rows halt the resolver where the key of their table was changed, for instance."""
    looks = Looks("a", "b")

    async def waiting(most: int) -> list:
        raise Halt("the key was changed", "put it back")

    looks.waiting = waiting
    board = Board(1)
    board.format = b"format"
    actor = Resolver(None, None, board)
    for seen in (1, 2):
        with pytest.raises(Halt):
            await actor._run(looks)
        assert board.definitions == seen
