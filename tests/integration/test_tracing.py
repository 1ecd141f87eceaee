"""Spans of a real mesh, as an OTLP endpoint gets them: one trace from a commit to its applies."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
from mesh import NAMES, Mesh, mesh_of
from otlp import Receiver, Span, receiver
from steps import PLAIN, QUICK, run, until

from meshnode.lab.processes import free_port
from meshnode.limits import KIB
from meshnode.topology import Limits, Tracing


@contextlib.asynccontextmanager
async def traced(
    servers, folder: Path, ratio: float, url: str, regions: int = 3, limits: Limits = QUICK
) -> AsyncIterator[Mesh]:
    """A mesh of running nodes that export to ``url``."""
    async with mesh_of(await servers(regions), folder, limits=limits) as mesh:
        mesh.topology = msgspec.structs.replace(mesh.topology, tracing=Tracing(url, ratio))
        await mesh.everywhere("CREATE DATABASE app", PLAIN)
        await mesh.init()
        mesh.start()
        yield mesh


async def flush(mesh: Mesh) -> None:
    """Have every node send what it has recorded."""
    for node, _ in mesh.nodes.values():
        await asyncio.to_thread(node.tracer.outlet.flush)


async def collide(mesh: Mesh) -> None:
    """Key 1 inserted in regions one and two, which do not see each other."""
    mesh.isolate(0)
    await mesh.sql[0].execute("INSERT INTO app.t VALUES (1, 'one', 1)")
    await mesh.sql[1].execute("INSERT INTO app.t VALUES (1, 'two', 2)")
    mesh.cut()
    await mesh.settle()
    assert (await mesh.same("app.t"))[0][:2] == (1, "two")


def named(spans: Sequence[Span], operation: str, region: str) -> Span:
    """The only span of this operation in this region."""
    (found,) = (span for span in spans if place(span) == (operation, region))
    return found


def place(span: Span) -> tuple[str, str]:
    return span.operation, span.region


async def test_a_conflict_is_one_trace_over_all_regions(servers, tmp_path) -> None:
    async with receiver() as endpoint, traced(servers, tmp_path, 1.0, endpoint.url) as mesh:
        before = time.time_ns()
        await collide(mesh)
        await flush(mesh)
        traces = endpoint.traces()
        assert len(traces) == 2
        (spans,) = (spans for spans in traces.values() if ("commit", "two") in map(place, spans))
        assert {span.region for span in spans} == {"one", "two", "three"}
        assert len(spans) == 3 + 2 * 3
        assert all(before <= span.start <= span.end <= time.time_ns() for span in spans)
        check_origin(mesh, spans)
        tx_id = spans[0].attributes["meshnode.tx_id"]
        assert tx_id.startswith(await mesh.sql[1].value("SELECT @@server_uuid"))
        publish = named(spans, "publish", "two")
        for region in ("one", "three"):
            check_peer(mesh, spans, region, publish)
        conflicts = {
            span.region: span.attributes["meshnode.conflicts"]
            for span in spans
            if span.operation == "apply"
        }
        # Region one had the other row; region three got it before, or gets it now and refuses it.
        assert conflicts["one"] == 1
        assert sum(
            span.attributes["meshnode.conflicts"]
            for span in endpoint.spans
            if place(span) == ("apply", "three")
        ) == 1  # fmt: skip
        assert "conflict" in named(spans, "receive", "one").attributes["meshnode.recorded_for"]


def check_origin(mesh: Mesh, spans: Sequence[Span]) -> None:
    """Commit, tail and publish in region two."""
    commit, tail, publish = (named(spans, name, "two") for name in ("commit", "tail", "publish"))
    assert (commit.name, commit.kind, commit.parent) == ("commit t", "INTERNAL", "")
    assert {tail.parent, publish.parent} == {commit.id}
    assert commit.start == tail.start <= tail.end <= publish.start < commit.end == publish.end
    assert commit.attributes["db.system.name"] == "mysql"
    assert commit.attributes["meshnode.tables"] == ["app.t"]
    assert commit.attributes["meshnode.rows"] == 1
    assert commit.attributes["meshnode.lifts"] == 0
    assert commit.attributes["meshnode.recorded_for"] == ["ratio"]
    topic = f"{mesh.topology.mesh}.two" if mesh.topology.bus.kind == "kafka" else "two"
    assert (publish.name, publish.kind) == (f"publish {topic}", "PRODUCER")
    assert publish.attributes["messaging.operation.type"] == "send"
    assert publish.attributes["messaging.destination.name"] == topic
    assert publish.attributes["messaging.message.body.size"] > 50
    assert publish.resource["service.name"] == "meshnode"
    assert publish.resource["service.namespace"] == mesh.topology.mesh
    assert publish.resource["service.instance.id"] == "two"


def check_peer(mesh: Mesh, spans: Sequence[Span], region: str, publish: Span) -> None:
    """Receive, decide and apply in ``region``."""
    receive, decide, apply = (named(spans, name, region) for name in ("receive", "decide", "apply"))
    assert (receive.kind, decide.kind, apply.kind) == ("CONSUMER", "INTERNAL", "CLIENT")
    # A link beside the parent would make Jaeger forget the parent.
    assert (receive.parent, receive.links) == (publish.id, [])
    assert decide.parent == apply.parent == receive.id
    assert receive.start <= decide.start <= decide.end == apply.start < apply.end == receive.end
    assert receive.attributes["messaging.operation.type"] == "process"
    assert receive.attributes["messaging.system"] == publish.attributes["messaging.system"]
    assert apply.name == "apply t"
    assert apply.attributes["db.namespace"] == "app"
    assert apply.attributes["db.collection.name"] == "t"
    assert apply.attributes["server.port"] == mesh.topology.region(region).mysql.port
    assert apply.attributes["meshnode.region"] == region
    assert 0 < apply.attributes["meshnode.lag"] < 60
    assert receive.attributes["meshnode.parked_rows"] == 0


async def test_without_the_ratio_only_what_happened_is_recorded(servers, tmp_path) -> None:
    """A conflict, a parked row, a retry: where it happened, in the transaction's own trace."""
    async with receiver() as endpoint, traced(servers, tmp_path, 0.0, endpoint.url) as mesh:
        one, two, _ = mesh.sql
        await run(one, "INSERT INTO app.t VALUES (9, 'quiet', 9)")
        await mesh.settle()
        await collide(mesh)
        conflicts = await recorded(mesh, endpoint, "conflict")
        assert {span.attributes["meshnode.conflicts"] for span in conflicts} == {1}
        assert "one" in {span.region for span in conflicts}

        await two.execute("ALTER TABLE app.t ADD CONSTRAINT small CHECK (n < 100)")
        await run(one, "INSERT INTO app.t VALUES (2, 'large', 200), (3, 'small', 3)")
        await until(lambda: mesh.count("parked") == 1, "a parked row")
        (parked,) = await recorded(mesh, endpoint, "park")
        assert (parked.region, parked.attributes["meshnode.parked_rows"]) == ("two", 1)
        assert parked.attributes["meshnode.rows"] == 2

        async with await mesh.session(1) as client:
            await client.execute("START TRANSACTION")
            await client.execute("SELECT * FROM app.t WHERE id = 9 FOR UPDATE")
            await run(one, "UPDATE app.t SET v = 'wait' WHERE id = 9")
            await until(lambda: mesh.nodes[1][0].board.counts["busy"], "an apply that waits")
            await client.execute("ROLLBACK")
        await mesh.settle()
        # What the collision made another region try again is recorded, too.
        (retried,) = (
            span
            for span in await recorded(mesh, endpoint, "retry")
            if span.region == "two" and span.start > parked.start
        )
        assert retried.attributes["meshnode.retries"] >= 1
        assert ("retry", {"error.type": "Busy"}) in retried.events

        assert {span.operation for span in endpoint.spans} == {"receive", "decide", "apply"}


async def test_a_lift_is_recorded_everywhere(servers, tmp_path) -> None:
    """A row without a stamp is lifted, the other row of its transaction is published."""
    async with receiver() as endpoint, traced(servers, tmp_path, 0.0, endpoint.url) as mesh:
        one = mesh.sql[0]
        await mesh.settle()
        for row in await one.rows("SHOW TRIGGERS FROM app"):
            await one.execute(f"DROP TRIGGER app.`{row[0]}`")
        now = await one.value("SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)")
        await one.execute(
            "INSERT INTO app.t (id, v, _mesh_ts, _mesh_origin)"
            f" VALUES (1, 'stamped', {now}, 1), (2, 'unstamped', 0, 0)"
        )
        await mesh.settle()
        assert len(await mesh.same("app.t")) == 2
        await flush(mesh)
        (spans,) = endpoint.traces().values()
        assert {span.region for span in spans} == {"one", "two", "three"}
        known = [span for span in spans if "meshnode.lifts" in span.attributes]
        assert [span.attributes["meshnode.lifts"] for span in known] == [1, 1, 1]
        assert named(spans, "commit", "one").attributes["meshnode.recorded_for"] == ["lift"]
        parents = {named(spans, "receive", region).parent for region in ("two", "three")}
        assert parents == {named(spans, "publish", "one").id}


async def recorded(mesh: Mesh, endpoint: Receiver, reason: str) -> list[Span]:
    """The ``receive`` spans that were recorded for ``reason``."""
    await flush(mesh)
    return [
        span
        for span in endpoint.spans
        if span.operation == "receive" and reason in span.attributes["meshnode.recorded_for"]
    ]


async def test_a_transaction_in_parts_is_one_trace(servers, tmp_path) -> None:
    limits = Limits(heartbeat_seconds=0.2, part_bytes=64 * KIB, frame_target_bytes=16 * KIB)
    async with (
        receiver() as endpoint,
        traced(servers, tmp_path, 1.0, endpoint.url, regions=2, limits=limits) as mesh,
    ):
        await mesh.everywhere("SET SESSION cte_max_recursion_depth = 100000")
        await mesh.sql[0].execute(
            "INSERT INTO app.t WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s"
            " WHERE n < 8000) SELECT n, REPEAT('x', 40), n FROM s"
        )
        await mesh.settle()
        await flush(mesh)
        (spans,) = endpoint.traces().values()
        commit = named(spans, "commit", "one")
        assert commit.attributes["meshnode.rows"] == 8000
        publishes = [span for span in spans if span.operation == "publish"]
        # The first part and the last.
        assert len(publishes) == 2
        assert {span.parent for span in publishes} == {commit.id}
        receive = named(spans, "receive", "two")
        first = min(publishes, key=lambda span: span.start)
        assert receive.parent == first.id
        assert receive.attributes["meshnode.rows"] == 8000


async def test_an_endpoint_that_is_away_disturbs_nobody(servers, tmp_path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with traced(servers, tmp_path, 1.0, url, regions=2) as mesh:
        for key in range(20):
            await mesh.sql[0].execute(f"INSERT INTO app.t VALUES ({key}, 'x', 1)")
        await mesh.settle()
        assert len(await mesh.same("app.t")) == 20
        tracers = {name: mesh.nodes[at][0].tracer for at, name in enumerate(NAMES[:2])}
        outlets = [tracer.outlet for tracer in tracers.values()]
        assert all(outlet.ended for outlet in outlets)
        await mesh.stop()
        assert [outlet.sent for outlet in outlets] == [0, 0]
