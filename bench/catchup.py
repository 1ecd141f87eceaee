"""How fast a region catches up, beside MySQL's own replica on the same binary log.

The load is written in region one while nothing reads it: one-row transactions
by many connections, then transactions of 1000 rows; first inserts, then updates
of the same rows.  Only this writing is not durable, to get it done.  After
each kind of load the same stretch of the same binary log is applied, one after
another, by MySQL's own replicas (1 worker, 4 workers) and by the mesh: both
nodes start, and the clock runs from the moment at which both have claimed their
regions until region two holds the last row.  The replica's clock runs from
START REPLICA to the same row, or for as long as it may take; then its rate is that
of the transactions it had executed by then.  Commits are durable everywhere (1/1).
At the end the tables of all servers must be identical.

    python -m bench.catchup [--transactions N] [--rows N] [--repeat N] [--replica-seconds S]

prints one JSON object: rates, ratios to the replicas, processor seconds.
"""

import argparse
import asyncio
import json
import time
from typing import Any

from bench.pair import (
    ROW,
    SCHEMA,
    TABLE,
    Cpu,
    Pair,
    Server,
    machine,
    pair_of,
    progress,
    relaxed,
    run_in_threads,
)
from bench.replica import Replica

WORKERS = (1, 4)
CONNECTIONS = 32
MESH_SECONDS = 600.0
PER_TRANSACTION = 1000
MUST_BE_ZERO = ("lifts", "held", "overtaken", "conflicts", "late_tombstones", "parked")

PROCEDURES = (
    f"""
    CREATE PROCEDURE {SCHEMA}.insert_single(first BIGINT, many INT)
    BEGIN
      DECLARE n INT DEFAULT 0;
      WHILE n < many DO
        INSERT INTO {SCHEMA}.single VALUES ({ROW.format(id="first + n")});
        SET n = n + 1;
      END WHILE;
    END""",
    f"""
    CREATE PROCEDURE {SCHEMA}.update_single(first BIGINT, many INT)
    BEGIN
      DECLARE n INT DEFAULT 0;
      WHILE n < many DO
        UPDATE {SCHEMA}.single SET amount = amount + 1, price = price + 1, at = NOW(6)
          WHERE id = first + n;
        SET n = n + 1;
      END WHILE;
    END""",
    f"""
    CREATE PROCEDURE {SCHEMA}.insert_bulk(first BIGINT, many INT)
    BEGIN
      DECLARE n BIGINT DEFAULT first;
      WHILE n < first + many DO
        INSERT INTO {SCHEMA}.bulk
          WITH RECURSIVE numbers(k) AS
            (SELECT n UNION ALL SELECT k + 1 FROM numbers WHERE k < n + {PER_TRANSACTION} - 1)
          SELECT {ROW.format(id="k")} FROM numbers;
        SET n = n + {PER_TRANSACTION};
      END WHILE;
    END""",
    f"""
    CREATE PROCEDURE {SCHEMA}.update_bulk(first BIGINT, many INT)
    BEGIN
      DECLARE n BIGINT DEFAULT first;
      WHILE n < first + many DO
        UPDATE {SCHEMA}.bulk SET amount = amount + 1, price = price + 1, at = NOW(6)
          WHERE id >= n AND id < n + {PER_TRANSACTION};
        SET n = n + {PER_TRANSACTION};
      END WHILE;
    END""",
)


class Bench:
    """The measurements over one pair; ``mark`` counts the sentinels written so far."""

    def __init__(self, pair: Pair, replica_seconds: float) -> None:
        self.pair = pair
        self.replica_seconds = replica_seconds
        self.mark = 0
        self.lifts: dict[str, int] = dict.fromkeys(MUST_BE_ZERO, 0)

    async def prepare(self, *also: str) -> None:
        """Tables (``also``: more of them), procedures, and nodes that have run once."""
        pair = self.pair
        await pair.start_servers()
        await pair.install(
            TABLE.format(name=f"{SCHEMA}.single"),
            TABLE.format(name=f"{SCHEMA}.bulk"),
            f"CREATE TABLE {SCHEMA}.marks (n INT PRIMARY KEY)",
            *also,
        )
        with pair.servers[0].connect() as sql, sql.cursor() as cursor:
            cursor.execute("SET sql_log_bin = 0")
            for procedure in PROCEDURES:
                cursor.execute(procedure)
        pair.start_nodes()
        pair.settle()
        pair.stop_nodes()

    def load(self, procedure: str, first: int, count: int, unit: int) -> float:
        """Write ``count`` rows, ``unit`` in a transaction, not durably; seconds it took."""
        server = self.pair.servers[0]
        each = -(-count // CONNECTIONS) if unit == 1 else count
        calls = [
            f"CALL {procedure}({first + at}, {min(each, count - at)})"
            for at in range(0, count, each)
        ]
        self.mark += 1
        begun = time.monotonic()
        with relaxed(server):
            run_in_threads(server, calls)
            run_in_threads(server, [f"INSERT INTO {SCHEMA}.marks VALUES ({self.mark})"])
        return time.monotonic() - begun

    def arrived(self, server: Server, seconds: float) -> bool:
        """Wait until the last sentinel is there, or ``seconds`` have passed."""
        deadline = time.monotonic() + seconds
        with server.connect() as sql, sql.cursor() as cursor:
            while True:
                cursor.execute(f"SELECT 1 FROM {SCHEMA}.marks WHERE n = {self.mark}")
                if cursor.fetchone():
                    return True
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.005)

    def by_replica(self, replica: Replica, count: int, unit: int) -> dict[str, Any]:
        """One replica applies what waits; what it does not reach in time it applies unmeasured."""
        pids = {"mysqld one": self.pair.servers[0].pid, "mysqld replica": replica.server.pid}
        cpu = Cpu(pids)
        before = replica.transactions()
        begun = time.monotonic()
        replica.start()
        done = self.arrived(replica.server, self.replica_seconds)
        seconds = time.monotonic() - begun
        rows = count if done else (replica.transactions() - before) * unit
        used = cpu.used()
        with relaxed(replica.server):
            replica.catch_up()
        replica.stop()
        return figures(rows, seconds, used)

    def by_mesh(self, count: int) -> dict[str, Any]:
        """Both nodes start, and region two applies what waits."""
        pair = self.pair
        start = pair.start_nodes()
        cpu = Cpu(pair.processes())
        begun = time.monotonic()
        if not self.arrived(pair.servers[1], MESH_SECONDS):
            states = [pair.states(at) for at in (0, 1)]
            raise SystemExit(f"the mesh has not caught up in {MESH_SECONDS:g} s: {states}")
        seconds = time.monotonic() - begun
        used = cpu.used()
        pair.settle()
        counts = pair.counts()
        pair.stop_nodes()
        for of_node in counts.values():
            for name in MUST_BE_ZERO:
                self.lifts[name] += of_node.get(name, 0)
        return {
            **figures(count, seconds, used),
            "start_seconds": round(start, 2),
            "counts": counts,
        }

    def measure(self, procedure: str, first: int, count: int, unit: int) -> dict[str, Any]:
        """One kind of load, by all."""
        progress(f"{procedure}: {count} rows from {first}")
        for replica in self.pair.replicas:
            # The heartbeats of the round before are no part of the load.
            replica.start()
            replica.catch_up()
            replica.stop()
        written = self.load(f"{SCHEMA}.{procedure}", first, count, unit)
        found: dict[str, Any] = {"rows": count, "written_per_second": round(count / written)}
        for replica in self.pair.replicas:
            name = f"replica_{replica.workers}"
            found[name] = self.by_replica(replica, count, unit)
            progress(f"  {name}: {found[name]['per_second']} a second")
        found["mesh"] = self.by_mesh(count)
        progress(f"  mesh: {found['mesh']['per_second']} a second")
        for replica in self.pair.replicas:
            name = f"replica_{replica.workers}"
            ratio = found["mesh"]["per_second"] / found[name]["per_second"]
            found[f"mesh_to_{name}"] = round(ratio, 2)
        context = machine(self.pair)
        found["calibration_seconds"] = context["calibration_seconds"]
        found["load_average"] = context["load_average"]
        return found


def figures(count: int, seconds: float, used: dict[str, float]) -> dict[str, Any]:
    """``cpu_us_each`` is what one row costs on all processors: it does not wait for other work."""
    return {
        "rows": count,
        "per_second": round(count / seconds),
        "seconds": round(seconds, 2),
        "cpu_seconds": used,
        "cpu_us_each": round(sum(used.values()) / count * 1e6, 1),
    }


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark."""
    rounds = []
    with pair_of(WORKERS, folder=args.dir) as pair:
        bench = Bench(pair, args.replica_seconds)
        await bench.prepare()
        for number in range(args.repeat):
            single, bulk = number * args.transactions, number * args.rows
            rounds.append(
                {
                    "one_row_inserts": bench.measure("insert_single", single, args.transactions, 1),
                    "one_row_updates": bench.measure("update_single", single, args.transactions, 1),
                    "bulk_inserts": bench.measure("insert_bulk", bulk, args.rows, PER_TRANSACTION),
                    "bulk_updates": bench.measure("update_bulk", bulk, args.rows, PER_TRANSACTION),
                }
            )
        sums = {name: pair.checksums(f"{SCHEMA}.{name}") for name in ("single", "bulk")}
        identical = all(len(set(each)) == 1 for each in sums.values())
        return {
            "benchmark": "catchup",
            **machine(pair),
            "durable_commits": True,
            "identical": identical,
            "must_be_zero": bench.lifts,
            "targets": {"one_row_per_second": 15_000, "bulk_rows_per_second": 60_000},
            "rounds": rounds,
        }


def main() -> int:
    """Run and print; 1 when servers differ or something was mended."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.catchup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--transactions", type=int, default=60_000, metavar="N", help="one-row transactions"
    )
    parser.add_argument(
        "--rows", type=int, default=300_000, metavar="N", help="rows in 1000-row transactions"
    )
    parser.add_argument(
        "--replica-seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="longest that a replica is measured on one kind of load",
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="rounds")
    parser.add_argument("--dir", default=None, help="where the servers' files go for the time")
    args = parser.parse_args()
    if args.rows % PER_TRANSACTION:
        parser.error(f"--rows must be a multiple of {PER_TRANSACTION}")
    found = asyncio.run(run(args))
    print(json.dumps(found, indent=1))
    return 0 if found["identical"] and not any(found["must_be_zero"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
