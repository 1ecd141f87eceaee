"""Tombstones written by the triggers: for every key that goes, and never a lower one."""

import pytest
from regions import (
    column,
    control,
    now_us,
    replicable,
    run,
    stamp,
    topology_of,
    write_past_triggers,
)

from meshnode.mysql.schema import REPLACE_WINDOW_US, tombstone_table
from meshnode.ops.install import init


async def test_changed_key_leaves_a_tombstone_for_the_old_key(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        tombstones = await replicable(connection, "t", "id INT PRIMARY KEY, v INT")
        await run(connection, "INSERT INTO app.t VALUES (1, 1)")
        older = await stamp(connection)
        await run(connection, "UPDATE app.t SET id = 2")
        (found,) = await connection.rows(f"SELECT * FROM {tombstones}")
        assert found[0] == 1 and found[1] > older[0]
        assert (await stamp(connection, "2"))[0] > older[0]


@pytest.mark.parametrize(
    ("definition", "old", "new", "same"),
    [
        ("VARCHAR(9) COLLATE utf8mb4_0900_ai_ci", "'strasse'", "'STRASSE'", True),
        ("VARCHAR(9) COLLATE utf8mb4_0900_ai_ci", "'a'", "'á'", True),
        ("VARCHAR(9) COLLATE utf8mb4_general_ci", "'a'", "'a  '", True),
        ("VARCHAR(9) COLLATE utf8mb4_0900_ai_ci", "'a'", "'a  '", False),
        ("VARCHAR(9) COLLATE utf8mb4_bin", "'a'", "'A'", False),
        ("VARCHAR(9) CHARACTER SET latin1", "'a'", "'A'", True),
        ("VARBINARY(9)", "'a'", "'A'", False),
        ("BINARY(4)", "0x11", "0x1100", True),
        ("BIT(40)", "b'1'", "b'10'", False),
        ("ENUM('', 'a')", "0", "1", False),
        ("SET('a', 'b')", "1", "3", False),
        ("DATE", "'2023-02-31'", "'2024-00-00'", False),
        ("DATE", "'0000-00-00'", "'2024-00-00'", False),
        ("TIME(3)", "'-00:00:00.001'", "'-00:00:00.002'", False),
        ("TIMESTAMP(2)", "'2020-01-01'", "'2020-01-01 00:00:00.01'", False),
        ("DATETIME(6)", "'2020-01-01'", "'2020-01-01 00:00:00.000001'", False),
        ("YEAR", "0", "2000", False),
        ("DECIMAL(65,30)", "'1.000000000000000000000000000001'", "1", False),
        ("BIGINT UNSIGNED", "18446744073709551615", "18446744073709551614", False),
        ("BIGINT", "-9223372036854775808", "9223372036854775807", False),
    ],
)
async def test_only_a_key_that_mysql_calls_different_is_changed(
    servers, definition: str, old: str, new: str, same: bool
) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        tombstones = await replicable(connection, "t", f"id {definition} PRIMARY KEY, v INT")
        await run(connection, f"INSERT INTO app.t VALUES ({old}, 1)")
        (kept,) = await connection.rows("SELECT HEX(id), id + 0 FROM app.t")
        await run(connection, f"UPDATE app.t SET id = {new}")
        found = await connection.rows(f"SELECT HEX(id), id + 0 FROM {tombstones}")
        assert found == ([] if same else [kept])
        # Deleted under its new spelling: one key, one tombstone.
        await run(connection, "DELETE FROM app.t")
        assert await connection.value(f"SELECT COUNT(*) FROM {tombstones}") == (1 if same else 2)


@pytest.mark.parametrize(
    "forged",
    ["NULL", "'abc'", "''", "-5", "1e300", "-1e300", "1.5", "18446744073709551615", "0", "x'ff'"]
    + [f"(SELECT _mesh_ts - {us} FROM app.t)" for us in (-1_000_000, 0, 1, 40_000, 10**6)]
    + [f"(SELECT CONCAT(_mesh_ts - {us}) FROM app.t)" for us in (1, 40_000)],
)
async def test_forged_variable_moves_a_tombstone_by_the_window_at_most(
    servers, forged: str
) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        tombstones = await replicable(connection, "t", "id INT PRIMARY KEY, v INT")
        await run(connection, "SET sql_mode = DEFAULT", "INSERT INTO app.t VALUES (1, 1)")
        row = await stamp(connection)
        await run(connection, f"SET @_mesh_i = {forged}")
        before = now_us()
        await run(connection, "DELETE FROM app.t")
        (ts,) = await column(connection, f"SELECT _mesh_ts FROM {tombstones}")
    assert ts > row[0]
    # The two clocks differ by the calibration of UUID time, far below a millisecond.
    assert before - REPLACE_WINDOW_US - 1_000 <= ts <= now_us() + 1_000


@pytest.mark.parametrize(
    ("there", "stays"),
    [((2**63, 1), True), ((2**63, 9), True), ((5, 9), False), ((0, 0), False)],
)
async def test_a_tombstone_never_falls(servers, there: tuple[int, int], stays: bool) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        tombstones = await replicable(connection, "t", "id INT PRIMARY KEY, v INT", region=4)
        await run(
            connection,
            f"INSERT INTO {tombstones} VALUES (1, {there[0]}, {there[1]})",
            "INSERT INTO app.t VALUES (1, 1)",
            "DELETE FROM app.t",
        )
        (found,) = await connection.rows(f"SELECT _mesh_ts, _mesh_origin FROM {tombstones}")
    assert (found == there) is stays
    assert found >= there and (stays or found[1] == 4)


@pytest.mark.parametrize(("own", "winner"), [(4, 6), (6, 6), (9, 9)])
async def test_at_equal_times_the_greater_origin_keeps_the_tombstone(
    servers, own: int, winner: int
) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        tombstones = await replicable(connection, "t", "id INT PRIMARY KEY, v INT", region=own)
        ahead = now_us() + 10**12
        await run(connection, "INSERT INTO app.t VALUES (1, 1)")
        await write_past_triggers(connection, f"UPDATE app.t SET _mesh_ts = {ahead}")
        await run(connection, f"INSERT INTO {tombstones} VALUES (1, {ahead + 1}, 6)")
        await run(connection, "DELETE FROM app.t")
        assert await connection.rows(f"SELECT * FROM {tombstones}") == [(1, ahead + 1, winner)]


async def test_delete_then_insert_leaves_the_row_above(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        tombstones = await replicable(connection, "t", "id INT PRIMARY KEY, v INT")
        for _ in range(50):
            await run(connection, "INSERT INTO app.t VALUES (1, 1)")
            row = await stamp(connection)
            await run(connection, "DELETE FROM app.t")
            (tombstone,) = await connection.rows(f"SELECT _mesh_ts, _mesh_origin FROM {tombstones}")
            assert row < tombstone
            await run(connection, "INSERT INTO app.t VALUES (1, 1)")
            assert tombstone < await stamp(connection)
            await run(connection, "DELETE FROM app.t")


async def test_replace_never_puts_its_row_under_its_own_tombstone(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        tombstones = await replicable(connection, "t", "id INT PRIMARY KEY, v INT, u INT UNIQUE")
        await run(connection, "INSERT INTO app.t VALUES (1, 0, 0)")
        for value in range(300):
            older = await stamp(connection)
            await run(connection, f"REPLACE INTO app.t VALUES (1, {value}, {value})")
            row = await stamp(connection)
            tombstone = await connection.row(f"SELECT _mesh_ts, _mesh_origin FROM {tombstones}")
            assert older < tombstone < row


async def test_the_greatest_stamp_does_not_lock_the_row_up(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        tombstones = await replicable(connection, "t", "id INT PRIMARY KEY, v INT")
        await run(connection, "INSERT INTO app.t (id, v) VALUES (1, 1)")
        await write_past_triggers(connection, f"UPDATE app.t SET _mesh_ts = {2**64 - 1}")
        await run(connection, "UPDATE app.t SET v = 2", "DELETE FROM app.t")
        assert await column(connection, f"SELECT _mesh_ts FROM {tombstones}") == [2**64 - 1]


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMP(6)"])
async def test_a_second_delete_moves_no_tombstone_to_another_key(servers, kind: str) -> None:
    """Without explicit defaults a plain TIMESTAMP becomes ``now`` with every update of its row."""
    (server,) = await servers(1)
    async with await control(server) as first:
        await run(first, "SET GLOBAL explicit_defaults_for_timestamp = OFF")
    async with await control(server) as connection:
        tombstones = await replicable(
            connection, "t", f"at {kind} DEFAULT 0, id {kind} DEFAULT 0, PRIMARY KEY (at, id)"
        )
        for _ in range(2):
            await run(
                connection,
                "INSERT INTO app.t VALUES ('2020-01-01', '2021-01-01')",
                "DELETE FROM app.t",
            )
        found = await connection.rows(f"SELECT DATE(at) + 0, DATE(id) + 0 FROM {tombstones}")
        assert found == [(20200101, 20210101)]


@pytest.mark.parametrize("explicit", ["ON", "OFF"])
async def test_init_takes_a_date_of_its_own_from_a_tombstone_table(servers, explicit: str) -> None:
    (server,) = await servers(1)
    async with await control(server) as first:
        await run(
            first,
            f"SET GLOBAL explicit_defaults_for_timestamp = {explicit}",
            "CREATE DATABASE app",
            "CREATE TABLE app.t (id TIMESTAMP PRIMARY KEY)",
        )
        topology = topology_of([server])
        await init(topology)
        tombstones = tombstone_table("app", "t")
        await run(
            first,
            f"ALTER TABLE {tombstones} MODIFY id TIMESTAMP NOT NULL"
            " DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP",
        )
        (done,) = (await init(topology)).statements
        assert tombstones in done[1] and "MODIFY" in done[1]
        assert (await init(topology)).statements == []
        described = await first.row(f"SHOW CREATE TABLE {tombstones}")
        assert "CURRENT_TIMESTAMP" not in described[1].upper()
