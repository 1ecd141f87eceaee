"""A whole mesh in one process: real servers, a real bus, and nodes as tasks of the test.

Nodes run in the test's own loop, so a test can start, stop and drop them in
microseconds; what needs a process of its own (SIGKILL) uses the lab.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from stream_carrier import carrier

from meshnode.accounts import Account, secrets
from meshnode.lab.wan import read_cuts, write_cuts
from meshnode.mysql.control import Control, connect_to
from meshnode.node import Node
from meshnode.ops import install
from meshnode.ops.grants import create_accounts
from meshnode.topology import (
    Accounts,
    AccountSource,
    Limits,
    MysqlAddress,
    Region,
    Replicate,
    Topology,
)

NAMES = ("one", "two", "three", "four")
SECONDS = 30.0


class Mesh:
    """``servers[i]`` is region ``NAMES[i]`` with id ``i + 1``; ``sql[i]`` its administrator."""

    def __init__(
        self, servers: Sequence, folder: Path, tables: Sequence[str], limits: Limits | None = None
    ) -> None:
        self.servers = list(servers)
        self.folder = folder
        os.environ["MESH_TEST_PASSWORD"] = servers[0].password
        source = {
            role: AccountSource(user=f"mesh_{role}", password_env="MESH_TEST_PASSWORD")
            for role in ("tail", "apply")
        }
        source["admin"] = AccountSource(user=servers[0].user, password_env="MESH_TEST_PASSWORD")
        self.control_file = folder / "wan.json"
        name, bus = carrier(folder, self.control_file)
        self.topology = Topology(
            mesh=name,
            replicate=Replicate(tables=tuple(tables)),
            bus=bus,
            regions=tuple(
                Region(id=at + 1, name=NAMES[at], mysql=MysqlAddress(server.host, server.port))
                for at, server in enumerate(servers)
            ),
            accounts=Accounts(**source),
            limits=limits or Limits(),
        )
        self.sql: list[Control] = []
        self.nodes: dict[int, tuple[Node, asyncio.Task]] = {}

    async def connect(self) -> None:
        """Administrator sessions and the accounts of the nodes."""
        for at in range(len(self.servers)):
            self.sql.append(await self.session(at))
            accounts = {role: secrets(self.topology, NAMES[at], role) for role in ("tail", "apply")}
            schemas = {table.split(".")[0] for table in self.topology.replicate.tables}
            await create_accounts(self.sql[at], accounts, schemas)

    async def session(self, at: int, database: str | None = None) -> Control:
        """One more administrator session with region ``at``."""
        server = self.servers[at]
        login = Account(server.user, server.password)
        return await connect_to(
            MysqlAddress(server.host, server.port), login, server=NAMES[at], database=database
        )

    async def everywhere(self, *statements: str) -> None:
        for sql in self.sql:
            for statement in statements:
                await sql.execute(statement)

    async def init(self, **options) -> install.InitResult:
        return await install.init(self.topology, **options)

    def start(self, *places: int) -> None:
        """Start the nodes of these regions (all, if none is named)."""
        for at in places or range(len(self.servers)):
            node = Node(self.topology, None, NAMES[at])
            self.nodes[at] = (node, asyncio.create_task(node.run(), name=f"node {NAMES[at]}"))

    async def stop(self, *places: int) -> None:
        """End nodes cleanly."""
        for at in places or list(self.nodes):
            node, task = self.nodes.pop(at)
            node.supervisor.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def drop(self, at: int) -> None:
        """End a node as a crash would: every task cancelled at once, nothing finished."""
        _, task = self.nodes.pop(at)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def cut(self, *links: tuple[int, int]) -> None:
        """Cut the one-way links ``(from, to)``; every other link is healed."""
        write_cuts(self.control_file, [(NAMES[a], NAMES[b]) for a, b in links])

    def isolate(self, at: int) -> None:
        """Cut a region off from all others, both ways."""
        others = [other for other in range(len(self.servers)) if other != at]
        self.cut(*((at, other) for other in others), *((other, at) for other in others))

    async def settle(self, seconds: float = SECONDS, regions: Sequence[int] = ()) -> None:
        """Wait until every region has applied everything committed anywhere before the call."""
        places = list(regions or range(len(self.servers)))
        deadline = time.monotonic() + seconds
        lifts = None
        while True:
            # Before the beats: what is mended after them may still be on its way.
            mend = [await self.sql[at].value("SELECT COUNT(*) FROM meshnode.mend") for at in places]
            start = {at: await self._beat(at) for at in places}
            while True:
                behind = await self._behind(places, start)
                if not behind:
                    break
                if time.monotonic() > deadline:
                    raise AssertionError(f"not settled: {behind}; {self.states()}")
                await asyncio.sleep(0.05)
            now = [self.nodes[at][0].board.counts["lifts"] for at in places]
            if now == lifts and not any(mend):
                return
            lifts = now
            if time.monotonic() > deadline:
                raise AssertionError(f"not settled: lifts {lifts}, mend {mend}; {self.states()}")

    async def _beat(self, at: int) -> int:
        return await self.sql[at].value(
            "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)"
        )

    async def _behind(self, places: Sequence[int], start: dict[int, int]) -> list[str]:
        behind = []
        for at in places:
            rows = await self.sql[at].rows("SELECT origin, heard_us FROM meshnode.applied")
            heard = dict(rows)
            behind += [
                f"{NAMES[at]} of {NAMES[other]}"
                for other in places
                if other != at and heard.get(other + 1, 0) <= start[other]
            ]
        return behind

    def states(self) -> str:
        """What the actors say, for the message of a failed test."""
        return "; ".join(
            f"{NAMES[at]}: {actor.state.name} {actor.state.state} {actor.state.reason}"
            for at, (node, _) in self.nodes.items()
            for actor in node.actors
            if actor.state.state != "running" or actor.state.reason
        )

    def count(self, name: str) -> int:
        """The sum of a counter over all nodes."""
        return sum(node.board.counts[name] for node, _ in self.nodes.values())

    async def table(self, at: int, table: str) -> list[tuple]:
        """All rows of a table with their stamps, in the order of the first column."""
        columns = [row[0] for row in await self.sql[at].rows(f"SHOW COLUMNS FROM {table}")]
        names = ", ".join(f"`{name}`" for name in columns)
        return await self.sql[at].rows(f"SELECT {names} FROM {table} ORDER BY 1, 2")

    async def same(self, table: str) -> list[tuple]:
        """The rows of ``table``, which must be equal everywhere, stamps included."""
        found = [await self.table(at, table) for at in range(len(self.servers))]
        for at, rows in enumerate(found[1:], 1):
            only = [sorted(set(a) - set(b))[:5] for a, b in ((found[0], rows), (rows, found[0]))]
            assert rows == found[0], f"{table}: only one: {only[0]}, only {NAMES[at]}: {only[1]}"
        return found[0]

    async def close(self) -> None:
        for at in list(self.nodes):
            await self.drop(at)
        for sql in self.sql:
            await sql.close()


@contextlib.asynccontextmanager
async def mesh_of(
    servers: Sequence, folder: Path, *tables: str, limits: Limits | None = None
) -> AsyncIterator[Mesh]:
    """A connected mesh without tables and with no node running."""
    mesh = Mesh(servers, folder, tables or ("app.*",), limits)
    try:
        await mesh.connect()
        yield mesh
    finally:
        await mesh.close()


__all__ = ["NAMES", "Mesh", "mesh_of", "read_cuts"]
