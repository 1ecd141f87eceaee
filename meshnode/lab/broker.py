"""One Apache Kafka broker in a folder of its own: start, stop, kill, freeze, find again.

Theory of operation.  The broker is its own controller (KRaft, combined mode) and
keeps everything in its folder: ``data``, ``server.properties``, ``broker.log``,
``process.pid`` and ``broker.json``, from which any later process takes it up
(``Broker.open``).  As with :mod:`meshnode.lab.servers`, whether it runs is
decided by the pid file and the kernel.  Ports are chosen once and kept, because
clients keep the address.

The broker may demand TLS and SCRAM of its clients: then the properties that
the caller gives in ``options`` say how, and users are written into the storage
when it is formatted.
"""

import asyncio
import json
import signal
import socket
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meshnode.errors import Refused, Retry
from meshnode.lab import files, processes
from meshnode.lab.cache import locked
from meshnode.lab.fetch import run_to_end
from meshnode.lab.kafka_jars import Kafka

HOST = "127.0.0.1"
START_SECONDS = 120.0
STOP_SECONDS = 60.0
DESCRIPTION = "broker.json"
HEAP = "512m"
JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""The optimising compiler takes more of a lab's processors than it ever gives back: without it a
broker starts with half the work, and its first thousands of requests cost less, too."""

STARTED = "Kafka Server started"

_LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1} %m%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
"""

_DEFAULTS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "CLIENTS",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # One broker has no replica to take over from, so durable means the disk.
    "log.flush.interval.messages": "1",
    "log.cleaner.dedupe.buffer.size": str(4 * 2**20),
}


class Broker(processes.Found):
    """A broker whose files all lie in ``directory``.

    ``protocol`` is the security protocol of the clients' listener, whose name is CLIENTS;
    ``scram`` maps users to passwords.  ``options`` are properties that go over everything.
    """

    host = HOST

    def __init__(
        self,
        kafka: Kafka,
        directory: Path | str,
        *,
        protocol: str = "PLAINTEXT",
        options: Mapping[str, str] | None = None,
        scram: Mapping[str, str] | None = None,
        ports: tuple[int, int] | None = None,
        die_with_parent: bool = False,
    ) -> None:
        self.kafka = kafka
        self.directory = Path(directory).absolute()
        self.protocol = protocol
        self.options = dict(options or {})
        self.scram = dict(scram or {})
        self.die_with_parent = die_with_parent
        self._ports = ports

    @classmethod
    def open(cls, directory: Path | str) -> "Broker":
        """The broker that an earlier process made in ``directory``; Refused where there is none."""
        path = Path(directory).absolute() / DESCRIPTION
        try:
            kept: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            raise Refused(
                f"{directory} holds no {DESCRIPTION}: no broker was ever started there",
                "start one there, or name another folder",
            ) from None
        kafka = Kafka(Path(kept["jars"]), kept["java"], kept["version"])
        client, controller = kept["ports"]
        return cls(
            kafka,
            directory,
            protocol=kept["protocol"],
            options=kept["options"],
            ports=(client, controller),
        )

    @property
    def port(self) -> int:
        """The port for clients; raises ``Refused`` before the first start."""
        if self._ports is None:
            raise Refused(f"the broker in {self.directory} was never started, so it has no port")
        return self._ports[0]

    @property
    def bootstrap(self) -> str:
        """The address for clients, ``host:port``."""
        return f"{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        return self.directory / "broker.log"

    def start(self, seconds: float = START_SECONDS) -> None:
        """Start the broker and wait until it serves clients; nothing if it runs already.

        Raises ``Refused`` with the end of its log if it ends itself, ``Retry`` if it is not
        ready in time.  A broker started here and not ready is killed again.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with locked(self.directory / "start.lock"):
            if self.running:
                return
            if self._ports is None:
                self._ports = (processes.free_port(HOST), processes.free_port(HOST))
            self._write_files()
            if not (self.directory / "data/meta.properties").exists():
                self._format()
            before = files.size(self.log)
            self._spawn()
            try:
                self._wait_until_ready(seconds, before)
            except BaseException:
                self.kill()
                raise

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Shut down cleanly (SIGTERM) and wait; ``Retry`` if it still runs after ``seconds``."""
        self.resume()
        if not self._end(signal.SIGTERM, seconds):
            raise Retry(f"the broker in {self.directory} has not shut down in {seconds:g} s")

    def kill(self, seconds: float = 30.0) -> None:
        """End the broker as a crash does (SIGKILL) and wait for its end; nothing if it is down."""
        if not self._end(signal.SIGKILL, seconds):
            raise Retry(f"the killed broker in {self.directory} has not ended in {seconds:g} s")

    def pause(self) -> None:
        """Freeze the broker (SIGSTOP) and wait until it stands still: connections stay open and
        nothing answers.
        """
        if not self._freeze():
            raise Refused(f"the broker in {self.directory} does not run", "start it first")

    async def start_async(self, seconds: float = START_SECONDS) -> None:
        """``start`` in a thread."""
        await asyncio.to_thread(self.start, seconds)

    async def stop_async(self, seconds: float = STOP_SECONDS) -> None:
        """``stop`` in a thread."""
        await asyncio.to_thread(self.stop, seconds)

    async def kill_async(self) -> None:
        """``kill`` in a thread."""
        await asyncio.to_thread(self.kill)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the broker's log; empty where there is none."""
        return files.last_lines(self.log, lines)

    def _properties(self) -> dict[str, str]:
        client, controller = self._ports or (0, 0)
        return {
            **_DEFAULTS,
            "log.dirs": str(self.directory / "data"),
            "listeners": f"CLIENTS://{HOST}:{client},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"CLIENTS://{HOST}:{client}",
            "listener.security.protocol.map": f"CLIENTS:{self.protocol},CONTROLLER:PLAINTEXT",
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            **self.options,
        }

    def _write_files(self) -> None:
        lines = "".join(f"{name}={value}\n" for name, value in self._properties().items())
        files.write_private(self.directory / "server.properties", lines)
        files.write_private(self.directory / "log4j2.properties", _LOGGING)
        described = {
            "jars": str(self.kafka.jars),
            "java": self.kafka.java,
            "version": self.kafka.version,
            "protocol": self.protocol,
            "options": self.options,
            "ports": self._ports,
        }
        # Before the start: a starter that dies now must leave a broker that can be found.
        files.write_private(self.directory / DESCRIPTION, json.dumps(described, indent=1) + "\n")

    def _format(self) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        users = [
            part
            for user, password in self.scram.items()
            for part in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]")
        ]
        tool = self.kafka.command("kafka.tools.StorageTool", "-Xmx128m", *JVM, self._logging)
        properties = str(self.directory / "server.properties")
        # Joined by "=": an id may begin with "-".
        asked = [*tool, "format", f"--cluster-id={cluster}", "-c", properties, *users]
        run_to_end(asked, "Kafka's storage")

    def _spawn(self) -> None:
        command = self.kafka.command(
            "kafka.Kafka", f"-Xmx{HEAP}", "-Xms128m", *JVM, self._logging, self._marker,
        )  # fmt: skip
        child = processes.spawn(
            [*command, str(self.directory / "server.properties")],
            output=self.log,
            folder=self.directory,
            die_with_parent=self.die_with_parent,
        )
        files.write_private(self._pid_file, f"{child}\n")

    def _wait_until_ready(self, seconds: float, log_before: int) -> None:
        for _ in processes.until(time.monotonic() + seconds):
            if not self.running:
                raise Refused(
                    f"the Kafka broker in {self.directory} has ended itself; the end of "
                    f"{self.log}:\n{self.log_tail(12)}",
                    "correct what the last lines name",
                )
            if STARTED in files.text_from(self.log, log_before) and self._listens():
                return
        raise Retry(
            f"the Kafka broker in {self.directory} is not ready after {seconds:g} s; the end of "
            f"{self.log}:\n{self.log_tail(12)}"
        )

    def _listens(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), timeout=2).close()
        except OSError:
            return False
        return True

    @property
    def _logging(self) -> str:
        return f"-Dlog4j2.configurationFile={self.directory}/log4j2.properties"

    @property
    def _marker(self) -> str:
        return f"-Dmeshnode.broker={self.directory}"

    @property
    def _pid_file(self) -> Path:
        return self.directory / "process.pid"
