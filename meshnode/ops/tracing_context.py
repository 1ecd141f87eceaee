"""Which trace a transaction belongs to, whether it is recorded, and how that travels.

Theory of operation.  The trace id is a digest of the mesh and the transaction's id, so
every region knows it without being told, and also a transaction that nobody chose to
record has one: whoever meets something worth recording later records it there.  Which ones
are recorded the origin alone decides, by lot, and tells the others in the item: a rule
on the trace id would need the digest of every transaction, which costs more than the spans.

In the frame a context is 25 bytes: trace id, id of the publishing span, flags, as in W3C's
``traceparent``.  It comes from outside: anything else than such bytes is no context.
"""

from collections.abc import Callable, Collection
from hashlib import blake2b
from math import floor, inf, log, log1p
from random import random

from opentelemetry.trace import INVALID_SPAN_ID, SpanContext, TraceFlags

CONTEXT_BYTES = 25

SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def trace_id(mesh: str, tx_id: str) -> int:
    """The trace of the transaction ``tx_id`` in the mesh: 128 bits, never 0."""
    found = blake2b(f"{mesh}\0{tx_id}".encode(), digest_size=16).digest()
    return int.from_bytes(found, "big") or 1


def root_span(trace: int) -> int:
    """The id of the first span of ``trace``: 64 bits, never 0."""
    found = blake2b(trace.to_bytes(16, "big"), digest_size=8).digest()
    return int.from_bytes(found, "big") or 1


class Draw:
    """Draws ``ratio`` (0 to 1) of all items, each as likely as any other.

    Not each is asked, but how many are passed over until the next: that costs nothing for
    those that are not drawn.
    """

    def __init__(self, ratio: float, random: Callable[[], float] = random) -> None:
        self._ratio = ratio
        self._random = random
        self._left = self._gap()

    def draw(self, count: int) -> Collection[int]:
        """Which of the next ``count`` items are drawn, as places from 0."""
        if self._left >= count:
            self._left -= count
            return ()
        drawn = set()
        place = self._left
        while place < count:
            drawn.add(int(place))
            place += 1 + self._gap()
        self._left = place - count
        return drawn

    def _gap(self) -> float:
        if self._ratio >= 1:
            return 0
        if self._ratio <= 0:
            return inf
        return floor(log(1.0 - self._random()) / log1p(-self._ratio))


def pack(context: SpanContext) -> bytes:
    """``context`` as it stands in an item."""
    return (
        context.trace_id.to_bytes(16, "big")
        + context.span_id.to_bytes(8, "big")
        + bytes((context.trace_flags,))
    )


def unpack(trace: bytes, expected: int) -> SpanContext | None:
    """The context in an item of the trace ``expected``; None if it is none, or is not sampled."""
    if len(trace) != CONTEXT_BYTES or int.from_bytes(trace[:16], "big") != expected:
        return None
    span = int.from_bytes(trace[16:24], "big")
    if span == INVALID_SPAN_ID or not trace[24] & TraceFlags.SAMPLED:
        return None
    return SpanContext(expected, span, is_remote=True, trace_flags=SAMPLED)
