"""A plain connection to one region's MySQL for everything that is not hot.

``init``, ``doctor``, ``status``, ``verify`` and the gardener ask few questions and
want clear answers: values as Python has them, UTC, one statement at a time, and
errors that name the server and the way on.  The stream and the appliers have
connections of their own.

Sessions are alike whatever the server's defaults: all rows of a question, autocommit, utf8mb4, UTC,
READ COMMITTED, a strict ``sql_mode`` that lets odd dates pass, and waits that
end: a metadata lock that a client holds makes a statement fail after
``LOCK_WAIT_SECONDS``, so a DDL of ours never queues the application's
statements behind itself for long.

A connection that was cancelled or timed out in the middle of an answer is
closed, never reused: the next question would read the previous answer.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import aiomysql
import pymysql
from pymysql.constants import CLIENT

from meshnode.errors import Busy, MeshError, Refused, Retry
from meshnode.tls import client_context
from meshnode.topology import MysqlAddress, Region

CONNECT_SECONDS = 5.0
"""A server that does not answer within this is reported as unreachable."""

LOCK_WAIT_SECONDS = 5
"""How long a statement waits for a lock, of a table (DDL) or of a row."""

MINIMUM_VERSION = (8, 0, 30)
"""Invisible columns, INSTANT DROP and generated invisible keys that can be shown."""

SQL_MODE = "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,STRICT_ALL_TABLES"

WHAT_IS_READ = (
    "NAMES utf8mb4 COLLATE utf8mb4_general_ci, SESSION sql_select_limit = 18446744073709551615,"
    " sql_big_selects = 1, sql_safe_updates = 0"
)
"""For ``SET``: all rows, and texts as they were sent.

The handshake names the character set, but ``init_connect`` comes after it, and servers before 8.3
may pass over it (``skip-character-set-client-handshake``).
"""

_SESSION = (
    f"SET {WHAT_IS_READ}, sql_mode = '{SQL_MODE}', time_zone = '+00:00', completion_type = 0,"
    " autocommit = 1,"
    f" lock_wait_timeout = {LOCK_WAIT_SECONDS}, innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS},"
    " max_execution_time = 0, information_schema_stats_expiry = 0,"
    " show_gipk_in_create_table_and_information_schema = ON,"
    " transaction_isolation = 'READ-COMMITTED'"
)

_UNREACHABLE = frozenset({2002, 2003, 2005, 2006, 2013, 2055, 1053, 1077, 1079, 1080, 3169, 4031})
_LOGIN = frozenset({1045, 1130, 1524, 1698, 1862, 2058, 2059, 2061, 3118, 3159, 3878, 3955, 4020})
_PRIVILEGE = frozenset({1044, 1142, 1143, 1227, 1370, 1410})
_UNTRUSTED_TRIGGER = 1419
_LATER = frozenset({1040, 1203, 1213, 1226, 1317, 3101, 3024})
_LOCKED = frozenset({1205, 3572})


class Login(Protocol):
    """User and password of a MySQL account."""

    @property
    def user(self) -> str: ...

    @property
    def password(self) -> str: ...


class _Connection(aiomysql.Connection):
    """The driver falls back to plain text when a server offers no TLS; this one refuses."""

    async def _request_authentication(self) -> None:
        if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
            raise ssl.SSLError("the server does not offer TLS")
        await super()._request_authentication()


class _Cursor(aiomysql.Cursor):
    """The driver asks for warnings after each statement; nobody reads them here."""

    async def _show_warnings(self, conn: object) -> None:
        return None


class Control:
    """One session.  Not for use by two tasks at once.

    Errors: :class:`Retry` (unreachable, deadlock, too many connections),
    :class:`Busy` (a lock was not to be had in time), :class:`Refused` for everything
    that will not go away by itself; :func:`code_of` gives MySQL's number.
    """

    def __init__(self, connection: aiomysql.Connection, server: str) -> None:
        self._connection = connection
        self.server = server

    async def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple]:
        """All rows of a query; ``%s`` stands for each parameter."""
        async with self._cursor(sql, parameters) as cursor:
            return list(await cursor.fetchall())

    async def row(self, sql: str, parameters: Sequence[object] = ()) -> tuple | None:
        """The first row, or None."""
        found = await self.rows(sql, parameters)
        return found[0] if found else None

    async def value(self, sql: str, parameters: Sequence[object] = ()) -> Any:
        """The first column of the first row, or None."""
        found = await self.row(sql, parameters)
        return found[0] if found else None

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        """Run a statement; the number of rows that it changed."""
        async with self._cursor(sql, parameters) as cursor:
            return cursor.rowcount

    def literal(self, sql: str, parameters: Sequence[object] = ()) -> str:
        """``sql`` with its parameters written out, as it would be sent."""
        return sql % tuple(map(self._connection.escape, parameters)) if parameters else sql

    async def variable(self, name: str) -> str | None:
        """The global value of a system variable, or None if this server has no such variable."""
        found = await self.row("SHOW GLOBAL VARIABLES WHERE Variable_name = %s", (name,))
        return found and found[1]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Control"]:
        """Commit at the end of the block, roll back where it raises."""
        await self.execute("START TRANSACTION")
        try:
            yield self
        except BaseException:
            if not self._connection.closed:
                await self.execute("ROLLBACK")
            raise
        await self.execute("COMMIT")

    async def close(self) -> None:
        """End the session; quiet about a connection that is gone already."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._connection.ensure_closed()
        except (OSError, TimeoutError, pymysql.MySQLError, RuntimeError):
            self._connection.close()

    async def __aenter__(self) -> "Control":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @asynccontextmanager
    async def _cursor(self, sql: str, parameters: Sequence[object]) -> AsyncIterator[Any]:
        answered = False
        try:
            cursor = await self._connection.cursor(_Cursor)
            await cursor.execute(sql, tuple(parameters) or None)
            yield cursor
            await cursor.close()
            answered = True
        except (pymysql.MySQLError, OSError, EOFError) as error:
            answered = isinstance(error, pymysql.MySQLError)
            raise translated(error, self.server, sql) from error
        finally:
            if not answered:
                self._connection.close()


async def connect(region: Region, login: Login, *, database: str | None = None) -> Control:
    """Open a session with the MySQL of ``region``.

    Refused: the login, the certificate, or a server that is not MySQL 8.0.30 or later.
    Retry: the server cannot be reached within ``CONNECT_SECONDS``.
    """
    return await connect_to(region.mysql, login, server=region.name, database=database)


async def connect_to(
    address: MysqlAddress, login: Login, *, server: str, database: str | None = None
) -> Control:
    """As :func:`connect`; ``server`` is the name of the region, for messages."""
    name = f"{server} ({address})"
    connection = _Connection(
        host=address.host or "localhost",
        port=address.port,
        unix_socket=address.socket,
        user=login.user,
        password=login.password,
        db=database,
        charset="utf8mb4",
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        ssl=tls_context(address, name),
    )
    # The driver's own time-out covers only the TCP handshake.
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection._connect()
    except TimeoutError as error:
        connection.close()
        raise Retry(
            f"the MySQL of region {name} did not answer within {CONNECT_SECONDS:g} s",
            "check that the server runs and that the address in the topology is right",
        ) from error
    except (pymysql.MySQLError, OSError, EOFError) as error:
        raise translated(error, name, f"login as {login.user!r}") from error
    control = Control(connection, name)
    try:
        _require_version(connection.get_server_info(), name)
        await control.execute(_SESSION)
    except BaseException:
        await control.close()
        raise
    return control


def tls_context(address: MysqlAddress, server: str) -> ssl.SSLContext | None:
    """The TLS settings for a connection to ``address``, or None for a plain one."""
    if address.tls is None or address.socket is not None:
        return None
    return client_context(address.tls, f"region {server}")


def code_of(error: MeshError) -> int:
    """MySQL's number of the error behind ``error``, or 0."""
    cause = error.__cause__
    return _number(cause) if isinstance(cause, pymysql.MySQLError) else 0


def translated(error: Exception, server: str, doing: str) -> MeshError:
    """The driver's ``error`` as one of the mesh's reactions, with server, statement and remedy."""
    code = _number(error)
    text = str(error.args[1]) if code and len(error.args) > 1 else str(error)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return Refused(
                f"TLS with the MySQL of region {server} failed: {cause}",
                "check tls.ca and tls.verify in the topology against the server's certificate",
            )
        cause = cause.__cause__ or cause.__context__
    if code in _LOGIN:
        return Refused(
            f"the MySQL of region {server} refused the {doing}: {code} {text}",
            "check user and password of the account; `meshnode init --all --print-grants` prints "
            "the statements that make it",
        )
    # Without a number it comes from the driver: the connection is closed or out of step.
    if code in _UNREACHABLE or not code:
        return Retry(
            f"no connection to the MySQL of region {server}: {text or type(error).__name__}",
            "check that the server runs and that the address in the topology is right",
        )
    what = f"region {server}: {code} {text} ({_shortened(doing)})"
    if code == _UNTRUSTED_TRIGGER:
        return Refused(what, "SET PERSIST log_bin_trust_function_creators = ON, then try again")
    if code in _PRIVILEGE:
        return Refused(
            what,
            "grant the missing privilege; `meshnode init --all --print-grants` prints all of them",
        )
    if code in _LOCKED:
        return Busy(what, "end or wait for the client transaction that holds the lock")
    if code in _LATER:
        return Retry(what)
    return Refused(what, "see the MySQL manual for this error number")


def _number(error: BaseException) -> int:
    code = error.args[0] if error.args and isinstance(error, pymysql.MySQLError) else 0
    return code if isinstance(code, int) else 0


def _shortened(sql: str, limit: int = 160) -> str:
    text = " ".join(sql.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _require_version(version: str, server: str) -> None:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    number = tuple(int(part) for part in found.groups()) if found else (0,)
    if "MariaDB" in version or number < MINIMUM_VERSION:
        wanted = ".".join(str(part) for part in MINIMUM_VERSION)
        raise Refused(f"the server of region {server} is {version}", f"use MySQL {wanted} or later")
