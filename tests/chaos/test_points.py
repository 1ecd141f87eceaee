"""Every fault point is passed by a node that works, in the order that its name says.

Those of the actors are met in meshes of real actors in virtual time, those of the straight way by
a batch that goes it.  Those that live in the sessions with MySQL (``heart.tail``, ``mending.*``)
are met on real servers: the kill storm (C3) kills a node at each, and its report counts them.
"""

import sys
from types import SimpleNamespace

import pytest

from meshnode import faultpoints
from meshnode.actors import straight
from meshnode.actors.board import Board, PeerProgress
from meshnode.actors.straight import StraightWay
from tests.virtual.options import Options
from tests.virtual.world import World

REAL_SERVERS = {"heart.tail", "mending.lift", "mending.lifted"}
STRAIGHT = ["straight.written", "straight.commit.sent", "straight.committed"]
BUSY = Options(regions=2, keys=8, clients=3, seconds=12.0, bus_lag=0.01, delete_share=0.4)


@pytest.fixture
def passed(monkeypatch) -> list[str]:
    """The names of the points that are passed, in order."""
    names: list[str] = []

    def sending(point: str, answer: object) -> object:
        names.append(point)
        return answer

    bound = {"fault": (faultpoints.fault, names.append), "sending": (faultpoints.sending, sending)}
    for module in [each for name, each in sys.modules.items() if name.startswith("meshnode.")]:
        for name, (own, double) in bound.items():
            if getattr(module, name, None) is own:
                monkeypatch.setattr(module, name, double)
    return names


def test_a_mesh_at_work_passes_the_points_of_its_actors(passed: list[str]) -> None:
    assert World(7, BUSY).run() == []
    wanted = faultpoints.POINTS.keys() - REAL_SERVERS
    assert {name for name in wanted if not name.startswith("straight.")} <= set(passed)


class Session:
    """What the straight way asks of its session."""

    def __init__(self, passed: list[str]) -> None:
        self.passed = passed

    async def straight(self, statements: object, opening: object) -> bool:
        self.passed.append("written")
        return True

    async def commit(self) -> None:
        self.passed.append("committed")

    async def save(self, name: str) -> None:
        pass

    def prepare(self, segments: object, tables: object) -> str:
        return "statements"


async def test_a_batch_on_the_straight_way_passes_its_points(passed: list[str]) -> None:
    writer = SimpleNamespace(
        session=Session(passed), fence=lambda batch: None, board=Board(1), progress=PeerProgress()
    )
    way = StraightWay(writer)
    batch = [SimpleNamespace(format=b"x", items=[])]
    prepared = SimpleNamespace(statements="statements", segments=[])
    assert await way._write(batch, prepared)
    assert passed == ["written", *STRAIGHT[:2], "committed", STRAIGHT[2]]


async def test_a_part_of_a_huge_transaction_passes_its_point(
    passed: list[str], monkeypatch
) -> None:
    segment = SimpleNamespace(table="t", kind=0)
    monkeypatch.setattr(straight, "eligible", lambda item, tables: True)
    monkeypatch.setattr(straight, "prove", lambda items, tables: [segment])
    monkeypatch.setattr(straight, "touched", lambda segments: {})
    writer = SimpleNamespace(session=Session(passed), fitting=SimpleNamespace(wide={}))
    assert await StraightWay(writer).take_part(None, []) == [segment]
    assert passed == ["written", "straight.part"]
