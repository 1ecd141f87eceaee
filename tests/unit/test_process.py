"""One node after the other in one process: who runs, who is closed, and what goes over."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from meshnode import node as composition
from meshnode.actors.board import Board
from meshnode.errors import Fenced, Refused
from meshnode.node import Process
from meshnode.ops.node_status import NodeStatus
from meshnode.topology import (
    Accounts,
    AccountSource,
    Bus,
    MysqlAddress,
    Region,
    Replicate,
    Topology,
)


class Node:
    """A node that runs until it is stopped; ``following`` takes its place then."""

    def __init__(self, name: str, log: list[str], following: "Node | None" = None) -> None:
        self.name, self.log, self.following = name, log, following
        self.supervisor = SimpleNamespace(stop=self.stop)
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        self.failure: BaseException | None = None

    def stop(self) -> None:
        self.ended.set()

    async def run(self) -> None:
        self.log.append(f"{self.name} runs")
        self.begun.set()
        try:
            await self.ended.wait()
            if self.failure is not None:
                raise self.failure
        finally:
            await self.close()

    async def close(self) -> None:
        self.log.append(f"{self.name} is closed")


async def test_the_following_node_runs_when_the_former_is_closed() -> None:
    log: list[str] = []
    second = Node("second", log)
    first = Node("first", log, second)
    process = Process(first)
    task = asyncio.create_task(process.run())
    await first.begun.wait()
    first.stop()
    await second.begun.wait()
    assert process.node is second
    assert log == ["first runs", "first is closed", "second runs"]
    process.stop()
    await task
    assert log[3:] == ["second is closed"]


async def test_a_stop_during_the_change_ends_the_process() -> None:
    log: list[str] = []
    process = Process(Node("first", log, Node("second", log)))
    task = asyncio.create_task(process.run())
    await process.node.begun.wait()
    process.stop()
    await task
    assert log == ["first runs", "first is closed", "second is closed"]


@pytest.mark.parametrize("failure", [Fenced("another process"), asyncio.CancelledError()])
async def test_a_node_that_fails_takes_its_follower_with_it(failure: BaseException) -> None:
    log: list[str] = []
    first = Node("first", log, Node("second", log))
    first.failure = failure
    first.stop()
    with pytest.raises(type(failure)):
        await Process(first).run()
    assert log == ["first runs", "first is closed", "second is closed"]


async def test_what_a_process_knows_outlives_the_node() -> None:
    """Its epochs above all: a successor's must not be taken for the process's own."""
    former, board = Board(1), Board(1)
    former.epochs.update((4, 5))
    former.epoch = 5
    board.inherit(former)
    assert board.epochs == {4, 5}
    assert board.restamped is former.restamped
    assert board.epoch == 0, "it claims anew"


REASON = "topology changed (region.one.mysql): starting again with it"


@pytest.fixture
def topology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Topology:
    """Two regions whose passwords are there; the doctor is content."""

    async def content(topology: Topology, region: str) -> None:
        assert region == "one"

    monkeypatch.setattr(composition, "require_start", content)
    monkeypatch.setenv("PROCESS_TEST", "secret")
    source = {role: AccountSource(role, password_env="PROCESS_TEST") for role in ("tail", "apply")}
    regions = (Region(1, "one", MysqlAddress("a")), Region(2, "two", MysqlAddress("b")))
    return Topology(
        "m", Replicate(("app.*",)), Bus("file", str(tmp_path)), regions, Accounts(**source)
    )


def moved(topology: Topology, **changes: object) -> Topology:
    """``topology`` with another entry for the region one."""
    one, two = topology.regions
    return msgspec.structs.replace(topology, regions=(msgspec.structs.replace(one, **changes), two))


@pytest.fixture
def waiting(topology: Topology, monkeypatch: pytest.MonkeyPatch) -> Process:
    """A process whose server does not answer."""

    async def gone(topology: Topology, region: str) -> str:
        return "nobody answers"

    monkeypatch.setattr(composition, "away", gone)
    return Process(composition.Node(topology, None, "one"))


async def test_a_node_that_waits_for_its_server_can_be_stopped(waiting: Process) -> None:
    starting = asyncio.create_task(waiting.start())
    await asyncio.sleep(0.01)
    assert waiting.node.actors[0].state.reason == "nobody answers"
    waiting.stop()
    assert await starting is False


async def test_a_start_that_is_cancelled_is_no_stop(waiting: Process) -> None:
    starting = asyncio.create_task(waiting.start())
    await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_a_node_gives_way_and_the_reason_is_in_view(topology: Topology) -> None:
    former = composition.Node(topology, None, "one")
    former.board.epochs.add(7)
    await former._follow(moved(topology, mysql=MysqlAddress("c")), REASON)
    await former.run()
    following = former.following
    assert following is not None
    assert following.region.mysql.host == "c"
    assert following.board.epochs == {7}
    status = NodeStatus(following.region, following.view, following.board, following.actors)
    assert status.reasons() == [f"the region is not claimed yet: tailer waiting: {REASON}"]
    await following.close()


async def test_a_node_does_not_give_way_to_one_that_cannot_be_built(
    topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = composition.Node(topology, None, "one")
    nowhere = AccountSource("apply", password_env="PROCESS_TEST_NOWHERE")
    with pytest.raises(Refused, match="PROCESS_TEST_NOWHERE is not set"):
        await former._follow(moved(topology, accounts=Accounts(apply=nowhere)), REASON)

    async def refuse(topology: Topology, region: str) -> None:
        raise Refused("the doctor refuses region one")

    monkeypatch.setattr(composition, "require_start", refuse)
    with pytest.raises(Refused, match="the doctor refuses"):
        await former._follow(moved(topology, mysql=MysqlAddress("c")), REASON)
    assert former.following is None
    running = asyncio.create_task(former.supervisor.run([]))
    await asyncio.sleep(0)
    assert not running.done(), "it goes on"
    former.supervisor.stop()
    await running
    await former.close()
