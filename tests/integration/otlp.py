"""An OTLP endpoint of the test's own: takes what exporters post and decodes it.

Nothing of the project is used to read it: bytes come in as HTTP, are decoded by the
protocol's own messages, and are told apart by the fields that any collector looks at.
"""

import contextlib
import gzip
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Encoded


class Span(NamedTuple):
    """A span as it arrived; ids in hex, times in nanoseconds since 1970."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    links: list[str]
    events: list[tuple[str, dict[str, Any]]]

    @property
    def region(self) -> str:
        return self.resource["service.instance.id"]

    @property
    def operation(self) -> str:
        """The first word of its name."""
        return self.name.split(" ")[0]


class Receiver:
    """``url`` for ``[tracing]``, and the ``spans`` so far."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.url = ""

    def traces(self) -> dict[str, list[Span]]:
        """The spans by trace, in the order in which they came."""
        found: dict[str, list[Span]] = {}
        for span in self.spans:
            found.setdefault(span.trace, []).append(span)
        return found

    def of(self, tx_id: str) -> list[Span]:
        """The spans of one source transaction, in the order in which they began."""
        own = [span for span in self.spans if span.attributes["meshnode.tx_id"] == tx_id]
        return sorted(own, key=lambda span: span.start)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        export = ExportTraceServiceRequest()
        export.ParseFromString(body)
        for group in export.resource_spans:
            resource = values(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [decoded(span, resource) for span in scope.spans]
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )


def values(pairs: Any) -> dict[str, Any]:
    """Key-value pairs of the protocol as a dictionary."""
    return {pair.key: value(pair.value) for pair in pairs}


def value(encoded: Any) -> Any:
    kind = encoded.WhichOneof("value")
    if kind == "array_value":
        return [value(each) for each in encoded.array_value.values]
    return getattr(encoded, kind)


def decoded(span: Any, resource: dict[str, Any]) -> Span:
    return Span(
        span.name, Encoded.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
        span.start_time_unix_nano, span.end_time_unix_nano, values(span.attributes), resource,
        [link.span_id.hex() for link in span.links],
        [(event.name, values(event.attributes)) for event in span.events],
    )  # fmt: skip


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free port of this machine."""
    found = Receiver()
    application = web.Application(client_max_size=64 * 2**20)
    application.add_routes([web.post("/v1/traces", found.take)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    found.url = f"http://{host}:{port}"
    try:
        yield found
    finally:
        await runner.cleanup()
