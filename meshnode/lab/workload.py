"""The lab's own load: an application that writes in all regions at once.

Theory of operation.  Each client is a connection with a seeded generator of
transactions (:mod:`meshnode.lab.operations`).  It behaves as applications of a
mesh must: a transaction that meets a deadlock or a lock timeout is rolled back
and done again; a row that is not there, a parent that another region deleted, a
key that is taken are ordinary answers.  A server that goes away is waited for.

With a rate, clients keep to a timetable, so a stall is followed by a burst and
not by a gap.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import asyncmy
from asyncmy.errors import MySQLError

from meshnode.errors import Refused
from meshnode.lab.cluster import to_stderr
from meshnode.lab.operations import Generator, Transaction, hot_rows
from meshnode.lab.stage import Stage, Target

RETRIED = frozenset({1213, 1205})
"""Deadlock, lock wait timeout: the application runs the transaction again."""

ORDINARY = frozenset({1062, 1452, 1451, 3819})
"""Key taken, parent missing, child present, check failed: the application gives up on it."""

GONE = frozenset({0, 1053, 2002, 2003, 2006, 2013, 2014, 3169})
"""The server shuts down, cannot be reached, or the connection broke."""

RECONNECT_SECONDS = 0.2


@dataclass
class Counts:
    """What a load did.

    ``rows`` counts affected rows as the server tells them; ``kinds`` counts transactions.
    """

    transactions: int = 0
    rows: int = 0
    retried: int = 0
    refused: int = 0
    reconnects: int = 0
    unsettled: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        """Add another's numbers."""
        for name in ("transactions", "rows", "retried", "refused", "reconnects", "unsettled"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.kinds.update(other.kinds)

    def as_dict(self) -> dict[str, Any]:
        """The numbers as JSON takes them."""
        return {
            "transactions": self.transactions,
            "rows": self.rows,
            "retried": self.retried,
            "refused": self.refused,
            "reconnects": self.reconnects,
            "unsettled": self.unsettled,
            "kinds": dict(sorted(self.kinds.items())),
        }

    def __str__(self) -> str:
        kinds = ", ".join(f"{name} {count}" for name, count in sorted(self.kinds.items()))
        return (
            f"{self.transactions} transactions committed, {self.rows} rows written, "
            f"{self.retried} retried after a deadlock or lock wait, "
            f"{self.refused} refused (key taken, parent gone)"
            + (f", {self.reconnects} reconnects" if self.reconnects else "")
            + f"\n  {kinds}"
        )


async def run(
    cluster: Stage,
    *,
    seconds: float,
    rate: float,
    threads: int = 2,
    seed: int = 1,
    regions: list[str] | None = None,
) -> Counts:
    """Load all regions (or those named) at once, without those whose server is down.

    ``rate`` is in transactions a second and region, 0 without limit; ``threads`` are
    clients in each region.
    """
    names = regions or cluster.names
    servers = await fill(cluster, names)
    deadline = asyncio.get_running_loop().time() + seconds
    clients = [
        Client(
            server, Generator(f"{seed} {name} {number}", server.server_id), deadline, rate / threads
        )
        for name, server in servers.items()
        for number in range(threads)
    ]
    try:
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.run())
    except* Refused as refusals:
        raise refusals.exceptions[0] from None
    total = Counts()
    for client in clients:
        total.add(client.counts)
    return total


async def fill(cluster: Stage, names: list[str] | None = None) -> dict[str, Target]:
    """Make what is missing of the hot set in all regions (or those named); their servers.

    Those whose server is down are left out, and named on stderr.  Refused: all are.
    """
    wanted = {name: cluster.server(name) for name in names or cluster.names}
    servers = {name: server for name, server in wanted.items() if server.running}
    down = [name for name in wanted if name not in servers]
    if not servers:
        raise Refused(
            f"the MySQL of {', '.join(down)} does not run, so nothing can be written there",
            f"meshnode lab start-mysql {down[0]}",
        )
    if down:
        to_stderr(f"nothing is written in {', '.join(down)}: the MySQL there does not run")
    await asyncio.gather(*(_fill(server) for server in servers.values()))
    return servers


class Client:
    """One client of one server."""

    def __init__(self, server: Target, generator: Generator, deadline: float, rate: float) -> None:
        self._server = server
        self._generator = generator
        self._deadline = deadline
        self._rate = rate
        self._connection: Any = None
        self.counts = Counts()

    async def run(self) -> None:
        """Write until the deadline (loop time)."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while loop.time() < self._deadline:
                if self._rate:
                    await asyncio.sleep(max(0.0, due - loop.time()))
                    due += 1 / self._rate
                name, statements = self._generator.next()
                await self._until_settled(name, statements)
        finally:
            if self._connection is not None:
                self._connection.close()

    async def _until_settled(self, name: str, statements: Transaction) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < self._deadline:
            try:
                if self._connection is None:
                    self._connection = await _connect(self._server)
                rows = await _execute(self._connection, statements)
            except (MySQLError, OSError, asyncio.IncompleteReadError) as error:
                code = error.args[0] if isinstance(error, MySQLError) and error.args else 0
                if code in RETRIED:
                    self.counts.retried += 1
                    continue
                if code in ORDINARY:
                    self.counts.refused += 1
                    return
                if not _is_gone(code, error):
                    raise Refused(
                        f"the workload met an error that it does not expect ({name}): {error}; "
                        f"in the server at {self._server.host}:{self._server.port}"
                    ) from error
                # Whether its last commit succeeded is unknown; an application would look.
                if self._connection is not None:
                    self._connection.close()
                    self._connection = None
                    self.counts.unsettled += 1
                self.counts.reconnects += 1
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            self.counts.transactions += 1
            self.counts.rows += rows
            self.counts.kinds[name] += 1
            return


def _is_gone(code: object, error: BaseException) -> bool:
    """Whether the server or the connection to it went away."""
    # An answer broken off in the middle has no number.
    return not isinstance(error, MySQLError) or not isinstance(code, int) or code in GONE


async def _connect(server: Target) -> Any:
    return await asyncmy.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        autocommit=True,
        charset="utf8mb4",
        connect_timeout=5,
    )


async def _execute(connection: Any, statements: Transaction) -> int:
    """Run one transaction; rows affected.  Rolled back where it raises and the server lives."""
    # Not through a cursor: it would ask for the warnings of each statement and print them.
    if len(statements) == 1:
        return await connection.query(statements[0])
    rows = 0
    await connection.query("START TRANSACTION")
    try:
        for statement in statements:
            rows += await connection.query(statement)
    except MySQLError as error:
        if not _is_gone(error.args[0] if error.args else 0, error):
            await connection.query("ROLLBACK")
        raise
    await connection.query("COMMIT")
    return rows


async def _fill(server: Target) -> None:
    connection = await _connect(server)
    try:
        for statement in hot_rows():
            while True:
                try:
                    await _execute(connection, [statement])
                    break
                except MySQLError as error:
                    if error.args[0] not in RETRIED:
                        raise
    finally:
        connection.close()
