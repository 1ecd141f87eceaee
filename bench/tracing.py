"""What tracing costs the nodes: their processor time for the same work, with it and without.

Two nodes run in a process each, as an operator runs them, under a steady load.  The rate
is the one at which the ratio's share weighs most: of more transactions no more are recorded,
and of fewer each one costs the nodes more.  Every half second the observers of both nodes
are taken away or put back, in the order without, with, with, without and the other way
round, so that neighbouring slices differ in nothing else, and neither a slow spell of the
machine nor a drift counts for one side.

Counted is the processor time of the nodes for each transaction: nothing that waits, and neither the
servers nor the client nor the endpoint that takes the spans.  The thread that sends spans works
every few seconds, so its time is that of a last stretch in which tracing is on throughout, and
counts for the side with.  Two figures come of it.  ``added_percent`` is the difference
between the sides, the median over blocks of four slices with its 95 % interval: it holds whatever
tracing does to the nodes, the clocks of this benchmark, and the machine's noise.
``inside_percent`` is the time spent in the observers and in the sending thread alone, which
other programs reach little.

    python -m bench.tracing [--blocks N] [--rate TX] [--ratio R]

prints one JSON object.  Exit code 1 if spans are missing or the regions differ.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import math
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import uvloop
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.pair import NAMES, ROW, SCHEMA, TABLE, Pair, machine, pair_of, progress, relaxed
from meshnode.actors.observer import Observer, StreamObserver, StreamUnobserved, Unobserved
from meshnode.node import Node
from meshnode.ops.tracing_export import SEND_EVERY_SECONDS
from meshnode.topology import Topology, Tracing

TARGET_PERCENT = 3.0
SLICE_SECONDS = 0.5
SENDING_SECONDS = 20.0
"""Several times as long as the sending thread sleeps."""

BURSTS = 100
"""The load comes in so many bursts a second."""

SENDER = "OtelBatchSpanRecordProcessor"
"""The thread that sends spans."""

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
            protocol_version = "HTTP/1.1"

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


class Reading(NamedTuple):
    """What a node has done so far; processor time in seconds.

    ``cpu`` is that of all its threads but the sending one (``sending``), ``inside`` the part of
    it that was spent in observers.
    """

    cpu: float
    sending: float
    inside: float
    transactions: int

    def since(self, before: "Reading") -> "Reading":
        return Reading(*(after - start for after, start in zip(self, before)))

    def plus(self, other: "Reading") -> "Reading":
        return Reading(*(one + two for one, two in zip(self, other)))


class Watched:
    """A node in its own process, whose observers come and go as ``pipe`` says (True, False).

    Each order is answered with the `Reading` at that moment.
    """

    def __init__(self, pipe: Connection, node: Node) -> None:
        self.pipe = pipe
        self.node = node
        self.inside_ns = 0
        readings = [time.thread_time_ns() for _ in range(1000)]
        self.clock_ns = min(after - before for before, after in pairwise(readings))
        (sender,) = (each for each in threading.enumerate() if each.name == SENDER)
        self.sender = time.pthread_getcpuclockid(sender.ident)

    def obey(self) -> None:
        """Follow one order; the end of the pipe is the end of the node."""
        try:
            on = self.pipe.recv()
        except EOFError:
            asyncio.get_running_loop().remove_reader(self.pipe.fileno())
            self.node.supervisor.stop()
            return
        self.pipe.send(self.reading())
        self.observe(on)

    def reading(self) -> Reading:
        counts = self.node.board.counts
        sending = time.clock_gettime(self.sender)
        return Reading(
            time.process_time() - sending, sending, self.inside_ns / 1e9,
            counts["published_transactions"] + counts["applied_transactions"],
        )  # fmt: skip

    def observe(self, on: bool) -> None:
        """Put the tracer in its places, or nobody."""
        node = self.node
        tracer = node.tracer
        node.board.observer = self.timed(tracer, Observer) if on else Unobserved()
        for peer in node.topology.peers(node.region.name):
            node.board.peer(peer.id).observer = (
                self.timed(tracer.stream(peer), StreamObserver) if on else StreamUnobserved()
            )

    def timed(self, observer: Any, port: type) -> Any:
        """``observer`` with a clock around each method of the ``port``."""
        names = [name for name in vars(port) if not name.startswith("_")]
        return SimpleNamespace(**{name: self._timed(getattr(observer, name)) for name in names})

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            begun = time.thread_time_ns()
            try:
                return method(*given)
            finally:
                self.inside_ns += time.thread_time_ns() - begun - self.clock_ns

        return call


def serve(pipe: Connection, topology: Topology, name: str) -> None:
    """The process of one node."""
    uvloop.run(_serve(pipe, topology, name))


async def _serve(pipe: Connection, topology: Topology, name: str) -> None:
    node = Node(topology, None, name)
    watched = Watched(pipe, node)
    # As `meshnode run` does.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    asyncio.get_running_loop().add_reader(pipe.fileno(), watched.obey)
    await node.run()


class Nodes:
    """Both nodes, as seen from here."""

    def __init__(self, topology: Topology) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Connection] = []
        self.processes = []
        for name in NAMES:
            pipe, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, topology, name), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(pipe)
            self.processes.append(process)

    def switch(self, on: bool) -> list[Reading]:
        """Trace from now on, or do not; what each node had done until then."""
        for pipe in self.pipes:
            pipe.send(on)
        return [pipe.recv() for pipe in self.pipes]

    def stop(self) -> None:
        """End both; they send their last spans."""
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join()


class Load:
    """A client of region one: ``rate`` one-row transactions a second, until `stop`."""

    def __init__(self, pair: Pair, rate: float) -> None:
        self.pair = pair
        self.burst = max(1, round(rate / BURSTS))
        self.seconds = self.burst / rate
        self.written = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        with self.pair.servers[0].connect() as sql, sql.cursor() as cursor:
            due = time.monotonic()
            while not self._ending.wait(max(0.0, due - time.monotonic())):
                cursor.execute(f"CALL {SCHEMA}.fill({self.written}, {self.burst})")
                self.written += self.burst
                # Late is late: a burst of bursts would be another load.
                due = max(due + self.seconds, time.monotonic())

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()


Block = dict[bool, list[Reading]]
"""Of a block the readings of both nodes, with tracing and without."""


def measure(nodes: Nodes, blocks: int) -> list[Block]:
    """Alternate under load."""
    found: list[Block] = []
    for number in range(blocks):
        first = bool(number % 2)
        block: Block = {}
        for on in (first, not first, not first, first):
            before = nodes.switch(on)
            time.sleep(SLICE_SECONDS)
            slices = [after.since(start) for after, start in zip(nodes.switch(on), before)]
            block[on] = (
                [one.plus(two) for one, two in zip(block[on], slices)] if on in block else slices
            )
        found.append(block)
    return found


def measure_on(nodes: Nodes, seconds: float) -> list[Reading]:
    """With tracing all the time."""
    nodes.switch(True)
    # Spans of before are gone with the first batch of this stretch.
    time.sleep(SEND_EVERY_SECONDS)
    before = nodes.switch(True)
    time.sleep(seconds)
    return [after.since(start) for after, start in zip(nodes.switch(True), before)]


def judge(blocks: list[Block], on: list[Reading]) -> dict[str, Any]:
    """The figures, in microseconds of processor time a transaction and in per cent."""

    def us(readings: list[Reading], field: str) -> list[float]:
        return [getattr(each, field) / max(1, each.transactions) * 1e6 for each in readings]

    def total(side: bool) -> list[Reading]:
        every = [block[side] for block in blocks]
        return [
            Reading(*(sum(values) for values in zip(*(each[at] for each in every))))
            for at in range(len(NAMES))
        ]

    with_, without = total(True), total(False)
    sending, inside = us(on, "sending"), us(on, "inside")
    added = sorted(
        (sum(us(block[True], "cpu")) + sum(sending)) / sum(us(block[False], "cpu")) * 100 - 100
        for block in blocks
    )
    # The order statistics between which the median lies in 95 of 100 cases.
    aside = math.floor((len(added) - 1.96 * math.sqrt(len(added))) / 2)
    low, high = max(0, aside - 1), min(len(added) - 1, len(added) - aside)
    return {
        "cpu_us_per_transaction": {
            "without": rounded(us(without, "cpu")),
            "with": rounded(us(with_, "cpu")),
            "inside_observers": rounded(inside),
            "sending": rounded(sending),
        },
        "added_percent": round(statistics.median(added), 2),
        "interval_95": [round(added[low], 2), round(added[high], 2)],
        "inside_percent": round((sum(inside) + sum(sending)) / sum(us(without, "cpu")) * 100, 2),
    }


def rounded(values: list[float]) -> dict[str, float]:
    """By node, and both."""
    return {name: round(value, 2) for name, value in zip((*NAMES, "both"), (*values, sum(values)))}


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """The whole benchmark."""
    table = f"{SCHEMA}.traced"
    with listening() as endpoint, pair_of((), folder=args.dir) as pair:
        await pair.start_servers()
        await pair.install(TABLE.format(name=table))
        with pair.servers[0].connect() as sql, sql.cursor() as cursor:
            cursor.execute(FILL)
        tracing = Tracing(endpoint.url, args.ratio)
        nodes = Nodes(msgspec.structs.replace(pair.topology, tracing=tracing))
        with relaxed(pair.servers[0]), relaxed(pair.servers[1]):
            pair.settle()
            progress("warm-up")
            load = Load(pair, args.rate)
            try:
                measure(nodes, 2)
                progress(f"{args.blocks} blocks of {4 * SLICE_SECONDS:g} s")
                begun, before = time.monotonic(), load.written
                blocks = measure(nodes, args.blocks)
                on = measure_on(nodes, SENDING_SECONDS)
                rate = (load.written - before) / (time.monotonic() - begun)
            finally:
                load.stop()
            pair.settle()
        nodes.stop()
        checksums = pair.checksums(table)
        return {
            "benchmark": "tracing",
            **machine(pair),
            "ratio": args.ratio,
            "rate": round(rate),
            "blocks": args.blocks,
            **judge(blocks, on),
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
    add = parser.add_argument
    add("--blocks", type=int, default=40, metavar="N", help="each of four half seconds")
    add("--rate", type=float, default=1000.0, metavar="TX", help="one-row transactions a second")
    add("--ratio", type=float, default=0.01, metavar="R", help="share recorded")
    add("--dir", default=None, help="where the servers' files go for the time")
    found = asyncio.run(run(parser.parse_args()))
    print(json.dumps(found, indent=1))
    return 0 if found["spans"] and found["same"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
