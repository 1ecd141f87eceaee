"""Tables that change or differ while the mesh runs: streams wait, say why, and then go on."""

import asyncio
import contextlib

import pytest
from mesh import mesh_of
from steps import QUICK, applier, converged, running, sees, stamp, waits

from meshnode.errors import MeshError


async def write(mesh, at: int, keys: range, stop: asyncio.Event) -> int:
    """Insert and update until ``stop``; how many keys were used."""
    done = 0
    async with await mesh.session(at) as client:
        for key in keys:
            if stop.is_set():
                break
            with contextlib.suppress(MeshError):  # a deadlock with the DDL or an applier
                await client.execute(
                    "INSERT INTO app.t (id, v) VALUES (%s, 'a') ON DUPLICATE KEY UPDATE v = 'b'",
                    (key,),
                )
                await client.execute("UPDATE app.t SET n = n + 1 WHERE id = %s", (key,))
                done += 1
            await asyncio.sleep(0)
    return done


async def test_a_column_is_added_under_load_region_by_region(servers, tmp_path) -> None:
    """Wide takes narrow with the default everywhere; narrow waits for its own turn.

    Needed: the comparison of shapes before the first write.  Without it MySQL drops the
    new column's values without a word.
    """
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x'), (2, 'x')")
        await mesh.settle()
        stop = asyncio.Event()
        load = [
            asyncio.create_task(write(mesh, 0, range(10_000, 11_000), stop)),
            asyncio.create_task(write(mesh, 1, range(20_000, 21_000), stop)),
        ]
        add = "ALTER TABLE app.t ADD COLUMN extra VARCHAR(10) NOT NULL DEFAULT 'none'"
        await two.execute(add)
        # The wide region goes on taking the narrow one's rows.
        await one.execute("INSERT INTO app.t (id, v) VALUES (3, 'narrow')")
        await sees(mesh, 1, "SELECT extra FROM app.t WHERE id = 3", "none")
        await two.execute("UPDATE app.t SET extra = 'wide' WHERE id = 1")
        state = await waits(mesh, 0, "applier two", "extra", "app.t")
        assert "definitions" in state.remedy or "definitions" in state.reason
        stop.set()
        assert all(done > 3 for done in await asyncio.gather(*load))
        await one.execute(add)
        rows = await converged(mesh)
        left = {row[0]: row for row in rows}
        assert "wide" in left[1] and "none" in left[3]
        assert mesh.count("parked") == 0


async def test_a_backlog_from_before_and_after_a_new_column_is_applied(servers, tmp_path) -> None:
    """A node that catches up sends many small transactions at once, over the ALTER.

    Needed: rows of one definition go together, in what is published and in what is applied.
    """
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await mesh.stop(0)
        for number in range(40):
            await one.execute("INSERT INTO app.t (id, v) VALUES (%s, 'a')", (number,))
        for sql in mesh.sql:
            await sql.execute("ALTER TABLE app.t ADD COLUMN extra INT NOT NULL DEFAULT 7")
        for number in range(40, 80):
            await one.execute("INSERT INTO app.t (id, v, extra) VALUES (%s, 'a', 8)", (number,))
        mesh.start(0)
        rows = await converged(mesh)
        assert [row[-1] for row in rows] == [7] * 40 + [8] * 40


async def test_an_update_from_a_narrow_region_takes_the_default_back(servers, tmp_path) -> None:
    """An upsert of the narrow region is delete and write: the same value in every wide region.

    Needed: with an update in place the wide regions would keep each its own value.
    """
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
        await mesh.settle()
        await two.execute("ALTER TABLE app.t ADD COLUMN extra INT NOT NULL DEFAULT 7")
        mesh.cut((1, 0))
        await two.execute("UPDATE app.t SET extra = 1 WHERE id = 1")
        await one.execute("UPDATE app.t SET v = 'later' WHERE id = 1")
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "later")
        assert await two.value("SELECT extra FROM app.t WHERE id = 1") == 7
        assert await stamp(one, 1) == await stamp(two, 1)


DIFFERENT = [
    ("c ENUM('a','b')", "c ENUM('b','a')", "'a'", "labels"),
    ("c INT UNSIGNED", "c INT", "4000000000", "UNSIGNED"),
    ("c INT NULL", "c INT NOT NULL DEFAULT 0", "NULL", "nullable"),
    ("c VARCHAR(10)", "c VARCHAR(5)", "'x'", "VARCHAR"),
    ("c INT, d INT", "d INT, c INT", "1, 2", "column"),
    (
        "c CHAR(5) COLLATE utf8mb4_bin",
        "c CHAR(5) COLLATE utf8mb4_0900_ai_ci",
        "'x'",
        "collation",
    ),
]


async def test_definitions_that_differ_make_the_stream_wait(servers, tmp_path) -> None:
    """MySQL would take each of these rows and silently write another value.

    Needed: the comparison of shapes.  The stream waits with the reason, and goes on when the
    definitions are one.
    """
    async with mesh_of(await servers(2), tmp_path, limits=QUICK) as mesh:
        one, two = mesh.sql
        await mesh.everywhere("CREATE DATABASE app")
        tables = range(len(DIFFERENT))
        for number, (columns, *_) in enumerate(DIFFERENT):
            await mesh.everywhere(f"CREATE TABLE app.t{number} (id INT PRIMARY KEY, {columns})")
        await mesh.init()
        for number, (_, other, *_) in enumerate(DIFFERENT):
            changes = other.split(", ")
            if len(changes) == 1:
                await two.execute(f"ALTER TABLE app.t{number} MODIFY COLUMN {other}")
            else:
                await two.execute(f"ALTER TABLE app.t{number} MODIFY COLUMN d INT AFTER id")
        mesh.start()
        for number, (columns, _, value, word) in enumerate(DIFFERENT):
            await one.execute(f"INSERT INTO app.t{number} VALUES ({number}, {value})")
            await waits(mesh, 1, "applier one", f"app.t{number}", word)
            assert await two.value(f"SELECT COUNT(*) FROM app.t{number}") == 0
            if "," in value:
                await two.execute(f"ALTER TABLE app.t{number} MODIFY COLUMN d INT AFTER c")
            else:
                await two.execute(f"ALTER TABLE app.t{number} MODIFY COLUMN {columns}")
            await sees(mesh, 1, f"SELECT COUNT(*) FROM app.t{number}", 1)
        await mesh.settle()
        for number in tables:
            await mesh.same(f"app.t{number}")


async def test_a_table_that_is_not_active_yet_makes_its_stream_wait(servers, tmp_path) -> None:
    """A frame for a table that ``init`` has not finished here waits, never skips."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await mesh.everywhere("CREATE TABLE app.u (id INT PRIMARY KEY, v INT)")
        await two.execute("RENAME TABLE app.u TO app.later")
        with contextlib.suppress(MeshError):
            await mesh.init(regions=["one"])
        if not await one.value("SELECT COUNT(*) FROM meshnode.tables WHERE table_name = 'u'"):
            pytest.fail("init of one region alone did not bring the table in")
        await one.execute("INSERT INTO app.u VALUES (1, 1)")
        await waits(mesh, 1, "applier one", "app.u")
        await two.execute("RENAME TABLE app.later TO app.u")
        await mesh.init()
        await sees(mesh, 1, "SELECT v FROM app.u WHERE id = 1", 1)
        await mesh.settle()
        await mesh.same("app.u")


async def test_a_table_joins_under_load_from_one_full_region(servers, tmp_path) -> None:
    """``init --seed-from``: rows written before, during and after are the same everywhere."""
    async with running(servers, tmp_path, regions=2) as mesh:
        one, two = mesh.sql
        await mesh.everywhere("CREATE TABLE app.u (id INT PRIMARY KEY, v INT NOT NULL DEFAULT 0)")
        await one.execute("SET SESSION cte_max_recursion_depth = 5000")
        await one.execute(
            "INSERT INTO app.u (id) WITH RECURSIVE s (n) AS"
            " (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 3000) SELECT n FROM s"
        )
        await two.execute("INSERT INTO app.u VALUES (1, 5), (9000, 5)")
        stop = asyncio.Event()

        async def load() -> int:
            done = 0
            async with await mesh.session(0) as client:
                while not stop.is_set():
                    done += 1
                    with contextlib.suppress(MeshError):
                        await client.execute(
                            "UPDATE app.u SET v = v + 1 WHERE id = %s", (done % 3000 + 1,)
                        )
                        await client.execute("DELETE FROM app.u WHERE id = %s", (done % 700 * 3,))
                        await client.execute(
                            "INSERT IGNORE INTO app.u (id) VALUES (%s)", (10_000 + done,)
                        )
            return done

        task = asyncio.create_task(load())
        await mesh.init(seed_from="one")
        stop.set()
        assert await task > 5
        rows = await converged(mesh, "app.u")
        assert len(rows) > 2000
        assert dict(row[:2] for row in rows)[9000] == 5
        assert applier(mesh, 0, 1).state.state == "running"
