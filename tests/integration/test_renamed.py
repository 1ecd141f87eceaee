"""Triggers go where their table goes: a rename leaves them on a table that is not theirs.

There they write tombstones of a table that lost no row, which the region would publish as
deletes of it.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from mesh import Mesh, mesh_of
from regions import column
from steps import PLAIN, QUICK, converged, run, running, sees, tombstone, waits
from test_stops import skip

from meshnode.mysql.control import Control
from meshnode.ops.doctor import Level, examine

SECOND = PLAIN.replace("app.t", "app.u")
STANDING = """
SELECT CONCAT(TRIGGER_NAME, ' ', EVENT_OBJECT_TABLE) FROM information_schema.TRIGGERS
WHERE TRIGGER_SCHEMA = 'app' ORDER BY 1"""


@contextlib.asynccontextmanager
async def two_tables(servers, folder: Path) -> AsyncIterator[Mesh]:
    """A running mesh of ``app.t`` and ``app.u``, with rows 1 to 3 in both."""
    async with mesh_of(await servers(2), folder, "app.t", "app.u", limits=QUICK) as mesh:
        await mesh.everywhere("CREATE DATABASE app", PLAIN, SECOND)
        await mesh.init()
        mesh.start()
        for table in ("app.t", "app.u"):
            await mesh.sql[0].execute(f"INSERT INTO {table} (id) VALUES (1), (2), (3)")
        await mesh.settle()
        yield mesh


async def rename(mesh: Mesh, at: int, *statements: str) -> None:
    """Rename in a region, and let its stream go on as an operator does."""
    await run(mesh.sql[at], *statements)
    state = await waits(mesh, at, "tailer", "RENAME")
    await skip(mesh.sql[at], state.remedy.rsplit(" ", 1)[-1])


async def strays(mesh: Mesh) -> list[tuple[str, str]]:
    """Subject and finding of every trigger that the doctor says stands wrong in region one."""
    found = await examine(mesh.topology, "one", lab=True)
    return [
        (each.subject, each.finding)
        for each in found
        if each.check == "stray-triggers" and each.level is Level.REFUSE
    ]


async def standing(sql: Control) -> list[str]:
    return await column(sql, STANDING)


APART = ("RENAME TABLE app.t TO app.t_old", "CREATE TABLE app.t LIKE app.t_old")
SWAP = "RENAME TABLE app.t TO app.x, app.u TO app.t, app.x TO app.u"


async def test_a_renamed_table_deletes_nothing_of_its_successor(servers, tmp_path) -> None:
    async with two_tables(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await rename(mesh, 0, *APART)
        await one.execute("INSERT INTO app.t (id, v) SELECT id, 'anew' FROM app.t_old")
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "anew")
        await one.execute("DELETE FROM app.t_old WHERE id = 1")
        assert await tombstone(one, 1) is not None
        await one.execute("DELETE FROM app.t WHERE id = 3")
        await mesh.settle()
        assert await column(two, "SELECT id FROM app.t") == [1, 2]


async def test_init_brings_the_triggers_of_a_renamed_table_home(servers, tmp_path) -> None:
    async with two_tables(servers, tmp_path) as mesh:
        one, two = mesh.sql
        before = await column(one, STANDING)
        await rename(mesh, 0, *APART)
        found = await strays(mesh)
        assert len(found) == 4
        assert all("app.t_old" in subject and "app.t: deletes" in what for subject, what in found)
        await mesh.init()
        assert await strays(mesh) == [] and await column(one, STANDING) == before
        assert (await mesh.init()).statements == []
        await one.execute("DELETE FROM app.t_old")
        assert await tombstone(one, 1) is None
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'anew'), (2, 'anew')")
        await one.execute("DELETE FROM app.t WHERE id = 2")
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.t WHERE id = 2", 0)
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "anew")
        assert await column(two, "SELECT id FROM app.t") == [1, 3]


async def test_two_replicated_tables_that_exchange_their_names(servers, tmp_path) -> None:
    """Each has the other's triggers: all of them stand wrong, and none of their names is free."""
    async with two_tables(servers, tmp_path) as mesh:
        one, two = mesh.sql
        before = await column(one, STANDING)
        await rename(mesh, 0, SWAP)
        await rename(mesh, 1, SWAP)
        assert len(await strays(mesh)) == 8
        await mesh.init()
        assert await strays(mesh) == [] and await column(one, STANDING) == before
        assert (await mesh.init()).statements == []
        await run(one, "DELETE FROM app.u WHERE id = 2", "DELETE FROM app.t WHERE id = 3")
        assert await converged(mesh, "app.u") and await converged(mesh, "app.t")
        assert await column(two, "SELECT id FROM app.u") == [1, 3]
        assert await column(two, "SELECT id FROM app.t") == [1, 2]


async def test_tables_that_exchanged_their_names_delete_nothing_of_each_other(
    servers, tmp_path
) -> None:
    async with two_tables(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await rename(mesh, 0, SWAP)
        await rename(mesh, 1, SWAP)
        await one.execute("DELETE FROM app.u WHERE id = 1")
        assert await tombstone(one, 1) is not None
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.u WHERE id = 1", 0)
        assert await column(two, "SELECT id FROM app.t") == [1, 2, 3]


async def test_the_triggers_of_a_cascade_stand_behind_its_rows(servers, tmp_path) -> None:
    """What they write is no other table's: taken for that, it would be written again, late."""
    child = (
        "CREATE TABLE app.u (id INT PRIMARY KEY, parent INT,"
        " FOREIGN KEY (parent) REFERENCES app.t (id) ON DELETE CASCADE ON UPDATE CASCADE)"
    )
    key = (
        "CREATE TABLE app.w (id INT PRIMARY KEY,"
        " FOREIGN KEY (id) REFERENCES app.t (id) ON UPDATE CASCADE)"
    )
    async with running(servers, tmp_path, PLAIN, child, key) as mesh:
        one = mesh.sql[0]
        await one.execute("SET SESSION enable_cascade_triggers = ON")
        await one.execute("INSERT INTO app.t (id) VALUES (1), (2), (3)")
        await run(one, "INSERT INTO app.u VALUES (1, 1), (2, 1)", "INSERT INTO app.w VALUES (3)")
        await run(one, "DELETE FROM app.t WHERE id = 1", "UPDATE app.t SET id = 4 WHERE id = 3")
        assert await converged(mesh, "app.u") == [] and await converged(mesh)
        assert [row[0] for row in await converged(mesh, "app.w")] == [4]
        assert mesh.count("late_tombstones") == 0
