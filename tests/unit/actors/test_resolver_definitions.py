"""A definition that changes while the resolver is away is noticed when it is back."""

import pytest

from meshnode.actors import resolver as resolver_module
from meshnode.actors.board import Board
from meshnode.actors.resolver import Resolver
from meshnode.errors import Retry


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
