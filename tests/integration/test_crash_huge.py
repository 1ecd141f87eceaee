"""A transaction in parts, and real processes that die in the middle of it.

Whole or not there, for every reader at every moment; and whoever dies leaves no row lock behind.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from crash_mesh import CrashMesh, crash_mesh
from steps import until

from meshnode.limits import KIB
from meshnode.mysql.control import Control
from meshnode.topology import Limits

pytestmark = pytest.mark.timeout(600)

ROWS = 80_000
PARTS = Limits(
    heartbeat_seconds=0.2, part_bytes=128 * KIB, frame_target_bytes=64 * KIB, batch_bytes=128 * KIB
)
FILL = (
    "INSERT INTO app.hot (id, trail, n) WITH RECURSIVE s (n) AS"
    f" (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {ROWS})"
    " SELECT n, REPEAT('x', 40), 0 FROM s"
)
COUNT = "SELECT COUNT(*) FROM app.hot"
APPLYING = (
    "SELECT MAX(trx_rows_modified) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id IN"
    " (SELECT id FROM information_schema.processlist WHERE user = 'mesh_apply')"
)
LOOK_SECONDS = 0.12
"""``innodb_trx`` shows old rows to whoever looks within 0.1 s of the last."""

PASS_SECONDS = 120.0


@contextlib.asynccontextmanager
async def snapshots(mesh: CrashMesh, region: str) -> AsyncIterator[set[int]]:
    """The numbers of rows that readers of ``region`` see until the end of the block."""
    seen: set[int] = set()

    async def look() -> None:
        async with await mesh.sql(region) as control:
            while True:
                seen.add(await control.value(COUNT))
                await asyncio.sleep(0.05)  # the pace of a reader

    task = asyncio.create_task(look())
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def fill(mesh: CrashMesh, region: str) -> None:
    async with await mesh.sql(region) as control:
        await control.execute(f"SET SESSION cte_max_recursion_depth = {ROWS + 1}")
        await control.execute(FILL)


async def is_applying(control: Control) -> None:
    """Wait until the peer has written part of it, and not committed."""

    async def writing() -> bool:
        return (await control.value(APPLYING) or 0) > ROWS // 20

    await until(writing, "the peer is in the middle of it", PASS_SECONDS, look=LOOK_SECONDS)


async def published(mesh: CrashMesh, region: str, more: int) -> None:
    """Wait until the topic has grown by ``more`` bytes."""
    folder = mesh.cluster.topology.bus_dir(region) / region

    def size() -> int:
        return sum(file.stat().st_size for file in folder.iterdir())

    start = size()
    await until(lambda: size() > start + more, "parts are published", PASS_SECONDS)


async def test_an_origin_that_is_killed_between_two_parts(tmp_path, mysqld) -> None:
    """The successor voids what stands there, and publishes the transaction from its start."""
    async with crash_mesh(tmp_path, mysqld, 2, PARTS) as mesh:
        first, second = mesh.names
        await mesh.settle()
        async with snapshots(mesh, second) as seen:
            growing = asyncio.create_task(published(mesh, first, 256 * KIB))
            await fill(mesh, first)
            await growing
            await mesh.kill_node(first)
            assert await mesh.value(second, COUNT) == 0, "it was published whole before the kill"
            mesh.start_node(first)
            async with await mesh.sql(second) as control:
                await whole(control)
        assert seen <= {0, ROWS}
        await mesh.judge()


async def test_a_peer_that_is_killed_in_the_middle(tmp_path, mysqld) -> None:
    """Nothing is visible, a client has every row at once, and the next start applies it whole.

    Needed: all parts in one local transaction on a connection that dies with the process.
    """
    async with crash_mesh(tmp_path, mysqld, 2, PARTS) as mesh:
        first, second = mesh.names
        await mesh.settle()
        async with snapshots(mesh, second) as seen, await mesh.sql(second) as control:
            await fill(mesh, first)
            await is_applying(control)
            await mesh.kill_node(second)
            await unlocked(control)
            await control.execute("INSERT INTO app.hot VALUES (7, 'client', 0)")
            mesh.start_node(second)
            await whole(control)
        assert seen <= {0, 1, ROWS}
        assert await mesh.value(first, "SELECT trail FROM app.hot WHERE id = 7") == "client"
        await mesh.judge()


async def test_a_cut_in_the_middle(tmp_path, mysqld) -> None:
    """Some parts are there and the link is cut: nothing is locked, nothing visible, it goes on."""
    async with crash_mesh(tmp_path, mysqld, 2, PARTS) as mesh:
        first, second = mesh.names
        await mesh.settle()
        async with snapshots(mesh, second) as seen, await mesh.sql(second) as control:
            growing = asyncio.create_task(published(mesh, first, 256 * KIB))
            await fill(mesh, first)
            await growing
            mesh.cluster.cut([(first, second)])
            # What was on its way has arrived when the other region is heard of no more.
            await silent(control)
            assert await control.value(COUNT) == 0, "the link was cut too late"
            await unlocked(control)
            await control.execute("INSERT INTO app.hot VALUES (7, 'client', 0)")
            mesh.cluster.heal()
            await whole(control)
        assert seen <= {0, 1, ROWS}
        await mesh.judge()


async def whole(control: Control) -> None:
    async def there() -> bool:
        return await control.value(COUNT) == ROWS

    await until(there, "all rows are there", PASS_SECONDS, look=0.2)


async def unlocked(control: Control) -> None:
    """No session of the node holds a row lock; the server needs a moment to roll back."""

    async def free() -> bool:
        return not await control.value(APPLYING)

    await until(free, "no row is locked by the node", look=LOOK_SECONDS)


async def silent(control: Control) -> None:
    """Wait until nothing has been applied for some pulses."""
    heard = "SELECT MAX(heard_us) FROM meshnode.applied"
    beat = "SELECT beat FROM meshnode.heartbeat"
    last = (await control.value(heard), await control.value(beat))

    async def still() -> bool:
        nonlocal last
        now = (await control.value(heard), await control.value(beat))
        if now[0] != last[0]:
            last = now
        return now[1] - last[1] > 10

    await until(still, "the link is silent", PASS_SECONDS)
