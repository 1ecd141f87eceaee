"""Trace ids, the ratio's draw, and the bytes that travel in an item."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, TraceFlags

from meshnode.ops.tracing_context import (
    CONTEXT_BYTES,
    SAMPLED,
    Draw,
    pack,
    root_span,
    trace_id,
    unpack,
)

traces = st.integers(1, 2**128 - 1)
spans = st.integers(1, 2**64 - 1)


def test_a_trace_id_follows_from_mesh_and_transaction():
    # Fixed for ever: regions of different releases must agree.
    assert f"{trace_id('shop', 'a:9'):032x}" == "1cd8908649e5151465c3c8cef54b16ba"
    assert trace_id("shop", "a:9") != trace_id("shop", "a:10") != trace_id("other", "a:10")
    assert root_span(trace_id("shop", "a:9")) != root_span(trace_id("shop", "a:10"))


@given(st.lists(st.integers(0, 50)), st.floats(0.001, 0.999), st.integers())
def test_a_draw_does_not_depend_on_how_items_come(counts, ratio, seed):
    whole = Draw(ratio, Random(seed).random).draw(sum(counts))
    drawn, draw, before = set(), Draw(ratio, Random(seed).random), 0
    for count in counts:
        drawn |= {before + place for place in draw.draw(count)}
        before += count
    assert drawn == set(whole)


@pytest.mark.parametrize("ratio", [0.01, 0.3, 0.9])
def test_the_ratio_is_drawn_and_each_place_alike(ratio):
    draw = Draw(ratio, Random(7).random)
    count, rounds = 10, 20_000
    places = [place for _ in range(rounds) for place in draw.draw(count)]
    assert len(places) == pytest.approx(ratio * count * rounds, rel=0.05)
    for place in range(count):
        assert places.count(place) == pytest.approx(ratio * rounds, rel=0.25)


def test_all_or_nothing():
    assert [set(Draw(1.0).draw(count)) for count in (0, 1, 3)] == [set(), {0}, {0, 1, 2}]
    nothing = Draw(0.0)
    assert not any(nothing.draw(1000) for _ in range(100))


@given(traces, spans)
def test_a_context_travels(trace, span):
    packed = pack(SpanContext(trace, span, False, SAMPLED))
    assert len(packed) == CONTEXT_BYTES
    found = unpack(packed, trace)
    assert (found.trace_id, found.span_id) == (trace, span)
    assert found.is_remote
    assert found.trace_flags.sampled


@given(st.binary(max_size=40))
def test_other_bytes_are_no_context(bytes_):
    assert unpack(bytes_, trace_id("shop", "a:9")) is None


@pytest.mark.parametrize(
    ("trace", "span", "flags"),
    [(2, 7, TraceFlags.SAMPLED), (1, 0, TraceFlags.SAMPLED), (1, 7, TraceFlags.DEFAULT)],
    ids=["of another transaction", "without a span", "not sampled"],
)
def test_a_context_that_must_not_be_followed(trace, span, flags):
    assert unpack(pack(SpanContext(trace, span, False, TraceFlags(flags))), 1) is None
