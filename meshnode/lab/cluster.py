"""A whole mesh on one machine: a server and a node process for each region.

Theory of operation.  A cluster is a folder (:mod:`meshnode.lab.layout`) and
holds nothing that cannot be read from it: each server and each node is found
by its own pid file, so any process may take a cluster up and stop it, also
after the one that started it was killed.

It comes up in the order in which an operator would do it: servers, accounts
and tables, topology, ``init``, nodes.  It is up when every region has applied a
heartbeat that every other region wrote after its node had started: only then
does the whole path work in every direction.
"""

import asyncio
import secrets
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from meshnode.errors import MeshError, Refused
from meshnode.lab import blueprint, rounds
from meshnode.lab.brokers import Brokers, BusKind, names_for
from meshnode.lab.layout import FEWEST_REGIONS, MOST_REGIONS, REGION_NAMES, Layout, Place
from meshnode.lab.nodes import Node
from meshnode.lab.servers import Server, find_mysqld
from meshnode.lab.wan import default_latency, read_cuts, write_cuts, write_latency
from meshnode.topology import Topology, load

Report = Callable[[str], None]

STARTS_AT_ONCE = 3
"""Servers that start at the same time; each one keeps a processor busy for a while."""

NODES_READY_SECONDS = 120.0


def to_stderr(line: str) -> None:
    """Report progress where it does not mix with a command's output."""
    print(line, file=sys.stderr, flush=True)


class Cluster:
    """The lab in ``directory``; Refused where there is none."""

    def __init__(self, directory: Path) -> None:
        self.layout = Layout.at(directory)
        self.regions = self.layout.regions()

    @property
    def directory(self) -> Path:
        return self.layout.directory

    @property
    def names(self) -> list[str]:
        return [place.name for place in self.regions]

    @property
    def topology(self) -> Topology:
        """The topology file as it stands now."""
        return load(self.layout.topology)

    def place(self, named: str) -> Place:
        """The region with this name or id; Refused if there is none."""
        for place in self.regions:
            if named in (place.name, str(place.id)):
                return place
        raise Refused(
            f"the lab in {self.directory} has no region {named!r}",
            f"name one of: {', '.join(self.names)}",
        )

    def server(self, region: str) -> Server:
        """The MySQL server of the region, running or not."""
        return Server.open(self.layout.server(region))

    def node(self, region: str) -> Node:
        """The node process of the region, running or not."""
        return Node(region, self.layout.topology, self.layout.nodes)

    @property
    def brokers(self) -> Brokers:
        """The Kafka brokers, if the lab has any."""
        return Brokers(self.layout.brokers)

    def describe(self) -> dict[str, Any]:
        """What ``lab up --json`` prints."""
        described: dict[str, Any] = {
            "dir": str(self.directory),
            "topology": str(self.layout.topology),
            "regions": [self._describe(place) for place in self.regions],
        }
        described["ops"] = {
            region.name: {"url": f"http://{region.ops}", "token_file": region.ops.token_file}
            for region in self.topology.regions
            if region.ops is not None
        }
        kafka = self.brokers.all()
        if kafka:
            described["brokers"] = [
                {"name": name, "bootstrap": broker.bootstrap, "pid": broker.pid}
                for name, broker in kafka.items()
            ]
        return described

    def _describe(self, place: Place) -> dict[str, Any]:
        server = self.server(place.name)
        return {
            "name": place.name,
            "id": place.id,
            "mysql": {
                "host": server.host,
                "port": server.port,
                "socket": str(server.socket),
                "user": server.user,
                "password": server.password,
            },
            "node_pid": self.node(place.name).pid,
            "mysql_pid": server.pid,
        }

    def cut(self, links: Iterable[tuple[str, str]]) -> None:
        """Cut these links ``(from, to)``, besides those that are."""
        write_cuts(self.layout.control, read_cuts(self.layout.control) | set(links))

    def isolate(self, regions: Iterable[str]) -> None:
        """Cut all links, both ways, between ``regions`` and the others."""
        inside = set(regions)
        outside = [name for name in self.names if name not in inside]
        self.cut(link for a in inside for b in outside for link in ((a, b), (b, a)))

    def heal(self, links: Iterable[tuple[str, str]] | None = None) -> None:
        """Heal these links, or all."""
        cut = read_cuts(self.layout.control)
        write_cuts(self.layout.control, cut - set(links) if links is not None else ())

    async def down(self, keep: bool = False, report: Report = to_stderr) -> None:
        """End all processes; delete the lab's files unless ``keep``.

        Nodes drain first.  Servers are shut down cleanly only if their data stays.
        """
        drained = await asyncio.gather(*(self.node(name).stop_async() for name in self.names))
        for name, ended in zip(self.names, drained, strict=True):
            if not ended:
                report(f"{name}: the node did not end by itself and was killed")
        servers = [
            Server.open(self.layout.server(name))
            for name in self.names
            if (self.layout.server(name) / "server.json").exists()
        ]
        await self.brokers.end(keep)
        await asyncio.gather(
            *(server.stop_async() if keep else server.kill_async() for server in servers)
        )
        if not keep:
            for server in servers:
                await asyncio.to_thread(server.remove)
            await asyncio.to_thread(self.layout.delete)


def places(count: int) -> tuple[Place, ...]:
    """The first ``count`` regions; Refused for a number that a lab cannot have."""
    if not FEWEST_REGIONS <= count <= MOST_REGIONS:
        raise Refused(
            f"--regions {count} is out of range",
            f"a lab has {FEWEST_REGIONS} to {MOST_REGIONS} regions",
        )
    return tuple(Place(number, REGION_NAMES[number - 1]) for number in range(1, count + 1))


async def up(
    directory: Path,
    regions: int,
    *,
    replicate: tuple[str, ...] = (),
    mysqld: str | None = None,
    wan: bool = False,
    bus: BusKind = "file",
    die_with_parent: bool = False,
    report: Report = to_stderr,
) -> Cluster:
    """Make a lab in the empty or absent folder ``directory`` and wait until it runs.

    ``wan`` gives the links the latencies of eight sites round the world; ``bus`` says what
    carries the streams.
    If anything fails its processes are ended; the files stay, because the logs say why.
    """
    wanted = places(regions)
    program = await asyncio.to_thread(find_mysqld, mysqld)
    layout = Layout.at(directory)
    layout.make(wanted)
    cluster = Cluster(directory)
    report(f"lab in {layout.directory}: {regions} regions on MySQL {program.version}")
    servers = {
        place.name: Server(
            program,
            layout.server(place.name),
            server_id=place.id,
            auto_increment=(blueprint.AUTO_INCREMENT_STEP, place.id),
            password=secrets.token_hex(12),
            die_with_parent=die_with_parent,
        )
        for place in wanted
    }
    try:
        names = names_for(bus, cluster.names)
        kafka = await cluster.brokers.make(names, die_with_parent, report) if names else {}
        await start_servers(servers, report)
        topology = blueprint.write_topology(layout, wanted, servers, replicate, kafka)
        if wan:
            write_latency(layout.control, default_latency(cluster.names))
        for name, server in servers.items():
            await blueprint.prepare(topology, name, server)
        await install(topology, report)
        await start_nodes(cluster, die_with_parent, report)
    except BaseException:
        report(f"the lab did not come up; its logs stay in {layout.directory}")
        with suppress(MeshError):
            await cluster.down(keep=True, report=report)
        raise
    return cluster


async def resume(cluster: Cluster, die_with_parent: bool, report: Report = to_stderr) -> None:
    """Start what does not run of a lab that is there, and wait until it runs."""
    await cluster.brokers.resume(die_with_parent)
    servers = {name: cluster.server(name) for name in cluster.names}
    for server in servers.values():
        server.die_with_parent = die_with_parent
    await start_servers(servers, report)
    await start_nodes(cluster, die_with_parent, report)


async def start_servers(servers: dict[str, Server], report: Report) -> None:
    """Start the servers, a few at a time."""
    gate = asyncio.Semaphore(STARTS_AT_ONCE)

    async def start(name: str, server: Server) -> None:
        async with gate:
            await server.start_async()
            report(f"  {name}: MySQL on port {server.port}")

    # All have ended, well or not, before the first failure is raised: none starts behind it.
    results = await asyncio.gather(
        *(start(name, server) for name, server in servers.items()), return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def install(topology: Topology, report: Report) -> None:
    """``meshnode init --all``; Refused if it leaves something to do."""
    from meshnode.ops import install as installation

    result = await installation.init(topology)
    if not result.complete:
        open_points = [*map(str, result.refused), *result.left]
        raise Refused("init has not finished: " + "; ".join(open_points))
    report(f"  init: {len(result.tables)} tables in {len(topology.regions)} regions")


async def start_nodes(cluster: Cluster, die_with_parent: bool, report: Report) -> None:
    """Start all nodes and wait until each hears each other; Refused if one ends or stays deaf."""
    topology = cluster.topology
    before = await rounds.beats(topology)
    for name in cluster.names:
        cluster.node(name).start(die_with_parent)

    def ended() -> list[str]:
        """Why it makes no sense to wait any longer."""
        return [
            f"the node of {name} has ended itself; the end of {cluster.node(name).log}:\n"
            + cluster.node(name).log_tail()
            for name in cluster.names
            if not cluster.node(name).running
        ]

    verdict = await rounds.first_round(topology, before, NODES_READY_SECONDS, ended)
    if not verdict.complete:
        raise Refused(
            "the nodes do not hear each other:\n  " + "\n  ".join(verdict.reasons),
            f"read the logs in {cluster.layout.nodes}",
        )
    report(f"  {len(cluster.names)} nodes run and hear each other")
