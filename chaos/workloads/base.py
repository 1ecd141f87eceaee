"""What the workloads have in common: clients that know what became of each write, and readers.

Theory of operation.  A client runs one transaction after the other in its region, through every
loss of the server.  What it was answered is *acknowledged*; a transaction whose COMMIT was sent
and not answered is *unsure*: it may have happened or not, but not by half and not in one region
only.  After any error the session is thrown away, so nothing half done can linger.  Readers look
at their region in snapshots all the while.  At the end, when the mesh is at rest, each workload
judges what is left by what its clients know.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

from chaos.mesh import Mesh, drop
from meshnode.errors import MeshError, Refused
from meshnode.mysql.control import Control, code_of

Connect = Callable[[str], Awaitable[Control]]
"""Opens a new session with the server of a region."""

AGAIN_SECONDS = 0.05
READ_PACE_SECONDS = 0.1
PATIENCE_SECONDS = 20.0
"""A statement that takes longer is given up with its session: the server stands still."""

ORDINARY = frozenset({1062, 1451, 1452, 3819, 4025, 1406, 1054, 1136, 1264})
"""Key taken, parent or child in the way, check failed, too long, column not there yet or no
longer: an application gives up on that transaction, and nothing is wrong."""


class Client:
    """One client: ``region`` (with its ``id``) and ``number`` name it, ``draw`` decides."""

    def __init__(self, region: str, id: int, number: int, seed: str) -> None:
        self.region, self.id, self.number = region, id, number
        self.name = f"{region}{number}"
        self.draw = random.Random(f"{seed} {self.name}")
        self.acknowledged: dict[str, object] = {}
        self.unsure: dict[str, object] = {}
        self.count = 0
        self.slowest = 0.0
        """The longest that an acknowledged transaction took, in seconds."""
        self.fresh = True
        """Whether the transaction before came to an end is not known."""

    def token(self) -> str:
        """A word that no other transaction has."""
        self.count += 1
        return f"{self.name}.{self.count}"


class Workload:
    """A kind of load.  ``tables`` is its DDL; sub-classes say what is written and judged."""

    name: ClassVar[str]
    about: ClassVar[str]
    tables: ClassVar[tuple[str, ...]] = ()
    pace: ClassVar[float] = 0.06

    def __init__(self, mesh: Mesh, seed: int, clients: int, pace: float = 1.0) -> None:
        self.mesh = mesh
        self._pause, self._read_pause = self.pace * pace, READ_PACE_SECONDS * pace
        self.regions = list(mesh.names)
        self.journal = mesh.journal
        self.stopped = False
        self.reads = 0
        self.clients = [
            Client(region, place, number, f"{self.name} {seed}")
            for place, region in enumerate(self.regions, 1)
            for number in range(clients)
        ]

    # -- for sub-classes ----------------------------------------------------------

    async def prepare(self, connect: Connect) -> None:
        """Write what must be there before the load."""

    async def write(self, client: Client, control: Control) -> None:
        """One transaction; errors of the session may be raised."""
        raise NotImplementedError

    async def look(self, region: str, control: Control) -> None:
        """One look of a reader in ``region``; what must not be is a finding."""

    reads_wanted: ClassVar[bool] = False

    async def judge(self, connect: Connect) -> None:
        """With the mesh at rest: what must not be is a finding."""

    # -- running ------------------------------------------------------------------

    @property
    def acknowledged(self) -> int:
        return sum(len(client.acknowledged) for client in self.clients)

    @property
    def unsure(self) -> int:
        return sum(len(client.unsure) for client in self.clients)

    def find(self, check: str, text: str) -> None:
        self.journal.find(check, f"{self.name}: {text}")

    def suspect(self, check: str, text: str, origin: str) -> None:
        self.journal.suspect(check, f"{self.name}: {text}", origin)

    async def run(self, connect: Connect) -> None:
        """All clients and readers until ``stopped``."""
        async with asyncio.TaskGroup() as group:
            for client in self.clients:
                group.create_task(self._run(client, connect))
            if self.reads_wanted:
                for region in self.regions:
                    group.create_task(self._read(region, connect))

    async def _run(self, client: Client, connect: Connect) -> None:
        control: Control | None = None
        while not self.stopped:
            if client.region in self.mesh.closed:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            busy = self.mesh.at_work[client.region]
            busy.add(f"{self.name} {client.name}")
            try:
                if control is None:
                    control = await connect(client.region)
                    client.fresh = True
                began = time.monotonic()
                before = len(client.acknowledged)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self.write(client, control)
                client.fresh = False
                if len(client.acknowledged) > before:
                    client.slowest = max(client.slowest, time.monotonic() - began)
                busy.discard(f"{self.name} {client.name}")
                await asyncio.sleep(self._pause)
            except (MeshError, OSError, TimeoutError) as error:
                client.fresh = True
                code = code_of(error) if isinstance(error, MeshError) else 0
                if isinstance(error, Refused) and code not in ORDINARY:
                    self.find("load", f"{client.name}: {error}")
                if not (code in ORDINARY and await _rolled_back(control)):
                    await drop(control)
                    control = None
                busy.discard(f"{self.name} {client.name}")
                await asyncio.sleep(AGAIN_SECONDS)
        await drop(control)

    async def _read(self, region: str, connect: Connect) -> None:
        control: Control | None = None
        while not self.stopped:
            if region in self.mesh.unseen:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            try:
                if control is None:
                    control = await connect(region)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self.look(region, control)
                self.reads += 1
                await asyncio.sleep(self._read_pause)
            except (MeshError, OSError, TimeoutError):
                await drop(control)
                control = None
                await asyncio.sleep(AGAIN_SECONDS)
        await drop(control)

    async def commit(self, client: Client, control: Control, token: str, what: object) -> None:
        """COMMIT, and remember what was answered."""
        client.unsure[token] = what
        await control.execute("COMMIT")
        client.acknowledged[token] = client.unsure.pop(token)


async def _rolled_back(control: Control | None) -> bool:
    """Whether the session may be used again."""
    if control is None:
        return False
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await control.execute("ROLLBACK")
    except (MeshError, OSError, TimeoutError):
        return False
    return True


async def everywhere(connect: Connect, regions: Sequence[str], sql: str) -> dict[str, list[tuple]]:
    """The rows of one query in each region."""
    found = {}
    for region in regions:
        async with await connect(region) as control:
            found[region] = await control.rows(sql)
    return found
