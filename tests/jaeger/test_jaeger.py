"""A lab of eight regions exports to a real Jaeger: one trace from a commit to its seven applies."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from jaeger import Jaeger, Span

from meshnode.lab import cluster
from meshnode.lab.cluster import Cluster
from meshnode.topology import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

REGIONS = 8
WAIT_SECONDS = 60.0


@pytest.fixture
async def lab(jaeger: Jaeger, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Eight regions whose nodes record every transaction."""
    found = await cluster.up(tmp_path / "lab", REGIONS, die_with_parent=True)
    try:
        await asyncio.gather(*(found.node(name).stop_async() for name in found.names))
        with found.layout.topology.open("a") as file:
            file.write(f'\n[tracing]\nendpoint = "{jaeger.endpoint}"\nratio = 1.0\n')
        assert load(found.layout.topology).tracing is not None
        await cluster.start_nodes(found, True, cluster.to_stderr)
        yield found
    finally:
        await found.down()


def execute(lab: Cluster, region: str, sql: str) -> None:
    with lab.server(region).connect() as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        connection.commit()


async def wait_for(
    jaeger: Jaeger, complete: Callable[[list[Span]], bool], **tags: str
) -> list[Span]:
    """The spans of the only trace with these tags, when it is ``complete``."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        traces = await asyncio.to_thread(jaeger.traces, **tags)
        for spans in traces.values():
            if complete(spans):
                assert len(traces) == 1, sorted(traces)
                return spans
        shown = {trace: Counter(span.region for span in spans) for trace, spans in traces.items()}
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS:g} s: {tags}: {shown}"
        await asyncio.sleep(0.2)


def whole(spans: list[Span]) -> bool:
    """Whether the origin's three spans and the three of each peer are there."""
    return len(spans) == 3 + 3 * (REGIONS - 1)


async def test_one_commit_is_one_trace_over_eight_regions(jaeger: Jaeger, lab: Cluster) -> None:
    first, *others = lab.names
    execute(lab, first, "INSERT INTO lab.stock VALUES (1, 'trace', 1, 1, NULL, NULL)")
    tags = {"meshnode__origin": first, "db__operation__name": "commit"}
    spans = await wait_for(jaeger, whole, **tags)
    assert {span.region for span in spans} == set(lab.names)
    (root,) = (span for span in spans if not span.parent)
    assert (root.name, root.region) == ("commit stock", first)
    (publish,) = (span for span in spans if span.operation == "publish")
    assert publish.parent == root.id
    assert publish.tags["span.kind"] == "producer"
    for region in others:
        own = {span.operation: span for span in spans if span.region == region}
        assert set(own) == {"receive", "decide", "apply"}
        assert own["receive"].parent == publish.id
        assert own["decide"].parent == own["apply"].parent == own["receive"].id
        assert own["apply"].tags["db.collection.name"] == "stock"
        assert own["apply"].tags["meshnode.tx_id"] == root.tags["meshnode.tx_id"]

    # The same key on two sides of a cut.
    second = others[0]
    lab.isolate([first])
    for region in (first, second):
        execute(lab, region, "INSERT INTO lab.stock VALUES (2, 'both', 1, 1, NULL, NULL)")
    lab.heal()
    tags["meshnode__origin"] = second
    spans = await wait_for(jaeger, whole, **tags)
    assert {span.region for span in spans} == set(lab.names)
    (apply,) = (span for span in spans if (span.operation, span.region) == ("apply", first))
    assert apply.tags["meshnode.conflicts"] == 1
