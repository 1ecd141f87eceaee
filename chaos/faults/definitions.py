"""Tables that differ between regions for a while, and rows that cannot stand in one of them.

They need the table ``chaos.mixed`` of the workload W6.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from chaos.faults.kinds import kind
from chaos.mesh import Mesh
from chaos.plan import Fault
from meshnode.ops import letters
from meshnode.ops.status import look

TABLE = "chaos.mixed"
REPLAY_SECONDS = 240.0
PARKED_SECONDS = 240.0
LOOK_SECONDS = 0.1
POISON_KEY = 9000
"""No client writes this one."""

OPEN = "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state IN ('open', 'replay')"


async def _alter(mesh: Mesh, region: str, change: str) -> None:
    async with await mesh.sql(region) as control:
        await control.execute("SET SESSION lock_wait_timeout = 240")
        await control.execute(f"ALTER TABLE {TABLE} {change}")


@kind("row.poison")
async def poison(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """A region refuses some rows (a CHECK that only it has): they are set aside, the region says
    that it has not converged; when the CHECK is gone they are replayed.

    Clients write such rows by chance; one is written here, so that there is one.
    """
    (region,) = fault.target
    async with mesh.holding(f"table:{region}"):
        await _refuse(mesh, region, fault.number("below"))
        try:
            await _write_poison(mesh, region, fault.number("below"))
            yield
            parked = await _parked(mesh, region)
            mesh.journal.note("parked", region=region, rows=parked)
            status = await look(mesh.topology)
            if not parked:
                mesh.journal.find("run", f"{region}: no row was poisonous")
            elif status.converged:
                mesh.journal.find("I12", f"{parked} rows set aside in {region}, and converged")
        finally:
            await _alter(mesh, region, "DROP CONSTRAINT poison")
        await _replayed(mesh, region)


async def _refuse(mesh: Mesh, region: str, below: float) -> None:
    """Add the CHECK; rows that it would refuse go first, and nobody writes one in between."""
    async with await mesh.sql(region) as control:
        await control.execute("SET SESSION lock_wait_timeout = 240")
        await control.execute(f"LOCK TABLES {TABLE} WRITE")
        await control.execute(f"DELETE FROM {TABLE} WHERE n >= {below:g}")
        await control.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT poison CHECK (n < {below:g})")
        await control.execute("UNLOCK TABLES")


async def _write_poison(mesh: Mesh, region: str, n: float) -> None:
    """Another region writes a row that ``region`` refuses, as a client of its own would.

    Not one whose clients have been sent away: what it writes then nobody can take.
    """
    while not (others := set(mesh.others(region)) - mesh.closed):  # noqa: ASYNC110
        await asyncio.sleep(LOOK_SECONDS)
    other = min(others)
    mesh.at_work[other].add("poison")
    try:
        async with await mesh.sql(other) as control:
            await control.execute(
                f"REPLACE INTO {TABLE} (id, v, n) VALUES ({POISON_KEY}, 'poison', {n:g})"
            )
    finally:
        mesh.at_work[other].discard("poison")


async def _parked(mesh: Mesh, region: str) -> object:
    """How many rows are set aside in ``region``: 0 only if none comes for a long time."""
    end = time.monotonic() + PARKED_SECONDS
    while True:
        parked = await mesh.value(region, OPEN)
        if parked or time.monotonic() > end:
            return parked
        await asyncio.sleep(LOOK_SECONDS)


async def _replayed(mesh: Mesh, region: str) -> None:
    """As an operator would: ask for all, until none is left."""
    end = time.monotonic() + REPLAY_SECONDS
    while await mesh.value(region, OPEN):
        if time.monotonic() > end:
            mesh.journal.find("I12", f"{region}: letters that do not close")
            return
        await letters.replay(mesh.topology, region, seconds=5.0)


@kind("ddl.narrow")
async def narrow(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """A column is narrower in one region: streams towards it wait, and go on at the end.

    Its own clients are elsewhere: what they wrote meanwhile would wait in all other regions for
    a column as narrow.
    """
    (region,) = fault.target
    async with mesh.holding(f"table:{region}"):
        await mesh.send_away(region)
        await mesh.heard(region)
        await _alter(mesh, region, "MODIFY COLUMN v VARCHAR(50) NOT NULL")
        try:
            yield
        finally:
            await _alter(mesh, region, "MODIFY COLUMN v VARCHAR(60) NOT NULL")
            mesh.closed.discard(region)


@kind("ddl.add")
async def add_column(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """A column is added under load, region by region, ``pause`` seconds apart."""
    name = f"c{fault.start:g}".replace(".", "_")
    change = f"ADD COLUMN {name} INT NOT NULL DEFAULT 7, ALGORITHM=INSTANT"
    first, *others = fault.target
    await _alter(mesh, first, change)
    yield
    for region in others:
        await _alter(mesh, region, change)
        await asyncio.sleep(fault.number("pause", 1.0))
