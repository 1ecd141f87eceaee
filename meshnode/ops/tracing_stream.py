"""What is recorded of one peer's stream as it is applied here.

Theory of operation.  The intake tells of each frame, long before it is applied; kept of it
are the moment and those items that carry a context.  The applier tells the moments of its
tries, and at the end what the batch met.  Only then spans are made: of the items that the
origin records, and of those that met a conflict, a parked row or a retry.

A batch that was tried again may be thousands of transactions, of which one was in the way.
The applier halves it until that one is found, so a retry counts for the transactions of
a batch that was small when it went through (``RETRIED``).
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from opentelemetry.trace import SpanContext

from meshnode.actors.intake import Ready
from meshnode.core.change import Table
from meshnode.core.wire import HEARTBEAT, PART, Item
from meshnode.ops.tracing_context import trace_id, unpack
from meshnode.ops.tracing_spans import (
    CONFLICTS,
    LAG,
    LIFTS,
    ORIGIN,
    PARKED,
    REASONS,
    REGION,
    RETRIES,
    ROWS,
    SEQ,
    TABLES,
    TX_ID,
    Attributes,
    Spans,
)

RETRIED = 10
FRAMES_KEPT = 4096
FAILURES_KEPT = 20


@dataclass(slots=True)
class Incoming:
    """A transaction on its way: ``sender`` is the origin's context, None where it has none."""

    seq: int
    tx_id: str
    commit_us: int
    received: int
    sender: SpanContext | None = None
    rows: int = 0
    lifts: int = 0
    tables: set[str] = field(default_factory=set)

    def add(self, item: Item, tables: Sequence[Table]) -> None:
        """``item``, of a frame with ``tables``, belongs to it; numbers may be wrong still."""
        self.seq = item.seq
        self.rows += len(item.entries)
        self.lifts += item.lifts
        for number in {entry.table for entry in item.entries}:
            if 0 <= number < len(tables):
                self.tables.add(tables[number].title)


class Events(Protocol):
    """How much may be recorded for what happened to it."""

    def take(self, now: int) -> bool:
        """Whether one more transaction may be, at ``now`` (ns since 1970)."""
        ...


class StreamTracer:
    """Records in ``region`` what the ``mesh`` sends from ``peer``.

    It is the :class:`~meshnode.actors.observer.StreamObserver`; ``events`` limits what is
    recorded without the origin.
    """

    def __init__(self, mesh: str, peer: str, region: str, spans: Spans, events: Events) -> None:
        self.mesh = mesh
        self.peer = peer
        self.region = region
        self.spans = spans
        self.events = events
        self._frames: deque[tuple[int, int]] = deque(maxlen=FRAMES_KEPT)
        self._pending: deque[Incoming] = deque()
        self._open: Incoming | None = None
        self._read = 0
        self._batch: Sequence[Ready] = ()
        self._begun = self._decided = 0
        self._retries = 0
        self._failures: deque[tuple[int, str]] = deque(maxlen=FAILURES_KEPT)

    def received(self, items: Sequence[Item], tables: Sequence[Table]) -> None:
        now = time.time_ns()
        if items[0].seq <= self._read:
            # The applier has started again and reads what it had read.
            self._frames.clear()
            self._pending.clear()
            self._open = None
        self._read = items[-1].seq
        self._frames.append((self._read, now))
        for item in items:
            if item.kind == PART:
                self._part(item, tables, now)
            elif item.trace and item.kind != HEARTBEAT:
                self._pending.append(self._incoming(item, tables, now))

    def _part(self, item: Item, tables: Sequence[Table], now: int) -> None:
        if self._open is None or item.part == 0 or item.tx_id != self._open.tx_id:
            self._open = self._incoming(item, tables, now)
        else:
            self._open.sender = self._open.sender or self._sender(item)
            self._open.add(item, tables)
        if item.last:
            self._pending.append(self._open)
            self._open = None

    def _incoming(self, item: Item, tables: Sequence[Table], now: int) -> Incoming:
        found = Incoming(item.seq, item.tx_id, item.commit_us, now, self._sender(item))
        found.add(item, tables)
        return found

    def _sender(self, item: Item) -> SpanContext | None:
        return unpack(item.trace, trace_id(self.mesh, item.tx_id)) if item.trace else None

    def begun(self, batch: Sequence[Ready]) -> None:
        self._batch = batch
        self._begun = time.time_ns()
        self._decided = 0

    def decided(self) -> None:
        # Of a transaction in parts the first one counts: the rest goes on in turns.
        self._decided = self._decided or time.time_ns()

    def failed(self, error: Exception) -> None:
        self._retries += 1
        code = getattr(error, "code", None)
        self._failures.append((time.time_ns(), str(code or type(error).__name__)))

    def applied(self, conflicts: Mapping[str, int], parked: int) -> None:
        now = time.time_ns()
        chosen = self._chosen(conflicts, parked, now)
        if chosen:
            rows = sum(ready.rows for ready in self._batch)
            for each, reasons in chosen:
                self._record(each, reasons, conflicts.get(each.tx_id, 0), parked, rows, now)
        last = self._batch[-1].mark.seq if self._batch else 0
        while self._frames and self._frames[0][0] <= last:
            self._frames.popleft()
        self._batch = ()
        self._retries = 0
        self._failures.clear()

    def _chosen(
        self, conflicts: Mapping[str, int], parked: int, now: int
    ) -> list[tuple[Incoming, list[str]]]:
        """What is recorded of the batch, and why."""
        if not self._batch:
            return []
        last = self._batch[-1].mark.seq
        known: dict[str, Incoming] = {}
        while self._pending and self._pending[0].seq <= last:
            each = self._pending.popleft()
            known[each.tx_id] = each
        happened = bool(conflicts or parked or self._retries)
        if not happened and not known:
            return []
        retried = bool(self._retries) and self._transactions() <= RETRIED
        chosen = []
        for each in self._all(known) if happened else known.values():
            reasons = [
                reason
                for reason, holds in (
                    ("sender", each.sender is not None),
                    ("conflict", conflicts.get(each.tx_id)),
                    ("park", parked),
                    ("retry", retried),
                )
                if holds
            ]
            if each.sender is not None or (reasons and self.events.take(now)):
                chosen.append((each, reasons))
        return chosen

    def _transactions(self) -> int:
        return sum(
            len(ready.items) or int(ready.item is not None or ready.huge is not None)
            for ready in self._batch
        )

    def _all(self, known: dict[str, Incoming]) -> Iterator[Incoming]:
        """The transactions of the batch, in order; ``known`` are those noted when they came."""
        for ready in self._batch:
            if ready.huge is not None and ready.huge.tx_id in known:
                yield known[ready.huge.tx_id]
            for item in ready.items or filter(None, (ready.item,)):
                if item.tx_id in known:
                    yield known[item.tx_id]
                elif item.entries:
                    yield self._incoming(item, ready.tables, self._received(item.seq))

    def _received(self, seq: int) -> int:
        """When the frame with the item ``seq`` came; if that is forgotten, when it was begun."""
        return next((at for last, at in self._frames if seq <= last), self._begun)

    def _record(
        self,
        each: Incoming,
        reasons: list[str],
        conflicts: int,
        parked: int,
        batch_rows: int,
        now: int,
    ) -> None:
        about: Attributes = {
            REGION: self.region,
            ORIGIN: self.peer,
            TX_ID: each.tx_id,
            SEQ: each.seq,
            TABLES: tuple(sorted(each.tables)),
            ROWS: each.rows,
            LIFTS: each.lifts,
            CONFLICTS: conflicts,
            PARKED: parked,
            RETRIES: self._retries,
            LAG: (now - each.commit_us * 1000) / 1e9,
            REASONS: tuple(reasons),
        }
        trace = trace_id(self.mesh, each.tx_id)
        received = self.spans.receive(
            trace, each.sender, self.peer, (each.received, now), about, self._failures
        )
        decided = self._decided or self._begun
        self.spans.applied(
            received, (self._begun, decided), (decided, now), batch_rows or each.rows, about
        )
