"""Stamps that triggers could not get right, and the tailer that makes them so.

Each test makes one way in which a committed row has a stamp that must not be
published, and shows that it is lifted or given its tombstone, counted, and the
same in both regions afterwards.
"""

import asyncio

import pytest
from regions import HOUR_US
from steps import (
    PLAIN,
    converged,
    lock_wait,
    records,
    run,
    running,
    sees,
    stamp,
    tombstone,
    until,
)

from meshnode import limits
from meshnode.mysql.schema import TriggerRole, tombstone_table, trigger_name

NOW = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)"
TOMBSTONES = tombstone_table("app", "t")


def trigger(role: TriggerRole, table: str = "t") -> str:
    return f"DROP TRIGGER app.{trigger_name(role, 'app', table)}"


async def test_a_write_that_waited_for_a_lock_is_above_what_it_replaced(servers, tmp_path) -> None:
    """T1, T2, T3: the stamp is taken under the row lock, from no clock that a client can set.

    Needed: ``GREATEST(clock, OLD + 1)`` in the trigger.  Where a client's clock is
    set, only the clock inside ``UUID()`` is deaf to it.
    """
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await one.execute("INSERT INTO app.t (id) VALUES (1), (2), (3)")
        async with await mesh.session(0) as first, await mesh.session(0) as second:
            await run(first, "BEGIN", "UPDATE app.t SET v = 'first' WHERE id = 1")
            waiting = asyncio.create_task(
                second.execute("UPDATE app.t SET v = 'second' WHERE id = 1")
            )
            await lock_wait(one)
            await first.execute("UPDATE app.t SET v = 'again' WHERE id = 1")
            replaced = await stamp(first, 1)
            await first.execute("COMMIT")
            await waiting
            assert await stamp(one, 1) > replaced

            # A client's clock and zone, and two updates at one time.
            await run(
                first, "SET time_zone = '-11:00', timestamp = 100", "BEGIN",
                "UPDATE app.t SET v = 'a' WHERE id = 2", "UPDATE app.t SET v = 'b' WHERE id = 2",
                "REPLACE INTO app.t (id, v) VALUES (3, 'r')", "COMMIT",
            )  # fmt: skip
            now = await one.value(NOW)
            for key in (2, 3):
                assert abs((await stamp(one, key))[0] - now) < 10_000_000
        rows = await converged(mesh)
        assert [row[1] for row in rows] == ["second", "b", "r"]
        assert mesh.count("lifts") == mesh.count("conflicts") == 0


async def test_an_insert_that_waited_for_a_delete_is_lifted(servers, tmp_path) -> None:
    """T6: BEFORE INSERT runs before the wait, so the stamp is below the tombstone.

    Needed: the tailer's look at the tombstone of each insert.  Without it the
    insert is published below the delete: gone at the peer, there at home.
    """
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'old')")
        async with await mesh.session(0) as first, await mesh.session(0) as second:
            await run(first, "BEGIN", "SELECT * FROM app.t WHERE id = 1 FOR UPDATE")
            waiting = asyncio.create_task(
                second.execute("INSERT INTO app.t (id, v) VALUES (1, 'n')")
            )
            await lock_wait(one)
            await run(first, "DELETE FROM app.t WHERE id = 1", "COMMIT")
            await waiting
        rows = await converged(mesh)
        assert [row[1] for row in rows] == ["n"]
        assert await stamp(one, 1) > await tombstone(one, 1)
        assert mesh.count("lifts") == 1


async def test_an_insert_under_a_tombstone_from_the_future_is_lifted(servers, tmp_path) -> None:
    """T5, T6: a peer's clock an hour ahead leaves a tombstone that the trigger cannot see.

    An update over a row from the future needs no lift: the trigger sees the row.
    """
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        future = await two.value(NOW) + HOUR_US
        await two.execute(f"INSERT INTO {TOMBSTONES} VALUES (1, {future}, 2)")
        await two.execute(trigger(TriggerRole.BEFORE_INSERT))
        await two.execute(
            f"INSERT INTO app.t (id, v, _mesh_ts, _mesh_origin) VALUES (2, 'ahead', {future}, 2)"
        )
        await sees(mesh, 0, "SELECT v FROM app.t WHERE id = 2", "ahead")
        assert await tombstone(one, 1) == (future, 2)
        assert mesh.count("lifts") == 0
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'here')")
        await one.execute("UPDATE app.t SET v = 'over' WHERE id = 2")
        rows = await converged(mesh)
        assert rows == [(1, "here", 0, future + 1, 1), (2, "over", 0, future + 1, 1)]
        assert mesh.count("lifts") == 1
        assert await records(mesh, {"id": 1}) == await records(mesh, {"id": 2}) == [[], []]


async def test_what_clients_write_into_the_stamp_columns_does_not_count(servers, tmp_path) -> None:
    """T8: triggers overwrite it; where a trigger is gone, the tailer lifts under its own name.

    Needed: the tailer's test of the origin.  Without it a row of another origin
    is published under the name of a region that never wrote it.
    """
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute(
            "INSERT INTO app.t (id, v, _mesh_ts, _mesh_origin)"
            " VALUES (1, 'a', 5, 9), (2, 'b', 5, 9)"
        )
        await one.execute("UPDATE app.t SET _mesh_ts = 1, _mesh_origin = 7 WHERE id = 1")
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.t", 2)
        await converged(mesh)
        assert mesh.count("lifts") == 0
        await run(two, trigger(TriggerRole.BEFORE_INSERT), trigger(TriggerRole.BEFORE_UPDATE))
        await two.execute("INSERT INTO app.t (id, v) VALUES (3, 'unstamped')")
        await two.execute("UPDATE app.t SET v = 'keeps the stamp' WHERE id = 1")
        await two.execute("UPDATE app.t SET v = 'forged', _mesh_origin = 1 WHERE id = 2")
        future = await two.value(NOW) + HOUR_US
        await two.execute(
            f"INSERT INTO app.t (id, v, _mesh_ts, _mesh_origin) VALUES (4, 'foreign', {future}, 9)"
        )
        rows = await converged(mesh)
        assert [row[1] for row in rows] == ["keeps the stamp", "forged", "unstamped", "foreign"]
        assert [row[-1] for row in rows] == [2, 2, 2, 2]
        assert mesh.count("lifts") == 4


async def test_deletes_that_no_trigger_saw_get_their_tombstone(servers, tmp_path) -> None:
    """T24: a cascaded child, and a dropped trigger.  The delete goes with its own transaction.

    Needed: the late tombstone.  Without it the delete is never published.
    """
    child = (
        "CREATE TABLE app.c (id INT PRIMARY KEY, p INT,"
        " FOREIGN KEY (p) REFERENCES app.t (id) ON DELETE CASCADE)"
    )
    async with running(servers, tmp_path, PLAIN, child) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id) VALUES (1), (2), (3), (4)")
        await one.execute("INSERT INTO app.c VALUES (1, 1), (2, 1), (3, 2)")
        await mesh.settle()
        replaced = await stamp(one, 1, "app.c")
        await one.execute("DELETE FROM app.t WHERE id = 1")
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.t", 3)
        assert [row[0] for row in await two.rows("SELECT id FROM app.c")] == [3]
        assert await tombstone(two, 1, "app.c") == (replaced[0] + 1, 1)
        assert mesh.count("late_tombstones") == 2

        await run(one, trigger(TriggerRole.AFTER_DELETE), trigger(TriggerRole.AFTER_UPDATE))
        await one.execute("DELETE FROM app.t WHERE id = 3")
        await one.execute("UPDATE app.t SET id = 40 WHERE id = 4")
        rows = await converged(mesh)
        assert [row[0] for row in rows] == [2, 40]
        assert [row[0] for row in await converged(mesh, "app.c")] == [3]
        for key in (3, 4):
            assert await tombstone(one, key) == await tombstone(two, key) is not None
        assert mesh.count("late_tombstones") == 4
        assert mesh.count("lifts") == mesh.count("conflicts") == 0


@pytest.mark.parametrize("image", ["MINIMAL", "NOBLOB"])
async def test_rows_with_partial_images_are_lifted(servers, tmp_path, image) -> None:
    """A client session without full images: what the image lacks is published by a lift."""
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(40), n INT, d TEXT)"
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES (1,'a',1,'x'), (2,'b',2,'y'), (3,'c',3,'z')")
        await one.execute("INSERT INTO app.t VALUES (5,'e',5,'x'), (6,'f',6,'y')")
        await mesh.settle()
        async with await mesh.session(0) as client:
            await client.execute(f"SET SESSION binlog_row_image = {image}")
            await client.execute("UPDATE app.t SET v = 'partial' WHERE id = 1")
            await client.execute("INSERT INTO app.t (id, v) VALUES (4, 'new')")
            await client.execute("DELETE FROM app.t WHERE id = 2")
            await client.execute("UPDATE app.t SET id = 30 WHERE id = 3")
            # The insert has a full image, the delete before it has not.
            await client.execute("REPLACE INTO app.t VALUES (5, 'again', 6, 'w')")
            await run(
                client, "BEGIN", "DELETE FROM app.t WHERE id = 6",
                "INSERT INTO app.t VALUES (6, 'back', 7, 'v')", "COMMIT",
            )  # fmt: skip
        rows = await converged(mesh)
        assert [row[:4] for row in rows] == [
            (1, "partial", 1, "x"), (4, "new", None, None), (5, "again", 6, "w"),
            (6, "back", 7, "v"), (30, "c", 3, "z"),
        ]  # fmt: skip
        for key in (2, 3):
            assert await tombstone(one, key) == await tombstone(two, key) is not None
        assert mesh.count("lifts") >= 2


async def test_a_row_below_the_promise_is_lifted(servers, tmp_path, monkeypatch) -> None:
    """T4, T7: a clock that stepped back, and a transaction open for longer than the promise waits.

    Needed: the tailer's test against the promise; peers drop tombstones by it.
    """
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        async with await mesh.session(0) as client:
            await run(client, "BEGIN", "INSERT INTO app.t (id, v) VALUES (1, 'patient')")
            began = (await stamp(client, 1))[0]
            beat = await one.value("SELECT beat FROM meshnode.heartbeat")

            async def later() -> bool:
                return await one.value("SELECT beat FROM meshnode.heartbeat") > beat + 8

            await until(later, "eight heartbeats")
            # While it is open the promise waits for it.
            assert await one.value("SELECT frontier FROM meshnode.heartbeat") < began
            await client.execute("COMMIT")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "patient")
            assert mesh.count("lifts") == 0

            # But only so long.
            with monkeypatch.context() as hasty:
                hasty.setattr(limits, "FRONTIER_OPEN_TX_US", 0)
                hasty.setattr(limits, "FRONTIER_SLACK_US", 0)
                await run(client, "BEGIN", "INSERT INTO app.t (id, v) VALUES (2, 'late')")
                began = (await stamp(client, 2))[0]

                async def promised() -> bool:
                    return await one.value("SELECT frontier FROM meshnode.heartbeat") > began

                await until(promised, "a promise above the open transaction")
            # Else the next promise might pass the lifted row, too.
            await client.execute("COMMIT")
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 2", "late")
        assert (await stamp(two, 2))[0] > began
        assert mesh.count("lifts") == 1
        monkeypatch.undo()

        # A clock that steps back by an hour leaves the promise an hour ahead.
        board = mesh.nodes[0][0].board
        board.promised = await one.value(NOW) + HOUR_US

        async def ahead() -> bool:
            return board.tail.frontier == board.promised

        await until(ahead, "a published promise an hour ahead")
        await one.execute("INSERT INTO app.t (id, v) VALUES (3, 'after the step')")
        rows = await converged(mesh)
        assert [row[1] for row in rows] == ["patient", "late", "after the step"]
        assert rows[2][3] > board.promised
        assert mesh.count("lifts") == 2


async def test_keys_are_equal_as_the_collation_says(servers, tmp_path) -> None:
    """T22: spellings of one key are one key; pad space, accents, case.

    Needed: keys folded by the server's weights.  With keys compared by bytes the
    second spelling is a second key, and the delete of the one misses the other.
    """
    loose = "CREATE TABLE app.t (id VARCHAR(20) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, v INT)"
    padded = (
        "CREATE TABLE app.p (id VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_swedish_ci,"
        " n INT, v INT, PRIMARY KEY (id, n))"
    )
    async with running(servers, tmp_path, loose, padded) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES ('a', 1), ('straße', 1), ('x', 1)")
        await one.execute("INSERT INTO app.p VALUES ('k', 1, 1), ('k', 2, 1)")
        await mesh.settle()
        # A new spelling of the same key is an update, not a move.
        await two.execute("UPDATE app.t SET id = 'Á' WHERE id = 'A'")
        await two.execute("UPDATE app.p SET id = 'K  ' WHERE id = 'k' AND n = 1")
        await mesh.settle()
        assert await tombstone(two, "a") is None
        mesh.isolate(0)
        await one.execute("UPDATE app.t SET v = 2 WHERE id = 'a'")
        await two.execute("DELETE FROM app.t WHERE id = 'á'")
        await one.execute("DELETE FROM app.t WHERE id = 'STRASSE'")
        await two.execute("UPDATE app.t SET v = 3 WHERE id = 'straße'")
        await one.execute("UPDATE app.p SET v = 2 WHERE id = 'k' AND n = 1")
        await two.execute("DELETE FROM app.p WHERE id = 'k' AND n = 1")
        await one.execute("INSERT INTO app.t VALUES ('ö', 1)")
        await two.execute("INSERT INTO app.t VALUES ('O', 2)")
        mesh.cut()
        rows = await converged(mesh)
        assert [row[:2] for row in rows] == [("O", 2), ("straße", 3), ("x", 1)]
        assert [row[:3] for row in await converged(mesh, "app.p", "id,n")] == [("k", 2, 1)]
        assert mesh.count("lifts") == 0
        # 'ö' lost to 'O', each delete and update to each other: in both logs.
        assert mesh.count("conflicts") == 8
