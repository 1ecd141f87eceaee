"""Nodes that watch a topology file, as processes do, and other ways to reach their servers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from mesh import NAMES, Mesh, mesh_of
from steps import PLAIN, QUICK, actor, until

from meshnode.lab.applied_audit import audit
from meshnode.node import Node, Process
from meshnode.topology import Topology, load, render


@dataclass
class Door:
    """Another port of a server; ``inside`` are the connections that came this way."""

    host: str
    port_behind: int
    port: int = 0
    inside: set[asyncio.Task] = field(default_factory=set)

    async def enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.inside.add(task)
        ends: list[asyncio.StreamWriter] = [writer]
        try:
            answers, server = await asyncio.open_connection(self.host, self.port_behind)
            ends.append(server)
            ways = {
                asyncio.create_task(self._copy(*way))
                for way in ((reader, server), (answers, writer))
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass  # the server is gone: the client sees its connection end
        finally:
            for end in ends:
                end.close()
            self.inside.discard(task)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()


@contextlib.asynccontextmanager
async def door(server, port: int = 0) -> AsyncIterator[Door]:
    """A door to ``server`` at ``port``."""
    made = Door(server.host, server.port)
    listener = await asyncio.start_server(made.enter, server.host, port)
    made.port = listener.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        listener.close()
        tasks = list(made.inside)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def sessions(mesh: Mesh, at: int) -> int:
    """How many sessions of a node a server has."""
    return await mesh.sql[at].value(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE user LIKE 'mesh%%'"
    )


class Filed:
    """A mesh whose nodes are processes that watch one topology file."""

    def __init__(self, mesh: Mesh, file: Path) -> None:
        self.mesh, self.file = mesh, file
        self.processes: list[Process] = []

    async def start(self) -> None:
        """Start all nodes; each is in ``mesh.nodes`` until another takes its place."""
        self.write(self.mesh.topology)
        for name in NAMES[: len(self.mesh.servers)]:
            process = Process(Node(load(self.file), self.file, name))
            await process.start()
            self.processes.append(process)
            task = asyncio.create_task(process.run(), name=f"node {name}")
            self.mesh.nodes[len(self.processes) - 1] = (process.node, task)
        await self.mesh.settle()

    def write(self, topology: Topology) -> None:
        self.file.write_text(render(topology))

    def region(self, at: int, **changes: object) -> None:
        """Change the entry of a region in the file."""
        topology = load(self.file)
        regions = list(topology.regions)
        regions[at] = msgspec.structs.replace(regions[at], **changes)
        self.write(msgspec.structs.replace(topology, regions=tuple(regions)))

    async def followed(self, at: int) -> Node:
        """Wait until another node has taken the place of the one in ``mesh.nodes``."""
        former, task = self.mesh.nodes[at]
        process = self.processes[at]
        await until(lambda: process.node is not former or task.done(), "another node", 30)
        assert not task.done(), task.exception()
        self.mesh.nodes[at] = (process.node, task)
        return former

    async def refused(self, at: int, *words: str) -> None:
        """Wait until the node says why it does not use the file."""
        state = actor(self.mesh, at, "watcher")

        def said() -> bool:
            return state.state == "halted" and all(word in state.reason for word in words)

        try:
            await until(said, "")
        except AssertionError:
            raise AssertionError(f"watcher {state.state}: {state.reason}") from None
        assert state.reason.startswith("the changed topology file is not used: ")

    async def taken(self, at: int) -> None:
        """Wait until the node runs by what the file says now."""
        wanted = load(self.file)
        view = self.mesh.nodes[at][0].view
        await until(lambda: view.now == wanted, f"{NAMES[at]} takes the file")


@contextlib.asynccontextmanager
async def filed(
    servers: list, folder: Path, *tables: str, audited: bool = False, **parts: object
) -> AsyncIterator[Filed]:
    """Running nodes of a mesh with ``parts`` of the topology other than usual.

    They replicate ``tables`` (default: ``app.t``); ``audited``: see `meshnode.lab.applied_audit`.
    """
    async with mesh_of(servers, folder, limits=QUICK) as mesh:
        mesh.topology = msgspec.structs.replace(mesh.topology, **parts)
        await mesh.everywhere("CREATE DATABASE app", *(tables or (PLAIN,)))
        await mesh.init()
        if audited:
            for sql in mesh.sql:
                await audit(sql)
        site = Filed(mesh, folder / "mesh.toml")
        await site.start()
        yield site
