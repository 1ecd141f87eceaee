"""Transactions that are published in parts: whole or not at all, whoever dies in the middle."""

import asyncio
import contextlib

from steps import Paused, applier, converged, running, sees, topic

from meshnode.actors import applier as applier_module
from meshnode.core.wire import PART, Claim, Frame, Sender, decode
from meshnode.limits import KIB
from meshnode.topology import Limits

ROWS = 20_000
MANY = 60_000
TABLE = "CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(60), n INT NOT NULL DEFAULT 0)"
PARTS = Limits(
    heartbeat_seconds=0.2, part_bytes=128 * KIB, frame_target_bytes=64 * KIB, batch_bytes=128 * KIB
)
RECURSION = f"SET SESSION cte_max_recursion_depth = {MANY + 1}"


def fill(rows: int = ROWS) -> str:
    """One transaction that inserts the keys 1 to ``rows``."""
    return (
        "INSERT INTO app.t (id, v) WITH RECURSIVE s (n) AS"
        f" (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows})"
        " SELECT n, REPEAT('x', 40) FROM s"
    )


COUNT = "SELECT COUNT(*) FROM app.t"


class Watch:
    """A reader at the peer: every snapshot must show all or nothing."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    async def run(self, mesh, at: int) -> None:
        async with await mesh.session(at) as client:
            await client.execute("SET SESSION transaction_isolation = 'REPEATABLE-READ'")
            while True:
                await client.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
                self.seen.add(await client.value("SELECT COUNT(*) FROM app.t WHERE n = 0"))
                await client.execute("COMMIT")
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def watched(mesh, at: int):
    watch = Watch()
    task = asyncio.create_task(watch.run(mesh, at))
    try:
        yield watch
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def kinds(mesh, at: int) -> list[str]:
    """A region's topic in short: ``claim``, and for each item ``part``, ``last`` or ``other``."""
    found: list[str] = []
    for record in await topic(mesh, at):
        if isinstance(record, Claim):
            found.append("claim")
            continue
        for item in record.items:
            part = "last" if item.last else "part"
            found.append(part if item.kind == PART else "other")
    return found


async def test_a_huge_transaction_is_whole_or_not_there(servers, tmp_path) -> None:
    """A reader in REPEATABLE READ never sees a part; updates and deletes go the same way.

    Needed: one local transaction for all parts.  With a commit for each part the
    reader sees some of it.
    """
    async with running(servers, tmp_path, TABLE, limits=PARTS) as mesh:
        one, two = mesh.sql
        await one.execute(RECURSION)
        await mesh.settle()
        async with watched(mesh, 1) as watch:
            await one.execute(fill(MANY))
            await sees(mesh, 1, COUNT, MANY, 60)
            await one.execute("UPDATE app.t SET n = 1 WHERE id % 2 = 0")
            await sees(mesh, 1, "SELECT COUNT(*) FROM app.t WHERE n = 1", MANY // 2, 60)
            await one.execute("DELETE FROM app.t WHERE id > 100")
            await sees(mesh, 1, COUNT, 100, 60)
        assert watch.seen - {0, MANY, MANY // 2, 50} == set()
        assert (await kinds(mesh, 0)).count("part") > 10
        assert len(await converged(mesh)) == 100
        assert mesh.count("lifts") == mesh.count("late_tombstones") == mesh.count("parked") == 0
        assert await two.value("SELECT COUNT(*) FROM meshnode.conflict_log") == 0


def holds_a_part(payload: bytes) -> bool:
    """Whether the record that was appended ends in the middle of a transaction."""
    record = decode(payload, Sender("test", 1, "one"))
    return isinstance(record, Frame) and any(item.part == 3 for item in record.items)


async def test_an_origin_that_dies_in_the_middle_publishes_it_again(servers, tmp_path) -> None:
    """The claim of the successor voids the parts that stand there; numbers go on after them.

    Needed: voiding.  Without it the first part of the second telling is out of order, and
    every reader of the stream halts there.
    """
    async with running(servers, tmp_path, TABLE, limits=PARTS) as mesh:
        one, two = mesh.sql
        await one.execute(RECURSION)
        await mesh.settle()
        async with watched(mesh, 1) as watch:
            async with Paused(mesh.nodes[0][0].writer, "append", holds_a_part) as pause:
                await one.execute(fill())
                await pause.reached()
                await mesh.drop(0)
            mesh.start(0)
            await sees(mesh, 1, COUNT, ROWS, 60)
        assert watch.seen - {0, ROWS} == set()
        assert len(await converged(mesh)) == ROWS
        found = await kinds(mesh, 0)
        claim = len(found) - 1 - found[::-1].index("claim")
        assert found[claim - 1] == "part", "the node did not die in the middle"
        assert found.count("last") == 1
        assert applier(mesh, 1, 0).state.restarts == 0
        assert mesh.count("conflicts") == mesh.count("lifts") == 0
        await two.execute("UPDATE app.t SET n = 5 WHERE id = 7")
        await converged(mesh)


async def test_a_peer_that_dies_in_the_middle_leaves_no_lock_and_no_half(
    servers, tmp_path, monkeypatch
) -> None:
    """It starts from the first part again; meanwhile its clients can write every row.

    Needed: applying only when the last part is there, in one transaction.  Without it a cut in
    the middle leaves rows locked.
    """
    async with running(servers, tmp_path, TABLE, limits=PARTS) as mesh:
        one, two = mesh.sql
        await one.execute(RECURSION)
        await mesh.settle()
        reached, original = asyncio.Event(), applier_module.parts_of

        async def parts_of(*arguments):
            number = 0
            async for part in original(*arguments):
                number += 1
                if number == 5 and not reached.is_set():
                    reached.set()
                    await asyncio.Event().wait()
                yield part

        monkeypatch.setattr(applier_module, "parts_of", parts_of)
        async with watched(mesh, 1) as watch:
            # While the stream is cut in the middle nothing is applied and nothing locked.
            await one.execute(fill())
            await asyncio.wait_for(reached.wait(), 60)
            assert await two.value(COUNT) == 0
            await mesh.drop(1)
            await two.execute("SET SESSION innodb_lock_wait_timeout = 5")
            await two.execute("INSERT INTO app.t (id, v) VALUES (3, 'client')")
            mesh.start(1)
            await sees(mesh, 1, COUNT, ROWS, 60)
        assert watch.seen - {0, 1, ROWS} == set()
        rows = await converged(mesh)
        assert len(rows) == ROWS
        assert rows[2][1] == "client"
        assert applier(mesh, 1, 0).state.state == "running"


async def test_a_huge_transaction_that_loses_some_rows(servers, tmp_path) -> None:
    """Conflicts inside parts: the outcomes that won, one record for each that lost."""
    async with running(servers, tmp_path, TABLE, limits=PARTS) as mesh:
        one, two = mesh.sql
        await one.execute(RECURSION)
        await mesh.settle()
        mesh.isolate(0)
        await one.execute(fill())
        await two.execute("INSERT INTO app.t (id, v) VALUES (10, 'later'), (15000, 'later')")
        mesh.cut()
        await sees(mesh, 1, COUNT, ROWS, 60)
        rows = await converged(mesh)
        assert [row[0] for row in rows if row[1] == "later"] == [10, 15000]
        assert await two.value("SELECT COUNT(*) FROM meshnode.conflict_log") == 2
