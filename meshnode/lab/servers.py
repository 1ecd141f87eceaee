"""One MySQL server in a folder of its own: start, stop, kill, freeze, find again.

Theory of operation.  Everything of a server lies in its folder: ``data``,
``error.log``, ``process.pid`` and ``server.json``, which holds what is needed
to take the server up again (``Server.open``) from any later process.  A server
is not a child to be watched but a folder to be looked at: whether it runs is
decided by its pid file and the kernel, never by what this object remembers, so
several processes may hold the same server and a server survives the command
that started it.

Ready means that a client has logged in over TCP.  A server that dies before
that is reported with the end of its error log.  Every method blocks; the
``*_async`` twins run it in a thread.
"""

import asyncio
import json
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pymysql

from meshnode.errors import Refused, Retry
from meshnode.lab import files, processes
from meshnode.lab.cache import locked
from meshnode.lab.mysqld import Mysqld, copy_template, find_mysql8, find_mysqld
from meshnode.lab.options import Option, command_line, mesh_options

__all__ = ["Mysqld", "Option", "Server", "find_mysql8", "find_mysqld"]

HOST = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = 120.0
PORT_ATTEMPTS = 5
PORT_TAKEN = ("Bind on TCP/IP port", "another mysqld server running on port")
ACCESS_DENIED = 1045
DESCRIPTION = "server.json"


class Server(processes.Found):
    """A mysqld whose files all lie in the folder ``directory``.

    ``port`` None takes a free one at the first start and keeps it.
    ``options`` are server variables over the defaults of ``options.py``; a
    value None takes a default away.  ``auto_increment`` is the pair
    (increment, offset).  ``password`` is that of root, set at the first start.
    With ``die_with_parent`` the server is killed when this interpreter ends.
    """

    host = HOST
    user = "root"

    def __init__(
        self,
        mysqld: Mysqld,
        directory: Path | str,
        server_id: int,
        port: int | None = None,
        options: Mapping[str, Option] | None = None,
        auto_increment: tuple[int, int] = (1, 1),
        password: str = "",
        die_with_parent: bool = False,
    ) -> None:
        self.mysqld = mysqld
        self.directory = Path(directory).absolute()
        self.server_id = server_id
        self.options = dict(options or {})
        self.auto_increment = auto_increment
        if not (password.isascii() and password.isprintable()):
            raise Refused(
                f"the root password for the server in {directory} is not printable ASCII",
                "choose another: drivers disagree on how to encode the rest",
            )
        self.password = password
        self.die_with_parent = die_with_parent
        self._port_given = port is not None
        kept = _kept(self.directory)
        self._port = port if port is not None or kept is None else kept["port"]
        self._socket = files.socket_path(self.directory)

    @classmethod
    def open(cls, directory: Path | str) -> "Server":
        """The server that an earlier process made in ``directory``, running or not.

        Raises ``Refused`` where there is none.
        """
        kept = _kept(Path(directory).absolute())
        if kept is None:
            raise Refused(
                f"{directory} holds no server.json: no server was ever started there",
                "start one there, or name another folder",
            )
        increment, offset = kept["auto_increment"]
        server = cls(
            Mysqld.from_fields(kept["mysqld"]),
            directory,
            kept["server_id"],
            kept["port"],
            kept["options"],
            (increment, offset),
            kept["password"],
        )
        server._socket = Path(kept["socket"])
        return server

    @property
    def port(self) -> int:
        """The TCP port; raises ``Refused`` before the first start if none was given."""
        if self._port is None:
            raise Refused(f"the server in {self.directory} was never started, so it has no port")
        return self._port

    @property
    def socket(self) -> Path:
        """The Unix socket; outside the folder where the folder's path is too long for one."""
        return self._socket

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def error_log(self) -> Path:
        """The server's error log, to which each start appends."""
        return self.directory / "error.log"

    def start(self, seconds: float = START_SECONDS) -> None:
        """Start the server and wait until a client can log in; only waits if it runs already.

        Raises ``Refused`` with the end of the error log if the server ends
        itself or the password is another one, ``Retry`` if it is not ready in
        time.  A server started here and not ready is killed again.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with locked(self._lock):
            if self.running:
                self._wait_until_ready(seconds)
                return
            if not self.data.is_dir():
                # First the statements: a data directory without them keeps the empty password.
                files.write_private(self._first_statements, self._set_password())
                copy_template(self.mysqld, self.data)
            self._start_on_some_port(seconds)
            self._first_statements.unlink(missing_ok=True)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Shut the server down cleanly (SIGTERM) and wait for its end; nothing if it is down.

        Raises ``Retry`` if it still runs after ``seconds``.
        """
        self.resume()  # a frozen process would not see the signal
        if not self._end(signal.SIGTERM, seconds):
            raise Retry(
                f"the server in {self.directory} (pid {self.pid}) has not shut down "
                f"within {seconds:g} s",
                f"read {self.error_log}; Server.kill ends it at once, as a crash would",
            )

    def kill(self, seconds: float = 30.0) -> None:
        """End the server as a crash does (SIGKILL) and wait for its end; nothing if it is down."""
        if not self._end(signal.SIGKILL, seconds):
            raise Retry(f"the killed server in {self.directory} has not ended in {seconds:g} s")

    def pause(self) -> None:
        """Freeze the server (SIGSTOP) and wait until it stands still: connections stay open and
        nothing answers.
        """
        if not self._freeze():
            raise Refused(f"the server in {self.directory} does not run", "start it first")

    def restart(self, seconds: float = START_SECONDS) -> None:
        """Shut down cleanly, then start; the port stays."""
        self.stop()
        self.start(seconds)

    def remove(self) -> None:
        """Kill the server and delete its folder with all data."""
        self.kill()
        if self.directory.is_dir():
            with locked(self._lock):  # a start under way in another thread comes to its end
                self.kill()
                shutil.rmtree(self.directory, ignore_errors=True)
        if self._socket.parent != self.directory:
            shutil.rmtree(self._socket.parent, ignore_errors=True)

    async def start_async(self, seconds: float = START_SECONDS) -> None:
        """``start`` in a thread."""
        await asyncio.to_thread(self.start, seconds)

    async def stop_async(self, seconds: float = STOP_SECONDS) -> None:
        """``stop`` in a thread."""
        await asyncio.to_thread(self.stop, seconds)

    async def kill_async(self) -> None:
        """``kill`` in a thread."""
        await asyncio.to_thread(self.kill)

    def error_log_tail(self, lines: int = 20) -> str:
        """The last lines of the error log; empty where there is none."""
        return files.last_lines(self.error_log, lines)

    def connect(self, **arguments: object) -> pymysql.Connection:
        """A blocking connection as root over TCP, for set-up and tests; the caller closes it."""
        wanted = {"connect_timeout": 10, "autocommit": True, **arguments}
        return pymysql.connect(
            host=HOST, port=self.port, user=self.user, password=self.password, **wanted
        )

    def client_argv(self) -> list[str]:
        """The command line of a ``mysql`` client at this server; the password goes in MYSQL_PWD.

        Raises ``Refused`` where this MySQL came without a client.
        """
        if self.mysqld.client_argv is None:
            raise Refused(
                f"the MySQL of {self.mysqld.basedir} has no mysql client",
                "install one and put it on PATH",
            )
        address = [f"--host={HOST}", f"--port={self.port}", f"--user={self.user}"]
        return [*self.mysqld.client_argv, "--no-defaults", *address]

    def _start_on_some_port(self, seconds: float) -> None:
        # Clients keep the address, so the port moves only until the server first was ready.
        movable = not self._port_given and self._first_statements.exists()
        attempts = PORT_ATTEMPTS if movable else 1
        for attempt in range(1, attempts + 1):
            if movable:
                self._port = processes.free_port(HOST)
            log_before = files.size(self.error_log)
            try:
                self._spawn()
                self._wait_until_ready(seconds)
                return
            except Refused:
                self.kill()
                said = files.text_from(self.error_log, log_before)
                if attempt == attempts or not any(words in said for words in PORT_TAKEN):
                    raise
            except BaseException:
                self.kill()
                raise

    def _spawn(self) -> None:
        files.own_folder(self._socket.parent)
        for stale in (self._socket, self._socket.with_name(self._socket.name + ".lock")):
            # After SIGKILL the lock names a process id that somebody else may have by now.
            stale.unlink(missing_ok=True)
        (self.directory / "tmp").mkdir(exist_ok=True)
        own: dict[str, Option] = {
            "datadir": str(self.data),
            "socket": str(self._socket),
            "pid_file": str(self.directory / "mysqld.pid"),
            "log_error": str(self.error_log),
            "tmpdir": str(self.directory / "tmp"),
            "bind_address": HOST,
            "port": self.port,
        }
        if self._first_statements.exists():
            own["init_file"] = str(self._first_statements)
        variables = mesh_options(self.server_id, self.auto_increment) | self.options
        # Before the start: a starter that dies now must leave a server that can be found.
        files.write_private(self.directory / DESCRIPTION, self._description())
        child = processes.spawn(
            [*self.mysqld.arguments(), *command_line(own), *command_line(variables)],
            output=self.error_log,
            folder=self.directory,
            die_with_parent=self.die_with_parent,
        )
        files.write_private(self._pid_file, f"{child}\n")

    def _wait_until_ready(self, seconds: float) -> None:
        last: Exception | None = None
        for _ in processes.until(time.monotonic() + seconds):
            if not self.running:
                raise Refused(
                    f"the MySQL server in {self.directory} has ended itself; the end of "
                    f"{self.error_log}:\n{self.error_log_tail(12)}",
                    "correct what the last [ERROR] lines name",
                )
            try:
                if self._answers():
                    return
            except pymysql.MySQLError as error:
                last = error
                if error.args and error.args[0] == ACCESS_DENIED:
                    raise Refused(
                        f"the MySQL server in {self.directory} refuses root's login: {error}",
                        "give the password of its first start, or look into its server.json",
                    ) from error
        raise Retry(
            f"the MySQL server in {self.directory} is not ready after {seconds:g} s ({last}); "
            f"the end of {self.error_log}:\n{self.error_log_tail(12)}",
            "is it frozen, or the machine overloaded?",
        )

    def _answers(self) -> bool:
        """Whether it is this server, and no other on its port, that lets root in."""
        connection = self.connect(connect_timeout=2, read_timeout=5)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT @@GLOBAL.datadir")
                row = cursor.fetchone()
        finally:
            connection.close()
        return row is not None and Path(row[0]).resolve() == self.data.resolve()

    @property
    def _marker(self) -> str:
        return f"--datadir={self.data}"

    @property
    def _pid_file(self) -> Path:
        # Not the server's own mysqld.pid: that one comes late and goes before the process ends.
        return self.directory / "process.pid"

    @property
    def _lock(self) -> Path:
        return self.directory / "start.lock"

    @property
    def _first_statements(self) -> Path:
        """Statements for the first start; the file is there until that start was successful."""
        return self.directory / "first.sql"

    def _set_password(self) -> str:
        # Not in the binary log: these accounts are the server's own, not the mesh's.
        quoted = self.password.replace("\\", "\\\\").replace("'", "''")
        return (
            "SET SESSION sql_log_bin = 0;\n"
            f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{quoted}';\n"
            f"ALTER USER 'root'@'%' IDENTIFIED BY '{quoted}';\n"
        )

    def _description(self) -> str:
        described = {
            "mysqld": self.mysqld.to_fields(),
            "server_id": self.server_id,
            "port": self.port,
            "options": self.options,
            "auto_increment": self.auto_increment,
            "password": self.password,
            "socket": str(self._socket),
        }
        return json.dumps(described, indent=1) + "\n"


def _kept(directory: Path) -> dict[str, Any] | None:
    """What ``server.json`` of the folder holds; None where there is none."""
    try:
        return json.loads((directory / DESCRIPTION).read_text())
    except FileNotFoundError:
        return None
