"""MySQL servers shared by the tests of one session.

Theory of operation.  A start costs more than a second, so servers are kept
and, before a test gets one, brought back to the state of a fresh start:
connections killed, global variables as they were, prepared transactions
rolled back, schemas and accounts dropped, binary logs and GTIDs reset.  A
server for which that fails is thrown away and replaced.

All of it lies in one temporary folder that names the process id of the
session, so that a later session can clear away what a killed one left.  The
servers themselves die with their session in any case.
"""

import contextlib
import itertools
import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pymysql

from meshnode.errors import MeshError
from meshnode.lab.servers import Mysqld, Option, Server

PASSWORD = "test"
FOLDER_PREFIX = "meshnode-test-"
SYSTEM_SCHEMAS = {"mysql", "sys", "information_schema", "performance_schema"}
SYSTEM_ACCOUNTS = {"root", "mysql.sys", "mysql.session", "mysql.infoschema"}
# They change by themselves or say the same as the GTID reset.
VOLATILE = {"gtid_executed", "gtid_purged", "timestamp", "rand_seed1", "rand_seed2"}


class ServerPool:
    """Servers of one test session; ``take`` gives clean shared ones, ``make`` new ones."""

    def __init__(self, mysqld: Mysqld) -> None:
        self._mysqld = mysqld
        remove_leftovers()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        self._numbers = itertools.count(1001)
        self._shared: dict[int, Server] = {}
        self._initial: dict[int, dict[str, str]] = {}
        self._lent: set[int] = set()

    def take(self, count: int) -> list[Server]:
        """``count`` running clean servers that no other caller of this test has."""
        places = [place for place in range(len(self._shared) + count) if place not in self._lent]
        places = places[:count]
        self._lent.update(places)
        with ThreadPoolExecutor(max_workers=4) as workers:
            return list(workers.map(self._ready, places))

    def give_back(self) -> None:
        """The test is over: its servers may be taken again."""
        self._lent.clear()

    def make(
        self,
        options: dict[str, Option] | None = None,
        *,
        auto_increment: tuple[int, int] = (1, 1),
        mysqld: Mysqld | None = None,
    ) -> Server:
        """A server of the caller's own, not started; the caller removes it."""
        number = next(self._numbers)
        return Server(
            mysqld or self._mysqld,
            self._folder / f"server-{number}",
            server_id=number,
            options=options,
            auto_increment=auto_increment,
            password=PASSWORD,
            die_with_parent=True,
        )

    def close(self) -> None:
        """Kill all servers and delete the folder."""
        for server in self._shared.values():
            server.remove()
        self._shared.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ready(self, place: int) -> Server:
        if place in self._shared:
            if self._cleaned(place):
                return self._shared[place]
            self._shared.pop(place).remove()
        server = self.make()
        self._shared[place] = server  # before the start, so that ``close`` knows it
        server.start()
        with server.connect() as connection:
            self._initial[place] = _global_variables(connection)
        return server

    def _cleaned(self, place: int) -> bool:
        server = self._shared[place]
        try:
            if not server.running:
                return False
            server.resume()
            with server.connect(read_timeout=20) as connection:
                _clean(connection, self._initial[place])
                return _differing(_global_variables(connection), self._initial[place]) == {}
        except (pymysql.MySQLError, MeshError, KeyError):  # no entry: its first start failed
            return False


def _clean(connection: pymysql.Connection, initial: dict[str, str]) -> None:
    """Bring the server to the state of a fresh start, as far as SQL can."""
    cursor = connection.cursor()
    cursor.execute("SELECT id, user FROM information_schema.processlist")
    for number, user in cursor.fetchall():
        if number != connection.thread_id() and user not in ("system user", "event_scheduler"):
            with contextlib.suppress(pymysql.MySQLError):  # it has ended by itself
                cursor.execute(f"KILL {number}")
    cursor.execute("RESET PERSIST")
    for name, value in _differing(_global_variables(connection), initial).items():
        shown = value if re.fullmatch(r"-?\d+(\.\d+)?", value) else connection.escape(value)
        cursor.execute(f"SET GLOBAL {name} = {shown}")
    cursor.execute("XA RECOVER CONVERT XID")
    for format_id, global_length, _, data in cursor.fetchall():
        digits = data.removeprefix("0x")
        globally, branch = digits[: 2 * global_length], digits[2 * global_length :]
        cursor.execute(f"XA ROLLBACK X'{globally}', X'{branch}', {format_id}")
    cursor.execute("SET SESSION foreign_key_checks = 0")
    cursor.execute("SET SESSION lock_wait_timeout = 10")
    cursor.execute("SHOW DATABASES")
    for (schema,) in cursor.fetchall():
        if schema not in SYSTEM_SCHEMAS:
            cursor.execute(f"DROP DATABASE `{schema.replace('`', '``')}`")
    cursor.execute("SELECT user, host FROM mysql.user")
    for user, host in cursor.fetchall():
        if user not in SYSTEM_ACCOUNTS:
            cursor.execute("DROP USER %s@%s", (user, host))
    modern = _release(connection) >= (8, 2)
    cursor.execute("RESET BINARY LOGS AND GTIDS" if modern else "RESET MASTER")


def _global_variables(connection: pymysql.Connection) -> dict[str, str]:
    cursor = connection.cursor()
    cursor.execute("SHOW GLOBAL VARIABLES")
    return {name: value for name, value in cursor.fetchall() if name not in VOLATILE}


def _differing(now: dict[str, str], initial: dict[str, str]) -> dict[str, str]:
    """The variables that have changed, with their initial values."""
    return {name: value for name, value in initial.items() if now.get(name) != value}


def _release(connection: pymysql.Connection) -> tuple[int, int]:
    major, minor = connection.get_server_info().split(".")[:2]
    return int(major), int(minor)


def remove_leftovers() -> None:
    """Delete the folders of earlier sessions that no longer run."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        number = re.match(rf"{FOLDER_PREFIX}(\d+)-", folder.name)
        if number and not Path(f"/proc/{number[1]}").exists():
            shutil.rmtree(folder, ignore_errors=True)
