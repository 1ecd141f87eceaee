"""Clocks of servers that jump or flutter, by libfaketime.

A server notices a step within a second (libfaketime reads its file so often), so a strobe
cannot be faster than that.
"""

import asyncio
from collections.abc import AsyncIterator

from chaos.faults.kinds import kind
from chaos.mesh import Mesh
from chaos.plan import Fault
from meshnode.errors import Busy, MeshError, Refused
from meshnode.mysql.control import Control

TRIES = 100


@kind("clock.bump")
async def bump(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """The clock of a server is ``seconds`` ahead (or behind), and right again at the end."""
    (region,) = fault.target
    async with mesh.holding(f"clock:{region}"):
        mesh.clocks[region].step(fault.number("seconds"))
        try:
            yield
        finally:
            mesh.clocks[region].step(0)


@kind("clock.strobe")
async def strobe(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """The clock of a server jumps ``seconds`` ahead and back every ``period`` seconds."""
    (region,) = fault.target
    period, seconds = fault.number("period", 1.0), fault.number("seconds")

    async def flutter() -> None:
        while True:
            mesh.clocks[region].step(seconds)
            await asyncio.sleep(period)
            mesh.clocks[region].step(0)
            await asyncio.sleep(period)

    async with mesh.holding(f"clock:{region}"):
        fluttering = asyncio.create_task(flutter())
        try:
            yield
        finally:
            fluttering.cancel()
            mesh.clocks[region].step(0)


async def _begin(control: Control) -> None:
    """Open a transaction that has written; clients write the same row and may be in the way."""
    for attempt in range(TRIES):
        try:
            await control.execute("START TRANSACTION")
            await control.execute("DELETE FROM chaos.churn WHERE id = 1")
            await control.execute("INSERT INTO chaos.churn VALUES (1, 'before the step')")
            return
        except (Busy, Refused):
            # A deadlock, or a key that is taken.
            await control.execute("ROLLBACK")
            if attempt == TRIES - 1:
                raise


@kind("clock.back-under")
async def back_under_a_transaction(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """The clock steps back by ``seconds`` while a client's transaction is open."""
    (region,) = fault.target
    async with (
        mesh.holding(f"clock:{region}", f"server:{region}"),
        await mesh.sql(region) as control,
    ):
        await _begin(control)
        mesh.clocks[region].step(-fault.number("seconds"))
        try:
            yield
            try:
                await control.execute("UPDATE chaos.churn SET v = 'after the step' WHERE id = 1")
                await control.execute("COMMIT")
            except MeshError:
                mesh.journal.note("client", region=region, text="its transaction was undone")
        finally:
            mesh.clocks[region].step(0)
