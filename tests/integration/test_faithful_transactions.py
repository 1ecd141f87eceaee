"""Every shape of transaction that MySQL logs as rows arrives as it was.

The tables have no conflict in them: what is written in one region, by whatever
statement, is stored byte for byte in the other.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from faithful import LENIENT, lent_mesh, same_images, transaction, undisturbed
from steps import run

from meshnode.lab.servers import Server
from meshnode.mysql.control import Control

TABLES = {
    "t": "(id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(20), u INT UNIQUE)",
    "other": "(id INT PRIMARY KEY, t INT, v VARCHAR(20), KEY (t))",
    "logged": "(id INT PRIMARY KEY AUTO_INCREMENT, s VARCHAR(60))",
    "parent": "(id INT PRIMARY KEY, v INT)",
    "child": "(id INT PRIMARY KEY, p INT, v INT,"
    " FOREIGN KEY (p) REFERENCES app.parent (id) ON DELETE CASCADE ON UPDATE CASCADE)",
    "grandchild": "(id INT PRIMARY KEY, c INT,"
    " FOREIGN KEY (c) REFERENCES app.child (id) ON DELETE SET NULL)",
}
NAMES = [("app", name) for name in TABLES]

TRIGGERS = [
    f"CREATE TRIGGER app.{timing}_{event} {timing} {event} ON app.other FOR EACH ROW {body}"
    for timing, event, body in (
        ("BEFORE", "INSERT", "SET NEW.v = UPPER(NEW.v)"),
        ("AFTER", "INSERT", "INSERT INTO app.logged (s) VALUES (CONCAT('new ', NEW.id))"),
        ("AFTER", "UPDATE", "INSERT INTO app.logged (s) VALUES (CONCAT('change ', OLD.id))"),
        ("BEFORE", "DELETE", "DELETE FROM app.logged WHERE s = CONCAT('new ', OLD.id)"),
        ("AFTER", "DELETE", "INSERT INTO app.logged (s) VALUES (CONCAT('gone ', OLD.id))"),
    )
]


async def savepoints(sql: Control) -> None:
    await transaction(
        sql, "INSERT INTO app.t VALUES (10, 'a', 10)", "SAVEPOINT s1",
        "INSERT INTO app.t VALUES (11, 'b', 11)", "ROLLBACK TO s1",
        "UPDATE app.t SET v = 'c' WHERE id = 10", "SAVEPOINT `s 2`",
        "DELETE FROM app.t WHERE id = 10", "ROLLBACK TO `s 2`", "SAVEPOINT s3",
        "INSERT INTO app.t VALUES (12, 'd', 12)", "RELEASE SAVEPOINT s3",
    )  # fmt: skip
    await transaction(sql, "SAVEPOINT a", "INSERT INTO app.t VALUES (13, 'e', 13)", "ROLLBACK TO a")


async def replaces(sql: Control) -> None:
    await sql.execute("INSERT INTO app.t VALUES (20, 'a', 20), (21, 'b', 21), (22, 'c', 22)")
    await sql.execute("REPLACE INTO app.t VALUES (20, 'new', 20)")
    await sql.execute("REPLACE INTO app.t VALUES (20, 'takes the value of 21', 21)")
    await sql.execute("REPLACE INTO app.t VALUES (23, 'two rows go', 21), (22, 'c', 22)")


async def upserts(sql: Control) -> None:
    await sql.execute("INSERT INTO app.t VALUES (30, 'a', 30), (31, 'b', 31)")
    await sql.execute(
        "INSERT INTO app.t VALUES (30, 'x', 30), (32, 'c', 32), (99, 'by value', 31) AS n"
        " ON DUPLICATE KEY UPDATE v = n.v"
    )
    await sql.execute("INSERT IGNORE INTO app.t VALUES (30, 'no', 1), (33, 'yes', 33)")
    await sql.execute("UPDATE app.t SET v = v WHERE id = 30")


async def many_tables(sql: Control) -> None:
    await sql.execute("INSERT INTO app.t VALUES (40, 'a', 40), (41, 'b', 41), (42, 'c', 42)")
    await sql.execute("INSERT INTO app.other VALUES (40, 40, 'x'), (41, 41, 'y'), (42, 42, 'z')")
    await sql.execute(
        "UPDATE app.t JOIN app.other o ON o.t = t.id SET t.v = o.v, o.v = 'both'"
        " WHERE t.id IN (40, 41)"
    )
    await sql.execute("DELETE t, o FROM app.t t JOIN app.other o ON o.t = t.id WHERE t.id = 41")
    await sql.execute("INSERT INTO app.t SELECT id + 5, v, u + 5 FROM app.t WHERE id = 42")


async def moves(sql: Control) -> None:
    await sql.execute("INSERT INTO app.t VALUES (50, 'a', 50), (51, 'b', 51), (52, 'c', 52)")
    await transaction(
        sql, "UPDATE app.t SET id = id + 1 WHERE id BETWEEN 50 AND 52 ORDER BY id DESC",
        "UPDATE app.t SET u = NULL WHERE id = 51", "UPDATE app.t SET u = 50 WHERE id = 52",
        "UPDATE app.t SET u = 51 WHERE id = 51", "DELETE FROM app.t WHERE id = 53",
        "INSERT INTO app.t VALUES (53, 'again', 53)", "DELETE FROM app.t WHERE id = 53",
        "INSERT INTO app.t VALUES (50, 'back', 52)",
    )  # fmt: skip


async def cascades(sql: Control) -> None:
    await run(
        sql, "INSERT INTO app.parent VALUES (1, 1), (2, 2), (3, 3)",
        "INSERT INTO app.child VALUES (10, 1, 0), (11, 1, 0), (20, 2, 0), (30, 3, 0)",
        "INSERT INTO app.grandchild VALUES (100, 10), (200, 20), (300, 30)",
        "UPDATE app.parent SET id = 9 WHERE id = 1", "DELETE FROM app.parent WHERE id = 2",
        "REPLACE INTO app.parent VALUES (3, 33)",
    )  # fmt: skip


async def compressed(sql: Control) -> None:
    await run(
        sql, "SET SESSION binlog_transaction_compression = ON",
        "INSERT INTO app.t SELECT 6000 + n, REPEAT('z', 20), 6000 + n FROM"
        " (WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 500)"
        " SELECT n FROM c) s",
        "UPDATE app.t SET v = 'zz' WHERE id BETWEEN 6100 AND 6300",
        "DELETE FROM app.t WHERE id BETWEEN 6200 AND 6400",
    )  # fmt: skip
    await transaction(
        sql, "INSERT INTO app.t VALUES (6600, 'a', 6600)", "SAVEPOINT s",
        "INSERT INTO app.other VALUES (66, 66, 'in a payload')",
    )  # fmt: skip


async def routines(sql: Control) -> None:
    await run(
        sql, "CREATE PROCEDURE app.p (n INT) BEGIN INSERT INTO app.t VALUES (n, 'p', n);"
        " UPDATE app.t SET v = 'q' WHERE id = n; END", "CALL app.p(70)", "CALL app.p(71)",
        "CREATE TEMPORARY TABLE app.temp (id INT PRIMARY KEY)", "INSERT INTO app.temp VALUES (72)",
        "INSERT INTO app.t SELECT id, 'from a temporary table', 72 FROM app.temp",
        "DROP TEMPORARY TABLE app.temp", "DROP PROCEDURE app.p",
    )  # fmt: skip


async def copied(sql: Control) -> None:
    """CREATE TABLE ... SELECT makes a table outside the mesh; rows from it come in."""
    await run(
        sql, "CREATE TABLE elsewhere.made AS SELECT id + 80 AS id, v, id + 80 AS u FROM app.t"
        " WHERE id < 10", "INSERT INTO app.t SELECT * FROM elsewhere.made",
        "DROP TABLE elsewhere.made",
    )  # fmt: skip


async def images(sql: Control) -> None:
    """Partial images: such rows are lifted."""
    await sql.execute("INSERT INTO app.t VALUES (90, 'a', 90), (91, 'b', 91), (92, 'c', 92)")
    for image in ("MINIMAL", "NOBLOB"):
        await run(
            sql, f"SET SESSION binlog_row_image = {image}",
            "UPDATE app.t SET v = CONCAT(v, 'x') WHERE id IN (90, 91)",
            f"INSERT INTO app.t (id, v) VALUES ({len(image) + 90}, 'm')",
            f"UPDATE app.t SET id = id + 100 WHERE id = {len(image) + 90}",
        )  # fmt: skip
    await sql.execute("DELETE FROM app.t WHERE id = 92")


SHAPES: list[Callable[[Control], Awaitable[None]]] = [
    savepoints, replaces, upserts, many_tables, moves, cascades, compressed, routines, copied,
    images,
]  # fmt: skip

LIFTED = (cascades, images)
"""No trigger stamps a cascaded row, and no partial image can be published."""


def load(server: Server, file: Path) -> None:
    """LOAD DATA, replacing a row."""
    file.write_bytes("7001\tä\t7001\n7002\t\\N\t7002\n7001\tb\\tb\t7003\n".encode())
    with server.connect(local_infile=True) as connection, connection.cursor() as cursor:
        cursor.execute(
            "LOAD DATA LOCAL INFILE %s REPLACE INTO TABLE app.t CHARACTER SET utf8mb4", (str(file),)
        )
        connection.commit()


@pytest.mark.parametrize("at", [0, 1])
async def test_every_shape_of_transaction(server_pool, tmp_path, at) -> None:
    """Guards the folding of transactions (I1): nothing lost, nothing twice, in either direction."""
    create = [
        "CREATE DATABASE app",
        "CREATE DATABASE elsewhere",
        *(f"CREATE TABLE app.{name} {definition}" for name, definition in TABLES.items()),
        *TRIGGERS,
    ]
    async with lent_mesh(server_pool, tmp_path, create, "app.*") as mesh:
        for shape in SHAPES:
            lifts = mesh.count("lifts")
            async with await mesh.session(at, "app") as client:
                await client.execute(f"SET SESSION sql_mode = '{LENIENT}'")
                await shape(client)
            await undisturbed(mesh)
            rows = {name: await mesh.same(f"app.{name}") for name in TABLES}
            assert (mesh.count("lifts") > lifts) == (shape in LIFTED), shape.__name__
        await mesh.sql[at].execute("SET GLOBAL local_infile = ON")
        await asyncio.to_thread(load, mesh.servers[at], tmp_path / "rows")
        await undisturbed(mesh)
        assert len(await mesh.same("app.t")) == len(rows["t"]) + 2
        assert mesh.count("conflicts") == 0
        # The rows that the triggers wrote came as rows: nothing fired twice.
        logged = [row[1] for row in rows["logged"]]
        assert logged.count("gone 41") == logged.count("change 40") == 1
        assert [row[:2] for row in rows["child"]] == [(10, 9), (11, 9), (30, 3)]
        assert [row[:2] for row in rows["grandchild"]] == [(100, 10), (200, None), (300, 30)]
        await same_images(mesh, *NAMES)
