"""Sessions are alike whatever a server gives to new ones, by globals or by ``init_connect``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from regions import address, control, run
from steps import converged, running

from meshnode.accounts import Account
from meshnode.mysql.session import connect
from meshnode.topology import Region

HOSTILE = (
    "SET GLOBAL sql_select_limit = 1",
    "SET GLOBAL max_join_size = 1",  # also turns sql_big_selects off
    "SET GLOBAL character_set_connection = latin1",
    # Not for accounts that have CONNECTION_ADMIN.
    "SET GLOBAL init_connect = 'SET NAMES latin1, sql_safe_updates = 1'",
)

PLAIN = Account("plain", "x")


@asynccontextmanager
async def control_session(server) -> AsyncIterator:
    async with await control(server, *PLAIN) as session:
        yield session


@asynccontextmanager
async def hot_session(server) -> AsyncIterator:
    session = await connect(Region(1, "one", address(server)), PLAIN, "test")
    try:
        yield SimpleNamespace(rows=session.query, execute=session.query)
    finally:
        session.close()


@pytest.mark.parametrize("kind", [control_session, hot_session])
async def test_sessions_hear_neither_globals_nor_init_connect(throwaway, kind) -> None:
    server = await throwaway()
    async with await control(server) as root:
        await run(
            root,
            "CREATE DATABASE app",
            "CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET utf8mb4)",
            "INSERT INTO app.t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
            f"CREATE USER {PLAIN.user} IDENTIFIED BY '{PLAIN.password}'",
            f"GRANT ALL ON app.* TO {PLAIN.user}",
            *HOSTILE,
        )
    async with kind(server) as session:
        found = await session.rows("SELECT a.id + 0 FROM app.t a JOIN app.t b USING (v) ORDER BY 1")
        assert [int(row[0]) for row in found] == [1, 2, 3]
        # Without a key in the condition, which safe updates refuse.
        await session.execute("UPDATE app.t SET v = 'ü😀' WHERE v = 'a'")
    async with await control(server) as root:
        assert (
            await root.value("SELECT HEX(v) FROM app.t WHERE id = 1")
            == "ü😀".encode().hex().upper()
        )


async def test_a_mesh_on_such_servers_converges(throwaway, tmp_path) -> None:
    pair = [await throwaway(), await throwaway()]
    for server in pair:
        async with await control(server) as root:
            await run(root, *HOSTILE)
    table = "CREATE TABLE app.t (`schlüssel` VARCHAR(9) PRIMARY KEY, v VARCHAR(40))"
    async with running(pair, tmp_path, table) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES ('ä', 'one'), ('ö', 'one'), ('ü', 'one')")
        await mesh.settle()
        await two.execute("UPDATE app.t SET v = 'zwei 😀'")
        await two.execute("DELETE FROM app.t WHERE schlüssel = 'ö'")
        rows = await converged(mesh, key="schlüssel")
    assert [row[:2] for row in rows] == [("ä", "zwei 😀"), ("ü", "zwei 😀")]
