"""Every kind of conflict, made by writing on both sides of a cut and healing it.

At the end each region has the same rows with the same stamps, no row stands
beside a newer tombstone, and each lost write is in a conflict log with its
image.  Where one write was made on top of the other, nothing is recorded.
"""

from typing import NamedTuple

import pytest
from steps import Lost, converged, records, run, running, sees, tombstone


class Case(NamedTuple):
    """Writes to key ``id`` (and ``id + 1``) of ``app.t`` on two sides of a cut; two writes last.

    ``before`` is written and settled first.  ``left`` is what stands of the two
    keys, ``lost`` the record that some region must have about ``id``.
    """

    name: str
    before: tuple[str, ...]
    one: tuple[str, ...]
    two: tuple[str, ...]
    left: tuple[tuple[int, str], ...]
    lost: tuple[str, int, int, str | None] | None = None


INSERT = "INSERT INTO app.t (id, v) VALUES ({k}, '%s')"
UPDATE = "UPDATE app.t SET v = '%s' WHERE id = {k}"
DELETE = "DELETE FROM app.t WHERE id = {k}"
MOVE = "UPDATE app.t SET id = {m}, v = '%s' WHERE id = {k}"
BASE = (INSERT % "base",)

CASES = (
    Case("insert/insert", (), (INSERT % "a",), (INSERT % "b",), ((0, "b"),),
         ("insert/insert", 2, 1, "a")),
    Case("update/update", BASE, (UPDATE % "a",), (UPDATE % "b",), ((0, "b"),),
         ("update/update", 2, 1, "a")),
    Case("delete, then update", BASE, (DELETE,), (UPDATE % "b",), ((0, "b"),),
         ("update/delete", 2, 1, None)),
    Case("update, then delete", BASE, (UPDATE % "a",), (DELETE,), (),
         ("delete/update", 2, 1, "a")),
    Case("delete/delete", BASE, (DELETE,), (DELETE,), (), ("delete/delete", 2, 1, None)),
    Case("delete and insert, then update", BASE, (DELETE, INSERT % "a"), (UPDATE % "b",),
         ((0, "b"),), ("update/update", 2, 1, "a")),
    Case("update, then delete and insert", BASE, (UPDATE % "a",), (DELETE, INSERT % "b"),
         ((0, "b"),), ("delete/update", 2, 1, "a")),
    Case("insert, then insert and delete", (), (INSERT % "a",), (INSERT % "b", DELETE), (),
         ("insert/insert", 2, 1, "a")),
    Case("insert and delete, then insert", (), (INSERT % "a", DELETE), (INSERT % "b",),
         ((0, "b"),), ("update/delete", 2, 1, None)),
    Case("update, then key change", BASE, (UPDATE % "a",), (MOVE % "b",), ((1, "b"),),
         ("delete/update", 2, 1, "a")),
    Case("key change, then update", BASE, (MOVE % "a",), (UPDATE % "b",), ((0, "b"), (1, "a")),
         ("update/delete", 2, 1, None)),
    Case("REPLACE on both sides", BASE, ("REPLACE INTO app.t VALUES ({k}, 'a', 1)",),
         ("REPLACE INTO app.t VALUES ({k}, 'b', 2)",), ((0, "b"),), None),
    Case("ON DUPLICATE KEY UPDATE on both sides", BASE,
         ("INSERT INTO app.t VALUES ({k}, 'x', 1) ON DUPLICATE KEY UPDATE v = 'a'",),
         ("INSERT INTO app.t VALUES ({k}, 'x', 1) ON DUPLICATE KEY UPDATE v = 'b'",), ((0, "b"),),
         ("update/update", 2, 1, "a")),
    Case("an update that changes nothing beats an older one", BASE, (UPDATE % "a",),
         (UPDATE % "base",), ((0, "base"),), ("update/update", 2, 1, "a")),
    Case("one side only", BASE, (UPDATE % "a", UPDATE % "c"), (), ((0, "c"),), None),
)  # fmt: skip


@pytest.mark.kafka_essential
async def test_two_sides_of_a_cut(servers, tmp_path) -> None:
    """Guards the decision on stamps (``core/resolve.py``): always the later one, whoever looks."""
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]

        def texts(statements: tuple[str, ...], number: int) -> list[str]:
            return [text.format(k=10 * number, m=10 * number + 1) for text in statements]

        for number, case in enumerate(CASES):
            await run(one, *texts(case.before, number))
        await mesh.settle()
        mesh.isolate(0)
        for number, case in enumerate(CASES):
            # Sessions of their own: a delete takes an insert of its session within the last
            # 50 ms for the other half of a REPLACE, and dates itself before it.
            for at, statements in enumerate((case.one, case.two)):
                async with await mesh.session(at) as client:
                    await run(client, *texts(statements, number))
        mesh.cut()
        rows = await converged(mesh)
        assert mesh.count("lifts") == 0
        left = {row[0]: row[1] for row in rows}
        for number, case in enumerate(CASES):
            found = {key - 10 * number: left[key] for key in left if key // 10 == number}
            assert found == dict(case.left), case.name
            logs = await records(mesh, {"id": 10 * number})
            if case.lost is None:
                continue
            kind, winner, loser, value = case.lost
            matching = [
                lost
                for log in logs
                for lost in log
                if (lost.kind, lost.winner, lost.loser) == (kind, winner, loser)
                and (lost.image or {}).get("v") == value
            ]
            assert matching, f"{case.name}: {logs}"
            assert {lost.certainty for lost in matching} == {"certain"}, case.name
        assert await records(mesh, {"id": 10 * (len(CASES) - 1)}) == [[], []]


async def test_both_sides_change_the_key(servers, tmp_path) -> None:
    """T15: a key change is a delete and an upsert.  Both rows live; the old key is gone."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x'), (2, 'y'), (3, 'z')")
        await mesh.settle()
        mesh.isolate(0)
        await one.execute("UPDATE app.t SET id = 11, v = 'a' WHERE id = 1")
        await two.execute("UPDATE app.t SET id = 12, v = 'b' WHERE id = 1")
        # Onto one key from two, and a swap against an update.
        await one.execute("UPDATE app.t SET id = 20, v = 'a' WHERE id = 2")
        await two.execute("UPDATE app.t SET id = 20, v = 'b' WHERE id = 3")
        mesh.cut()
        rows = await converged(mesh)
        assert [row[:2] for row in rows] == [(11, "a"), (12, "b"), (20, "b")]
        assert mesh.count("lifts") == 0
        logs = await records(mesh, {"id": 20})
        assert any(Lost("insert/insert", "certain", 2, 1, lost.image) == lost for lost in logs[0])
        assert next(lost.image for lost in logs[0])["v"] == "a"
        assert any(log for log in await records(mesh, {"id": 1}))
        for key in (1, 2, 3):
            assert await tombstone(one, key) == await tombstone(two, key) is not None


async def test_keys_swapped_in_one_transaction(servers, tmp_path) -> None:
    """T15: what goes over keys that others hold keeps its order, or is written delete-all first."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x'), (2, 'y'), (5, 'p'), (6, 'q')")
        await mesh.settle()
        mesh.isolate(0)
        async with one.transaction():
            await one.execute("UPDATE app.t SET id = -1 WHERE id = 1")
            await one.execute("UPDATE app.t SET id = 1 WHERE id = 2")
            await one.execute("UPDATE app.t SET id = 2 WHERE id = -1")
            # The second pair meets a conflict, so the outcomes are worked out one by one.
            await one.execute("UPDATE app.t SET id = -5 WHERE id = 5")
            await one.execute("UPDATE app.t SET id = 5 WHERE id = 6")
            await one.execute("UPDATE app.t SET id = 6 WHERE id = -5")
        await two.execute("UPDATE app.t SET v = 'later' WHERE id = 5")
        mesh.cut()
        rows = await converged(mesh)
        assert [row[:2] for row in rows] == [(1, "y"), (2, "x"), (5, "later"), (6, "p")]
        assert mesh.count("lifts") == mesh.count("parked") == 0
        assert any(lost.image["v"] == "q" for lost in (await records(mesh, {"id": 5}))[0])


async def test_an_update_of_a_row_that_is_missing_writes_it(servers, tmp_path) -> None:
    """A state-based update needs no row before it: whoever lost the row has it again."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x'), (2, 'y')")
        await mesh.settle()
        await run(two, "SET SESSION sql_log_bin = 0", "DELETE FROM app.t WHERE id = 1")
        name = await two.value("SELECT CONCAT('meshnode.t_', digest) FROM meshnode.tables")
        await run(two, f"DELETE FROM {name}", "SET SESSION sql_log_bin = 1")
        await one.execute("UPDATE app.t SET v = 'again' WHERE id = 1")
        rows = await converged(mesh)
        assert [row[:2] for row in rows] == [(1, "again"), (2, "y")]
        assert mesh.count("conflicts") == mesh.count("replans") == 0


async def test_writes_on_top_of_each_other_leave_no_record(servers, tmp_path) -> None:
    """A chain over three regions, seen in another order by the third, is no conflict.

    Guards the memory of bases: without it the third region records every late arrival.
    """
    async with running(servers, tmp_path, regions=3) as mesh:
        one, two, three = mesh.sql
        mesh.cut((0, 2))
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'i'), (2, 'i'), (3, 'i'), (4, 'i')")
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.t", 4)
        await two.execute("UPDATE app.t SET v = 'u' WHERE id = 1")
        await two.execute("DELETE FROM app.t WHERE id = 2")
        await two.execute("UPDATE app.t SET id = 30 WHERE id = 3")
        async with two.transaction():
            await two.execute("DELETE FROM app.t WHERE id = 4")
            await two.execute("INSERT INTO app.t (id, v) VALUES (4, 'new')")
        # The third region has all of the second and nothing of the first.
        await sees(mesh, 2, "SELECT COUNT(*) FROM app.t WHERE id IN (1, 30, 4)", 3)
        await mesh.settle(regions=(1, 2))
        assert await three.value("SELECT COUNT(*) FROM app.t WHERE id IN (2, 3)") == 0
        mesh.cut()
        rows = await converged(mesh)
        assert [row[:2] for row in rows] == [(1, "u"), (4, "new"), (30, "i")]
        assert await tombstone(three, 2) == await tombstone(one, 2) is not None
        found = {key: await records(mesh, {"id": key}) for key in (1, 2, 3, 4, 30)}
        assert found == {key: [[], [], []] for key in found}


async def test_a_delete_that_arrives_before_its_insert_wins(servers, tmp_path) -> None:
    """Guards tombstones: without one the late insert would bring the row back (I3)."""
    async with running(servers, tmp_path, regions=3) as mesh:
        one, two, three = mesh.sql
        mesh.cut((0, 2))
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'i')")
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.t", 1)
        await two.execute("DELETE FROM app.t WHERE id = 1")
        await sees(mesh, 0, "SELECT COUNT(*) FROM app.t", 0)
        await mesh.settle(regions=(1, 2))
        assert (await tombstone(three, 1))[1] == 2
        mesh.cut()
        assert await converged(mesh) == []
        assert mesh.count("lifts") == 0


async def test_three_writers_of_one_key(servers, tmp_path) -> None:
    """One winner everywhere, and each loser with its image in some region's log."""
    async with running(servers, tmp_path, regions=3) as mesh:
        mesh.cut(*((a, b) for a in range(3) for b in range(3) if a != b))
        for at, sql in enumerate(mesh.sql):
            await sql.execute("INSERT INTO app.t (id, v) VALUES (1, %s)", (f"from {at + 1}",))
        mesh.cut()
        rows = await converged(mesh)
        assert [row[1] for row in rows] == ["from 3"]
        lost = {each.image["v"] for log in await records(mesh, {"id": 1}) for each in log}
        assert lost == {"from 1", "from 2"}
