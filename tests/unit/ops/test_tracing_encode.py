"""Spans as bytes: the very ones that OpenTelemetry's own encoder makes of them."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as reference
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from meshnode.ops import tracing_encode
from meshnode.ops.tracing_encode import encode_spans
from meshnode.ops.tracing_export import http_exporter

SAMPLED = TraceFlags(TraceFlags.SAMPLED)
NODE = Resource({"service.name": "meshnode", "n": 7}, "https://schemas/1")
OTHER = Resource({"service.name": "other"})
SCOPE = InstrumentationScope("meshnode", "1.0", "https://schemas/2")
PLAIN = InstrumentationScope("plain")

texts = st.text(max_size=8) | st.text(min_size=120, max_size=140)
# What is empty or 0 may be left out, and the reference does; no span of a node is like that.
names = st.text(min_size=1, max_size=8) | st.text(min_size=120, max_size=140)
scalars = texts | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
attributes = st.dictionaries(names, scalars | st.lists(scalars, max_size=3).map(tuple), max_size=4)
contexts = st.builds(
    SpanContext, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans(),
    st.just(SAMPLED),
)  # fmt: skip
times = st.integers(1, 2**63)
spans = st.builds(
    ReadableSpan,
    names,
    contexts,
    st.none() | contexts,
    attributes=attributes,
    events=st.lists(st.builds(Event, names, attributes, times), max_size=2),
    kind=st.sampled_from(SpanKind),
    start_time=times,
    end_time=times,
    resource=st.just(NODE),
    instrumentation_scope=st.just(SCOPE),
)


@given(st.lists(spans, min_size=1, max_size=4))
def test_the_bytes_are_those_of_the_reference(batch):
    expected = reference(batch).SerializePartialToString()
    assert encode_spans(batch).SerializePartialToString() == expected


def span(resource: Resource = NODE, scope: InstrumentationScope = SCOPE, **more) -> ReadableSpan:
    return ReadableSpan(
        "one", SpanContext(1, 2, False, SAMPLED), resource=resource, instrumentation_scope=scope,
        start_time=1, end_time=2, **more,
    )  # fmt: skip


def test_spans_of_several_nodes_and_scopes_stay_apart():
    batch = [span(), span(), span(OTHER), span(OTHER, PLAIN)]
    request = ExportTraceServiceRequest.FromString(encode_spans(batch).request)
    found = [
        (group.resource.attributes[0].value.string_value, scope.scope.name, len(scope.spans))
        for group in request.resource_spans
        for scope in group.scope_spans
    ]
    assert found == [("meshnode", "meshnode", 2), ("other", "meshnode", 1), ("other", "plain", 1)]


@pytest.fixture
def endpoint():
    """An address that takes one request, and what it took."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_exporter_sends_these_bytes(endpoint, monkeypatch):
    url, bodies = endpoint
    exporter = http_exporter(url)
    monkeypatch.setitem(tracing_encode.KINDS, SpanKind.SERVER, b"\x30\x05")
    assert exporter.export([span(kind=SpanKind.SERVER)]) is SpanExportResult.SUCCESS
    exporter.shutdown()
    request = ExportTraceServiceRequest.FromString(bodies[0])
    assert request.resource_spans[0].scope_spans[0].spans[0].kind == 5, "another encoder's bytes"


def test_a_value_that_no_node_makes_is_refused():
    """Not left out: the span would tell less than it says."""
    with pytest.raises(KeyError):
        encode_spans([span(attributes={"set": {1}})])
