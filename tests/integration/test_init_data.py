"""``meshnode init`` on tables that hold rows: like rows stay, others are lifted or named."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from regions import column, control, run, sessions, topology_of

from meshnode.mysql import schema
from meshnode.ops.install import init

KEYS = {
    "ints": ("a INT, b BIGINT UNSIGNED", "a, b", "(1, 2), (-5, 18446744073709551615), (0, 0)"),
    "texts": (
        "a VARCHAR(20) COLLATE utf8mb4_0900_ai_ci, b CHAR(5) CHARACTER SET latin1",
        "b, a",
        "('a', 'x'), ('Straße', 'ü'), ('', '')",
    ),
    "bytes": ("a VARBINARY(20), b BINARY(4)", "a, b", "(0x00, 0x1100), (0xff, 0x11223344)"),
    "numbers": (
        "a DECIMAL(30,10), b DECIMAL(9,9), c DECIMAL(18,0), d YEAR, e BIT(13)",
        "a, b, c, d, e",
        "(-12345678901234567890.0123456789, -0.000000001, -999999999999999999, 0, 4097),"
        " (0, 0, 0, 2155, 0), (1.5, .123456789, 1, 1901, b'1')",
    ),
    "times": (
        "a DATE, b TIME(3), c DATETIME(6), d TIMESTAMP(1), e TIME, f DATETIME",
        "a, b, c, d, e, f",
        "('0000-00-00', '-838:59:58.999', '0000-00-00', 0, '-00:00:01', '1000-01-01'),"
        " ('2023-02-31', '-00:00:00.001', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.9',"
        " '838:59:59', '2024-02-29 12:34:56')",
    ),
    "labels": (
        "a ENUM('','x','y'), b SET('p','q','r','s','t','u','v','w','z')",
        "b, a",
        "(0, 0), (1, 1), ('y', 'p,z')",
    ),
}


@pytest.mark.parametrize("table", KEYS)
async def test_one_full_region_is_lifted_whatever_the_key(servers, table: str) -> None:
    pair = await servers(2)
    columns, key, values = KEYS[table]
    async with AsyncExitStack() as stack:
        both = await sessions(stack, pair)
        for one in both:
            await run(
                one,
                "CREATE DATABASE app",
                f"CREATE TABLE app.t ({columns}, v INT NOT NULL DEFAULT 7,"
                f" changed TIMESTAMP(6) DEFAULT '2020-01-01' ON UPDATE CURRENT_TIMESTAMP(6),"
                f" PRIMARY KEY ({key}))",
                "CREATE TABLE app.log (id INT AUTO_INCREMENT PRIMARY KEY)",
                "CREATE TRIGGER app.theirs BEFORE UPDATE ON app.t FOR EACH ROW"
                " INSERT INTO app.log VALUES ()",
            )
        names = ", ".join(part.split()[0] for part in columns.split(", ") if part[1] == " ")
        await run(
            both[1],
            "SET sql_mode = 'ALLOW_INVALID_DATES'",
            f"INSERT INTO app.t ({names}) VALUES {values}",
        )
        kept = await both[1].rows("SELECT * FROM app.t ORDER BY " + key)
        result = await init(topology_of(pair, "app.t"))
        assert result.complete and result.lifted == {"app.t": len(kept)}
        # Only the stamp has changed: no ON UPDATE default, no trigger of the application.
        assert await both[1].rows("SELECT * FROM app.t ORDER BY " + key) == kept
        assert await both[1].value("SELECT COUNT(*) FROM app.log") == 0
        stamps = await both[1].rows("SELECT _mesh_ts, _mesh_origin FROM app.t")
        assert all(ts > 0 and origin == 2 for ts, origin in stamps)
        # Published by nobody yet, but no longer init's business.
        assert (await init(topology_of(pair, "app.t"))).lifted == {}


async def test_equal_rows_are_left_alone(servers) -> None:
    pair = await servers(2)
    async with AsyncExitStack() as stack:
        both = await sessions(stack, pair)
        for one in both:
            await run(
                one,
                "CREATE DATABASE app",
                "CREATE TABLE app.t (id INT PRIMARY KEY, f FLOAT, j JSON, b LONGBLOB)",
                "INSERT INTO app.t VALUES (1, 1.1, '{\"b\": [null], \"a\": 1}', REPEAT('x', 9999)),"
                " (2, NULL, NULL, NULL), (3, -0e0, 'null', '')",
            )
        result = await init(topology_of(pair))
        assert result.complete and result.lifted == {}
        assert await column(both[0], "SELECT SUM(_mesh_ts) FROM app.t") == [0]


@pytest.mark.parametrize(
    "change",
    [
        "f = 1.1000001",
        "f = NULL",
        "z = 0e0",
        "n = CAST(CAST(1 AS DECIMAL(5,0)) AS JSON)",
        "s = 'A'",
        "s = 'a '",
        "s = ''",
        "j = '[\"1\"]'",
        "j = NULL",
        "b = CONCAT(REPEAT('x', 99999), 'y')",
        "b = NULL",
        "d = '0000-00-00'",
        "u = NULL, s = '~'",
    ],
)
async def test_rows_without_a_version_that_differ_are_refused_key_by_key(
    servers, change: str
) -> None:
    pair = await servers(2)
    async with AsyncExitStack() as stack:
        both = await sessions(stack, pair)
        for one in both:
            await run(
                one,
                "CREATE DATABASE app",
                "CREATE TABLE app.t (id INT PRIMARY KEY, f FLOAT,"
                " s CHAR(9) COLLATE utf8mb4_0900_ai_ci, u VARCHAR(9), j JSON, b LONGBLOB, d DATE,"
                " z DOUBLE, n JSON)",
                "INSERT INTO app.t VALUES (1, 1.1, 'a', 'u', '[1]', REPEAT('x', 100000), NULL,"
                " -0e0, '1'), (2, 0, '', '', '1', '', NULL, NULL, NULL)",
            )
        # MySQL does not write a value over one that it calls equal.
        await run(both[1], f"UPDATE app.t SET {change.split()[0]} = NULL WHERE id = 1")
        await run(both[1], f"UPDATE app.t SET {change} WHERE id = 1")
        if change == "s = 'a '":  # CHAR does not keep it
            assert (await init(topology_of(pair))).complete
            return
        result = await init(topology_of(pair))
        assert [refused[:3] for refused in result.refused] == [("app.t", "(1)", ("one", "two"))]
        assert not result.complete and result.lifted == {}
        seeded = await init(topology_of(pair), seed_from="two")
        assert seeded.complete and seeded.lifted == {"app.t": 1}
        assert (await both[1].row("SELECT _mesh_origin FROM app.t WHERE id = 1"))[0] == 2
        assert await both[0].value("SELECT SUM(_mesh_ts) FROM app.t") == 0


async def test_each_region_gives_what_it_alone_has(servers) -> None:
    trio = await servers(3)
    async with AsyncExitStack() as stack:
        three = await sessions(stack, trio)
        for number, one in enumerate(three):
            await run(
                one,
                "CREATE DATABASE app",
                "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)",
                "SET cte_max_recursion_depth = 100000",
                "INSERT INTO app.t WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n"
                f" WHERE i < {5000 if number else 3000})"
                f" SELECT i * {(3, 1, 7)[number]}, i * 0 FROM n",
            )
        result = await init(topology_of(trio))
        every = set()
        for one in three:
            every |= set(await column(one, "SELECT id FROM app.t"))
        common = set(range(1, 5001)) & set(range(3, 9001, 3)) & set(range(7, 35001, 7))
        assert result.complete and result.lifted == {"app.t": len(every - common)}
        # Every row that is not everywhere carries a version in exactly one region.
        lifted: list[int] = []
        for one in three:
            lifted += await column(one, "SELECT id FROM app.t WHERE _mesh_ts > 0")
        assert sorted(lifted) == sorted(every - common)


async def test_a_delete_between_the_triggers_and_the_activation_wins(servers) -> None:
    pair = await servers(2)
    async with AsyncExitStack() as stack:
        both = await sessions(stack, pair)
        for one in both:
            await run(
                one,
                "CREATE DATABASE app",
                "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)",
                "INSERT INTO app.t VALUES (1, 1), (2, 2)",
            )
        tombstones = schema.tombstone_table("app", "t")
        deleted: list[tuple] = []

        def delete_once(line: str) -> None:
            if not deleted and "INSERT INTO `meshnode`.`tables`" in line:
                with pair[0].connect() as connection:
                    cursor = connection.cursor()
                    cursor.execute("DELETE FROM app.t WHERE id = 1")
                    cursor.execute(f"SELECT * FROM {tombstones}")
                    deleted.extend(cursor.fetchall())

        result = await init(topology_of(pair), report=delete_once)
        assert result.lifted == {"app.t": 1}
        assert await both[1].value("SELECT COUNT(*) FROM app.t") == 2
        # Written again after the stream began, and no later than it has to be: whoever inserts
        # the key meanwhile comes after it.
        ((key, ts, origin),) = deleted
        assert await both[0].rows(f"SELECT * FROM {tombstones}") == [(key, ts + 1, origin)]
        assert (key, origin) == (1, 1)


async def test_under_traffic_every_row_is_stamped_or_lifted(servers) -> None:
    pair = await servers(2)
    topology = topology_of(pair)
    async with AsyncExitStack() as stack:
        both = await sessions(stack, pair)
        for one in both:
            await run(one, "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)")
        values = ", ".join(f"({number}, 0)" for number in range(3000))
        await run(both[0], f"INSERT INTO app.t VALUES {values}")
        stop = asyncio.Event()
        written = 0

        async def write() -> None:
            nonlocal written
            async with await control(pair[0]) as client:
                while not stop.is_set():
                    written += 1
                    await client.execute(f"UPDATE app.t SET v = v + 1 WHERE id = {written % 3000}")
                    await client.execute(f"REPLACE INTO app.t VALUES ({5000 + written % 50}, 1)")

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            result = await init(topology)
            stop.set()
        assert result.complete and written > 10
        assert await both[0].value("SELECT COUNT(*) FROM app.t WHERE _mesh_ts = 0") == 0
        assert await both[0].value("SELECT SUM(v) FROM app.t WHERE id < 3000") == written


async def test_a_row_that_a_client_holds_is_lifted_later_or_named(servers, monkeypatch) -> None:
    pair = await servers(2)
    topology = topology_of(pair)
    monkeypatch.setattr("meshnode.ops.install_data.LIFT_ATTEMPTS", 1)
    async with AsyncExitStack() as stack:
        both = await sessions(stack, pair)
        for one in both:
            await run(one, "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)")
        await run(both[0], "INSERT INTO app.t VALUES (1, 1), (2, 2)")
        await init(topology, ["one"])
        await init(topology, ["two"])
        await run(both[0], "START TRANSACTION", "SELECT * FROM app.t WHERE id = 1 FOR UPDATE")
        result = await init(topology)
        assert result.lifted == {"app.t": 1}
        assert "1 rows were locked" in result.left[0]
        await run(both[0], "ROLLBACK")
        assert (await init(topology)).lifted == {"app.t": 1}
