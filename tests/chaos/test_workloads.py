"""What the workloads write is such that the judges can account for it."""

from types import SimpleNamespace

import pytest

from chaos.workloads.base import Client
from chaos.workloads.registers import Registers


class Server:
    """Takes statements; ``trail`` is what stands in the hot row when it is locked."""

    def __init__(self, trail: str | None) -> None:
        self.trail = trail
        self.said: list[str] = []

    async def execute(self, statement: str, parameters: object = None) -> None:
        self.said.append(statement)

    async def value(self, statement: str, parameters: object = None) -> str | None:
        return self.trail


@pytest.mark.parametrize(("trail", "wipes"), [(None, False), ("a0.1 b0.2", True)])
async def test_a_hot_row_is_wiped_only_if_it_was_seen_and_locked(trail, wipes) -> None:
    """One that comes between the look and a DELETE or REPLACE would be gone without a trace."""
    load = Registers(SimpleNamespace(names=["a"], journal=None), 1, 1)
    server, client = Server(trail), Client("a", 1, 0, "W1 1")
    for _ in range(200):
        await load.write(client, server)
    wiping = [text for text in server.said if text.startswith(("DELETE", "REPLACE"))]
    assert bool(wiping) == wipes
    assert any(load.wiped.values()) == wipes
