"""A topology file that changes under running nodes: addresses, accounts, tracing, limits."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import msgspec
import pytest
from crash_load import TABLES, Load, under_load
from crash_steps import connector, judge
from filed import Filed, door, filed, sessions
from kafka_steps import over_kafka
from mesh import NAMES, Mesh, mesh_of
from otlp import receiver
from steps import PLAIN, QUICK, actor, actor_of, converged, sees, until

from meshnode.accounts import Account
from meshnode.actors import watcher
from meshnode.lab.processes import free_port
from meshnode.node import Node, Process
from meshnode.ops.grants import create_accounts
from meshnode.topology import (
    Accounts,
    AccountSource,
    MysqlAddress,
    OpsAddress,
    Topology,
    Tracing,
    load,
)

EPOCH = "SELECT epoch FROM meshnode.member"
APART_SECONDS = 60.0
"""A heartbeat that a test does not wait for."""

WRITES = 25
"""Answers to every client between two changes of the file."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(watcher, "AGAIN_SECONDS", 0.2)


async def insert(mesh: Mesh, at: int, key: int) -> None:
    await mesh.sql[at].execute("INSERT INTO app.t (id, v) VALUES (%s, %s)", (key, f"row {key}"))


async def test_the_own_mysql_moves_to_another_port(servers, tmp_path) -> None:
    """The node claims anew through the new address; its peer takes the file and goes on."""
    one, two = await servers(2)
    async with door(two) as later:
        async with filed([one, two], tmp_path) as site:
            mesh = site.mesh
            await insert(mesh, 1, 1)
            await sees(mesh, 0, "SELECT COUNT(*) FROM app.t", 1)
            epochs = [await sql.value(EPOCH) for sql in mesh.sql]
            peer, _ = mesh.nodes[0]
            tailer = actor(mesh, 0, "tailer")
            restarts = tailer.restarts
            site.region(1, mysql=MysqlAddress(later.host, later.port))
            node = await site.followed(1)
            assert node.supervisor.verdict is None
            await site.taken(0)
            await insert(mesh, 0, 2)
            await insert(mesh, 1, 3)
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 2", "row 2")
            await sees(mesh, 0, "SELECT v FROM app.t WHERE id = 3", "row 3")
            assert len(later.inside) == await sessions(mesh, 1) > 5
            assert mesh.nodes[1][0].region.mysql.port == later.port
            after = [await sql.value(EPOCH) for sql in mesh.sql]
            assert (after[0], tailer.restarts) == (epochs[0], restarts)
            assert after[1] == epochs[1] + 1, "one claim, as at every start"
            assert site.processes[0].node is peer
            assert [row[0] for row in await converged(mesh)] == [1, 2, 3]


async def answered(loads: Sequence[Load], more: int) -> None:
    """Wait until every client has got so many more answers."""
    wanted = [len(each.acknowledged) + more for each in loads]
    await until(
        lambda: all(len(each.acknowledged) >= n for each, n in zip(loads, wanted)), "more load"
    )


async def test_changes_under_load_lose_and_double_nothing(servers, tmp_path: Path) -> None:
    """Nodes are ended in the middle of whatever they do, and built anew, again and again."""
    one, two = await servers(2)
    async with door(one) as left, door(two) as right:
        ways = ((one, left), (two, right))
        async with filed([one, two], tmp_path, *TABLES, audited=True) as site:
            mesh = site.mesh
            async with under_load(NAMES[:2], connector(mesh)) as loads:
                for turn in range(4):
                    for at in (0, 1):
                        way = ways[at][(turn + at + 1) % 2]
                        address = MysqlAddress(way.host, way.port)
                        if load(site.file).regions[at].mysql != address:
                            site.region(at, mysql=address)
                            await site.followed(at)
                    await answered(loads, WRITES)
            assert len(left.inside) + len(right.inside) > 5
            await judge(mesh, loads, "the file changed")


async def test_an_address_where_nobody_listens_is_taken_when_somebody_does(
    servers, tmp_path
) -> None:
    one, two = await servers(2)
    port = free_port()
    async with filed([one, two], tmp_path) as site:
        mesh = site.mesh
        epoch = await mesh.sql[1].value(EPOCH)
        site.region(1, mysql=MysqlAddress(two.host, port))
        await site.refused(1, "no connection to the MySQL of region two", str(port))
        await insert(mesh, 0, 1)
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "row 1")
        assert await mesh.sql[1].value(EPOCH) == epoch, "the node goes on as before"
        async with door(two, port) as later:
            await site.followed(1)
            await insert(mesh, 1, 2)
            assert len(await converged(mesh)) == 2
            assert len(later.inside) == await sessions(mesh, 1) > 5
            await mesh.stop()


async def test_a_start_that_waits_at_a_wrong_address_follows_the_file(servers, tmp_path) -> None:
    one, two = await servers(2)
    async with mesh_of([one, two], tmp_path, limits=QUICK) as mesh:
        await mesh.everywhere("CREATE DATABASE app", PLAIN)
        await mesh.init()
        site = Filed(mesh, tmp_path / "mesh.toml")
        site.write(mesh.topology)
        right = mesh.topology.regions[0].mysql
        site.region(0, mysql=MysqlAddress(one.host, free_port()))
        process = Process(Node(load(site.file), site.file, "one"))
        first = process.node
        starting = asyncio.create_task(process.start())
        await until(lambda: first.actors[0].state.state == "waiting", "the node waits")
        site.region(0, mysql=right)
        await asyncio.wait_for(starting, 30)
        assert process.node is not first
        running = asyncio.create_task(process.run())
        await until(lambda: process.node.board.is_claimed, "the region is claimed")
        process.stop()
        await running


async def test_limits_change_without_a_new_start(servers, tmp_path) -> None:
    slow = msgspec.structs.replace(QUICK, heartbeat_seconds=APART_SECONDS)
    async with filed(await servers(2), tmp_path) as site:
        mesh = site.mesh
        before = [(node, node.board.epoch) for node, _ in mesh.nodes.values()]
        site.write(msgspec.structs.replace(mesh.topology, limits=slow))
        for at in (0, 1):
            await site.taken(at)
        hearts = [actor_of(mesh, at, "heart") for at in mesh.nodes]
        assert [heart.seconds() for heart in hearts] == [APART_SECONDS] * 2
        site.write(
            msgspec.structs.replace(
                mesh.topology, limits=msgspec.structs.replace(QUICK, batch_rows=100)
            )
        )
        for at in (0, 1):
            await site.taken(at)
        await insert(mesh, 0, 1)
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "row 1")
        applier = actor_of(mesh, 1, "applier one")
        assert applier.loop.intake.run_rows == 100
        assert [(node, node.board.epoch) for node, _ in mesh.nodes.values()] == before
        assert [process.node for process in site.processes] == [node for node, _ in before]


async def test_tracing_and_the_ops_port_change(servers, tmp_path) -> None:
    """The spans that the former node held are sent; the new port is there, the old one gone."""
    async with receiver() as former, receiver() as later, aiohttp.ClientSession() as session:
        ports = [free_port(), free_port()]

        async def answer(port: int) -> str:
            try:
                async with session.get(f"http://127.0.0.1:{port}/readyz") as response:
                    return await response.text()
            except aiohttp.ClientError:
                return ""

        async with filed(await servers(2), tmp_path, tracing=Tracing(former.url, 1.0)) as site:
            mesh = site.mesh
            site.region(0, ops=OpsAddress(ports[0]))
            await site.followed(0)
            await ready(answer, ports[0])
            await insert(mesh, 0, 1)
            await mesh.settle()
            topology = load(site.file)
            site.write(msgspec.structs.replace(topology, tracing=Tracing(later.url, 1.0)))
            for at in (0, 1):
                await site.followed(at)
            # The same port: it is the new node's when the former one has given it back.
            await ready(answer, ports[0])
            assert [span.operation for span in former.spans].count("commit") == 1
            await insert(mesh, 0, 2)
            await mesh.settle()
            site.region(0, ops=OpsAddress(ports[1]))
            await site.followed(0)
            await ready(answer, ports[1])
            assert await answer(ports[0]) == ""
            assert [span.operation for span in later.spans].count("commit") == 1
            assert [span.operation for span in former.spans].count("commit") == 1


async def ready(answer, port: int) -> None:
    async def is_ready() -> bool:
        return await answer(port) == "ready\n"

    await until(is_ready, f"a node that is ready at {port}")


async def test_an_ops_port_that_is_taken_is_no_reason_to_stop(servers, tmp_path) -> None:
    async with filed(await servers(2), tmp_path) as site:
        listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            site.region(0, ops=OpsAddress(port))
            await site.refused(0, f"the ops port 127.0.0.1:{port} of region one is taken")
            await insert(site.mesh, 0, 1)
            await site.mesh.settle()
        await site.followed(0)


async def test_another_account_logs_in(servers, tmp_path) -> None:
    async with filed(await servers(2), tmp_path) as site:
        mesh = site.mesh
        os.environ["MESH_TEST_LATER"] = "a new secret"
        source = AccountSource("mesh_later", password_env="MESH_TEST_LATER")
        site.region(0, accounts=Accounts(apply=source))
        await site.refused(0, "login", "mesh_later")
        login = Account("mesh_later", "a new secret")
        await create_accounts(mesh.sql[0], {"apply": login}, ["app"])
        await site.followed(0)
        await insert(mesh, 0, 1)
        await mesh.settle()
        users = await mesh.sql[0].rows(
            "SELECT DISTINCT user FROM information_schema.processlist WHERE user LIKE 'mesh%%'"
        )
        assert {user for (user,) in users} == {"mesh_later", "mesh_tail"}


async def test_another_folder_is_another_history(servers, tmp_path) -> None:
    async with filed(await servers(2), tmp_path) as site:
        mesh = site.mesh
        if mesh.topology.bus.kind == "kafka":
            pytest.skip("a Kafka has no folder; its brokers are below")
        bus = msgspec.structs.replace(mesh.topology.bus, dir=str(tmp_path / "other"))
        site.write(msgspec.structs.replace(mesh.topology, bus=bus))
        for at in (0, 1):
            await site.refused(at, "bus.dir", "lose sight of each other", "stop all nodes first")
        await insert(mesh, 0, 1)
        await converged(mesh)
        assert not (tmp_path / "other").exists()


@pytest.mark.kafka
async def test_other_brokers_are_followed_to_the_same_topics_alone(
    servers, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with over_kafka(monkeypatch) as broker:
        async with filed(await servers(2), tmp_path) as site:
            mesh = site.mesh
            await insert(mesh, 0, 1)
            await converged(mesh)
            port = free_port()
            site.write(with_brokers(mesh.topology, f"127.0.0.1:{port}"))
            for at in (0, 1):
                await site.refused(at, "cannot be followed", f"127.0.0.1:{port}")
            await insert(mesh, 0, 2)
            await converged(mesh)
            site.write(with_brokers(mesh.topology, f"localhost:{broker.port}"))
            for at in (0, 1):
                await site.followed(at)
            await insert(mesh, 1, 3)
            assert [row[0] for row in await converged(mesh)] == [1, 2, 3]


def with_brokers(topology: Topology, *bootstrap: str) -> Topology:
    assert topology.bus.kafka is not None
    kafka = msgspec.structs.replace(topology.bus.kafka, bootstrap=bootstrap)
    bus = msgspec.structs.replace(topology.bus, kafka=kafka)
    return msgspec.structs.replace(topology, bus=bus)
