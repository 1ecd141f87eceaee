"""sysbench ``oltp_read_write`` in all regions at once, on the same keys.

Theory of operation.  The tables are those of sysbench, made empty in every region
by sysbench itself; ``init`` then takes them into the running mesh, which shows that tables
may join later.  One region is filled (sysbench's own filling creates the tables as it
goes, so the rows are written here, with the same contents); when they are everywhere,
sysbench runs in every region against the same ids.  Deadlocks, lock timeouts, rows that
are gone and keys that are taken are what a mesh may answer; sysbench ignores them.
"""

import asyncio
import random
import re
import shutil
import string
from typing import Any

from meshnode.errors import Refused
from meshnode.lab import rounds
from meshnode.lab.cluster import Cluster, Report, install, to_stderr
from meshnode.lab.servers import Server

SCHEMA = "sbtest"
IGNORED_ERRORS = "1213,1020,1205,1062,1032"
FILL_AT_ONCE = 1_000
SPREAD_SECONDS = 300.0
ENDING_SECONDS = 60.0
"""sysbench gets this much longer than it was told to run."""


async def run(
    cluster: Cluster,
    *,
    tables: int = 4,
    rows: int = 10_000,
    threads: int = 2,
    seconds: float = 20.0,
    report: Report = to_stderr,
) -> dict[str, Any]:
    """Prepare what is missing, then run in all regions for ``seconds``; what each one did."""
    program = find_sysbench()
    servers = {name: cluster.server(name) for name in cluster.names}
    await _prepare(cluster, servers, program, tables, rows, report)
    report(f"sysbench: {threads} threads in each of {len(servers)} regions for {seconds:g} s")
    outputs = await asyncio.gather(
        *(
            _call(
                program, server, "run", tables, rows,
                f"--threads={threads}", f"--time={max(1, round(seconds))}",
                f"--rand-seed={number}", deadline=seconds + ENDING_SECONDS,
            )
            for number, server in enumerate(servers.values(), start=1)
        )
    )  # fmt: skip
    result = {name: numbers(output) for name, output in zip(servers, outputs, strict=True)}
    for name, told in result.items():
        report(
            f"  {name}: {told['transactions']} transactions, {told['writes']} writes, "
            f"{told['ignored_errors']} deadlocks and the like"
        )
    return {"seconds": seconds, "threads": threads, "regions": result}


def find_sysbench() -> str:
    """The program; Refused where it is not installed."""
    program = shutil.which("sysbench")
    if program is None:
        raise Refused(
            "sysbench is not installed",
            "apt-get install sysbench (as root; scripts/packages does it)",
        )
    return program


def numbers(output: str) -> dict[str, int]:
    """The counts in sysbench's report; Refused if it is none."""
    found = {}
    for name, pattern in (
        ("transactions", r"transactions:\s+(\d+)"),
        ("reads", r"read:\s+(\d+)"),
        ("writes", r"write:\s+(\d+)"),
        ("ignored_errors", r"ignored errors:\s+(\d+)"),
    ):
        value = re.search(pattern, output)
        if value is None:
            raise Refused(f"sysbench did not report its {name}; it said:\n{output[-2000:]}")
        found[name] = int(value[1])
    return found


async def _prepare(
    cluster: Cluster,
    servers: dict[str, Server],
    program: str,
    tables: int,
    rows: int,
    report: Report,
) -> None:
    present = await asyncio.gather(
        *(asyncio.to_thread(_tables_present, server) for server in servers.values())
    )
    if all(count >= tables for count in present):
        return
    if any(present):
        raise Refused(
            f"some regions have some of the {tables} tables of {SCHEMA}, but not all",
            f"DROP DATABASE {SCHEMA} in all regions, or start a new lab",
        )
    report(f"sysbench: {tables} tables, made empty in {len(servers)} regions")
    for server in servers.values():
        await asyncio.to_thread(_create_schema, server)
        await _call(program, server, "prepare", tables, 0)
    await install(cluster.topology, report)
    name, server = next(iter(servers.items()))
    report(f"sysbench: {tables} x {rows} rows, written in {name}")
    await asyncio.to_thread(_fill, server, tables, rows)
    verdict = await rounds.wait(cluster.topology, SPREAD_SECONDS)
    if not verdict.complete:
        raise Refused(
            "the rows of sysbench do not reach all regions: " + "; ".join(verdict.reasons),
            "see `meshnode lab status`",
        )
    report(f"sysbench: everywhere after {verdict.seconds:.1f} s")


async def _call(
    program: str,
    server: Server,
    command: str,
    tables: int,
    rows: int,
    *options: str,
    deadline: float = 120.0,
) -> str:
    """Run sysbench; its output.  Refused if it fails."""
    process = await asyncio.create_subprocess_exec(
        program,
        "oltp_read_write",
        # The socket: the client library sends a password in the clear over nothing else.
        f"--mysql-socket={server.socket}",
        f"--mysql-user={server.user}",
        f"--mysql-password={server.password}",
        f"--mysql-db={SCHEMA}",
        f"--mysql-ignore-errors={IGNORED_ERRORS}",
        "--db-ps-mode=disable",
        "--auto-inc=off",
        f"--tables={tables}",
        f"--table-size={rows}",
        *options,
        command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(deadline):
            output, _ = await process.communicate()
    except TimeoutError:
        raise Refused(f"sysbench {command} has not ended within {deadline:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode(errors="replace")
    if process.returncode != 0:
        raise Refused(
            f"sysbench {command} failed (exit {process.returncode}):\n{text[-2000:]}",
            "if it speaks of an error number, `meshnode lab status` may say more",
        )
    return text


def _create_schema(server: Server) -> None:
    connection = server.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {SCHEMA}")
    finally:
        connection.close()


def _tables_present(server: Server) -> int:
    connection = server.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s", (SCHEMA,)
            )
            return int(cursor.fetchone()[0])
    finally:
        connection.close()


def _fill(server: Server, tables: int, rows: int) -> None:
    """Rows as sysbench makes them: groups of eleven digits, joined by dashes."""
    draw = random.Random(1)

    def digits(groups: int) -> str:
        return "-".join("".join(draw.choices(string.digits, k=11)) for _ in range(groups))

    connection = server.connect()
    try:
        with connection.cursor() as cursor:
            for table in range(1, tables + 1):
                for start in range(1, rows + 1, FILL_AT_ONCE):
                    cursor.executemany(
                        f"INSERT INTO {SCHEMA}.sbtest{table} (id, k, c, pad) VALUES (%s,%s,%s,%s)",
                        [
                            (number, draw.randint(1, rows), digits(10), digits(5))
                            for number in range(start, min(start + FILL_AT_ONCE, rows + 1))
                        ],
                    )
    finally:
        connection.close()
