"""Spans as the bytes of OTLP's ``ExportTraceServiceRequest``, written down directly.

Theory of operation.  The exporter's own encoder makes a message object of each attribute, which
takes about 70 us a span: more than all else that tracing does together.  What a node's spans
hold is little (no links, no trace state, no status, attributes of plain values), so their bytes
are put together here, for a fifth.

The numbers are those of ``opentelemetry/proto/trace/v1/trace.proto``, each with its wire type: a
length and bytes (2), a varint (0), 8 bytes (1), 4 bytes (5).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from struct import pack
from typing import NamedTuple

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

KEYS_KEPT = 256
"""Attribute names are few, and written again and again."""

KINDS = {
    SpanKind.INTERNAL: b"\x30\x01",
    SpanKind.SERVER: b"\x30\x02",
    SpanKind.CLIENT: b"\x30\x03",
    SpanKind.PRODUCER: b"\x30\x04",
    SpanKind.CONSUMER: b"\x30\x05",
}
REMOTE_KNOWN, REMOTE = 0x100, 0x200
"""Whether it is known that the parent is of another process, and whether it is."""


class Encoded(NamedTuple):
    """A request in the shape in which the exporter expects it from its own encoder."""

    request: bytes

    def SerializePartialToString(self) -> bytes:
        return self.request


def encode_spans(spans: Sequence[ReadableSpan]) -> Encoded:
    """The request that carries ``spans``; those of one node share resource and scope."""
    groups = groupby(spans, lambda span: (id(span.resource), id(span.instrumentation_scope)))
    return Encoded(b"".join(_field(b"\x0a", _group(list(group))) for _, group in groups))


def _group(spans: list[ReadableSpan]) -> bytes:
    scope, resource = spans[0].instrumentation_scope, spans[0].resource
    parts = [_field(b"\x0a", _text(b"\x0a", scope.name) + _text(b"\x12", scope.version))]
    parts += [_field(b"\x12", _span(span)) for span in spans]
    parts.append(_text(b"\x1a", scope.schema_url))
    described = _field(b"\x0a", _attributes(b"\x0a", resource.attributes))
    described += _field(b"\x12", b"".join(parts))
    return described + _text(b"\x1a", resource.schema_url)


def _span(span: ReadableSpan) -> bytes:
    own, parent = span.context, span.parent
    flags = REMOTE_KNOWN
    parts = [b"\x0a\x10", own.trace_id.to_bytes(16, "big")]
    parts += (b"\x12\x08", own.span_id.to_bytes(8, "big"))
    if parent is not None:
        parts += (b"\x22\x08", parent.span_id.to_bytes(8, "big"))
        if parent.is_remote:
            flags |= REMOTE
    parts += (
        _field(b"\x2a", span.name.encode()),
        KINDS[span.kind],
        b"\x39", pack("<Q", span.start_time),
        b"\x41", pack("<Q", span.end_time),
        _attributes(b"\x4a", span.attributes),
    )  # fmt: skip
    parts += (_field(b"\x5a", _event(event)) for event in span.events)
    # The status stays unset: what a transaction met is in its attributes.
    parts += (b"\x7a\x00\x85\x01", pack("<I", flags))
    return b"".join(parts)


def _event(event: Event) -> bytes:
    name = _field(b"\x12", event.name.encode())
    return b"\x09" + pack("<Q", event.timestamp) + name + _attributes(b"\x1a", event.attributes)


def _attributes(tag: bytes, attributes: Mapping[str, AttributeValue] | None) -> bytes:
    return b"".join(
        [
            _field(tag, _key(key) + _field(b"\x12", VALUES[type(value)](value)))
            for key, value in (attributes or {}).items()
        ]
    )


@lru_cache(KEYS_KEPT)
def _key(key: str) -> bytes:
    return _field(b"\x0a", key.encode())


def _sequence(values: Sequence[str | bool | int | float]) -> bytes:
    found = b"".join([_field(b"\x0a", VALUES[type(value)](value)) for value in values])
    return _field(b"\x2a", found)


def _whole(value: int) -> bytes:
    # A negative number is the 64 bits of its complement.
    return b"\x18" + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)


VALUES: dict[type, Callable[..., bytes]] = {
    str: lambda value: _field(b"\x0a", value.encode()),
    bool: lambda value: b"\x10\x01" if value else b"\x10\x00",
    int: _whole,
    float: lambda value: b"\x21" + pack("<d", value),
    tuple: _sequence,
    list: _sequence,
}


def _text(tag: bytes, text: str | None) -> bytes:
    """A field that is left out where it is empty."""
    return _field(tag, text.encode()) if text else b""


def _field(tag: bytes, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return tag + SMALL[size] + content
    return tag + _varint(size) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


SMALL = [bytes((size,)) for size in range(0x80)]
