"""What tracing costs the nodes: their processor time for the same work, with it and without.

Both nodes run in this process.  Region one commits stretches of one-row transactions, by
a stored procedure, and region two applies them; between two stretches the observers of both
nodes are taken away or put back, so that neighbouring stretches differ in nothing else and
a slow spell of the machine counts for both sides.  Measured is the processor time of
the whole process for each stretch, until all is applied and the spans are sent: the nodes, the
sending threads, the endpoint that takes the spans, and what looks for the end.

    python -m bench.tracing [--stretches N] [--transactions N] [--ratio R]

prints one JSON object: processor time in microseconds a transaction, medians, and what tracing
adds in per cent, as the median over pairs of neighbouring stretches.  Exit code 1
if spans are missing or the regions differ.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import statistics
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import uvloop
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.pair import NAMES, ROW, SCHEMA, TABLE, Pair, machine, pair_of, progress, relaxed
from meshnode.actors.observer import StreamUnobserved, Unobserved
from meshnode.node import Node
from meshnode.topology import Limits, Tracing

TARGET_PERCENT = 3.0
FILL = f"""
CREATE PROCEDURE {SCHEMA}.fill(first BIGINT, count BIGINT)
BEGIN
    DECLARE n BIGINT DEFAULT first;
    WHILE n < first + count DO
        INSERT INTO {SCHEMA}.traced VALUES ({ROW.format(id="n")});
        SET n = n + 1;
    END WHILE;
END
"""


class Endpoint:
    """Takes OTLP over HTTP; ``requests`` keeps the bodies."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.requests.append(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self) -> int:
        """How many spans have come."""
        count = 0
        for body in self.requests:
            request = ExportTraceServiceRequest.FromString(body)
            count += sum(
                len(scope.spans) for group in request.resource_spans for scope in group.scope_spans
            )
        return count


@contextlib.contextmanager
def listening() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    thread = threading.Thread(target=endpoint.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.server.shutdown()
        thread.join()


class Watched:
    """Two running nodes whose observers come and go."""

    def __init__(self, pair: Pair, tracing: Tracing) -> None:
        self.pair = pair
        # A faster pulse: a stretch ends with a few heartbeats, which do not count for a side.
        topology = msgspec.structs.replace(
            pair.topology, tracing=tracing, limits=Limits(heartbeat_seconds=0.2)
        )
        self.nodes = [Node(topology, None, name) for name in NAMES]
        self.tasks = [asyncio.create_task(node.run()) for node in self.nodes]
        self.written = 0

    def observe(self, on: bool) -> None:
        """Put the tracers in their places, or nobody."""
        for node in self.nodes:
            board = node.board
            board.observer = node.tracer if on else Unobserved()
            for peer in node.topology.peers(node.region.name):
                board.peer(peer.id).observer = (
                    node.tracer.stream(peer) if on else StreamUnobserved()
                )

    async def stretch(self, on: bool, count: int) -> float:
        """Processor time in microseconds a transaction, of ``count``."""
        await asyncio.to_thread(self.pair.settle)
        self.observe(on)
        begun = time.process_time()
        await asyncio.to_thread(self._work, count)
        for node in self.nodes:
            await asyncio.to_thread(node.tracer.outlet.flush)
        return (time.process_time() - begun) / count * 1e6

    def _work(self, count: int) -> None:
        with self.pair.servers[0].connect() as sql, sql.cursor() as cursor:
            cursor.execute(f"CALL {SCHEMA}.fill({self.written}, {count})")
        self.written += count
        self.pair.settle()

    async def stop(self) -> None:
        for node in self.nodes:
            node.supervisor.stop()
        await asyncio.gather(*self.tasks)


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark."""
    table = f"{SCHEMA}.traced"
    with listening() as endpoint, pair_of((), folder=args.dir) as pair:
        await pair.start_servers()
        await pair.install(TABLE.format(name=table))
        with pair.servers[0].connect() as sql, sql.cursor() as cursor:
            cursor.execute(FILL)
        watched = Watched(pair, Tracing(endpoint.url, args.ratio))
        # As in a process of its own.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        pairs: list[tuple[float, float]] = []
        with relaxed(pair.servers[0]), relaxed(pair.servers[1]):
            await watched.stretch(True, args.transactions)
            for number in range(args.stretches):
                # Each side goes first as often as the other.
                first = bool(number % 2)
                found = {
                    on: await watched.stretch(on, args.transactions) for on in (first, not first)
                }
                pairs.append((found[False], found[True]))
                progress(
                    f"stretch {number + 1}: without {found[False]:.1f}, with {found[True]:.1f}"
                )
        await watched.stop()
        checksums = pair.checksums(table)
        added = sorted((after / before - 1) * 100 for before, after in pairs)
        return {
            "benchmark": "tracing",
            **machine(pair),
            "ratio": args.ratio,
            "transactions": args.transactions,
            "stretches": args.stretches,
            "cpu_us_per_transaction": {
                "without": round(statistics.median(before for before, _ in pairs), 1),
                "with": round(statistics.median(after for _, after in pairs), 1),
            },
            "added_percent": {
                "median": round(statistics.median(added), 1),
                "quartiles": [round(each, 1) for each in statistics.quantiles(added, n=4)],
            },
            "target_percent": TARGET_PERCENT,
            "spans": endpoint.spans(),
            "same": len(set(checksums)) == 1,
        }


def main() -> int:
    """Run and print; 1 when no spans came or the regions differ."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.tracing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stretches", type=int, default=30, metavar="N", help="of each side")
    parser.add_argument("--transactions", type=int, default=3000, metavar="N", help="in a stretch")
    parser.add_argument("--ratio", type=float, default=0.01, metavar="R", help="share recorded")
    parser.add_argument("--dir", default=None, help="where the servers' files go for the time")
    found = uvloop.run(run(parser.parse_args()))
    print(json.dumps(found, indent=1))
    return 0 if found["spans"] and found["same"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
