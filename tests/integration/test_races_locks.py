"""Locks that clients hold, and two transactions of the mesh that meet on one key.

The scripts stop a running applier between two of its statements, let somebody
else act there, and let it go on.
"""

import contextlib

from steps import (
    Paused,
    actor,
    applying,
    converged,
    has_rows,
    insert_and_delete_apart,
    lock_wait,
    records,
    run,
    running,
    sees,
    tombstone,
    until,
)

from meshnode.errors import Retry
from meshnode.mysql.schema import TriggerRole, tombstone_table, trigger_name

TOMBSTONES = tombstone_table("app", "t")


async def test_a_client_that_holds_one_key_of_a_batch(servers, tmp_path) -> None:
    """What stands before the key in its stream goes in, and so do the streams of others.

    Needed: NOWAIT and the halving of the batch.  With a batch that waits as a
    whole, nothing of the stream goes in and its locks stand in the way of clients.
    """
    async with running(servers, tmp_path, regions=3) as mesh:
        one, two, three = mesh.sql
        await one.execute(
            "INSERT INTO app.t (id) VALUES "
            + ",".join(f"({key})" for key in (*range(1, 21), 100, 101))
        )
        await mesh.settle()
        async with await mesh.session(1) as client:
            await run(client, "BEGIN", "UPDATE app.t SET v = 'held' WHERE id = 15")
            mesh.cut((0, 1))
            for key in range(1, 21):
                await one.execute("UPDATE app.t SET v = 'one' WHERE id = %s", (key,))
            mesh.cut()
            await sees(mesh, 1, "SELECT COUNT(*) FROM app.t WHERE v = 'one'", 14)
            assert mesh.count("busy") >= 1
            await until(lambda: "row lock" in actor(mesh, 1, "applier one").reason, "the reason")
            await three.execute("UPDATE app.t SET v = 'three' WHERE id = 100")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 100", "three")
            # Clients of the region may write what the batch would write.
            await client.execute("SET innodb_lock_wait_timeout = 3")
            await two.execute("UPDATE app.t SET v = 'two' WHERE id = 18")
            await client.execute("UPDATE app.t SET v = 'two' WHERE id = 101")
            await client.execute("COMMIT")
        rows = await converged(mesh)
        left = {row[0]: row[1] for row in rows}
        assert (left[14], left[15], left[18], left[101]) == ("one", "one", "two", "two")
        assert {lost.image["v"] for log in await records(mesh, {"id": 15}) for lost in log} == {
            "held"
        }
        assert actor(mesh, 1, "applier one").reason == ""


async def test_a_client_that_deletes_and_idles(servers, tmp_path) -> None:
    """A delete holds row and tombstone: one stream waits at that key, all goes on after it."""
    async with running(servers, tmp_path, regions=3) as mesh:
        one, _, three = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x'), (2, 'x'), (3, 'x')")
        await mesh.settle()
        async with await mesh.session(1) as client:
            await run(client, "BEGIN", "DELETE FROM app.t WHERE id IN (1, 2)")
            await one.execute("UPDATE app.t SET v = 'later' WHERE id = 1")
            await until(lambda: mesh.count("busy"), "an applier that met the lock")
            await three.execute("UPDATE app.t SET v = 'three' WHERE id = 3")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 3", "three")
            await client.execute("COMMIT")
        rows = await converged(mesh)
        assert [row[:2] for row in rows] == [(1, "later"), (3, "three")]
        assert await tombstone(one, 2) == await tombstone(three, 2) is not None


async def test_a_tombstone_that_a_client_holds_does_not_stop_the_tailer(servers, tmp_path) -> None:
    """The key goes to ``meshnode.mend`` and is worked off when the lock is gone.

    Needed: NOWAIT in looks and lifts, and the table ``mend``.  With a waiting
    look the whole stream of the region stands still.
    """
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x'), (2, 'x'), (3, 'x')")
        await mesh.settle()
        await one.execute("DELETE FROM app.t WHERE id IN (1, 2)")
        await mesh.settle()
        await mesh.stop(0)
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'new'), (2, 'new')")
        await one.execute("UPDATE app.t SET v = 'passes' WHERE id = 3")
        async with await mesh.session(0) as first, await mesh.session(0) as second:
            await run(first, "BEGIN", "UPDATE app.t SET v = 'newer' WHERE id = 1")
            await first.execute(f"SELECT * FROM {TOMBSTONES} WHERE id = 1 FOR UPDATE")
            await run(second, "BEGIN", "DELETE FROM app.t WHERE id = 2")
            mesh.start(0)
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 3", "passes")
            assert await one.value("SELECT COUNT(*) FROM meshnode.mend") == 2
            assert await mesh.sql[1].value("SELECT COUNT(*) FROM app.t") == 1
            assert mesh.count("held") == 2
            # A node that is killed meanwhile finds them in the table.
            await mesh.drop(0)
            mesh.start(0)
            await first.execute("ROLLBACK")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "new")
            await second.execute("COMMIT")
        rows = await converged(mesh)
        assert [row[:2] for row in rows] == [(1, "new"), (3, "passes")]
        assert await one.value("SELECT COUNT(*) FROM meshnode.mend") == 0
        assert mesh.count("conflicts") == 0


async def test_a_deadlock_with_a_client_is_tried_again(servers, tmp_path) -> None:
    """1213 takes the whole transaction of the applier back: all of it is done again."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x'), (2, 'x')")
        await two.execute(
            "INSERT INTO app.t (id) WITH RECURSIVE s (n) AS"
            " (SELECT 100 UNION ALL SELECT n + 1 FROM s WHERE n < 300) SELECT n FROM s"
        )
        await mesh.settle()
        async with await mesh.session(1) as client:
            # Many changes: InnoDB then makes the applier the victim.
            await run(client, "BEGIN", "UPDATE app.t SET n = 1 WHERE id >= 100")
            await client.execute("UPDATE app.t SET v = 'client' WHERE id = 2")
            await one.execute("UPDATE app.t SET v = 'one' WHERE id <= 2")

            await lock_wait(two, held=1)
            with contextlib.suppress(Retry):
                await client.execute("UPDATE app.t SET v = 'client' WHERE id = 1")
            with contextlib.suppress(Retry):
                await client.execute("COMMIT")
        rows = await converged(mesh)
        assert rows[0][1] == rows[1][1] or {rows[0][1], rows[1][1]} == {"client", "one"}
        assert len(rows) == 203
        assert mesh.count("retries") + mesh.count("busy") >= 1
        assert mesh.count("lifts") == mesh.count("parked") == 0


async def test_an_insert_and_a_delete_of_two_streams_on_a_new_key(servers, tmp_path) -> None:
    """T12: neither sees the other's write when it plans; one of them must see it after.

    Needed: write first, then look at the other side under a lock.  Without the
    look both commit, and a row stands beside a newer tombstone for good.
    """
    async with running(servers, tmp_path, regions=3) as mesh:
        one, two, three = mesh.sql
        await mesh.settle()
        await insert_and_delete_apart(mesh)

        async with (
            Paused(applying(mesh, 1, 0), "lock", has_rows) as insert,
            Paused(applying(mesh, 1, 2), "lock", has_rows) as delete,
        ):
            mesh.cut()
            await insert.reached()
            await delete.reached()
            delete.go()
            insert.go()
            assert await converged(mesh) == []
        assert mesh.count("busy") + mesh.count("replans") >= 1
        assert await tombstone(one, 1) == await tombstone(two, 1) == await tombstone(three, 1)


async def test_a_client_between_the_look_and_the_write_of_an_applier(servers, tmp_path) -> None:
    """T12: a client inserts and deletes the key after the applier found nothing to lock.

    Needed: the look at tombstones after the upserts.  Without it the applied row
    stands beside the client's newer tombstone.
    """
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        async with Paused(applying(mesh, 1, 0), "lock", has_rows) as pause:
            await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'i')")
            await pause.reached()
            await two.execute("INSERT INTO app.t (id, v) VALUES (1, 'client')")
            await two.execute("DELETE FROM app.t WHERE id = 1")
            pause.go()
            assert await converged(mesh) == []
        assert mesh.count("replans") >= 1
        assert await tombstone(one, 1) == await tombstone(two, 1) is not None


async def test_a_row_that_comes_in_below_a_tombstone_being_written(servers, tmp_path) -> None:
    """T12: an older row is committed after the applier of a delete found no row.

    Needed: the look at rows after the tombstones.  Without it the older row stays.
    """
    async with running(servers, tmp_path, regions=3) as mesh:
        await mesh.settle()
        await insert_and_delete_apart(mesh)
        async with Paused(applying(mesh, 1, 2), "lock", has_rows) as delete:
            mesh.cut((0, 1))
            await delete.reached()
            mesh.cut()
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "i")
            delete.go()
            assert await converged(mesh) == []
        assert mesh.count("replans") >= 1


async def test_a_row_written_again_before_its_lift_is_recorded(servers, tmp_path) -> None:
    """A version that was never published and is gone: its image is in the log ("overtaken")."""
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await mesh.settle()
        await mesh.stop(0)
        name = trigger_name(TriggerRole.BEFORE_INSERT, "app", "t")
        created = (await one.row(f"SHOW CREATE TRIGGER app.{name}"))[2]
        await one.execute(f"DROP TRIGGER app.{name}")
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'unstamped')")
        await run(one, "USE app", created)
        await one.execute("UPDATE app.t SET v = 'stamped' WHERE id = 1")
        mesh.start(0)
        rows = await converged(mesh)
        assert [row[:2] for row in rows] == [(1, "stamped")]
        logs = await records(mesh, {"id": 1})
        assert [(lost.kind, lost.image["v"]) for log in logs for lost in log] == [
            ("overtaken", "unstamped")
        ]
        assert mesh.count("overtaken") == 1
        assert mesh.count("lifts") == 0
