"""A mesh whose nodes are processes, for tests that kill them.

Theory of operation.  It is a lab: servers with durable commits, ``meshnode run`` for each
region, one folder.  Two things are added: the tables of :mod:`crash_load`, and in each region
what :mod:`meshnode.lab.applied_audit` needs to prove that no item was applied twice or left out.
"""

import asyncio
import contextlib
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
from crash_load import TABLES, Load, account_for
from steps import until

from meshnode.accounts import Account
from meshnode.lab import blueprint, checker, cluster, processes, rounds
from meshnode.lab.applied_audit import audit, chained
from meshnode.lab.cluster import Cluster
from meshnode.lab.layout import Layout
from meshnode.lab.nodes import Node
from meshnode.lab.servers import Mysqld, Server
from meshnode.mysql.control import Control, connect_to
from meshnode.ops.verify import verify
from meshnode.ops.verify_view import View
from meshnode.topology import Limits, render

QUICK = Limits(heartbeat_seconds=0.2)
SETTLE_SECONDS = 120.0


class CrashMesh:
    """``names`` are the regions; ``cluster`` knows their servers and nodes."""

    def __init__(self, directory: Path, servers: dict[str, Server]) -> None:
        self.cluster = Cluster(directory)
        self.servers = servers
        self.names = list(servers)
        self._epochs: dict[str, int] = {}
        """By region, the epoch that held when its node was killed."""

    def node(self, region: str) -> Node:
        return self.cluster.node(region)

    def start_node(self, region: str) -> None:
        self.node(region).start(die_with_parent=True)

    async def at_work(self, region: str) -> None:
        """Wait until the node that was started last has claimed its stream."""
        before = self._epochs.get(region, 0)
        what = f"the node of {region} claims its stream"
        try:
            await until(lambda: self._raised(region, before), what, 60)
        except AssertionError as error:
            error.add_note(self.tails())
            raise

    async def _raised(self, region: str, before: int) -> bool:
        return await self.epoch(region) > before

    async def epoch(self, region: str) -> int:
        """The newest claim of the region, as its server has it."""
        return await self.value(region, "SELECT epoch FROM meshnode.member")

    async def kill_node(self, region: str) -> None:
        """SIGKILL, and wait for the end."""
        await asyncio.to_thread(self.node(region).kill)
        self._epochs[region] = await self.epoch(region)

    def signal_node(self, region: str, number: signal.Signals) -> None:
        node = self.node(region)
        assert processes.send(node.pid, node._marker, number), f"the node of {region} is gone"

    async def sql(self, region: str) -> Control:
        """A new administrator session with the region's server; the caller closes it."""
        server = self.servers[region]
        address = self.cluster.topology.region(region).mysql
        return await connect_to(address, Account(server.user, server.password), server=region)

    async def value(self, region: str, sql: str) -> object:
        """The first column of the first row, over a session of its own."""
        async with await self.sql(region) as control:
            return await control.value(sql)

    async def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until all regions have applied everything committed before the call."""
        verdict = await rounds.wait(self.cluster.topology, seconds)
        assert verdict.complete, "not settled: " + "; ".join(verdict.reasons) + self.tails()

    def tails(self) -> str:
        """The ends of the nodes' logs, for the message of a failed test."""
        return "".join(f"\n-- {name}:\n{self.node(name).log_tail(25)}" for name in self.names)

    async def judge(self, loads: Sequence[Load] = ()) -> dict:
        """Settle, then every proof that is to be had; the checker's numbers."""
        await self.settle()
        topology = self.cluster.topology
        verdict = await verify(topology)
        assert verdict.settled, "\n".join(View(topology).lines(verdict))
        report = await checker.check(self.cluster)
        assert report.good, str(report)
        assert report.recorded == report.lost_writes
        published_once(report)
        for region in self.names:
            async with await self.sql(region) as control:
                await chained(control, region)
                parked = await control.rows("SELECT cause FROM meshnode.dead_letter")
                assert not parked, f"{region}: {parked[:5]}"
        if loads:
            await account_for(self.names, self.sql, loads)
        return report.as_dict()


def published_once(report: checker.Report) -> None:
    """Rows that are inserted once in their life stand once in all topics together."""
    times = Counter(
        entry.key for topic in report.topics for entry in topic.entries if entry.table == "tokens"
    )
    twice = [key for key, count in times.items() if count > 1]
    assert not twice, f"{len(twice)} rows were published twice, among them {twice[:5]}"


def _quiet(line: str) -> None:
    """The lab's progress is of no interest."""


@contextlib.asynccontextmanager
async def crash_mesh(
    folder: Path, mysqld: Mysqld, regions: int, limits: Limits = QUICK, **programs: Mysqld
) -> AsyncIterator[CrashMesh]:
    """A running mesh in ``folder``; ``programs`` names another server program for a region."""
    places = cluster.places(regions)
    layout = Layout.at(folder / "mesh")
    layout.make(places)
    servers = {
        place.name: Server(
            programs.get(place.name, mysqld),
            layout.server(place.name),
            server_id=place.id,
            auto_increment=(blueprint.AUTO_INCREMENT_STEP, place.id),
            password=secrets.token_hex(12),
            die_with_parent=True,
        )
        for place in places
    }
    mesh = CrashMesh(layout.directory, servers)
    try:
        await cluster.start_servers(servers, _quiet)
        topology = blueprint.write_topology(layout, places, servers, ("app.*",), {})
        # No ops ports: two processes of one region would meet there before they meet in MySQL.
        bare = tuple(msgspec.structs.replace(region, ops=None) for region in topology.regions)
        topology = msgspec.structs.replace(topology, limits=limits, regions=bare)
        layout.topology.write_text(render(topology))
        topology = mesh.cluster.topology
        for name, server in servers.items():
            await blueprint.prepare(topology, name, server)
            async with await mesh.sql(name) as control:
                for statement in ("CREATE DATABASE app", *TABLES):
                    await control.execute(statement)
        await cluster.install(topology, _quiet)
        for name in servers:
            async with await mesh.sql(name) as control:
                await audit(control)
        await cluster.start_nodes(mesh.cluster, True, _quiet)
        yield mesh
    finally:
        for name in servers:
            node = mesh.node(name)
            # A stopped process takes SIGKILL, too.
            await asyncio.to_thread(node.kill)
        for server in servers.values():
            await asyncio.to_thread(server.remove)
