"""Transactions that are published in parts: whole or not at all, whoever dies in the middle."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from steps import (
    Paused,
    applier,
    converged,
    records,
    run,
    running,
    sees,
    topic,
    until,
    waits,
)
from test_stops import skip

from meshnode.actors import apply_loop
from meshnode.actors.patience import PatientReader
from meshnode.core.wire import PART, Claim, Frame, Sender, decode
from meshnode.errors import Retry
from meshnode.limits import KIB
from meshnode.mysql import session
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


def holds_a_part(mesh) -> Callable[[bytes], bool]:
    """Whether a record that region one appended ends in the middle of a transaction."""
    sender = Sender(mesh.topology.mesh, 1, "one")

    def look(payload: bytes) -> bool:
        record = decode(payload, sender)
        return isinstance(record, Frame) and any(item.part == 3 for item in record.items)

    return look


@pytest.mark.kafka_essential
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
            async with Paused(mesh.nodes[0][0].writer, "append", holds_a_part(mesh)) as pause:
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
        reached, original = asyncio.Event(), apply_loop.parts_of

        async def parts_of(*arguments):
            number = 0
            async for part in original(*arguments):
                number += 1
                if number == 5 and not reached.is_set():
                    reached.set()
                    await asyncio.Event().wait()
                yield part

        monkeypatch.setattr(apply_loop, "parts_of", parts_of)
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


class Flaky:
    """A reader that gives one record at a time, and fails twice after ``many`` of them."""

    def __init__(self, reader, many: int) -> None:
        self.reader, self.close = reader, reader.close
        self.many, self.failures = many, 2

    async def read(self, position: bytes, size: int) -> list:
        self.many -= 1
        if self.many < 0 < self.failures:
            self.failures -= 1
            raise Retry("the bus is away")
        return await self.reader.read(position, 1)


async def test_a_bus_that_is_away_for_a_moment_does_not_begin_it_anew(
    servers, tmp_path, monkeypatch
) -> None:
    """What was applied until then would be rolled back, and a long one might never come through."""
    async with running(servers, tmp_path, TABLE, limits=PARTS) as mesh:
        one, _ = mesh.sql
        tries: list[Flaky] = []

        def patient(reader, keep_alive) -> PatientReader:
            tries.append(Flaky(reader, 4))
            return PatientReader(tries[-1], keep_alive)

        monkeypatch.setattr(apply_loop, "PatientReader", patient)
        await one.execute(RECURSION)
        await one.execute(fill())
        await sees(mesh, 1, COUNT, ROWS, 60)
        assert [flaky.failures for flaky in tries] == [0]
        assert len(await converged(mesh)) == ROWS


DUMPS = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"


async def test_a_region_publishes_while_it_applies_a_huge_transaction(
    servers, tmp_path, monkeypatch
) -> None:
    """Also when its origin side has to start again, and claims its stream anew.

    Needed: a claim of the same process does not touch the row that the apply holds.
    """
    # The server must not end the session that stands still, however slow this machine is.
    patient = session._PINNED.replace("wait_timeout = 30", "wait_timeout = 300", 1)
    monkeypatch.setattr(session, "_PINNED", patient)
    async with running(servers, tmp_path, TABLE, limits=PARTS) as mesh:
        one, two = mesh.sql
        await one.execute(RECURSION)
        await mesh.settle()
        reached, go_on, original = asyncio.Event(), asyncio.Event(), apply_loop.parts_of

        async def parts_of(*arguments):
            async for part in original(*arguments):
                yield part
                reached.set()
                await go_on.wait()

        monkeypatch.setattr(apply_loop, "parts_of", parts_of)
        await one.execute(fill())
        await asyncio.wait_for(reached.wait(), 60)
        counts = mesh.nodes[1][0].board.counts
        assert counts["claims"] == 1
        ((dump,),) = await two.rows(DUMPS)
        await two.execute(f"KILL {dump}")
        await two.execute(f"INSERT INTO app.t (id, v) VALUES ({MANY}, 'own')")
        await sees(mesh, 0, f"SELECT COUNT(*) FROM app.t WHERE id = {MANY}", 1, 60)
        assert counts["claims"] > 1 and await two.value(COUNT) == 1
        go_on.set()
        await sees(mesh, 1, COUNT, ROWS + 1, 60)
        assert len(await converged(mesh)) == ROWS + 1
        assert counts["retries"] == 0, "the apply was not disturbed"


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


async def test_a_huge_transaction_that_stops_at_its_end_is_published_once(
    servers, tmp_path
) -> None:
    """XA PREPARE is seen behind the last row: its parts stand in the topic, void, but only once.

    Needed: remembering what stopped.  Without it each try publishes them once more.
    """
    async with running(servers, tmp_path, TABLE, limits=PARTS) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        async with await mesh.session(0) as client:
            await run(client, RECURSION, "XA START 'x'", fill(), "XA END 'x'", "XA PREPARE 'x'")
            state = await waits(mesh, 0, "tailer", "XA PREPARE")
            await run(client, "XA COMMIT 'x'")
        tries = state.restarts
        await until(lambda: state.restarts >= tries + 2, "two more tries")
        assert state.state == "halted"
        await skip(one, state.remedy.rsplit(" ", 1)[-1])
        await one.execute("INSERT INTO app.t (id, v) VALUES (100000, 'goes on')")
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 100000", "goes on")
        assert await two.value(COUNT) == 1
        parts = [
            item.part
            for record in await topic(mesh, 0)
            if isinstance(record, Frame)
            for item in record.items
            if item.kind == PART
        ]
        assert parts == list(range(len(parts))) and len(parts) > 5


async def test_a_compressed_transaction_and_a_cascade_go_in_parts(servers, tmp_path) -> None:
    """One payload event, and deletes without tombstones: neither waits in memory as a whole."""
    parent = "CREATE TABLE app.parent (id INT PRIMARY KEY)"
    child = (
        "CREATE TABLE app.child (id INT PRIMARY KEY, parent INT, v VARCHAR(60),"
        " FOREIGN KEY (parent) REFERENCES app.parent (id) ON DELETE CASCADE)"
    )
    async with running(servers, tmp_path, parent, child, limits=PARTS) as mesh:
        one, two = mesh.sql
        async with await mesh.session(0) as client:
            await run(
                client, RECURSION, "SET SESSION binlog_transaction_compression = ON",
                "INSERT INTO app.parent VALUES (1)",
                fill().replace("app.t (id, v)", "app.child (id, parent, v)").replace(
                    "SELECT n, REPEAT", "SELECT n, 1, REPEAT"
                ),
            )  # fmt: skip
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.child", ROWS, 60)
        filled = (await kinds(mesh, 0)).count("part")
        assert filled > 5
        await one.execute("DELETE FROM app.parent")
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.child", 0, 60)
        assert await two.value("SELECT COUNT(*) FROM app.parent") == 0
        assert await converged(mesh, "app.child") == []
        assert (await kinds(mesh, 0)).count("part") > filled + 2
        assert mesh.count("conflicts") == mesh.count("parked") == 0


async def test_the_before_image_of_a_large_row_does_not_travel(servers, tmp_path) -> None:
    """Its update and its delete apply all the same, and a conflict keeps the loser's whole row."""
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, v LONGTEXT NOT NULL, n INT NOT NULL DEFAULT 0)"
    size = 3 * 1024 * KIB
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        await mesh.everywhere("SET SESSION sort_buffer_size = 67108864")
        await run(
            one,
            f"INSERT INTO app.t (id, v) VALUES (1, REPEAT('a', {size})), (2, REPEAT('b', {size}))",
        )
        await sees(mesh, 1, COUNT, 2, 60)
        await run(one, "UPDATE app.t SET n = 1 WHERE id = 1", "DELETE FROM app.t WHERE id = 2")
        await sees(mesh, 1, COUNT, 1, 60)
        ((_, v, n, *_),) = await converged(mesh)
        assert (v, n) == ("a" * size, 1)
        sizes = [
            sum(len(op.rows) for op in item.ops)
            for record in await topic(mesh, 0)
            if isinstance(record, Frame)
            for item in record.items
            if item.ops
        ]
        *inserts, update, delete = sizes
        assert sum(inserts) > 2 * size
        assert size < update < size + 1000, "an update holds the row once"
        assert delete < 1000, "a delete holds its key"

        mesh.isolate(0)
        await one.execute("UPDATE app.t SET n = 2 WHERE id = 1")
        await two.execute("UPDATE app.t SET n = 3 WHERE id = 1")
        mesh.cut()
        ((_, v, n, *_),) = await converged(mesh)
        assert (v, n) == ("a" * size, 3)
        for lost in await records(mesh, {"id": 1}):
            assert [record.image["n"] for record in lost] == [2]
            assert [len(record.image["v"]) for record in lost] == [size]
