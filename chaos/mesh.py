"""The mesh that a plan torments: a lab of processes, with what proves that nothing went wrong.

Theory of operation.  Servers with durable commits and ``meshnode run`` for each region, all in
one folder, as ``meshnode lab up`` makes them.  Added are the tables of the workloads, an audit of
what is applied (:mod:`meshnode.lab.applied_audit`), and, where the plan wants them, a proxy
before each server, a clock of its own for each, and armed fault points.

Whoever does something to a process holds its lock (``holding``).  A node that is down while
nobody holds it is started again by the ``keep`` task, as an operator's supervisor would; one that
ended by itself, for no fault's sake, is a finding.
"""

import asyncio
import contextlib
import os
import secrets
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from chaos.journal import Journal
from chaos.plan import Setting
from chaos.points import Points
from meshnode import faultpoints
from meshnode.accounts import Account
from meshnode.errors import MeshError, Refused
from meshnode.lab import blueprint, cluster, processes, rounds
from meshnode.lab.applied_audit import audit
from meshnode.lab.brokers import names_for
from meshnode.lab.cluster import Cluster
from meshnode.lab.layout import Layout
from meshnode.lab.nodes import Node
from meshnode.lab.servers import Mysqld, Server, find_mysqld
from meshnode.lab.skewed import Clock
from meshnode.lab.wire_proxy import Proxy, proxied
from meshnode.mysql.control import Control, connect_to
from meshnode.topology import Limits, MysqlAddress, Topology, render

KEEP_LOOK_SECONDS = 0.1
SETTLE_SECONDS = 150.0
HEARD_SECONDS = 450.0
REGION_SECONDS = 50.0
"""All regions share the processors of one machine, so many take longer to be level."""

MOST_PATIENCE = 3
"""So many times the patience is had with a mesh of which every stream moves."""

CONNECT_SECONDS = 60.0
DROP_SECONDS = 2.0
SCHEMA = "chaos"


class Mesh:
    """A running mesh; ``names`` are the regions, ``servers`` and ``clocks`` are by region."""

    def __init__(self, directory: Path, setting: Setting, journal: Journal) -> None:
        self.setting = setting
        self.journal = journal
        self.places = cluster.places(setting.regions)
        self.names = [place.name for place in self.places]
        self.layout = Layout.at(directory)
        self.servers: dict[str, Server] = {}
        self.clocks: dict[str, Clock] = {}
        self.proxies: dict[str, Proxy] = {}
        self.expected_ends: set[int] = set()
        """Processes that a fault has ended, or that had to end because of one."""
        self.closed: set[str] = set()
        """Regions whose clients have been sent away."""
        self.at_work: dict[str, set[str]] = defaultdict(set)
        """By region, the clients that are in the middle of something."""
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.unseen: set[str] = set()
        """Regions that are filled anew: what readers would see there is by half."""
        self.points = Points(directory / "points.json")
        self.tables: tuple[str, ...] = ()
        """The DDL of the workloads."""

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.layout.directory)

    @property
    def topology(self) -> Topology:
        """As the nodes see it: through the proxies."""
        return self.cluster.topology

    def id(self, region: str) -> int:
        return self.names.index(region) + 1

    def others(self, region: str) -> list[str]:
        return [name for name in self.names if name != region]

    def node(self, region: str) -> Node:
        return Node(region, self.layout.topology, self.layout.nodes)

    def start_node(self, region: str) -> None:
        self.node(region).start(die_with_parent=True)

    async def start_nodes(self) -> None:
        """Start all nodes and wait until each hears each other, with more patience than a lab."""
        for last in range(MOST_PATIENCE, 0, -1):
            try:
                await cluster.start_nodes(self.cluster, True, _quiet)
                return
            except Refused:
                if last == 1 or not all(self.node(name).running for name in self.names):
                    raise

    async def kill_node(self, region: str) -> None:
        """SIGKILL, and wait for the end."""
        node = self.node(region)
        self.expected_ends.add(node.pid or 0)
        await asyncio.to_thread(node.kill)

    def signal_node(self, region: str, number: signal.Signals) -> bool:
        """Whether the node was there to get the signal."""
        node = self.node(region)
        return processes.send(node.pid, node._marker, number)

    @contextlib.asynccontextmanager
    async def holding(self, *things: str) -> AsyncIterator[None]:
        """Nobody else does anything to these (``node:virginia``, ``server:oregon``) meanwhile."""
        async with contextlib.AsyncExitStack() as stack:
            for thing in sorted(things):
                await stack.enter_async_context(self._locks[thing])
            yield

    async def sql(self, region: str) -> Control:
        """A new administrator session with the server itself; the caller closes it."""
        server = self.servers[region]
        login = Account(server.user, server.password)
        async with asyncio.timeout(CONNECT_SECONDS):
            return await connect_to(MysqlAddress(server.host, server.port), login, server=region)

    async def value(self, region: str, sql: str) -> object:
        """The first column of the first row, over a session of its own."""
        async with await self.sql(region) as control:
            return await control.value(sql)

    async def everywhere(self, *statements: str, logged: bool = True) -> None:
        """Run statements in every region."""
        for name in self.names:
            async with await self.sql(name) as control:
                if not logged:
                    await control.execute("SET SESSION sql_log_bin = 0")
                for statement in statements:
                    await control.execute(statement)

    async def settle(self) -> rounds.Verdict:
        """Wait until all regions have applied everything committed before the call.

        A mesh that is not level in time gets more of it while every stream moves: only then is
        it slow.  One that stands still is told at once.
        """
        patience = max(SETTLE_SECONDS, REGION_SECONDS * len(self.names))
        for last in range(MOST_PATIENCE, 0, -1):
            before = await self.heard_beats()
            verdict = await rounds.wait(self.topology, patience)
            if verdict.complete or last == 1 or not all_moved(before, await self.heard_beats()):
                break
            self.journal.note("slow", reasons=verdict.reasons)
        return verdict

    async def beat(self, region: str) -> int:
        """The number of the newest beat that a region has written."""
        return int(await self.value(region, "SELECT MAX(beat) FROM meshnode.heartbeat") or 0)

    async def heard_beats(self) -> dict[tuple[str, str], int]:
        """The newest beat that each region (reader, origin) has applied; {} if one is away."""
        found = {}
        try:
            for name in self.names:
                async with await self.sql(name) as control:
                    rows = await control.rows("SELECT origin, heard_beat FROM meshnode.applied")
                found |= {(name, self.names[origin - 1]): beat for origin, beat in rows}
        except (MeshError, OSError, TimeoutError):
            return {}
        return found

    async def send_away(self, *regions: str) -> None:
        """Let no client begin anything more in ``regions``; wait for what they have begun."""
        self.closed |= set(regions)
        async with asyncio.timeout(HEARD_SECONDS):
            # Clients are many, and whoever wakes them has no other word with them.
            while any(self.at_work[region] for region in regions):  # noqa: ASYNC110
                await asyncio.sleep(KEEP_LOOK_SECONDS)

    async def heard(self, region: str, *readers: str, beats: int = 3) -> None:
        """Wait until ``readers`` (or some other region) have applied a beat of ``region`` that is
        still to be written.

        By then everything is published, and applied there, that was committed before the call,
        lifts included.
        """
        wanted = await self.beat(region) + beats
        query = f"SELECT heard_beat FROM meshnode.applied WHERE origin = {self.id(region)}"
        for reader in readers or self.others(region)[:1]:
            async with asyncio.timeout(HEARD_SECONDS):
                while int(await self.value(reader, query) or 0) < wanted:  # noqa: ASYNC110
                    await asyncio.sleep(KEEP_LOOK_SECONDS)

    def tails(self, lines: int = 12) -> str:
        """The ends of the nodes' logs."""
        return "".join(f"\n-- {name}:\n{self.node(name).log_tail(lines)}" for name in self.names)

    # -- nodes that ended ---------------------------------------------------------

    async def keep(self) -> None:
        """Start nodes that are down; for ever."""
        pids: dict[str, int] = {}
        while True:
            for name in self.names:
                if self._locks[f"node:{name}"].locked():
                    pids.pop(name, None)
                    continue
                pid = self.node(name).pid
                if pid is not None:
                    pids[name] = pid
                    continue
                self._ended(name, pids.pop(name, 0))
                self.start_node(name)
            await asyncio.sleep(KEEP_LOOK_SECONDS)

    def _ended(self, region: str, pid: int) -> None:
        shot = pid in self.points.shot
        if pid and not shot and pid not in self.expected_ends:
            tail = self.node(region).log_tail(12)
            self.journal.find("I14", f"the node of {region} ended by itself:\n{tail}")
        self.journal.note("restart", region=region, by_point=shot)


def all_moved(before: Mapping[Any, int], after: Mapping[Any, int]) -> bool:
    """Whether each of these numbers is greater than before; no if there is none to compare."""
    return bool(before) and all(after.get(name, 0) > number for name, number in before.items())


async def drop(control: Control | None) -> None:
    """End a session whose server may stand still or be gone."""
    if control is not None:
        with contextlib.suppress(MeshError, OSError, TimeoutError):
            async with asyncio.timeout(DROP_SECONDS):
                await control.close()


# -- making and ending ------------------------------------------------------------


@contextlib.asynccontextmanager
async def mesh_of(
    directory: Path,
    setting: Setting,
    tables: Sequence[str],
    journal: Journal,
    processes: bool = True,
) -> AsyncIterator[Mesh]:
    """A mesh in ``directory`` with ``tables`` (DDL, in the schema ``chaos``).

    Its nodes run as ``processes`` of their own, unless the caller runs them.
    """
    mesh = Mesh(directory, setting, journal)
    mesh.layout.make(mesh.places)
    former = os.environ.get(faultpoints.VARIABLE)
    try:
        async with contextlib.AsyncExitStack() as stack:
            program = await asyncio.to_thread(find_mysqld)
            await _start_servers(mesh, program)
            await _write_topology(mesh, stack)
            await _prepare(mesh, tables)
            if setting.points:
                mesh.points.arm({}, 0)
                os.environ[faultpoints.VARIABLE] = str(mesh.points.file)
            if processes:
                await mesh.start_nodes()
            yield mesh
            # Nodes first: at the end of the stack their way to the servers is gone.
            await _end_nodes(mesh)
    finally:
        if former is None:
            os.environ.pop(faultpoints.VARIABLE, None)
        await _end_nodes(mesh)
        for broker in mesh.cluster.brokers.all().values():
            await broker.kill_async()
        for server in mesh.servers.values():
            await asyncio.to_thread(server.remove)


async def _start_servers(mesh: Mesh, program: Mysqld) -> None:
    for place in mesh.places:
        mesh.servers[place.name] = Server(
            program,
            mesh.layout.server(place.name),
            server_id=place.id,
            auto_increment=(blueprint.AUTO_INCREMENT_STEP, place.id),
            password=secrets.token_hex(12),
            die_with_parent=True,
        )
    await cluster.start_servers(mesh.servers, _quiet)
    if mesh.setting.clocks:
        for name, server in mesh.servers.items():
            clock = mesh.clocks[name] = Clock(mesh.layout.directory / f"{name}.clock")
            await server.stop_async()
            clock.drives(server)
        await cluster.start_servers(mesh.servers, _quiet)


async def _write_topology(mesh: Mesh, stack: contextlib.AsyncExitStack) -> None:
    setting, layout = mesh.setting, mesh.layout
    wanted = names_for(setting.bus, mesh.names)
    kafka = await mesh.cluster.brokers.make(wanted, True, _quiet) if wanted else {}
    patterns = (f"{SCHEMA}.*",)
    topology = blueprint.write_topology(layout, mesh.places, mesh.servers, patterns, kafka)
    addresses = {region.name: region.mysql for region in topology.regions}
    if setting.proxied:
        for name, server in mesh.servers.items():
            proxy = mesh.proxies[name] = await stack.enter_async_context(proxied(server))
            addresses[name] = MysqlAddress(proxy.host, proxy.port)
    if setting.keep_bytes:
        bus = msgspec.structs.replace(
            topology.bus, max_bytes=setting.keep_bytes, segment_bytes=setting.keep_bytes // 8
        )
        topology = msgspec.structs.replace(topology, bus=bus)
    limits = Limits(heartbeat_seconds=setting.heartbeat_seconds)
    if setting.part_bytes:
        limits = msgspec.structs.replace(
            limits, part_bytes=setting.part_bytes, frame_target_bytes=setting.part_bytes
        )
    topology = msgspec.structs.replace(
        topology,
        limits=limits,
        # No ops ports: two processes of one region would meet there before they meet in MySQL.
        regions=tuple(
            msgspec.structs.replace(region, ops=None, mysql=addresses[region.name])
            for region in topology.regions
        ),
    )
    layout.topology.write_text(render(topology))


async def _prepare(mesh: Mesh, tables: Iterable[str]) -> None:
    topology = mesh.topology
    for name, server in mesh.servers.items():
        await blueprint.prepare(topology, name, server)
    mesh.tables = tuple(tables)
    await mesh.everywhere(f"CREATE DATABASE {SCHEMA}", *mesh.tables)
    await cluster.install(topology, _quiet)
    for name in mesh.names:
        async with await mesh.sql(name) as control:
            await audit(control)


async def _end_nodes(mesh: Mesh) -> None:
    for name in mesh.names:
        # A stopped process takes SIGKILL, too.
        await asyncio.to_thread(mesh.node(name).kill)


def _quiet(line: str) -> None:
    """The lab's own progress is of no interest."""
