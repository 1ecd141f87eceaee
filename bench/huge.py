"""One huge transaction: how much memory the nodes take for it, and how long.

Region one commits a single transaction of a million rows, each a little under
1 KiB, with both nodes running.  It travels in parts and is applied in one
transaction.  Printed are the peak resident memory of both nodes over their whole
life (``VmHWM``), and the seconds from the answer to the commit until the last
row is visible in region two.  The rows of both regions must be identical.

    python -m bench.huge [--rows N] [--bytes N]

prints one JSON object.
"""

import argparse
import asyncio
import json
import time
from typing import Any

from bench.pair import (
    SCHEMA,
    Cpu,
    Pair,
    machine,
    pair_of,
    peak_rss_mib,
    progress,
    relaxed,
    run_in_threads,
)

TARGET_MIB = 200
WAIT_SECONDS = 900.0
TABLE = f"CREATE TABLE {SCHEMA}.huge (id BIGINT PRIMARY KEY, amount INT, filler VARCHAR(1000))"
OUTSIDE = 60
"""Bytes of a row image that are not filler: bitmap, key, amount, length, stamps; rounded up."""


def fill(pair: Pair, rows: int, filler: int) -> float:
    """Write the transaction; seconds until the answer to its commit."""
    numbers = (
        "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 999)"
    )
    begun = time.monotonic()
    thousand = f"({numbers} SELECT n FROM numbers)"
    select = (
        f"SELECT a.n * 1000 + b.n, b.n, RPAD(a.n * 1000 + b.n, {filler}, 'abcdefghijklmnopqrstuvw')"
        f" FROM {thousand} a JOIN {thousand} b WHERE a.n * 1000 + b.n < {rows}"
    )
    run_in_threads(pair.servers[0], [f"INSERT INTO {SCHEMA}.huge {select}"])
    return time.monotonic() - begun


def wait(pair: Pair, rows: int) -> None:
    """Wait until the last row is visible in region two."""
    deadline = time.monotonic() + WAIT_SECONDS
    with pair.servers[1].connect() as sql, sql.cursor() as cursor:
        while True:
            cursor.execute(f"SELECT 1 FROM {SCHEMA}.huge WHERE id = {rows - 1}")
            if cursor.fetchone():
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"not applied after {WAIT_SECONDS:g} s: {pair.states(1)}")
            time.sleep(0.05)


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark."""
    with pair_of(folder=args.dir) as pair:
        await pair.start_servers()
        await pair.install(TABLE)
        pair.start_nodes()
        pair.settle()
        pids = pair.processes()
        idle = {name: peak_rss_mib(pid) for name, pid in pids.items() if "node" in name}
        progress("writing")
        cpu = Cpu(pids)
        with relaxed(pair.servers[0]):
            written = fill(pair, args.rows, args.bytes - OUTSIDE)
        progress(f"written in {written:.0f} s")
        begun = time.monotonic()
        wait(pair, args.rows)
        seconds = time.monotonic() - begun
        used = cpu.used()
        pair.settle()
        peaks = {name: peak_rss_mib(pid) for name, pid in pids.items() if "node" in name}
        counts = pair.counts()
        pair.stop_nodes()
        return {
            "benchmark": "huge",
            **machine(pair),
            "rows": args.rows,
            "row_image_bytes": args.bytes,
            "write_seconds": round(written, 1),
            "commit_to_visible_seconds": round(seconds, 1),
            "rows_per_second": round(args.rows / seconds),
            "target_mib": TARGET_MIB,
            "idle_peak_mib": idle,
            "peak_mib": peaks,
            "cpu_seconds": used,
            "counts": counts,
            "identical": len(set(pair.checksums(f"{SCHEMA}.huge"))) == 1,
        }


def main() -> int:
    """Run and print; 1 when a node held too much or the regions differ."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.huge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--bytes", type=int, default=1000, metavar="N", help="of one row image")
    parser.add_argument("--dir", default=None, help="where the servers' files go for the time")
    args = parser.parse_args()
    if not 0 < args.rows <= 1_000_000 or not 100 <= args.bytes <= 1000 + OUTSIDE:
        parser.error("--rows is 1 to 1000000, --bytes 100 to 1060")
    found = asyncio.run(run(args))
    print(json.dumps(found, indent=1))
    small = all(peak < TARGET_MIB for peak in found["peak_mib"].values())
    return 0 if small and found["identical"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
