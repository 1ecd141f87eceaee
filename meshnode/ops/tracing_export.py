"""The way of spans out of the process: OTLP over HTTP, in a thread of its own, never in the way.

Theory of operation.  A span that has ended goes into a bounded queue; a thread sends what is
there every few seconds, a batch at a time.  While the endpoint is away, or slower than the
node, the queue fills and what does not fit is dropped and counted: the node itself neither
waits nor fails.  At the end of the process what is queued gets a moment, no more.

What is sent is encoded by :mod:`meshnode.ops.tracing_encode`, in the place of the exporter's own
encoder: that one would take longer than everything else about a span.

The exporter takes what OTLP exporters take from the environment, such as
``OTEL_EXPORTER_OTLP_HEADERS`` for a token.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from meshnode.ops.tracing_encode import encode_spans

QUEUE_SPANS = 8192
BATCH_SPANS = 512
SEND_EVERY_SECONDS = 5.0
REQUEST_SECONDS = 5.0
"""One batch is tried this long, with the exporter's own repetitions."""

CLOSE_SECONDS = 2.0
COMPLAIN_SECONDS = 60.0

log = logging.getLogger("meshnode.tracing")


def traces_url(endpoint: str) -> str:
    """Where traces are posted to: ``endpoint`` itself if it has a path, else OTLP's path there."""
    if urlsplit(endpoint).path.strip("/"):
        return endpoint
    return endpoint.rstrip("/") + "/" + trace_exporter.DEFAULT_TRACES_EXPORT_PATH


def http_exporter(endpoint: str) -> SpanExporter:
    """Sends to the OTLP endpoint; it says why it cannot at most once a minute."""
    trace_exporter._logger.addFilter(Seldom())
    trace_exporter.encode_spans = encode_spans
    return trace_exporter.OTLPSpanExporter(traces_url(endpoint), timeout=REQUEST_SECONDS)


class Seldom(logging.Filter):
    """Lets one record pass a minute: each failed request is told several times."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + COMPLAIN_SECONDS
        return True


class CountingExporter(SpanExporter):
    """Counts what ``exporter`` takes and refuses; used by the sending thread alone."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.taken = 0
        self.sent = 0
        self.failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        try:
            result = self._exporter.export(spans)
        except Exception:
            self.failed += len(spans)
            raise
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
        else:
            self.failed += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class Outlet(SpanProcessor):
    """Hands ended spans to the sending thread; all but ``close`` is for one thread and quick.

    ``ended`` spans were ``sent``, or ``lost``, or are still queued.
    """

    def __init__(self, exporter: SpanExporter, queue: int = QUEUE_SPANS) -> None:
        self._counting = CountingExporter(exporter)
        self._queue = queue
        self._batches = BatchSpanProcessor(
            self._counting,
            max_queue_size=queue,
            schedule_delay_millis=SEND_EVERY_SECONDS * 1000,
            max_export_batch_size=min(BATCH_SPANS, queue),
        )
        self._closed = False
        self.ended = 0
        self.dropped = 0

    @property
    def sent(self) -> int:
        """Spans that the endpoint has taken."""
        return self._counting.sent

    @property
    def lost(self) -> int:
        """Spans for which there was no room, or which the endpoint did not take."""
        return self.dropped + self._counting.failed

    def on_end(self, span: ReadableSpan) -> None:
        # The queue itself would drop the oldest, and say so for each.
        if self._closed or self.ended - self.dropped - self._counting.taken >= self._queue:
            self.dropped += 1
        else:
            self._batches.on_end(span)
        self.ended += 1

    def flush(self) -> None:
        """Send now what is queued; waits for it."""
        self._batches.force_flush()

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Send what is queued within ``seconds``; what is left then is lost.  Repeatable."""
        if self._closed:
            return
        self._closed = True
        # A daemon: neither the loop's executor nor the interpreter may wait for it.
        ending = threading.Thread(target=self._batches.shutdown, daemon=True, name="last spans")
        ending.start()
        await asyncio.to_thread(ending.join, seconds)
        if ending.is_alive():
            self._counting.shutdown()
            log.warning("%d spans were not sent before the end", self.ended - self.sent - self.lost)
