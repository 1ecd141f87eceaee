"""One trace for each source transaction: from its commit, over the bus, to every region.

Theory of operation.  The actors tell the moments of frames and batches
(:mod:`meshnode.actors.observer`); of a transaction that is recorded, spans are made of them.
The origin records the ratio's share of all transactions and each one with a lift, and puts
the context of its publishing span into the item: every peer records those too.  A peer in which
another transaction meets a conflict, a parked row or a retry records its own part of it,
in the same trace, which has no other parts then.

Recording costs as much as publishing several transactions, and it must not weigh when there is
most to do.  So the ratio's share is taken of at most ``SHARED_PER_SECOND`` transactions.  And
conflicts come in masses, after a cut for instance: of the transactions that are
recorded for what happened to them, a node takes at most ``EVENTS_PER_SECOND``, and counts
the others.

    tracing_context   trace ids, the ratio, the bytes in the item
    tracing_spans     names, kinds and attributes
    tracing_stream    what a peer's stream becomes here
    tracing_export    the way out
"""

import time
from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import SpanContext

from meshnode.actors.mender import Draft
from meshnode.core.wire import HEARTBEAT, PART, Item
from meshnode.mysql.tablemap import parse_table_map
from meshnode.ops.tracing_context import SAMPLED, Draw, pack, root_span, trace_id
from meshnode.ops.tracing_export import Outlet, http_exporter
from meshnode.ops.tracing_spans import (
    LAG,
    LIFTS,
    ORIGIN,
    REASONS,
    REGION,
    ROWS,
    SEQ,
    TABLES,
    TX_ID,
    Attributes,
    Spans,
)
from meshnode.ops.tracing_stream import StreamTracer
from meshnode.topology import Region, Topology, Tracing

SHARED_PER_SECOND = 1000
"""Of so many transactions a second the ratio's share is recorded, and of more no more."""

EVENTS_PER_SECOND = 20
"""Transactions a second that a node records for what happened to them, not for the ratio."""

SECOND_NS = 1_000_000_000


class Allowance:
    """Lets ``limit`` events a second pass, and counts the others."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = 0
        self._given = 0
        self.refused = 0

    def take(self, now: int) -> bool:
        """Whether one more may pass at ``now`` (ns)."""
        second = now // SECOND_NS
        if second != self._second:
            self._second, self._given = second, 0
        if self._given >= self._limit:
            self.refused += 1
            return False
        self._given += 1
        return True


class Followed:
    """A transaction that is recorded, from its first recorded part to its last."""

    def __init__(self, trace: int, start: int, reason: str) -> None:
        self.start = start
        self.reason = reason
        self.root = SpanContext(trace, root_span(trace), False, SAMPLED)
        self.rows = 0
        self.lifts = 0
        self.tables: set[str] = set()

    def add(self, item: Item, tables: Sequence[str]) -> None:
        self.rows += len(item.entries)
        self.lifts += item.lifts
        self.tables.update(tables[number] for number in {entry.table for entry in item.entries})


class Sending(NamedTuple):
    """Of one frame what is recorded: its items, each with the context of its publishing span.

    ``taken``: when the mender took its transactions; ``start``: when it was encoded.
    """

    taken: int
    start: int
    items: list[tuple[Item, Followed, SpanContext]]


class Tracer:
    """Records the transactions of ``region``; the :class:`~meshnode.actors.observer.Observer`.

    ``exporter`` takes the place of the one that sends to the endpoint of the topology.
    """

    def __init__(
        self,
        topology: Topology,
        region: Region,
        settings: Tracing,
        exporter: SpanExporter | None = None,
    ) -> None:
        self.mesh = topology.mesh
        self.region = region
        self.outlet = Outlet(exporter or http_exporter(settings.endpoint))
        self.spans = Spans(topology, region, self.outlet)
        self.events = Allowance(EVENTS_PER_SECOND)
        self._ratio = Draw(settings.ratio)
        self._share = Allowance(ceil(SHARED_PER_SECOND * settings.ratio))
        self._huge: Followed | None = None

    def stream(self, peer: Region) -> StreamTracer:
        """Who records what is applied of ``peer``."""
        return StreamTracer(self.mesh, peer.name, self.region.name, self.spans, self.events)

    async def close(self) -> None:
        """Send what is queued, for a moment.  Repeatable."""
        await self.outlet.close()

    def now(self) -> int:
        return time.time_ns()

    def counts(self) -> dict[str, int]:
        return {
            "spans_sent": self.outlet.sent,
            "spans_lost": self.outlet.lost,
            "traces_refused": self.events.refused,
        }

    def publishing(self, draft: Draft) -> Sending | None:
        """Choose what is recorded of ``draft``; None if it is nothing."""
        now = time.time_ns()
        drawn = self._ratio.draw(len(draft.items))
        chosen = []
        # Also every part but the first: its transaction may be recorded.
        for at, item in enumerate(draft.items):
            if (at in drawn or item.lifts or item.part) and item.kind != HEARTBEAT:
                followed = self._follow(item, at in drawn, now)
                if followed is not None:
                    context = self.spans.publishing(followed.root.trace_id)
                    chosen.append((item, followed, context))
        if not chosen:
            return None
        tables = [_title(body) for body in draft.tables]
        for item, followed, context in chosen:
            # The peers need no more than one context of a transaction.
            if not followed.rows:
                item.trace = pack(context)
            followed.add(item, tables)
        return Sending(draft.taken, now, chosen)

    def _follow(self, item: Item, drawn: bool, now: int) -> Followed | None:
        """The transaction of ``item``, if it is recorded."""
        if item.part and self._huge is not None:
            return self._huge
        reason = "ratio" if drawn and self._share.take(now) else ""
        if not reason and item.lifts and self.events.take(now):
            reason = "lift"
        followed = None
        if reason:
            followed = Followed(trace_id(self.mesh, item.tx_id), item.commit_us * 1000, reason)
        if item.kind == PART:
            self._huge = None if item.last else followed
        return followed

    def published(self, begun: Sending | None, size: int) -> None:
        """Make the spans of what was chosen."""
        if begun is None:
            return
        now = time.time_ns()
        for item, followed, context in begun.items:
            root, start = followed.root, followed.start
            # Of a transaction in parts the first and the last one tell enough.
            if item.trace or item.last:
                self.spans.tail(root, (start, begun.taken), item.tx_id)
                self.spans.publish(root, context, (begun.start, now), size, item.seq, item.tx_id)
            if item.last:
                self.spans.commit(root, (start, now), self._about(item, followed, now))
                if followed is self._huge:
                    self._huge = None

    def _about(self, item: Item, followed: Followed, now: int) -> Attributes:
        return {
            REGION: self.region.name,
            ORIGIN: self.region.name,
            TX_ID: item.tx_id,
            SEQ: item.seq,
            TABLES: tuple(sorted(followed.tables)),
            ROWS: followed.rows,
            LIFTS: followed.lifts,
            LAG: (now - followed.start) / SECOND_NS,
            REASONS: (followed.reason,),
        }


def _title(map_body: bytes) -> str:
    shape = parse_table_map(map_body).shape
    return f"{shape.schema}.{shape.table}"
