"""A definition that changes while the resolver is away is noticed when it is back."""

from types import SimpleNamespace

import pytest

from meshnode.actors import resolver as resolver_module
from meshnode.actors.board import Board
from meshnode.actors.resolver import Resolver
from meshnode.errors import Retry


class Looks:
    """Leftovers of a region where nothing is left over; its definitions are ``found`` in turn."""

    def __init__(self, *found: object) -> None:
        self.found = list(found)

    async def definitions(self) -> object:
        answer = self.found.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def replay(self, *_: object) -> int:
        return 0

    async def close_overtaken(self) -> int:
        return 0


async def nothing(*_: object) -> dict:
    return {}


async def test_each_change_counts_once_also_over_a_restart(monkeypatch) -> None:
    """Appliers may have compared a table before the first look: that counts as well."""
    monkeypatch.setattr(resolver_module, "ROUND_SECONDS", 0)
    monkeypatch.setattr(resolver_module, "read_collations", nothing)
    board = Board(1)
    view = SimpleNamespace(now=SimpleNamespace(matches=None))
    actor = Resolver(view, SimpleNamespace(id=1), None, board)

    async def value(_: str) -> int:
        return 1

    seen = []
    for looks in (
        Looks("a", "a", Retry("lost")),
        Looks("b", "b", Retry("lost")),
        Looks("b", Retry("lost")),
    ):
        monkeypatch.setattr(resolver_module, "Leftovers", lambda *_, looks=looks: looks)
        with pytest.raises(Retry):
            await actor._run(SimpleNamespace(value=value))
        seen.append(board.definitions)
    assert seen == [1, 2, 2]
