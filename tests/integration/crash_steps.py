"""Steps of the crash tests whose nodes run in the test's own process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path

from crash_load import Load, account_for
from mesh import NAMES, Mesh
from steps import running

from meshnode.lab.applied_audit import audit, chained
from meshnode.mysql.control import Control
from meshnode.ops.verify import verify
from meshnode.ops.verify_view import View


@contextlib.asynccontextmanager
async def audited(servers: Sequence, folder: Path, *tables: str) -> AsyncIterator[Mesh]:
    """A running mesh whose servers write down what is applied (`meshnode.lab.applied_audit`)."""
    async with running(servers, folder, *tables) as mesh:
        await mesh.settle()
        await mesh.stop()
        for sql in mesh.sql:
            await audit(sql)
        mesh.start()
        await mesh.settle()
        yield mesh


def connector(mesh: Mesh):
    """How the clients of a load reach the regions of ``mesh``."""

    async def connect(region: str) -> Control:
        return await mesh.session(NAMES.index(region))

    return connect


@contextlib.asynccontextmanager
async def background(*work: Awaitable[None]) -> AsyncIterator[None]:
    """Run ``work`` beside the block, and end it with the block; its failure is the block's."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in done), done


def ended(mesh: Mesh) -> list[str]:
    """Nodes that are no longer there, with the error that ended them."""
    return [
        f"{NAMES[at]}: {task.exception()!r}"
        for at, (_, task) in mesh.nodes.items()
        if task.done() and not task.cancelled()
    ]


async def judge(mesh: Mesh, loads: Sequence[Load], about: str = "") -> None:
    """All nodes live; all regions are identical; nothing is lost, parked or applied twice."""
    assert not ended(mesh), f"{ended(mesh)}; {about}"
    await mesh.settle(60)
    verdict = await verify(mesh.topology)
    assert verdict.settled, "\n".join([*View(mesh.topology).lines(verdict), about])
    await account_for(NAMES[: len(mesh.sql)], connector(mesh), loads)
    for at, sql in enumerate(mesh.sql):
        await chained(sql, NAMES[at])
    assert mesh.count("parked") == 0, about
