"""The ops port with no node behind it: answers, tokens, addresses."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from nodes import busy, fresh

from meshnode.accounts import Account
from meshnode.errors import Refused
from meshnode.ops.http import OpsServer
from meshnode.ops.node_status import NodeStatus
from meshnode.ops.verdict import PairStatus, RegionStatus
from meshnode.topology import OpsAddress

LOGIN = Account("mesh_apply", "secret")
TOKEN = "correct horse battery staple"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Port:
    """A client of one ops port."""

    def __init__(self, server: OpsServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session

    async def ask(self, path: str, method: str = "GET", **options) -> tuple[int, str]:
        url = f"http://{self.server.address}{path}"
        async with self.session.request(method, url, **options) as response:
            return response.status, await response.text()

    async def post(self, path: str, authorization: str | None = None, **options) -> int:
        headers = {"Authorization": authorization} if authorization is not None else {}
        return (await self.ask(path, "POST", headers=headers, **options))[0]


@asynccontextmanager
async def served(node: NodeStatus, address: OpsAddress) -> AsyncIterator[Port]:
    server = OpsServer(node, address, LOGIN)
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Port(server, session)
    finally:
        await server.stop()


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return str(path)


async def test_alive_and_not_ready_until_the_region_is_claimed():
    node = fresh()
    async with served(node, OpsAddress(free_port())) as port:
        assert await port.ask("/livez") == (200, "meshnode m one lives\n")
        assert await port.ask("/readyz") == (503, "the region is not claimed yet\n")
        node.actors[0].state.set("waiting", "the MySQL of one is away")
        status, text = await port.ask("/readyz", headers={"Accept": "application/json"})
        reason = "the region is not claimed yet: tailer waiting: the MySQL of one is away"
        assert (status, json.loads(text)) == (503, {"ready": False, "reasons": [reason]})


async def test_ready_is_about_this_region_alone():
    node = busy()
    async with served(node, OpsAddress(free_port())) as port:
        assert await port.ask("/readyz") == (200, "ready\n")
        states = {actor.name: actor.state for actor in node.actors}
        states["applier two"].set("halted", "the stream writes table app.x")
        assert (await port.ask("/readyz"))[0] == 200
        states["tailer"].set("halted", "a TRUNCATE")
        assert await port.ask("/readyz") == (503, "tailer halted: a TRUNCATE\n")
        states["tailer"].set("running")
        # It is tried again every few seconds, which makes nobody ready for a moment.
        assert await port.ask("/readyz") == (503, "tailer halted a moment ago, and tried again\n")
        states["tailer"].since -= 1
        assert (await port.ask("/readyz"))[0] == 200
        states["heart"].set("retrying", "MySQL of one: gone")
        assert (await port.ask("/readyz"))[0] == 200, "a beat that is late for a moment"
        states["heart"].since -= 1
        assert await port.ask("/readyz") == (503, "heart retrying: MySQL of one: gone\n")
        states["heart"].set("running")
        node.board.hold.close("sync_binlog is '0'")
        assert await port.ask("/readyz") == (503, "nothing is published: sync_binlog is '0'\n")
        node.board.hold.open()
        node.board.beat_us -= 4_500_000
        status, text = await port.ask("/readyz")
        assert status == 503
        assert text.startswith("no heartbeat could be written for ")


async def test_status_has_the_names_of_the_command():
    node = busy()
    async with served(node, OpsAddress(free_port())) as port:
        code, text = await port.ask("/status")
    told = json.loads(text)
    assert (code, told["mesh"], told["ready"], told["reasons"]) == (200, "m", True, [])
    region = told["region"]
    shown = {each.name for each in msgspec.structs.fields(RegionStatus)}
    assert set(region) - {"beat_age", "gc_held_back_by"} <= shown
    assert (region["name"], region["epoch"], region["published_seq"]) == ("one", 7, 90)
    assert region["counts"]["published_rows"] == 10
    assert region["letters"] == {"open": 2, "replay": 0, "skipped": 1}
    assert region["mend"] == 4
    assert region["gc_held_back_by"] == "two"
    assert [actor["name"] for actor in region["actors"]] == [actor.name for actor in node.actors]
    assert set(region["actors"][0]) >= {"state", "reason", "since", "remedy", "restarts"}
    two, three = told["pairs"]
    extra = {"clock_ahead", "retention_left"}
    assert set(two) - extra <= {each.name for each in msgspec.structs.fields(PairStatus)}
    assert (two["origin"], two["region"], two["seq"]) == ("two", "one", 41)
    assert 1.5 <= two["lag"] < 2
    assert (two["paused"], two["retention_left"]) == (None, 3600.0)
    assert three["paused"] == {"since": 1000.0, "reason": "ticket 4711"}


async def test_metrics_in_both_forms():
    async with served(busy(), OpsAddress(free_port())) as port:
        code, text = await port.ask("/metrics")
        assert code == 200
        assert 'meshnode_published_seq{region="one"} 90.0' in text
        accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
        assert (await port.ask("/metrics", headers=accept))[1].endswith("# EOF\n")


async def test_what_changes_something_needs_the_token(token_file: str):
    async with served(busy(), OpsAddress(free_port(), token_file=token_file)) as port:
        for path in ("/peers/two/pause", "/peers/two/resume"):
            assert await port.post(path) == 401
            assert await port.post(path, "Basic abc") == 401
            assert await port.post(path, "Bearer ") == 401
            assert await port.post(path, "Bearer wrong") == 403
            assert await port.post(path, f"Bearer {TOKEN}x") == 403
            assert await port.post(path, "Bearer k\u00f6nig".encode().decode("latin-1")) == 403
        assert (await port.ask("/peers/two/pause"))[0] == 405
        assert await port.post("/peers/one/pause", f"Bearer {TOKEN}") == 404
        assert await port.post("/peers/nobody/pause", f"bearer {TOKEN}") == 404
        for body in ("[]", "{", '{"reason": 1}', json.dumps({"reason": "x" * 256})):
            assert await port.post("/peers/two/pause", f"Bearer {TOKEN}", data=body) == 400


def change(file: str, text: str, mode: int = 0o600) -> None:
    path = Path(file)
    path.write_text(text)
    path.chmod(mode)


async def test_a_token_that_is_changed_holds_from_then_on(token_file: str):
    async with served(busy(), OpsAddress(free_port(), token_file=token_file)) as port:
        assert await port.post("/peers/nobody/pause", f"Bearer {TOKEN}") == 404
        change(token_file, "another\n")
        assert await port.post("/peers/nobody/pause", f"Bearer {TOKEN}") == 403
        assert await port.post("/peers/nobody/pause", "Bearer another") == 404
        change(token_file, "another\n", mode=0o644)
        code, text = await port.ask(
            "/peers/nobody/pause", "POST", headers={"Authorization": "Bearer another"}
        )
        assert code == 500
        assert "others can read" in json.loads(text)["error"]


async def test_without_a_token_nothing_can_be_changed():
    async with served(busy(), OpsAddress(free_port())) as port:
        code, text = await port.ask(
            "/peers/two/pause", "POST", headers={"Authorization": "Bearer "}
        )
    assert code == 403
    assert "token_file" in json.loads(text)["remedy"]


async def test_a_token_that_cannot_be_read_is_refused_at_the_start(monkeypatch):
    monkeypatch.delenv("OPS_TOKEN_UNSET", raising=False)
    server = OpsServer(fresh(), OpsAddress(free_port(), token_env="OPS_TOKEN_UNSET"), LOGIN)
    with pytest.raises(Refused, match="OPS_TOKEN_UNSET"):
        await server.start()


async def test_a_port_of_somebody_else_is_refused_with_the_remedy():
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    other = await asyncio.start_server(nothing, "127.0.0.1", 0)
    port = other.sockets[0].getsockname()[1]
    async with other:
        server = OpsServer(fresh(), OpsAddress(port), LOGIN)
        with pytest.raises(Refused) as refused:
            await server.start()
    assert f"127.0.0.1:{port}" in refused.value.what
    assert "one" in refused.value.what
    assert "another host or port" in refused.value.remedy
    # Nothing of the failed start is left: the address can be had now.
    await server.start()
    await server.stop()


async def test_an_address_of_another_machine_is_refused():
    server = OpsServer(fresh(), OpsAddress(free_port(), host="192.0.2.1"), LOGIN)
    with pytest.raises(Refused, match="cannot be had"):
        await server.start()


async def test_the_node_that_is_replaced_may_still_hold_the_address():
    address = OpsAddress(free_port())
    first = OpsServer(busy(), address, LOGIN)
    await first.start()
    async with served(fresh(), address) as port:
        assert (await port.ask("/readyz"))[0] == 200, "the first one answers"
        await first.stop()
        await eventually(lambda: port.ask("/readyz"), 503)


async def test_a_node_of_another_region_holds_the_address(monkeypatch):
    address = OpsAddress(free_port())
    async with served(busy(), address):
        other = busy()
        region = other.view.now.regions[1]
        server = OpsServer(
            NodeStatus(region, other.view, other.board, other.actors), address, LOGIN
        )
        with pytest.raises(Refused, match="region two is taken by another process"):
            await server.start()


async def test_an_address_open_to_others_without_a_token_is_said_loudly(caplog, token_file: str):
    with caplog.at_level(logging.WARNING):
        async with served(fresh(), OpsAddress(free_port(), host="0.0.0.0", token_file=token_file)):
            assert not caplog.records
        async with served(fresh(), OpsAddress(free_port(), host="0.0.0.0")):
            assert "can be reached from other machines" in caplog.text


async def test_it_ends_while_a_client_keeps_its_connection():
    server = OpsServer(busy(), OpsAddress(free_port()), LOGIN)
    await server.start()
    async with aiohttp.ClientSession() as session:
        port = Port(server, session)
        assert (await port.ask("/livez"))[0] == 200
        async with asyncio.timeout(20):
            await server.stop()
        with pytest.raises(aiohttp.ClientError):
            await port.ask("/livez")
    await server.stop()


async def eventually(ask: Callable[[], Awaitable[tuple[int, str]]], code: int) -> None:
    """Ask until ``code`` comes; a server may be away in between."""
    async with asyncio.timeout(20):
        while True:
            try:
                if (await ask())[0] == code:
                    return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)
