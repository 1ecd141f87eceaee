"""Two regions for a benchmark: servers, node processes, and what they used.

Everything runs as an operator would run it: MySQL with its default durability
(``sync_binlog`` and ``innodb_flush_log_at_trx_commit`` 1), a topology file with
the file bus or one Kafka broker and no WAN in between, ``meshnode init``, and one
``meshnode run`` process for each region.  MySQL's own replicas, where a benchmark
compares with them, have the same options and read the first region's binary log.

All processes die with the benchmark.
"""

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.replica import WAIT_SECONDS, Replica
from meshnode.accounts import Account, secrets
from meshnode.errors import Retry
from meshnode.lab import brokers
from meshnode.lab.broker import Broker
from meshnode.lab.files import write_private
from meshnode.lab.kafka_jars import find_kafka
from meshnode.lab.nodes import Node
from meshnode.lab.servers import Server, find_mysqld
from meshnode.mysql.control import connect_to
from meshnode.ops import install
from meshnode.ops.grants import create_accounts
from meshnode.topology import (
    ROLES,
    Accounts,
    AccountSource,
    Bus,
    MysqlAddress,
    Region,
    Replicate,
    Topology,
    load,
    render,
)

NAMES = ("one", "two")
SCHEMA = "bench"
PASSWORD = "bench"

OPTIONS = {
    "innodb_buffer_pool_size": 512 * 2**20,
    "innodb_redo_log_capacity": 1024**3,
    "loose_innodb_redo_log_capacity": None,
    "max_connections": 300,
}
"""Over the lab's options, for every server of a benchmark alike."""

TABLE = """
CREATE TABLE {name} (
    id BIGINT PRIMARY KEY,
    amount INT,
    name VARCHAR(200),
    price DECIMAL(12,2),
    at DATETIME(6),
    doc JSON,
    note VARCHAR(1000)
)
"""
"""The 7 columns of the benchmark's table; init adds the two stamps."""

ROW = (
    "{id}, {id} % 1000, CONCAT('customer ', {id}), {id} / 100, NOW(6),"
    " JSON_OBJECT('a', {id}, 'b', 'text'), CONCAT('a note of ordinary length for row ', {id})"
)
"""One row's values, for the number ``{id}``."""


class Pair:
    """Two regions ``one`` and ``two`` in ``folder``, and replicas of the first.

    ``bus`` is ``file``, or ``kafka`` with a broker of the pair's own.
    """

    def __init__(
        self, folder: Path, workers: Sequence[int], options: dict | None, bus: str = "file"
    ) -> None:
        mysqld = find_mysqld()
        self.version = mysqld.version
        self.folder = folder
        self.broker: Broker | None = None
        if bus == "kafka":
            self.broker = Broker(find_kafka(), folder / "kafka", die_with_parent=True)
        wanted = OPTIONS | (options or {})

        def server(name: str, number: int) -> Server:
            return Server(
                mysqld, folder / name, number, options=wanted, auto_increment=(2, min(number, 2)),
                password=PASSWORD, die_with_parent=True,
            )  # fmt: skip

        self.servers = [server(name, number) for number, name in enumerate(NAMES, 1)]
        self.replicas = [
            Replica(server(f"replica{count}", 10 + count), self.servers[0], count)
            for count in workers
        ]
        self.nodes = [Node(name, folder / "mesh.toml", folder) for name in NAMES]

    @property
    def every_server(self) -> list[Server]:
        return [*self.servers, *(replica.server for replica in self.replicas)]

    async def start_servers(self) -> None:
        """Start all servers and make the accounts; no table is there yet."""
        await asyncio.gather(*(server.start_async() for server in self.every_server))
        bus = Bus(kind="file", dir=str(self.folder / "bus"))
        if self.broker is not None:
            await self.broker.start_async()
            bus = brokers.settings({brokers.SHARED: self.broker})
        write_private(self.folder / "secret", PASSWORD + "\n")
        source = {
            role: AccountSource(user=f"mesh_{role}", password_file=str(self.folder / "secret"))
            for role in ROLES
        }
        self.topology = Topology(
            mesh="bench",
            replicate=Replicate(tables=(f"{SCHEMA}.*",)),
            bus=bus,
            regions=tuple(
                Region(id=number, name=name, mysql=MysqlAddress(server.host, server.port))
                for number, (name, server) in enumerate(zip(NAMES, self.servers), 1)
            ),
            accounts=Accounts(**source),
        )
        (self.folder / "mesh.toml").write_text(render(self.topology))
        self.topology = load(self.folder / "mesh.toml")
        for name, server in zip(NAMES, self.servers):
            logins = {role: secrets(self.topology, name, role) for role in ROLES}
            root = Account(server.user, server.password)
            address = self.topology.region(name).mysql
            async with await connect_to(address, root, server=name) as control:
                await create_accounts(control, logins, [SCHEMA])

    async def install(self, *tables: str) -> None:
        """Make the tables in both regions, ``init`` them, and bring the replicas level."""
        for server in self.servers:
            with server.connect() as sql, sql.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {SCHEMA}")
                for table in tables:
                    cursor.execute(table)
        result = await install.init(self.topology)
        assert result.complete, result.left
        for replica in self.replicas:
            replica.attach()

    def start_nodes(self) -> float:
        """Start both nodes; seconds until each has claimed its region."""
        before = [self.value(at, "SELECT epoch FROM meshnode.member") for at in (0, 1)]
        begun = time.monotonic()
        for node in self.nodes:
            node.start(die_with_parent=True)
        for at, node in enumerate(self.nodes):
            with self.servers[at].connect() as sql, sql.cursor() as cursor:
                while True:
                    cursor.execute("SELECT epoch FROM meshnode.member")
                    if cursor.fetchone()[0] > before[at]:
                        break
                    if not node.running or time.monotonic() - begun > 60:
                        raise Retry(f"the node of {node.region} does not run: {node.log_tail()}")
                    time.sleep(0.005)
        return time.monotonic() - begun

    def stop_nodes(self) -> None:
        """End both nodes cleanly."""
        for node in self.nodes:
            assert not node.running or node.stop(), f"{node.region} was killed: {node.log_tail()}"

    def value(self, at: int, sql: str) -> Any:
        """The first column of the first row of a query in region ``at``."""
        with self.servers[at].connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone()
            return row[0] if row else None

    def applied(self, at: int, since_us: int, seconds: float = WAIT_SECONDS) -> None:
        """Wait until region ``at`` has heard its peer's clock pass ``since_us``."""
        deadline = time.monotonic() + seconds
        with self.servers[at].connect() as sql, sql.cursor() as cursor:
            while True:
                cursor.execute(f"SELECT heard_us FROM meshnode.applied WHERE origin = {2 - at}")
                row = cursor.fetchone()
                if row and row[0] > since_us:
                    return
                if time.monotonic() > deadline:
                    raise Retry(
                        f"{NAMES[at]} has not caught up: {self.states(at)} {self.states(1 - at)}"
                    )
                time.sleep(0.01)

    def published(self, at: int, seconds: float = WAIT_SECONDS) -> None:
        """Wait until all that region ``at`` had executed by now is in its topic."""
        done = self.value(at, "SELECT @@GLOBAL.gtid_executed")
        deadline = time.monotonic() + seconds
        missing = f"SELECT GTID_SUBTRACT('{done}', tail_gtids) FROM meshnode.member"
        while self.value(at, missing):
            if time.monotonic() > deadline:
                raise Retry(f"{NAMES[at]} has not published everything: {self.states(at)}")
            time.sleep(0.05)

    def settle(self, seconds: float = WAIT_SECONDS) -> None:
        """Wait until each region has applied everything that the other committed before."""
        for _ in range(2):
            for at in (0, 1):
                self.applied(at, int(time.time() * 1e6), seconds)

    def body(self, at: int) -> dict[str, Any]:
        """What the node of region ``at`` said with its newest heartbeat."""
        return json.loads(
            self.value(at, f"SELECT body FROM meshnode.heartbeat WHERE region={at + 1}")
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """The counters of both nodes, not older than this call."""
        start = [self.value(at, "SELECT MAX(beat) FROM meshnode.heartbeat") for at in (0, 1)]
        for at in (0, 1):
            while self.value(at, "SELECT MAX(beat) FROM meshnode.heartbeat") < start[at] + 2:
                time.sleep(0.05)
        return {name: self.body(at)["counts"] for at, name in enumerate(NAMES)}

    def states(self, at: int) -> str:
        """The actors that do not simply run, in words."""
        return "; ".join(
            f"{NAMES[at]} {actor['name']}: {actor['state']} {actor['reason']}"
            for actor in self.body(at)["actors"]
            if actor["state"] != "running" or actor["reason"]
        )

    def checksums(self, table: str) -> list[int]:
        """A checksum of the table's rows, stamps included, in every server."""
        found = []
        for server in self.every_server:
            with server.connect() as sql, sql.cursor() as cursor:
                cursor.execute(f"CHECKSUM TABLE {table}")
                found.append(cursor.fetchone()[1])
        return found

    def processes(self) -> dict[str, int]:
        """Process ids by name, of what runs."""
        pids = {f"mysqld {name}": server.pid for name, server in zip(NAMES, self.servers)}
        pids |= {f"node {node.region}": node.pid for node in self.nodes}
        if self.broker is not None:
            pids["kafka"] = self.broker.pid
        return {name: pid for name, pid in pids.items() if pid is not None}

    def remove(self) -> None:
        """End everything and delete the folder."""
        for node in self.nodes:
            node.stop()
        if self.broker is not None:
            self.broker.kill()
        for server in self.every_server:
            server.remove()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def pair_of(
    workers: Sequence[int] = (),
    options: dict | None = None,
    folder: str | None = None,
    bus: str = "file",
) -> Iterator[Pair]:
    """A pair in a temporary folder (below ``folder``), gone at the end."""
    # Nodes run on while what is not measured is written without flushing (`relaxed`).
    os.environ["MESHNODE_LAB"] = "1"
    where = Path(tempfile.mkdtemp(prefix="meshnode-bench-", dir=folder))
    pair = Pair(where, workers, options, bus)
    try:
        yield pair
    finally:
        pair.remove()


def cpu_seconds(pid: int) -> float:
    """Processor time that the process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_mib(pid: int) -> float:
    """The most memory the process ever held, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise Retry(f"process {pid} has no VmHWM")


class Cpu:
    """Processor time of a set of processes from here on."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._start = {name: cpu_seconds(pid) for name, pid in pids.items()}

    def used(self) -> dict[str, float]:
        """Seconds by name."""
        return {
            name: round(cpu_seconds(pid) - self._start[name], 2) for name, pid in self._pids.items()
        }


def machine(pair: Pair) -> dict[str, Any]:
    """What a figure must be read with.

    ``calibration_seconds`` is the processor time of a fixed piece of Python: where others
    use the machine it grows, and every processor time beside it grows alike.
    """
    begun = time.process_time()
    sum(number * number for number in range(5_000_000))
    return {
        "calibration_seconds": round(time.process_time() - begun, 2),
        "mysql": str(pair.version),
        "cpus": os.cpu_count(),
        "load_average": [round(each, 2) for each in os.getloadavg()],
    }


@contextlib.contextmanager
def relaxed(server: Server) -> Iterator[None]:
    """``server`` commits without flushing meanwhile: for work that is not measured."""
    with server.connect() as sql, sql.cursor() as cursor:
        cursor.execute("SET GLOBAL sync_binlog = 0, GLOBAL innodb_flush_log_at_trx_commit = 2")
        try:
            yield
        finally:
            cursor.execute("SET GLOBAL sync_binlog = 1, GLOBAL innodb_flush_log_at_trx_commit = 1")


def run_in_threads(server: Server, calls: Sequence[str]) -> None:
    """Run each statement in a connection of its own, all at the same time."""
    from concurrent.futures import ThreadPoolExecutor

    def run(call: str) -> None:
        with server.connect(database=SCHEMA) as sql, sql.cursor() as cursor:
            cursor.execute(call)

    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(run, calls))


def progress(text: str) -> None:
    """Say on stderr what is being done: stdout is for the JSON."""
    import sys

    print(text, file=sys.stderr, flush=True)
