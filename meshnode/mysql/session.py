"""The hot connections: a pinned MySQL session over asyncmy.

A session is what decides how rows land, so every variable that matters is set
or, where setting it would need a privilege the account should not have,
asserted.  A connection that was cancelled or lost in the middle of an answer is
closed and never used again: the next query would read the former answer.

Errors of the driver are translated here, by number, into the reactions of
:mod:`meshnode.errors`; nothing is retried.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from asyncmy import converters
from asyncmy import errors as driver
from asyncmy.connection import Connection
from asyncmy.constants import FIELD_TYPE
from asyncmy.constants.CLIENT import FOUND_ROWS

from meshnode import limits
from meshnode.core.settings import SETTINGS
from meshnode.errors import Busy, Halt, MeshError, Refused, Replan, Retry, RowError
from meshnode.mysql.control import CONNECT_SECONDS, WHAT_IS_READ, Login, tls_context
from meshnode.topology import Region

SQL_MODE = "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,STRICT_ALL_TABLES"

IDLE_SECONDS = 10.0
"""Well below ``wait_timeout``, which is short so that a lost session lets go of its locks."""

_SILENCE = {
    "TCP_KEEPIDLE": 10,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 4,
    "TCP_USER_TIMEOUT": 60_000,
}
"""Seconds, seconds, probes, milliseconds; options that the system does not have are left out."""

PACKET_MARGIN = 32
"""Bytes of a packet that are not the statement's, rounded up."""

_PINNED = (
    f"SET {WHAT_IS_READ}, sql_mode = '{SQL_MODE}', time_zone = '+00:00',"
    " transaction_isolation = 'READ-COMMITTED', wait_timeout = 30,"
    f" innodb_lock_wait_timeout = {int(limits.LOCK_WAIT_SECONDS)}, lock_wait_timeout = 5,"
    " max_execution_time = 0, completion_type = 0, range_optimizer_max_mem_size = 0,"
    " foreign_key_checks = 1, unique_checks = 1, autocommit = 1,"
    " show_gipk_in_create_table_and_information_schema = ON, information_schema_stats_expiry = 0"
)

_ASSERTED = {
    "sql_log_bin": "1",
    "rbr_exec_mode": "STRICT",
    "binlog_transaction_compression": "0",
    "binlog_row_image": "FULL",
    "binlog_row_value_options": "",
    "gtid_next": "AUTOMATIC",
    # BINLOG heeds it, too: rows would be left out of an event without an error.
    "replica_skip_errors": "OFF",
    # After a 1205 the savepoints of a transaction would be gone.
    "innodb_rollback_on_timeout": "0",
}

_AT_START = {setting.variable: setting.remedy for setting in SETTINGS if setting.at_start}
"""What corrects those that the server reads only when it starts; sessions have no value of them."""

_SESSION_ONLY = frozenset({"sql_log_bin", "rbr_exec_mode", "gtid_next"})
"""Those that have no global value: a new session has another one only by ``init_connect``."""

_LOST = frozenset({2002, 2003, 2005, 2006, 2013, 2014, 2055, 4031, 1053, 1077, 1079, 1080, 1317})
_DEADLOCK = 1213
_WAITED = 1205
_LOCKED = frozenset({_WAITED, 3572})
_LOGIN = frozenset({1045, 1130, 1524, 1698, 1862, 2058, 2059, 2061, 3118, 3955})
_SURPRISE = frozenset({1032})
_ROW = frozenset(
    {
        1048, 1062, 1118, 1169, 1264, 1265, 1292, 1364, 1366, 1367, 1406, 1411, 1416, 1451, 1452,
        1526, 1557, 1586, 1690, 1713, 1748, 1761, 1762, 3140, 3156, 3157, 3643, 3819,
        # Of functional indexes; 1235 is an object where a multi-valued index wants an array.
        1235, 3037, 3141, 3143, 3144, 3146, 3516, 3616, 3617, 3726, 3751, 3752,
        3903, 3904, 3905, 3906, 3907, 3908, 3966, 3967, 6138,
    }
)  # fmt: skip
"""Numbers that say: this row cannot stand in this table.

There are more: an index may be of any function.  One that is not here is tried again, and shown as
a halt if it stays.
"""
_UNTOLD = 1105
"""Of ``BINLOG``: for every reason that has no number of its own, whatever it was."""

_STOP = frozenset(
    {1044, 1049, 1054, 1142, 1143, 1146, 1197, 1227, 1535, 1609, 1677, 1678, 1782, 1840, 3085}
)
"""Numbers that will not go away by themselves and do not concern one row."""


_INTEGERS = {
    code: converters.conversions[code]
    for code in (
        FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG,
    )
}  # fmt: skip
"""Integers come as ``int``; everything else stays as the server wrote it."""


class Answer(NamedTuple):
    """What a statement of a script gave: its rows, and how many it matched."""

    rows: Sequence[tuple]
    found: int


class Session:
    """One pinned connection.  Not for use by two tasks at once.

    ``found`` counts the rows that the last statement matched.
    """

    def __init__(self, connection: Connection, server: str) -> None:
        self._connection = connection
        self.server = server
        self.found = 0
        self.answers: list[Answer] = []
        self._used = time.monotonic()
        self.max_packet = 0
        """The server's limit for one statement, in bytes; 0 until it is known."""
        self.format: bytes | None = None
        """The format description that BINLOG statements of this session follow now."""

    @property
    def thread_id(self) -> int:
        return self._connection.thread_id()

    async def query(self, sql: str | bytes) -> Sequence[tuple]:
        """Run one statement; its rows, in the driver's types.

        Raises Busy (locked), Replan (1032), RowError (the row cannot stand here),
        Halt (privileges, missing tables, a statement larger than the server takes:
        it would end the connection, and every new one), Retry (everything else).
        """
        self._used = time.monotonic()
        if isinstance(sql, str):
            sql = sql.encode("utf-8", "surrogateescape")
        if 0 < self.max_packet < len(sql) + PACKET_MARGIN:
            raise Halt(
                f"{self.server}: a statement of {len(sql)} bytes ({sql[:40].decode('latin-1')}...) "
                f"does not fit max_allowed_packet ({self.max_packet} bytes)",
                f"SET GLOBAL max_allowed_packet to more than {len(sql) + PACKET_MARGIN} there; "
                "it is tried again by itself",
            )
        return await self._read(self._connection.query(sql))

    async def _read(self, answer: Awaitable[int]) -> Sequence[tuple]:
        try:
            self.found = await answer
            result = self._connection._result
            return result.rows or ()
        except asyncio.CancelledError:
            self.close()
            raise
        except (driver.MySQLError, OSError, RuntimeError) as error:
            translated = translate(error, self.server)
            if translated.lost:
                self.close()
            raise translated.error from error

    async def script(self, statements: Sequence[bytes]) -> list[Answer]:
        """Run ``statements`` in order; an error stops those behind it.

        As many as the server takes go in one packet, so the answers of all of them cost
        one round trip.  Errors as for :meth:`query`; ``answers`` then has those of the
        statements before the one that failed.
        """
        answers = self.answers = []
        for packet in self._packets(statements):
            rows = await self.query(b";".join(packet))
            answers.append(Answer(rows, self.found))
            for _ in packet[1:]:
                rows = await self._read(self._connection.next_result())
                answers.append(Answer(rows, self.found))
        return answers

    def _packets(self, statements: Sequence[bytes]) -> Iterator[list[bytes]]:
        packet: list[bytes] = []
        size = PACKET_MARGIN
        for statement in statements:
            if packet and 0 < self.max_packet < size + len(statement) + 1:
                yield packet
                packet, size = [], PACKET_MARGIN
            packet.append(statement)
            size += len(statement) + 1
        if packet:
            yield packet

    async def keep_alive(self) -> None:
        """Say something to the server if nothing was said for a while: it ends idle sessions."""
        if time.monotonic() - self._used > IDLE_SECONDS:
            await self.query(b"DO 0")

    async def value(self, sql: str) -> object:
        """The first column of the first row, or ``None``."""
        rows = await self.query(sql)
        return rows[0][0] if rows else None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """A transaction around a block: committed at its end, undone when anything is raised."""
        await self.query(b"BEGIN")
        try:
            yield
            await self.query(b"COMMIT")
        except BaseException:
            if not self.closed:
                await self.rollback()
            raise

    async def rollback(self) -> None:
        """Undo the transaction; a session that cannot is closed."""
        try:
            await self.query(b"ROLLBACK")
        except MeshError:
            self.close()

    @property
    def closed(self) -> bool:
        return not self._connection.connected

    def close(self) -> None:
        """Drop the connection at once; the server rolls back."""
        self._connection.close()


class _Translated:
    def __init__(self, error: MeshError, lost: bool = False) -> None:
        self.error = error
        self.lost = lost


def names_no_table(error: MeshError) -> bool:
    """Whether a statement failed because its table or schema does not exist."""
    cause = error.__cause__
    return isinstance(cause, driver.MySQLError) and cause.args[:1] in ((1146,), (1049,))


def translate(error: Exception, server: str) -> _Translated:
    """The driver's ``error`` as a reaction."""
    args = error.args
    code = args[0] if isinstance(error, driver.MySQLError) and args else 0
    code = code if isinstance(code, int) else 0
    text = str(args[1]) if code and len(args) > 1 else str(error)
    what = f"MySQL of {server}: {code} {text}" if code else f"MySQL of {server}: {text}"
    if code in _LOCKED:
        return _Translated(Busy(what, waited=code == _WAITED))
    if code in _SURPRISE:
        return _Translated(Replan(what))
    if code in _ROW:
        return _Translated(RowError(what, code))
    if code in _LOGIN:
        return _Translated(
            Refused(
                what, "check the account: `meshnode init --all --print-grants` shows what it needs"
            ),
            lost=True,
        )
    if code == _UNTOLD:
        return _Translated(
            Halt(
                f"{what} (all that MySQL says of rows that it does not take: a table was changed at"
                " this moment and they do not fit it, or the account may not write it)",
                "it is tried again by itself, and a definition that differs is named then; if this"
                " stays, `meshnode doctor` names the grants that are missing",
            )
        )
    if code in _STOP:
        return _Translated(
            Halt(what, "check the table and the account's grants: `meshnode doctor` names them")
        )
    lost = code == 0 or code in _LOST
    return _Translated(Retry(what, code=0 if lost or code == _DEADLOCK else code), lost)


async def connect_raw(region: Region, login: Login, name: str) -> Connection:
    """A bare asyncmy connection, logged in; ``name`` shows up in the server's process list."""
    address = region.mysql
    connection = Connection(
        host=address.host or "localhost",
        port=address.port,
        unix_socket=address.socket,
        user=login.user,
        password=login.password,
        charset="utf8mb4",
        autocommit=None,
        connect_timeout=CONNECT_SECONDS,
        client_flag=FOUND_ROWS,
        program_name=f"meshnode {name}",
        ssl=tls_context(address, region.name),
        conv=_INTEGERS,
    )
    try:
        async with asyncio.timeout(CONNECT_SECONDS + 1):
            await connection.connect()
    except TimeoutError as error:
        connection.close()
        raise Retry(f"the MySQL of {region.name} ({address}) did not answer in time") from error
    except (driver.MySQLError, OSError, RuntimeError) as error:
        raise translate(error, f"{region.name} ({address})").error from error
    _notice_silence(connection)
    return connection


def _notice_silence(connection: Connection) -> None:
    """Have the kernel end the connection when the server's machine answers no more.

    A machine that lost its power or its network sends no reset.  Without this a
    statement would wait for its answer for hours; a slow one may take its time.
    """
    wire = connection._transport.get_extra_info("socket")
    if wire is None or wire.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for option, value in _SILENCE.items():
        number = getattr(socket, option, None)
        if number is not None:
            wire.setsockopt(socket.IPPROTO_TCP, number, value)


def require_asserted(server: str, values: Mapping[str, object]) -> None:
    """Refused where a new session of ``server`` has another value of an asserted variable."""
    for variable, wanted in _ASSERTED.items():
        value = values[variable]
        found = "" if value is None else str(value)
        if found == wanted:
            continue
        remedy = f"take {variable} out of @@GLOBAL.init_connect"
        if variable in _AT_START:
            remedy = _AT_START[variable]
        elif variable not in _SESSION_ONLY:
            literal = wanted if wanted.isdecimal() else f"'{wanted}'"
            remedy = f"SET PERSIST {variable} = {literal}, and {remedy} if it is there"
        raise Refused(f"{server}: variable {variable} is {found!r}, not {wanted!r}", remedy)


async def connect(region: Region, login: Login, name: str) -> Session:
    """A pinned session with the MySQL of ``region``.

    Raises Refused when a variable that cannot be set by the account has a value
    under which rows would land differently; Retry when the server is away.
    """
    session = Session(await connect_raw(region, login, name), f"{region.name} ({region.mysql})")
    try:
        await session.query(_PINNED)
        session.max_packet = int(str(await session.value("SELECT @@max_allowed_packet")))
        names = ", ".join(f"@@{variable}" for variable in _ASSERTED)
        values = (await session.query(f"SELECT {names}"))[0]
        require_asserted(session.server, dict(zip(_ASSERTED, values, strict=True)))
    except BaseException:
        session.close()
        raise
    return session
