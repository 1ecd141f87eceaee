"""Kafka beside the ``file`` bus: latency and catch-up of both, in one run.

Two pairs of regions stand at the same time, one on the file bus and one on a Kafka broker
of its own that flushes every append, as the file bus does.  They are measured in
turns, so what else the machine does meanwhile befalls both alike; the nodes of the pair that
is not measured are down.  Both are warmed up first: a Java broker begins several times slower.

``latency`` is that of `bench.latency`, ``catchup`` that of `bench.catchup` (both nodes
start behind a binary log that nobody has read), and ``unread`` a region that was away alone:
the stream is in the topic already, and only its reader has to catch up.

    python -m bench.kafka [--rounds N] [--seconds S] [--transactions N] [--rows N]

prints one JSON object, which says so where Kafka cannot be had.  Of several rounds the
medians are compared: ``kafka_above_file_ms`` is to be at most 10, ``kafka_to_file`` at least
0.9.  ``cpu_us_each`` is the processor time of all processes for one row, which other work on
the machine lengthens little; ``cpu_us_by_process`` says whose it is, for here the broker takes
its part from the processors of the nodes and servers.
"""

import argparse
import asyncio
import json
import statistics
import time
from typing import Any

from bench.catchup import PER_TRANSACTION, Bench, figures
from bench.latency import measure as measure_latency
from bench.pair import SCHEMA, TABLE, Cpu, machine, pair_of, progress
from meshnode.lab.kafka_jars import why_no_kafka

BUSES = ("file", "kafka")
ABOVE_FILE_MS = 10.0
TO_FILE = 0.9
WARM_UP_FIRST, WARM_UP_ROWS = 1_000_000_000, 5_000
WARM_UP_SECONDS = 15.0


class Side:
    """One bus: its pair, and what was measured of it."""

    def __init__(self, bus: str, bench: Bench) -> None:
        self.bus = bus
        self.bench = bench
        self.pair = bench.pair
        self.rows = 0

    async def prepare(self) -> None:
        """Servers, tables, nodes that have run once."""
        await self.bench.prepare(TABLE.format(name=f"{SCHEMA}.latency"))

    def latency(self, rate: float, seconds: float) -> dict[str, Any]:
        """From commit to visible, in milliseconds."""
        self.pair.start_nodes()
        self.pair.settle()
        first, self.rows = self.rows, self.rows + 1_000_000
        found = measure_latency(*self.pair.servers, first, rate, seconds)
        self.pair.stop_nodes()
        return found

    def unread(self, procedure: str, first: int, count: int, unit: int) -> dict[str, Any]:
        """Region two is away until region one has published everything."""
        pair, bench = self.pair, self.bench
        bench.load(f"{SCHEMA}.{procedure}", first, count, unit)
        origin, reader = pair.nodes
        origin.start(die_with_parent=True)
        pair.published(0)
        reader.start(die_with_parent=True)
        pids = pair.processes()
        cpu = Cpu(pids)
        begun = time.monotonic()
        if not bench.arrived(pair.servers[1], 600.0):
            raise SystemExit(f"region two has not caught up: {pair.states(0)} {pair.states(1)}")
        seconds = time.monotonic() - begun
        used = cpu.used()
        pair.settle()
        pair.stop_nodes()
        return figures(count, seconds, used)


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark."""
    with pair_of(folder=args.dir) as on_file, pair_of(folder=args.dir, bus="kafka") as on_kafka:
        sides = [Side(bus, Bench(pair, 0.0)) for bus, pair in zip(BUSES, (on_file, on_kafka))]
        for side in sides:
            await side.prepare()
        rounds: list[dict[str, dict[str, Any]]] = []
        single = bulk = 0
        for side in sides:
            # A Java broker's first thousands of requests take several times as long as later ones.
            progress(f"warm-up of {side.bus}, not counted")
            side.bench.measure("insert_single", WARM_UP_FIRST, WARM_UP_ROWS, 1)
            side.latency(args.rate, WARM_UP_SECONDS)
        for number in range(args.rounds):
            found: dict[str, dict[str, Any]] = {bus: {} for bus in BUSES}
            # Whoever is second finds the machine as the first has left it: so take turns at that.
            order = sides if number % 2 == 0 else sides[::-1]
            for name, how, procedure, first, count, unit in (
                ("catchup_one_row", "measure", "insert_single", single, args.transactions, 1),
                ("catchup_bulk", "measure", "insert_bulk", bulk, args.rows, PER_TRANSACTION),
                (
                    "unread_one_row", "unread", "insert_single", single + args.transactions,
                    args.transactions, 1,
                ),
            ):  # fmt: skip
                for side in order:
                    progress(f"round {number + 1}: {name} on {side.bus}")
                    if how == "measure":
                        measured = side.bench.measure(procedure, first, count, unit)["mesh"]
                    else:
                        measured = side.unread(procedure, first, count, unit)
                    progress(f"  {measured['per_second']} a second")
                    found[side.bus][name] = measured
            for side in order:
                progress(f"round {number + 1}: latency on {side.bus}")
                found[side.bus]["latency"] = side.latency(args.rate, args.seconds)
            single += 2 * args.transactions
            bulk += args.rows
            rounds.append(found)
        for side in sides:
            for table in ("single", "bulk", "latency"):
                sums = set(side.pair.checksums(f"{SCHEMA}.{table}"))
                if len(sums) != 1:
                    raise SystemExit(f"{side.bus}: {table} differs between the regions")
        assert on_kafka.broker is not None
        compared = compare(rounds)
        return {
            "benchmark": "kafka",
            **machine(on_file),
            "kafka": on_kafka.broker.kafka.version,
            "durable_commits": True,
            "targets": {"kafka_above_file_ms": ABOVE_FILE_MS, "kafka_to_file": TO_FILE},
            "must_be_zero": {side.bus: side.bench.lifts for side in sides},
            "compared": compared,
            "met": met(compared),
            "rounds": rounds,
        }


def compare(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """The medians of the rounds, Kafka against file."""

    def median(bus: str, name: str, *keys: str) -> float:
        found = []
        for each in rounds:
            value: Any = each[bus][name]
            for key in keys:
                value = value[key]
            found.append(float(value))
        return statistics.median(found)

    p50 = {bus: median(bus, "latency", "commit_to_visible_ms", "p50") for bus in BUSES}
    compared: dict[str, Any] = {
        "latency": {
            **p50,
            "kafka_above_file_ms": round(p50["kafka"] - p50["file"], 2),
        }
    }
    for name in rounds[0]["file"]:
        if name == "latency":
            continue
        rate = {bus: median(bus, name, "per_second") for bus in BUSES}
        cpu = {bus: median(bus, name, "cpu_us_each") for bus in BUSES}
        compared[name] = {
            **rate,
            "kafka_to_file": round(rate["kafka"] / rate["file"], 2),
            "cpu_us_each": cpu,
            "cpu_us_by_process": {bus: shares(rounds, bus, name) for bus in BUSES},
        }
    return compared


def shares(rounds: list[dict[str, dict[str, Any]]], bus: str, name: str) -> dict[str, float]:
    """Microseconds of processor time for one row, by process: the medians of the rounds."""
    found = [each[bus][name] for each in rounds]
    return {
        process: round(
            statistics.median(each["cpu_seconds"][process] / each["rows"] for each in found) * 1e6,
            1,
        )
        for process in found[0]["cpu_seconds"]
    }


def met(compared: dict[str, Any]) -> bool:
    """Whether the targets are."""
    return compared["latency"]["kafka_above_file_ms"] <= ABOVE_FILE_MS and all(
        each.get("kafka_to_file", 1.0) >= TO_FILE for each in compared.values()
    )


def main() -> int:
    """Run and print; 1 when something was mended."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.kafka",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=3, metavar="N", help="each round measures both buses")
    add("--rate", type=float, default=50.0, metavar="TX", help="rows a second, for the latency")
    add("--seconds", type=float, default=15.0, metavar="S", help="how long, for the latency")
    add("--transactions", type=int, default=80_000, metavar="N", help="one-row transactions")
    add("--rows", type=int, default=200_000, metavar="N", help="rows in 1000-row transactions")
    add("--dir", default=None, help="where the files go for the time")
    args = parser.parse_args()
    if args.rows % PER_TRANSACTION:
        parser.error(f"--rows must be a multiple of {PER_TRANSACTION}")
    missing = why_no_kafka()
    if missing is not None:
        print(json.dumps({"benchmark": "kafka", "not_run": missing}))
        return 0
    found = asyncio.run(run(args))
    print(json.dumps(found, indent=1))
    return 1 if any(any(each.values()) for each in found["must_be_zero"].values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
