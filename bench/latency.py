"""From commit to visible: how long a row takes to the other region at a steady rate.

A writer in region one inserts a row in a transaction of its own every 20 ms and
notes when it sent the statement and when the server's answer to the commit came.  A
watcher in region two asks ``SELECT`` for that row again and again from the moment
of sending, without a pause, and notes when it first got it.  Both are threads of
this process, so they read one clock.  What the watcher adds is at most one of its
own round trips; the median of those is printed as ``watcher_round_trip_ms``.
Commits are durable on both sides, and there is no WAN latency.

``commit_to_visible`` counts from the answer to the commit (never below 0: a row
can be there before the answer is), ``write_to_visible`` from the sending of the
statement, so it contains the origin's own commit.  The same is then measured of
MySQL's own replica with one worker, nodes stopped.

    python -m bench.latency [--rate TX] [--seconds S]

prints one JSON object, times in milliseconds.
"""

import argparse
import asyncio
import json
import queue
import statistics
import threading
import time
from typing import Any

from bench.pair import ROW, SCHEMA, TABLE, Pair, Server, machine, pair_of, progress

WARM_UP_SECONDS = 3.0
TARGET_P50_MS = 10.0


class Sample:
    """One row's times, on the clock of ``time.perf_counter``, in seconds."""

    __slots__ = ("answered", "number", "seen", "sent")

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent = self.answered = self.seen = 0.0


def write(server: Server, samples: list[Sample], out: queue.SimpleQueue, rate: float) -> None:
    """Insert the rows on a timetable; each sample goes to the watcher when it is sent."""
    with server.connect() as sql, sql.cursor() as cursor:
        due = time.perf_counter()
        for sample in samples:
            time.sleep(max(0.0, due - time.perf_counter()))
            due = max(due + 1 / rate, time.perf_counter())
            sample.sent = time.perf_counter()
            out.put(sample)
            cursor.execute(f"INSERT INTO {SCHEMA}.latency VALUES ({ROW.format(id=sample.number)})")
            sample.answered = time.perf_counter()
    out.put(None)


def watch(server: Server, inbox: queue.SimpleQueue, trips: list[float]) -> None:
    """Look for each row until it is there."""
    with server.connect() as sql, sql.cursor() as cursor:
        while (sample := inbox.get()) is not None:
            while True:
                asked = time.perf_counter()
                cursor.execute(f"SELECT 1 FROM {SCHEMA}.latency WHERE id = {sample.number}")
                found = cursor.fetchone()
                answered = time.perf_counter()
                trips.append(answered - asked)
                if found:
                    sample.seen = answered
                    break


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Median and others, in milliseconds."""
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3, 2)

    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0)}


def measure(source: Server, target: Server, first: int, rate: float, seconds: float) -> dict:
    """Rows ``first..`` at ``rate`` for ``seconds``, after a warm-up that does not count."""
    warm = int(rate * WARM_UP_SECONDS)
    samples = [Sample(first + at) for at in range(warm + int(rate * seconds))]
    between: queue.SimpleQueue = queue.SimpleQueue()
    trips: list[float] = []
    threads = [
        threading.Thread(target=write, args=(source, samples, between, rate)),
        threading.Thread(target=watch, args=(target, between, trips)),
    ]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - begun
    counted = samples[warm:]
    return {
        "samples": len(counted),
        "rate": round(len(samples) / taken, 1),
        "commit_to_visible_ms": percentiles([max(0.0, s.seen - s.answered) for s in counted]),
        "write_to_visible_ms": percentiles([s.seen - s.sent for s in counted]),
        "origin_commit_ms": percentiles([s.answered - s.sent for s in counted]),
        "watcher_round_trip_ms": round(statistics.median(trips) * 1e3, 3),
    }


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark."""
    with pair_of((1,), folder=args.dir) as pair:
        await pair.start_servers()
        await pair.install(TABLE.format(name=f"{SCHEMA}.latency"))
        pair.start_nodes()
        pair.settle()
        progress("mesh")
        mesh = measure(*pair.servers, 0, args.rate, args.seconds)
        pair.settle()
        mesh["counts"] = pair.counts()
        pair.stop_nodes()
        replica = by_replica(pair, args)
        return {
            "benchmark": "latency",
            **machine(pair),
            "durable_commits": True,
            "target_p50_ms": TARGET_P50_MS,
            "asked_rate": args.rate,
            "mesh": mesh,
            "replica_1": replica,
        }


def by_replica(pair: Pair, args: argparse.Namespace) -> dict[str, Any]:
    """The same of MySQL's own replica."""
    progress("replica")
    replica = pair.replicas[0]
    replica.start()
    replica.catch_up()
    found = measure(pair.servers[0], replica.server, 1_000_000, args.rate, args.seconds)
    replica.stop()
    return found


def main() -> int:
    """Run and print; 1 when the median is above the target."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rate", type=float, default=50.0, metavar="TX", help="rows a second")
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S", help="how long")
    parser.add_argument("--dir", default=None, help="where the servers' files go for the time")
    found = asyncio.run(run(parser.parse_args()))
    print(json.dumps(found, indent=1))
    return 0 if found["mesh"]["commit_to_visible_ms"]["p50"] < TARGET_P50_MS else 1


if __name__ == "__main__":
    raise SystemExit(main())
