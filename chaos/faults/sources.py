"""Servers that do not keep what they have answered.

A node refuses a server whose settings let it forget commits.  A server that came back without
commits that its topic has would give their GTIDs to other transactions: its node publishes
nothing more, says so, and the mesh is begun anew from a full region, as docs/OPERATING.md has it.
"""

import asyncio
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from chaos.faults.kinds import kind
from chaos.mesh import Mesh
from chaos.plan import Fault
from chaos.streams import Rules, read_stream
from meshnode.buses import bare_bus
from meshnode.errors import MeshError
from meshnode.lab.applied_audit import audit
from meshnode.ops import install

WAIT_SECONDS = 240.0
LOOK_SECONDS = 0.2
FORGETFUL = {"sync_binlog": 0, "innodb_flush_log_at_trx_commit": 0}
LOST = "has lost commits"
PURGED = "has purged transactions"
GTID_EVENTS = (33, 42)
EVENT_HEADER = struct.Struct("<IBIIIH")
BINLOG_MAGIC = 4


async def _until(mesh: Mesh, holds: Callable[[], bool], check: str, what: str) -> None:
    """Wait until ``holds()``; a finding if it does not come."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            # Of other processes nobody tells anything.
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        mesh.journal.find(check, f"{what}; {mesh.tails()}")


async def _published(mesh: Mesh, region: str) -> list[str]:
    bus = bare_bus(mesh.topology)
    try:
        rules = Rules(region, mesh.journal, repeats=True)
        return (await read_stream(bus, region, rules)).transactions
    finally:
        await bus.close()


async def _write(mesh: Mesh, region: str, count: int) -> None:
    """So many transactions, however slow the clients are: there is something to be lost."""
    async with await mesh.sql(region) as control:
        for number in range(count):
            await control.execute("INSERT INTO lab.customers (name) VALUES (%s)", (f"{number}",))


@kind("source.not-durable")
async def not_durable(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """A server runs with settings under which a crash loses commits: its node must refuse to
    start, and publish nothing, until they are right again."""
    (region,) = fault.target
    server, node = mesh.servers[region], mesh.node(region)
    async with mesh.holding(f"node:{region}", f"server:{region}"):
        await mesh.kill_node(region)
        await server.stop_async()
        kept, server.options = server.options, server.options | FORGETFUL
        await server.start_async()
        before = await _published(mesh, region)
        mesh.start_node(region)
        mesh.expected_ends.add(node.pid or 0)
        await _until(
            mesh, lambda: not node.running, "I11", f"the node of {region} runs on a server that is"
            " not durable",
        )  # fmt: skip
        if not any(name in node.log_tail(60) for name in FORGETFUL):
            mesh.journal.find("I11", f"refused without its reason:\n{node.log_tail(60)}")
        yield
        if await _published(mesh, region) != before:
            mesh.journal.find("I11", f"{region} published from a server that is not durable")
        await server.stop_async()
        server.options = kept
        await server.start_async()
        mesh.start_node(region)


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "--archive", "--reflink=auto", source, target], check=True)


@kind("source.lost-tail")
async def lost_tail(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """A server comes back as it was ``ago`` seconds before, without commits that it has
    published."""
    (region,) = fault.target
    server, node = mesh.servers[region], mesh.node(region)
    copy = server.directory / "copy"
    nodes = [f"node:{name}" for name in mesh.names]
    async with mesh.holding(*nodes, f"server:{region}"):
        await server.kill_async()
        await asyncio.to_thread(_copy, server.data, copy)
        await server.start_async()
        await asyncio.sleep(fault.number("ago", 3.0))
        await _write(mesh, region, 1)
        # Its clients go elsewhere, and what it has answered arrives: only that may be lost.
        await mesh.send_away(region)
        await mesh.settle()
        before = await _published(mesh, region)
        await asyncio.gather(mesh.kill_node(region), server.kill_async())
        await asyncio.to_thread(_copy, copy, server.data)
        await server.start_async()

        def said() -> bool:
            # Its epoch has gone back, too: a node that finds higher claims gives way, and the
            # supervisor starts it again.
            node.start(die_with_parent=True)
            return node.log.read_text().count(LOST) > told

        told = 0
        await _until(mesh, said, "I11", f"the node of {region} does not miss what was lost")
        lacks = f"SELECT GTID_SUBTRACT('{','.join(before)}', @@GLOBAL.gtid_executed) <> ''"
        async with await mesh.sql(region) as control:
            # Somebody writes there all the same: these get the numbers of what was lost.
            while await control.value(lacks):
                await control.execute("INSERT INTO chaos.facts (token) VALUES ('after the loss.0')")
        told = node.log.read_text().count(LOST)
        await _until(mesh, said, "I11", f"the node of {region} takes others for what was lost")
        yield
        after = await _published(mesh, region)
        if after != before:
            mesh.journal.find("I11", f"{region} published over what it lost: {after[-3:]}")
        await begin_anew(mesh, mesh.others(region)[0], region)
        mesh.closed.discard(region)


def cut_binlog(path: Path, transactions: int) -> None:
    """Take the last transactions out of a binary log, as a loss of power may."""
    data = path.read_bytes()
    at, begins = BINLOG_MAGIC, []
    while at + EVENT_HEADER.size <= len(data):
        _, kind, _, size, _, _ = EVENT_HEADER.unpack_from(data, at)
        if kind in GTID_EVENTS:
            begins.append(at)
        at += size
    path.write_bytes(data[: begins[-transactions]])


@kind("source.cut-binlog")
async def cut(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """The newest ``count`` transactions, not published yet, vanish from the binary log of a
    server that has kept their rows."""
    (region,) = fault.target
    server, node = mesh.servers[region], mesh.node(region)
    nodes = [f"node:{name}" for name in mesh.names]
    async with mesh.holding(*nodes, f"server:{region}"):
        await mesh.kill_node(region)
        await asyncio.sleep(fault.number("ago", 2.0))
        await mesh.send_away(region)
        count = int(fault.number("count", 10))
        await _write(mesh, region, count)
        async with await mesh.sql(region) as control:
            # A transaction whose commit the engine has not yet on disk goes with the binary log.
            await control.execute("FLUSH LOCAL ENGINE LOGS")
        await server.kill_async()
        newest = max(server.data.glob("binlog.[0-9]*"))
        await asyncio.to_thread(cut_binlog, newest, count)
        await server.start_async()
        mesh.start_node(region)
        await _until(
            mesh, lambda: PURGED in node.log_tail(60), "I11",
            f"the node of {region} does not miss what nobody can publish any more",
        )  # fmt: skip
        yield
        # It still applies what others publish.  When it has all of it, its rows are whole and
        # count: the other region gets what could not be published.
        (other,) = mesh.others(region)
        await mesh.send_away(other)
        await mesh.heard(other)
        await begin_anew(mesh, region, other)
        mesh.closed -= {region, other}


async def begin_anew(mesh: Mesh, full: str, lost: str) -> None:
    """All nodes end, bookkeeping and topics go, and ``full`` fills the emptied ``lost``.

    The caller holds all nodes.
    """
    for name in mesh.names:
        await mesh.kill_node(name)
    topology = mesh.topology
    await _uninstall(mesh)
    for name in mesh.names:
        shutil.rmtree(topology.bus_dir(name) / name, ignore_errors=True)
    async with await mesh.sql(lost) as control:
        await control.execute("DELETE FROM chaos.facts")
    await install.init(topology, seed_from=full)
    for name in mesh.names:
        async with await mesh.sql(name) as control:
            await audit(control)
    await mesh.start_nodes()


async def _uninstall(mesh: Mesh) -> None:
    for name in mesh.names:
        async with await mesh.sql(name) as control:
            await control.execute("SET SESSION sql_log_bin = 0")
            await control.execute("DROP DATABASE audit")
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                await install.uninstall(mesh.topology)
                return
            except MeshError as error:
                # A heartbeat of a moment ago counts as a node that runs.
                if "node" not in str(error):
                    raise
                await asyncio.sleep(1.0)
