"""The load goes where a server runs, and says where it does not go."""

from dataclasses import dataclass

import pytest

from meshnode.errors import Refused
from meshnode.lab import workload


@dataclass
class Server:
    running: bool
    filled: bool = False


class Lab:
    def __init__(self, **running: bool) -> None:
        self.servers = {name: Server(runs) for name, runs in running.items()}

    @property
    def names(self) -> list[str]:
        return list(self.servers)

    def server(self, name: str) -> Server:
        return self.servers[name]


@pytest.fixture(autouse=True)
def filling(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fill(server: Server) -> None:
        assert server.running
        server.filled = True

    monkeypatch.setattr(workload, "_fill", fill)


async def test_a_server_that_is_down_is_left_out_and_named(capsys) -> None:
    lab = Lab(east=True, west=False, north=True)
    assert list(await workload.fill(lab)) == ["east", "north"]
    assert lab.servers["east"].filled and lab.servers["north"].filled
    assert "nothing is written in west" in capsys.readouterr().err


async def test_without_any_server_there_is_nothing_to_do() -> None:
    with pytest.raises(Refused, match="east, west does not run"):
        await workload.fill(Lab(east=False, west=False))
