"""The way out of the process: bounded, counted, and never in the way."""

import asyncio
import threading

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from meshnode.ops.tracing_export import Outlet, Seldom, traces_url


class Stuck(SpanExporter):
    """An endpoint that takes the connection and never answers, until it is let go."""

    def __init__(self) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        self.ended_by: list[threading.Thread] = []

    def export(self, spans) -> SpanExportResult:
        self.reached.set()
        self.go.wait(30)
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.ended_by.append(threading.current_thread())
        self.go.set()


def end_spans(outlet: Outlet, count: int) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(outlet)
    tracer = provider.get_tracer("test")
    for number in range(count):
        tracer.start_span(str(number)).end()


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://a:4318", "http://a:4318/v1/traces"),
        ("http://a:4318/", "http://a:4318/v1/traces"),
        ("https://a/otlp/v1/traces", "https://a/otlp/v1/traces"),
    ],
)
def test_where_traces_are_posted_to(endpoint, url):
    assert traces_url(endpoint) == url


async def test_what_ended_is_sent_at_the_end():
    memory = InMemorySpanExporter()
    outlet = Outlet(memory)
    end_spans(outlet, 700)
    await outlet.close()
    assert len(memory.get_finished_spans()) == outlet.sent == outlet.ended == 700
    assert outlet.lost == 0
    await outlet.close()
    end_spans(outlet, 1)
    assert (outlet.sent, outlet.lost) == (700, 1)


async def test_a_full_queue_drops_and_counts_and_the_end_is_bounded():
    stuck = Stuck()
    outlet = Outlet(stuck, queue=10)
    end_spans(outlet, 10)
    await asyncio.to_thread(stuck.reached.wait, 10)
    # All ten are being sent, so ten more have room.
    end_spans(outlet, 25)
    assert (outlet.ended, outlet.dropped, outlet.sent) == (35, 15, 0)
    await outlet.close(0.2)
    assert stuck.go.is_set(), "the request that was under way is called off"
    # By who did not wait for it; the thread that sends gets there when its request has ended.
    assert stuck.ended_by[0] is threading.current_thread()


async def test_refused_and_failing_requests_are_lost_spans():
    class Refusing(SpanExporter):
        def export(self, spans) -> SpanExportResult:
            if spans[0].name == "0":
                return SpanExportResult.FAILURE
            raise OSError("no network")

        def shutdown(self) -> None:
            pass

    outlet = Outlet(Refusing(), queue=1)
    for number in range(2):
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(outlet)
        provider.get_tracer("test").start_span(str(number)).end()
        await asyncio.to_thread(outlet.flush)
    assert (outlet.ended, outlet.sent, outlet.lost, outlet.dropped) == (2, 0, 2, 0)
    await outlet.close()


def test_complaints_are_seldom():
    seldom = Seldom()
    assert [seldom.filter(None) for _ in range(3)] == [True, False, False]
