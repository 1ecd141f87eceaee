"""What tracing costs the nodes: their processor time for the same work, with it and without.

Clients insert rows into region one, each in a transaction of its own, while no node runs;
then the nodes are started, publish and apply them.  Measured is the processor time of both
node processes, sending threads included, from when both have claimed their regions until all
is applied and the spans are sent.  So both sides do the same work in full batches, where a
transaction costs least and tracing weighs most.  Rounds with and without
``[tracing]`` alternate, so that a slow spell of the machine does not count for one side.  Spans
go to an endpoint in this process, which takes requests and does nothing else.

    python -m bench.tracing [--rounds N] [--transactions N] [--ratio R]

prints one JSON object: processor time in microseconds a transaction, median and least of the
rounds, and what tracing adds in per cent.  Exit code 1 if spans are missing or the
regions differ.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.pair import (
    NAMES,
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
)
from meshnode.topology import Tracing, render

CLIENTS = 4
TARGET_PERCENT = 3.0
SENT_SECONDS = 5.5
"""The queue is emptied every 5 s."""


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


def insert(server: Server, first: int, count: int) -> None:
    """Insert the rows ``first..`` by ``CLIENTS`` connections, one row a transaction.

    The writing is not what is measured, so it need not be durable.
    """

    def client(number: int) -> None:
        with server.connect() as sql, sql.cursor() as cursor:
            for at in range(first + number, first + count, CLIENTS):
                cursor.execute(f"INSERT INTO {SCHEMA}.traced VALUES ({ROW.format(id=at)})")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    with relaxed(server):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def measure(pair: Pair, tracing: Tracing | None, first: int, count: int) -> dict[str, float]:
    """Processor time of each node, in microseconds a transaction."""
    topology = msgspec.structs.replace(pair.topology, tracing=tracing)
    (pair.folder / "mesh.toml").write_text(render(topology))
    insert(pair.servers[0], first, count)
    pair.start_nodes()
    cpu = Cpu({node.region: node.pid for node in pair.nodes})
    pair.settle()
    # Both sides wait for the spans, so that heartbeats count alike.
    threading.Event().wait(SENT_SECONDS)
    used = cpu.used()
    pair.stop_nodes()
    return {name: seconds / count * 1e6 for name, seconds in used.items()}


def summary(rounds: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Median and least of the rounds: what others do on the machine can only add."""
    whole = [each | {"both": sum(each.values())} for each in rounds]
    return {
        name: {
            "median": round(statistics.median(each[name] for each in whole), 1),
            "least": round(min(each[name] for each in whole), 1),
        }
        for name in (*NAMES, "both")
    }


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark."""
    table = f"{SCHEMA}.traced"
    with listening() as endpoint, pair_of((), folder=args.dir) as pair:
        await pair.start_servers()
        await pair.install(TABLE.format(name=table))
        settings = {"without": None, "with": Tracing(endpoint.url, args.ratio)}
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in settings}
        first = 0
        for number in range(args.rounds):
            # Each side goes first as often as the other.
            for name in sorted(settings, reverse=bool(number % 2)):
                rounds[name].append(measure(pair, settings[name], first, args.transactions))
                first += args.transactions
                progress(f"round {number + 1} {name}: {rounds[name][-1]}")
        found = {name: summary(each) for name, each in rounds.items()}
        checksums = pair.checksums(table)
        return {
            "benchmark": "tracing",
            **machine(pair),
            "ratio": args.ratio,
            "transactions": args.transactions,
            "rounds": args.rounds,
            "cpu_us_per_transaction": found,
            "added_percent": {
                of: round((found["with"]["both"][of] / found["without"]["both"][of] - 1) * 100, 1)
                for of in ("median", "least")
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
    parser.add_argument("--rounds", type=int, default=4, metavar="N", help="of each side")
    parser.add_argument("--transactions", type=int, default=40_000, metavar="N", help="in a round")
    parser.add_argument("--ratio", type=float, default=0.01, metavar="R", help="share recorded")
    parser.add_argument("--dir", default=None, help="where the servers' files go for the time")
    found = asyncio.run(run(parser.parse_args()))
    print(json.dumps(found, indent=1))
    return 0 if found["spans"] and found["same"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
