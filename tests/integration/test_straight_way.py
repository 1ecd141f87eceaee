"""The straight way of bulk loads, and everything that may stand in it.

With a rule off (``rule == "off"``) the same script must end wrong.
"""

import pytest
from steps import Paused, applying, converged, records, running, sees, until
from test_huge import PARTS, RECURSION, fill
from test_huge import ROWS as ROWS_OF_HUGE

from meshnode.mysql.straight import _Asked

both = pytest.mark.parametrize("rule", ["on", "off"])

ROWS = 200
DENSE = range(1, ROWS + 1)


def insert(keys, value: str) -> str:
    return "INSERT INTO app.t (id, v) VALUES " + ",".join(f"({key}, '{value}')" for key in keys)


async def test_bulk_and_many_small_transactions_go_straight(servers, tmp_path) -> None:
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        before = mesh.count("applied_straight")
        await one.execute(insert(DENSE, "i"))
        await one.execute("UPDATE app.t SET v = 'u'")
        await mesh.settle()
        assert mesh.count("applied_straight") == before + 2 * ROWS
        mesh.cut((0, 1))
        for key in range(300, 400):
            await one.execute("INSERT INTO app.t (id, v) VALUES (%s, 'x')", (key,))
            await one.execute("UPDATE app.t SET v = 'y' WHERE id = %s", (key,))
        mesh.cut()
        rows = await converged(mesh)
        assert len(rows) == ROWS + 100
        assert mesh.count("detours") == mesh.count("conflicts") == 0
        # An update may come in one run with the insert that it follows.
        assert await two.value("SELECT COUNT(*) FROM app.t WHERE v = 'y'") == 100


async def test_a_client_that_holds_the_row_behind_the_range(servers, tmp_path) -> None:
    """A range that is read to its end tries the next row, too, and would meet the lock."""
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        await one.execute(insert(range(1, ROWS + 2), "i"))
        await mesh.settle()
        before = mesh.count("applied_straight")
        async with await mesh.session(1) as client:
            await client.execute("BEGIN")
            await client.execute(f"UPDATE app.t SET v = 'held' WHERE id = {ROWS + 1}")
            await one.execute(f"UPDATE app.t SET v = 'u' WHERE id <= {ROWS}")
            await sees(mesh, 1, "SELECT COUNT(*) FROM app.t WHERE v = 'u'", ROWS)
            await client.execute("ROLLBACK")
        await converged(mesh)
        assert mesh.count("applied_straight") == before + ROWS
        assert mesh.count("busy") == mesh.count("detours") == 0


@both
async def test_rows_are_compared_with_their_bases(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: an older version overwrites a newer one, and nobody is told."""
    if rule == "off":
        monkeypatch.setattr(_Asked, "require_bases", lambda *_: None)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute(insert(DENSE, "i"))
        await mesh.settle()
        mesh.isolate(0)
        await one.execute("UPDATE app.t SET v = 'one'")
        await two.execute("UPDATE app.t SET v = 'two' WHERE id = 50")
        mesh.cut()
        if rule == "on":
            rows = await converged(mesh)
            assert [row[1] for row in rows] == ["one"] * 49 + ["two"] + ["one"] * 150
            assert mesh.count("detours") == 1
            assert all(len(log) == 1 for log in await records(mesh, {"id": 50}))
        else:
            await mesh.settle()
            found = [await sql.value("SELECT v FROM app.t WHERE id = 50") for sql in mesh.sql]
            assert found == ["two", "one"]


async def test_new_rows_that_are_there_already(servers, tmp_path) -> None:
    """The write meets them: no question was asked before it."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        mesh.isolate(0)
        await one.execute(insert(DENSE, "one"))
        await two.execute(insert((7, 500), "two"))
        mesh.cut()
        rows = {row[0]: row[1] for row in await converged(mesh)}
        assert rows == dict.fromkeys(DENSE, "one") | {7: "two", 500: "two"}
        assert mesh.count("detours") >= 1
        assert [lost.image["v"] for (lost,) in await records(mesh, {"id": 7})] == ["one", "one"]


@both
async def test_tombstones_are_looked_at_after_the_write(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """A delete of a later version is on its way through another applier, uncommitted.

    Off: the row stays beside its newer tombstone.
    """
    if rule == "off":
        monkeypatch.setattr(_Asked, "_probe", lambda *_: b"SELECT 1 FROM DUAL WHERE FALSE")
    async with running(servers, tmp_path, regions=3) as mesh:
        one, _, three = mesh.sql
        await mesh.settle()
        mesh.cut((0, 1))
        await one.execute(insert(DENSE, "i"))
        await sees(mesh, 2, "SELECT COUNT(*) FROM app.t", ROWS)
        async with Paused(
            applying(mesh, 1, 2), "look", lambda plan, *_: bool(plan.removals)
        ) as delete:
            await three.execute("DELETE FROM app.t WHERE id = 50")
            await delete.reached()
            mesh.cut()
            if rule == "on":
                await until(lambda: mesh.count("detours"), "a detour")
            else:
                await sees(mesh, 1, "SELECT COUNT(*) FROM app.t", ROWS)
            delete.go()
            if rule == "on":
                assert len(await converged(mesh)) == ROWS - 1
                return
        await mesh.settle()
        found = [await sql.value("SELECT COUNT(*) FROM app.t WHERE id = 50") for sql in mesh.sql]
        assert found == [0, 1, 0]


async def test_an_old_tombstone_beside_a_row_is_no_detour(servers, tmp_path) -> None:
    async with running(servers, tmp_path, regions=3) as mesh:
        one, _, _ = mesh.sql
        await one.execute(insert(DENSE, "i"))
        # Nobody forgets tombstones while a region is away.
        await mesh.settle()
        await mesh.stop(2)
        await one.execute("DELETE FROM app.t WHERE id = 9")
        await one.execute("INSERT INTO app.t (id, v) VALUES (9, 'again')")
        await mesh.settle(regions=(0, 1))
        before = mesh.count("applied_straight")
        await one.execute("UPDATE app.t SET v = 'u'")
        await mesh.settle(regions=(0, 1))
        assert mesh.count("applied_straight") == before + ROWS
        mesh.start(2)
        await converged(mesh)


async def test_the_parts_of_a_huge_transaction_go_straight_one_by_one(servers, tmp_path) -> None:
    """One of them holds a conflict: that part alone goes the long way, in the same transaction."""
    async with running(servers, tmp_path, limits=PARTS) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        mesh.isolate(0)
        await one.execute(RECURSION)
        await one.execute(fill(ROWS_OF_HUGE))
        await two.execute("INSERT INTO app.t (id, v) VALUES (9000, 'two')")
        mesh.cut()
        rows = {row[0]: row[1] for row in await converged(mesh)}
        assert len(rows) == ROWS_OF_HUGE
        assert rows[9000] == "two" and rows[8999] == rows[9001] == "x" * 40
        assert mesh.count("detours") == 1
        straight = mesh.count("applied_straight")
        assert ROWS_OF_HUGE // 2 < straight < ROWS_OF_HUGE
