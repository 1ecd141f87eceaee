"""The triggers on a real server: every local write leaves a version that beats what it replaced."""

import asyncio

import pytest
from regions import column, control, now_us, replicable, run, stamp, write_past_triggers

from meshnode.errors import Refused
from meshnode.mysql.schema import TriggerRole, trigger_name

# The test and the server share a machine, hence a clock; this is scheduling, not skew.

CLOCK_TOLERANCE_US = 2_000_000


async def test_each_write_is_stamped_with_the_clock_and_the_region(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        await replicable(connection, "t", "id INT PRIMARY KEY, v INT", region=7)
        before = now_us()
        await run(connection, "INSERT INTO app.t (id, v) VALUES (1, 1), (2, 2)")
        inserted = await stamp(connection)
        await run(connection, "UPDATE app.t SET v = 5")
        updated = await stamp(connection)
        # An update that changes nothing is a write all the same: it must beat older ones.
        await run(connection, "UPDATE app.t SET v = 5")
        again = await stamp(connection)
        after = now_us()
        assert {origin for _, origin in (inserted, updated, again)} == {7}
        assert before - CLOCK_TOLERANCE_US < inserted[0] < updated[0] < again[0]
        assert again[0] < after + CLOCK_TOLERANCE_US
        assert len(set(await column(connection, "SELECT _mesh_ts FROM app.t"))) == 2


async def test_rows_without_a_column_list_keep_their_shape(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        await replicable(connection, "t", "id INT PRIMARY KEY, v INT")
        await run(connection, "INSERT INTO app.t VALUES (1, 1)", "REPLACE INTO app.t VALUES (1, 2)")
        assert await connection.rows("SELECT * FROM app.t") == [(1, 2)]
        assert (await stamp(connection))[0] > 0


async def test_session_clock_and_zone_have_no_effect(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        await replicable(connection, "t", "id INT PRIMARY KEY, v INT")
        for id_, setting in enumerate(
            (
                "timestamp = 1",
                "timestamp = 2000000000",
                "time_zone = '+14:00'",
                "time_zone = '-12:00'",
            ),
            start=1,
        ):
            await run(connection, f"SET {setting}", f"INSERT INTO app.t (id) VALUES ({id_})")
            ts, _ = await stamp(connection, str(id_))
            assert abs(ts - now_us()) < CLOCK_TOLERANCE_US, setting
            await run(connection, "SET timestamp = DEFAULT", "SET time_zone = DEFAULT")


async def test_forged_stamps_are_overwritten(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        await replicable(connection, "t", "id INT PRIMARY KEY, v INT", region=3)
        await run(
            connection,
            f"INSERT INTO app.t (id, v, _mesh_ts, _mesh_origin) VALUES (1, 1, {2**64 - 1}, 200)",
        )
        inserted = await stamp(connection)
        await run(connection, "UPDATE app.t SET _mesh_ts = 0, _mesh_origin = 200")
        updated = await stamp(connection)
    assert abs(inserted[0] - now_us()) < CLOCK_TOLERANCE_US
    assert inserted[1] == updated[1] == 3
    assert updated[0] > inserted[0]


async def test_a_write_beats_a_version_from_the_future(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        tombstones = await replicable(connection, "t", "id INT PRIMARY KEY, v INT", region=3)
        ahead = now_us() + 10**12
        await run(connection, "INSERT INTO app.t (id, v) VALUES (1, 1)")
        await write_past_triggers(connection, f"UPDATE app.t SET _mesh_ts = {ahead}")
        await run(connection, "UPDATE app.t SET v = 2")
        assert await stamp(connection) == (ahead + 1, 3)
        await run(connection, "DELETE FROM app.t")
        assert await connection.rows(f"SELECT * FROM {tombstones}") == [(1, ahead + 2, 3)]


async def test_upsert_raises_the_stamp_and_leaves_no_tombstone(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        tombstones = await replicable(connection, "t", "id INT PRIMARY KEY, v INT")
        await run(connection, "INSERT INTO app.t VALUES (1, 1)")
        older = await stamp(connection)
        await run(
            connection,
            "INSERT INTO app.t VALUES (1, 2), (2, 2) AS n ON DUPLICATE KEY UPDATE v = n.v",
        )
        assert older < await stamp(connection)
        assert await connection.rows(f"SELECT * FROM {tombstones}") == []


async def test_statement_over_many_rows_and_session_without_strict_mode(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        tombstones = await replicable(
            connection, "t", "a INT, b VARCHAR(5), v INT, PRIMARY KEY (b, a)", region=9
        )
        await run(
            connection,
            "SET sql_mode = 'ANSI_QUOTES,NO_UNSIGNED_SUBTRACTION,PAD_CHAR_TO_FULL_LENGTH'",
            "INSERT INTO app.t VALUES (1, 'x', 0), (2, 'x', 0), (1, 'y', 0)",
            "UPDATE app.t SET v = 1",
            "DELETE FROM app.t",
        )
        found = await connection.rows(f"SELECT b, a, _mesh_origin FROM {tombstones} ORDER BY b, a")
        assert found == [("x", 1, 9), ("x", 2, 9), ("y", 1, 9)]


async def test_our_trigger_has_the_last_word(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        await replicable(connection, "t", "id INT PRIMARY KEY, v INT")
        ours = trigger_name(TriggerRole.BEFORE_INSERT, "app", "t")
        await run(
            connection,
            f"CREATE TRIGGER app.theirs BEFORE INSERT ON app.t FOR EACH ROW PRECEDES {ours}"
            " SET NEW._mesh_ts = 5, NEW.v = NEW.v + 1",
            "INSERT INTO app.t VALUES (1, 1)",
        )
        assert abs((await stamp(connection))[0] - now_us()) < CLOCK_TOLERANCE_US
        assert await connection.value("SELECT v FROM app.t") == 2


async def test_cascades_fire_nothing_by_default(servers) -> None:
    """The tailer writes these tombstones late; were they written here, it would be for nothing."""
    (server,) = await servers(1)
    async with await control(server) as connection:
        await replicable(connection, "p", "id INT PRIMARY KEY, v INT")
        tombstones = await replicable(
            connection,
            "c",
            "id INT PRIMARY KEY, pid INT,"
            " FOREIGN KEY (pid) REFERENCES p (id) ON DELETE CASCADE ON UPDATE CASCADE",
        )
        await run(
            connection,
            "INSERT INTO app.p VALUES (1, 1), (2, 2)",
            "INSERT INTO app.c VALUES (10, 1), (11, 2)",
        )
        older = await stamp(connection, "10", "app.c")
        await run(connection, "UPDATE app.p SET id = 3 WHERE id = 1")
        assert await stamp(connection, "10", "app.c") == older
        await run(connection, "DELETE FROM app.p WHERE id = 2")
        assert await connection.rows(f"SELECT * FROM {tombstones}") == []
        await run(connection, "SET enable_cascade_triggers = 1", "DELETE FROM app.p")
        assert await column(connection, f"SELECT id FROM {tombstones}") == [10]


async def test_names_and_keys_of_every_spelling(servers) -> None:
    (server,) = await servers(1)
    table = "ü`" + "x" * 62
    columns = ["k" * 64, "`", "_mesh_stamp", "schlüssel", "_mesh_clock", "select"]
    quoted = ["`" + name.replace("`", "``") + "`" for name in columns]
    async with await control(server) as connection:
        tombstones = await replicable(
            connection,
            table,
            ", ".join(f"{name} INT" for name in quoted) + f", PRIMARY KEY ({', '.join(quoted)})",
        )
        name = "app.`" + table.replace("`", "``") + "`"
        await run(
            connection,
            f"INSERT INTO {name} VALUES (1, 2, 3, 4, 5, 6)",
            f"UPDATE {name} SET {quoted[1]} = 20",
            f"DELETE FROM {name}",
        )
        found = await connection.rows(f"SELECT * FROM {tombstones} ORDER BY 2")
        assert [row[:6] for row in found] == [(1, 2, 3, 4, 5, 6), (1, 20, 3, 4, 5, 6)]
        assert all(row[6] > now_us() - CLOCK_TOLERANCE_US for row in found)


async def test_a_client_needs_no_right_on_the_tombstones(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        tombstones = await replicable(connection, "t", "id INT PRIMARY KEY, v INT")
        await run(
            connection,
            "CREATE USER client@'%' IDENTIFIED BY 'x'",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON app.* TO client@'%'",
        )
        async with await control(server, "client", "x") as client:
            await run(client, "INSERT INTO app.t VALUES (1, 1)", "DELETE FROM app.t")
            with pytest.raises(Refused):
                await client.rows(f"SELECT * FROM {tombstones}")
        assert await connection.value(f"SELECT COUNT(*) FROM {tombstones}") == 1


async def test_a_client_with_locked_tables_can_write(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        tombstones = await replicable(connection, "t", "id INT PRIMARY KEY, v INT")
        await run(
            connection,
            "LOCK TABLES app.t WRITE",
            "INSERT INTO app.t VALUES (1, 1), (2, 2)",
            "UPDATE app.t SET id = 3 WHERE id = 2",
            "DELETE FROM app.t",
            "UNLOCK TABLES",
        )
        assert await column(connection, f"SELECT id FROM {tombstones} ORDER BY 1") == [1, 2, 3]


async def test_a_write_that_waited_for_a_lock_is_stamped_after_the_wait(servers) -> None:
    """A clock read before the wait would put the later write below the earlier one."""
    (server,) = await servers(1)
    async with await control(server) as first, await control(server) as second:
        await replicable(first, "t", "id INT PRIMARY KEY, v INT")
        await run(
            first,
            "INSERT INTO app.t VALUES (1, 1)",
            "START TRANSACTION",
            "SELECT * FROM app.t WHERE id = 1 FOR UPDATE",
        )
        waiting = asyncio.create_task(second.execute("UPDATE app.t SET v = 2 WHERE id = 1"))
        while not await first.value(
            "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        ):
            assert not waiting.done()
            await asyncio.sleep(0.15)  # asked more often, the server repeats its last answer
        await run(first, "UPDATE app.t SET v = 3 WHERE id = 1")
        earlier = await stamp(first)
        released = now_us()
        await run(first, "COMMIT")
        await waiting
        assert await first.value("SELECT v FROM app.t") == 2
        later = await stamp(first)
        assert later > earlier and later[0] >= released - 1_000
