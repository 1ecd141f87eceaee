"""The plain connection: its session, its errors, its way out of trouble."""

import asyncio
from pathlib import Path

import pytest
from regions import address, control, run

from meshnode.accounts import Account
from meshnode.errors import Busy, Refused, Retry
from meshnode.mysql.control import code_of, connect_to
from meshnode.topology import MysqlAddress, Tls


async def test_sessions_are_alike_whatever_the_server_defaults(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as first:
        await run(
            first,
            "SET GLOBAL sql_mode = 'ANSI'",
            "SET GLOBAL time_zone = '+05:00'",
            "SET GLOBAL autocommit = OFF",
            "SET GLOBAL transaction_isolation = 'SERIALIZABLE'",
            "SET GLOBAL completion_type = 2",
        )
        async with await control(server) as second:
            assert await second.row(
                "SELECT @@time_zone, @@autocommit, @@transaction_isolation, @@completion_type,"
                " @@sql_mode LIKE '%ANSI%', @@sql_mode LIKE '%STRICT%', @@character_set_client"
            ) == ("+00:00", 1, "READ-COMMITTED", "NO_CHAIN", 0, 1, "utf8mb4")


async def test_values_come_as_they_are(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        assert await connection.row("SELECT %s, %s, NULL", (2**64 - 1, "ü'\\%")) == (
            2**64 - 1,
            "ü'\\%",
            None,
        )
        assert await connection.value("SELECT 'a%sb'") == "a%sb"
        assert await connection.value("SELECT 1 FROM DUAL WHERE FALSE") is None
        assert await connection.variable("gtid_mode") == "ON"
        assert await connection.variable("no_such_variable") is None


async def test_a_transaction_is_whole_or_not_at_all(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        await run(connection, "CREATE DATABASE app", "CREATE TABLE app.t (a INT PRIMARY KEY)")
        async with connection.transaction():
            await connection.execute("INSERT INTO app.t VALUES (1)")
        with pytest.raises(Refused) as refused:
            async with connection.transaction():
                assert await connection.execute("INSERT INTO app.t VALUES (2), (3)") == 2
                await connection.execute("INSERT INTO app.t VALUES (1)")
        assert code_of(refused.value) == 1062
        assert await connection.rows("SELECT a FROM app.t") == [(1,)]


async def test_errors_say_what_to_do(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        await run(
            connection,
            "CREATE DATABASE app",
            "CREATE TABLE app.t (a INT PRIMARY KEY)",
            "INSERT INTO app.t VALUES (1)",
            "CREATE USER poor@'%' IDENTIFIED BY 'x'",
        )
        with pytest.raises(Refused, match=r"refused the login as 'poor'.*1045.*password"):
            await control(server, "poor", "wrong")
        async with await control(server, "poor", "x") as poor:
            with pytest.raises(Refused, match=r"region test.*SELECT \* FROM app.t.*print-grants"):
                await poor.rows("SELECT * FROM app.t")
        async with await control(server) as other:
            await run(other, "SET innodb_lock_wait_timeout = 1")
            async with connection.transaction():
                await connection.rows("SELECT * FROM app.t FOR UPDATE")
                with pytest.raises(Busy, match="1205"):
                    await other.execute("UPDATE app.t SET a = 2")
                with pytest.raises(Busy, match="3572"):
                    await other.rows("SELECT * FROM app.t FOR UPDATE NOWAIT")
            assert await other.value("SELECT a FROM app.t") == 1


async def test_a_server_that_does_not_answer(throwaway) -> None:
    server = await throwaway()
    connection = await control(server)
    server.kill()
    with pytest.raises(Retry, match="no connection to the MySQL of region test"):
        await connection.rows("SELECT 1")
    await connection.close()
    with pytest.raises(Retry, match="check that the server runs"):
        await control(server)


async def test_a_silent_server_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr("meshnode.mysql.control.CONNECT_SECONDS", 0.2)
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with silent:
        with pytest.raises(Retry, match="did not answer"):
            await connect_to(
                MysqlAddress(host="127.0.0.1", port=port), Account("u", "p"), server="test"
            )


async def test_a_cancelled_statement_leaves_no_answer_to_the_next(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.rows("SELECT SLEEP(5)"), 0.2)
        with pytest.raises(Retry):
            await connection.rows("SELECT 'not the former answer'")


async def test_tls_is_used_and_checked(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as plain:
        folder = Path(await plain.value("SELECT @@datadir"))
        assert await plain.row("SHOW STATUS LIKE 'Ssl_cipher'") == ("Ssl_cipher", "")
    login = Account(server.user, server.password)

    async def cipher(tls: Tls) -> str:
        where = MysqlAddress(host=server.host, port=server.port, tls=tls)
        async with await connect_to(where, login, server="test") as connection:
            return (await connection.row("SHOW STATUS LIKE 'Ssl_cipher'"))[1]

    ca = str(folder / "ca.pem")
    assert await cipher(Tls(verify="none"))
    assert await cipher(Tls(ca=ca, verify="ca"))
    with pytest.raises(Refused, match="TLS with the MySQL of region test"):
        await cipher(Tls(ca=ca, verify="identity"))
    with pytest.raises(Refused, match="TLS with the MySQL of region test"):
        await cipher(Tls(verify="ca"))
    with pytest.raises(Refused, match="CA file /nowhere"):
        await cipher(Tls(ca="/nowhere", verify="ca"))


async def test_a_server_without_tls_is_not_spoken_to_in_the_clear(throwaway) -> None:
    server = await throwaway({"tls_version": ""})
    where = MysqlAddress(host=server.host, port=server.port, tls=Tls(verify="none"))
    with pytest.raises(Refused, match="does not offer TLS"):
        await connect_to(where, Account(server.user, server.password), server="test")
    async with await connect_to(address(server), Account(server.user, server.password), server="t"):
        pass
