"""``meshnode init`` for a table that comes later, while nodes run and clients write."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mesh import Mesh, mesh_of
from regions import now_us
from steps import gardening, lock_wait, until

from meshnode.lab.servers import Server
from meshnode.ops.doctor import examine, refusals


@asynccontextmanager
async def two_rows(pair: list[Server], folder: Path) -> AsyncIterator[Mesh]:
    """A mesh without `init`, with the same two rows in both regions."""
    async with mesh_of(pair, folder) as mesh:
        await mesh.everywhere(
            "CREATE DATABASE app",
            "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)",
            "INSERT INTO app.t VALUES (1, 1), (2, 2)",
        )
        yield mesh


async def test_a_full_table_comes_in_under_load(servers, tmp_path) -> None:
    async with mesh_of(await servers(2), tmp_path) as mesh:
        await mesh.everywhere(
            "CREATE DATABASE app",
            "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)",
        )
        assert (await mesh.init()).complete
        mesh.start()
        await mesh.settle()
        await mesh.everywhere("CREATE TABLE app.u (id INT PRIMARY KEY, v INT)")
        one = mesh.sql[0]
        rows = ", ".join(f"({number}, 0)" for number in range(2500))
        await one.execute(f"INSERT INTO app.u VALUES {rows}")
        stop = asyncio.Event()

        async def write(at: int) -> int:
            count = 0
            async with await mesh.session(at) as client:
                while not stop.is_set():
                    count += 1
                    key = count % 2500 + 3000 * at
                    await client.execute(f"REPLACE INTO app.u VALUES ({key}, {count})")
                    await client.execute(f"DELETE FROM app.u WHERE id = {(count * 7) % 2500}")
            return count

        async with asyncio.TaskGroup() as group:
            writers = [group.create_task(write(at)) for at in (0, 1)]
            result = await mesh.init()
            stop.set()
        assert result.complete and result.lifted["app.u"] > 1000
        assert all(writer.result() > 10 for writer in writers)
        await mesh.settle(90)
        assert await mesh.same("app.u")
        # Again, with nothing left to do.
        again = await mesh.init()
        assert again.statements == [] and again.lifted == {}


async def test_a_delete_before_the_activation_reaches_the_other_region(servers, tmp_path) -> None:
    pair = await servers(2)
    async with two_rows(pair, tmp_path) as mesh:
        deleted: list[str] = []

        def delete_once(line: str) -> None:
            if not deleted and "INSERT INTO `meshnode`.`tables`" in line:
                deleted.append(line)
                with pair[0].connect() as connection:
                    connection.cursor().execute("DELETE FROM app.t WHERE id = 1")

        assert (await mesh.init(report=delete_once)).lifted == {"app.t": 1}
        mesh.start()
        await mesh.settle()
        assert [row[:2] for row in await mesh.same("app.t")] == [(2, 2)]


async def test_a_tombstone_that_init_has_not_compared_is_not_collected(servers, tmp_path) -> None:
    """1. A client deletes a row behind the triggers, before the streams begin.

    2. init is broken off.  3. The nodes start, and a gardener makes a round.  4. init runs again.
    """
    pair = await servers(2)
    async with two_rows(pair, tmp_path) as mesh:

        def break_off(line: str) -> None:
            if line.startswith("two:") and "TRIGGER" in line:  # those of one stand
                with pair[0].connect() as connection:
                    connection.cursor().execute("DELETE FROM app.t WHERE id = 1")
            if "newest row" in line:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            await mesh.init(report=break_off)
        deleted = now_us()
        mesh.start()
        await mesh.settle()

        async def is_stable() -> bool:
            told = await mesh.sql[0].rows(
                "SELECT frontier, tail_frontier FROM meshnode.applied, meshnode.member"
            )
            return min(told[0]) > deleted

        await until(is_stable, "frontiers above the delete")
        async with gardening(mesh, 0) as collect:
            await collect()
        assert (await mesh.init()).lifted == {"app.t": 1}
        await mesh.settle()
        assert [row[:2] for row in await mesh.same("app.t")] == [(2, 2)]


async def test_a_row_stamped_while_the_activation_waits_is_compared(servers, tmp_path) -> None:
    """The activation's date must not be older than its place in the binlog.

    1. ``INSERT INTO meshnode.tables`` begins and waits for a lock.
    2. A client inserts a row: stamped later, committed earlier.
    3. The activation commits.  The stream begins behind the row, so init must publish it.
    """
    pair = await servers(2)
    async with mesh_of(pair, tmp_path) as mesh:
        await mesh.everywhere(
            "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)"
        )
        assert (await mesh.init()).complete
        mesh.start()
        await mesh.settle()
        await mesh.everywhere("CREATE TABLE app.u (id INT PRIMARY KEY, v INT)")
        async with await mesh.session(1) as holder:
            await holder.execute("SET SESSION transaction_isolation = 'REPEATABLE-READ'")
            await holder.execute("START TRANSACTION")
            await holder.rows("SELECT * FROM meshnode.tables FOR UPDATE")
            init = asyncio.create_task(mesh.init())
            await lock_wait(mesh.sql[1])
            await mesh.sql[1].execute("INSERT INTO app.u VALUES (1, 1)")
            await holder.execute("COMMIT")
        assert (await init).lifted == {"app.u": 1}
        await mesh.settle()
        assert [row[:2] for row in await mesh.same("app.u")] == [(1, 1)]


async def test_a_seed_overrules_and_fills(servers, tmp_path) -> None:
    async with mesh_of(await servers(2), tmp_path) as mesh:
        await mesh.everywhere(
            "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)"
        )
        await mesh.sql[0].execute("INSERT INTO app.t VALUES (1, 1), (2, 1), (3, 1)")
        await mesh.sql[1].execute("INSERT INTO app.t VALUES (2, 2), (4, 2)")
        refused = await mesh.init()
        assert [key.key for key in refused.refused] == ["(2)"] and refused.lifted == {"app.t": 3}
        mesh.start()
        await mesh.settle()
        result = await mesh.init(seed_from="two")
        assert result.complete and result.lifted == {"app.t": 1}
        await mesh.settle()
        found = [row[:2] for row in await mesh.same("app.t")]
        assert found == [(1, 1), (2, 2), (3, 1), (4, 2)]


async def test_the_bookkeeping_of_an_older_release_gets_the_columns_that_it_lacks(
    servers, tmp_path
) -> None:
    async with mesh_of(await servers(2), tmp_path) as mesh:
        await mesh.everywhere(
            "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)"
        )
        await mesh.init()
        await mesh.everywhere(
            "ALTER TABLE meshnode.applied DROP COLUMN heard_beat",
            "INSERT INTO meshnode.conflict_log SELECT 9, NOW(), 'app', 't', '{}', 'k', 'certain',"
            " 'lww', '', 1, 1, 1, 1, NULL, NULL, 1, 1, ''",
        )
        findings = [str(finding) for finding in refusals(await examine(mesh.topology, "one"))]
        assert len(findings) == 1 and "heard_beat" in findings[0]
        result = await mesh.init()
        assert result.complete and len(result.statements) == 2
        assert (await mesh.init()).statements == []
        assert refusals(await examine(mesh.topology, "one")) == []
        mesh.start()
        await mesh.settle()
        # The streams go on through such an ALTER under load, too.
        await mesh.sql[0].execute("ALTER TABLE meshnode.applied ADD COLUMN later INT DEFAULT 0")
        await mesh.sql[0].execute("INSERT INTO app.t VALUES (1, 1)")
        await mesh.settle()
        assert [row[:2] for row in await mesh.same("app.t")] == [(1, 1)]
        beats = await mesh.sql[1].row(
            "SELECT heard_beat, frontier > 0 FROM meshnode.applied WHERE origin = 1"
        )
        assert beats[0] > 0 and beats[1] == 1
