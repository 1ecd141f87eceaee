"""Which spans come of what the actors tell: origin and peer, whole transactions and parts."""

import time

import pytest
from core_values import number_table
from nodes import mesh
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from meshnode.actors.intake import Huge, Mark, Ready
from meshnode.actors.mender import Draft
from meshnode.actors.observer import observed
from meshnode.core.wire import HEARTBEAT, PART, TRANSACTION, Beat, Entry, Item
from meshnode.errors import Busy
from meshnode.mysql.session import RowError
from meshnode.ops.tracing import EVENTS_PER_SECOND, Allowance, Tracer
from meshnode.ops.tracing_context import root_span, trace_id
from meshnode.topology import Tracing

TABLE = number_table()
SECOND = 1_000_000_000
ENTRY = Entry(0, b"k", 0, 60, 1, 0, 0, False)


class Spans:
    """Nodes of regions ``one`` and ``two`` of one mesh, and what both have sent."""

    def __init__(self, ratio: float, kind: str = "file") -> None:
        topology = mesh(kind=kind)
        self.memory = InMemorySpanExporter()
        one, two, _ = topology.regions
        settings = Tracing("http://nowhere:1", ratio)
        self.origin = Tracer(topology, one, settings, self.memory)
        self.there = Tracer(topology, two, settings, self.memory)
        self.peer = self.there.stream(one)

    def all(self) -> list[ReadableSpan]:
        self.origin.outlet.flush()
        self.there.outlet.flush()
        return list(self.memory.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def publish(self, *items: Item, size: int = 100) -> list[Item]:
        """The items as they travel."""
        start = items[0].commit_us * 1000
        draft = Draft(b"", "", 0, "", [TABLE.map_body], list(items), start + 1000)
        self.origin.published(self.origin.publishing(draft), size)
        return list(items)

    def receive(self, items: list[Item]) -> list[Ready]:
        self.peer.received(items, [TABLE])
        return [ready(item) for item in items]

    def apply(self, batch: list[Ready], conflicts: dict | None = None, parked: int = 0) -> None:
        with observed(self.peer, batch):
            self.peer.decided()
        self.peer.applied(conflicts or {}, parked)


@pytest.fixture
def make():
    made: list[Spans] = []

    def spans(ratio: float = 1.0, kind: str = "file") -> Spans:
        made.append(Spans(ratio, kind))
        return made[-1]

    yield spans
    for each in made:
        each.origin.outlet._batches.shutdown()
        each.there.outlet._batches.shutdown()


def ready(item: Item) -> Ready:
    mark = Mark(item.seq, item.tx_id, b"", 1, 0, 0, item.commit_us)
    return Ready(mark, b"f", item, [TABLE], [TABLE], rows=len(item.entries))


def transaction(seq: int, lifts: int = 0, entries: int = 1) -> Item:
    return Item(
        seq, TRANSACTION, f"a:{seq}", seq * 1_000_000, entries=[ENTRY] * entries, lifts=lifts
    )


def beat(seq: int) -> Item:
    return Item(seq, HEARTBEAT, f"a:{seq}", 5, beat=Beat(1, 5, 4, "{}"))


def parent(span: ReadableSpan) -> int:
    return span.parent.span_id if span.parent else 0


def test_one_transaction_is_one_tree(make):
    spans = make()
    spans.apply(spans.receive(spans.publish(transaction(7, entries=3), size=345)))
    tree = {span.name: span for span in spans.all()}
    assert list(tree) == [
        "tail", "publish one", "commit t", "receive one", "decide", "apply t"
    ]  # fmt: skip
    trace = trace_id("m", "a:7")
    assert {span.context.trace_id for span in tree.values()} == {trace}
    root = tree["commit t"].context.span_id
    assert root == root_span(trace)
    publish, receive = (tree[name].context.span_id for name in ("publish one", "receive one"))
    assert {name: parent(span) for name, span in tree.items()} == {
        "commit t": 0, "tail": root, "publish one": root,
        "receive one": publish, "decide": receive, "apply t": receive,
    }  # fmt: skip
    assert {name: span.kind for name, span in tree.items()} == {
        "commit t": SpanKind.INTERNAL, "tail": SpanKind.INTERNAL,
        "publish one": SpanKind.PRODUCER, "receive one": SpanKind.CONSUMER,
        "decide": SpanKind.INTERNAL, "apply t": SpanKind.CLIENT,
    }  # fmt: skip
    tail = tree["tail"]
    assert (tail.start_time, tail.end_time) == (7 * SECOND, 7 * SECOND + 1000)
    assert tree["commit t"].start_time == 7 * SECOND
    about = tree["commit t"].attributes
    assert about["meshnode.tx_id"] == "a:7"
    assert about["meshnode.tables"] == ("shop.t",)
    assert (about["meshnode.rows"], about["meshnode.lifts"]) == (3, 0)
    assert (about["db.namespace"], about["db.collection.name"]) == ("shop", "t")
    assert tree["publish one"].attributes["messaging.message.body.size"] == 345
    assert tree["publish one"].attributes["messaging.message.id"] == "7"
    applied = tree["apply t"].attributes
    assert applied["db.operation.batch.size"] == 3
    assert (applied["server.address"], applied["server.port"]) == ("b", 3306)
    assert applied["meshnode.region"] == "two"
    assert tree["receive one"].attributes["meshnode.origin"] == "one"
    regions = {span.name: span.resource.attributes["service.instance.id"] for span in spans.all()}
    assert (regions["commit t"], regions["apply t"]) == ("one", "two")


def test_kafka_has_its_own_names(make):
    spans = make(kind="kafka")
    spans.apply(spans.receive(spans.publish(transaction(7))))
    for name in ("publish m.one", "receive m.one"):
        (span,) = spans.named(name)
        assert span.attributes["messaging.system"] == "kafka"
        assert span.attributes["messaging.destination.name"] == "m.one"
        assert span.attributes["messaging.destination.partition.id"] == "0"


def test_nothing_is_recorded_of_a_quiet_transaction_that_was_not_chosen(make):
    spans = make(0.0)
    items = spans.publish(transaction(7), beat(8))
    assert [item.trace for item in items] == [b"", b""]
    spans.apply(spans.receive(items))
    assert spans.all() == []


def test_heartbeats_have_no_trace(make):
    spans = make()
    (item,) = spans.publish(beat(8))
    assert item.trace == b""
    spans.apply(spans.receive([item]))
    assert spans.all() == []


def test_a_lift_is_recorded_by_all(make):
    spans = make(0.0)
    items = spans.publish(transaction(7), transaction(8, lifts=2))
    assert [bool(item.trace) for item in items] == [False, True]
    spans.apply(spans.receive(items))
    assert {span.attributes["meshnode.tx_id"] for span in spans.all()} == {"a:8"}
    for name in ("commit t", "receive one"):
        assert spans.named(name)[0].attributes["meshnode.lifts"] == 2
    assert spans.named("commit t")[0].attributes["meshnode.recorded_for"] == ("lift",)
    assert spans.named("receive one")[0].attributes["meshnode.recorded_for"] == ("sender",)


def test_a_conflict_is_recorded_where_it_happens(make):
    spans = make(0.0)
    batch = spans.receive(spans.publish(*(transaction(seq) for seq in range(1, 100))))
    spans.apply(batch, {"a:42": 3})
    receive, decide, apply = spans.all()
    assert {span.context.trace_id for span in spans.all()} == {trace_id("m", "a:42")}
    assert receive.parent is None
    assert parent(decide) == parent(apply) == receive.context.span_id
    assert receive.attributes["meshnode.conflicts"] == 3
    assert receive.attributes["meshnode.recorded_for"] == ("conflict",)
    assert receive.attributes["meshnode.tables"] == ("shop.t",)


def test_conflicts_of_a_run_are_found_among_its_items(make):
    spans = make(0.0)
    items = spans.publish(transaction(1), transaction(2))
    spans.peer.received(items, [TABLE])
    run = Ready(ready(items[-1]).mark, b"f", tables=[TABLE], rows=2, segments=[], items=items)
    spans.apply([run], {"a:1": 1})
    assert spans.named("receive one")[0].attributes["meshnode.tx_id"] == "a:1"


def test_a_parked_row_and_its_retries_are_recorded(make):
    spans = make(0.0)
    (one,) = spans.receive(spans.publish(transaction(1)))
    with pytest.raises(RowError), observed(spans.peer, [one]):
        raise RowError("a check", 3819)
    spans.apply([one], parked=1)
    (receive,) = spans.named("receive one")
    assert receive.attributes["meshnode.parked_rows"] == 1
    assert receive.attributes["meshnode.retries"] == 1
    assert receive.attributes["meshnode.recorded_for"] == ("park", "retry")
    (event,) = receive.events
    assert (event.name, dict(event.attributes)) == ("retry", {"error.type": "3819"})
    # The next batch has nothing of it.
    spans.apply(spans.receive(spans.publish(transaction(2))))
    assert len(spans.named("receive one")) == 1


def test_a_retry_counts_for_a_small_batch_only(make):
    spans = make(0.0)
    large = spans.receive(spans.publish(*(transaction(seq) for seq in range(1, 51))))
    with pytest.raises(Busy), observed(spans.peer, large):
        raise Busy("a row")
    spans.apply(large[:25])
    assert spans.all() == []
    with pytest.raises(Busy), observed(spans.peer, large[25:]):
        raise Busy("a row")
    spans.apply(large[25:28])
    assert len(spans.named("receive one")) == 3


def test_masses_of_conflicts_are_not_recorded(make):
    spans = make(0.0)
    count = 3 * EVENTS_PER_SECOND
    batch = spans.receive(spans.publish(*(transaction(seq) for seq in range(1, count + 1))))
    spans.apply(batch, {f"a:{seq}": 1 for seq in range(1, count + 1)})
    recorded = len(spans.named("receive one"))
    assert recorded == EVENTS_PER_SECOND
    assert spans.there.counts()["traces_refused"] == count - recorded


def test_a_fast_stream_is_recorded_at_the_share_of_a_slower_one(make):
    spans = make(0.01)
    items = [transaction(seq) for seq in range(1, 20_001)]
    begun = time.time_ns()
    spans.publish(*items)
    seconds = (time.time_ns() - begun) / SECOND
    recorded = len(spans.named("commit t"))
    assert 10 <= recorded <= 10 * (seconds + 2)
    assert spans.origin.counts()["traces_refused"] == 0


def test_an_allowance_is_for_each_second():
    allowance = Allowance(2)
    assert [allowance.take(5 * SECOND + at) for at in range(3)] == [True, True, False]
    assert allowance.take(6 * SECOND)
    assert allowance.refused == 1


def parts(count: int, seq: int = 1) -> list[Item]:
    return [
        Item(seq + at, PART, "a:9", 9_000_000, at, at == count - 1, entries=[ENTRY] * 10)
        for at in range(count)
    ]


def huge_of(items: list[Item]) -> Ready:
    last = items[-1]
    huge = Huge(b"", 1, items[0].seq, last.seq, last.tx_id)
    return Ready(Mark(last.seq, last.tx_id, b"", 1, 0, 0, last.commit_us), b"f", huge=huge)


def test_parts_are_one_transaction(make):
    spans = make()
    items = parts(5)
    for item in items:
        spans.publish(item)
        spans.peer.received([item], [TABLE])
    assert [bool(item.trace) for item in items] == [True, False, False, False, False]
    spans.apply([huge_of(items)])
    names = [span.name for span in spans.all()]
    assert names == [
        "tail", "publish one", "tail", "publish one", "commit t",
        "receive one", "decide", "apply t",
    ]  # fmt: skip
    assert {span.context.trace_id for span in spans.all()} == {trace_id("m", "a:9")}
    assert spans.named("commit t")[0].attributes["meshnode.rows"] == 50
    (apply,) = spans.named("apply t")
    assert apply.attributes["meshnode.rows"] == apply.attributes["db.operation.batch.size"] == 50
    first, _ = spans.named("publish one")
    assert parent(spans.named("receive one")[0]) == first.context.span_id


def test_parts_that_were_never_ended_are_forgotten(make):
    spans = make()
    begun = parts(5)[:3]
    for item in begun:
        spans.publish(item)
        spans.peer.received([item], [TABLE])
    void = Ready(Mark(3, "", b"", 2, 0, 0, 0))
    spans.apply([void])
    assert not spans.named("receive one")
    again = parts(2, seq=4)
    for item in again:
        spans.publish(item)
        spans.peer.received([item], [TABLE])
    spans.apply([huge_of(again)])
    assert spans.named("apply t")[0].attributes["meshnode.rows"] == 20


def test_a_stream_that_is_read_again_is_recorded_once(make):
    spans = make()
    items = spans.publish(transaction(1), transaction(2))
    spans.receive(items)
    batch = spans.receive(items)
    spans.apply(batch)
    assert len(spans.named("apply t")) == 2


def test_a_context_of_another_trace_is_not_followed(make):
    """The frame is input from outside: it cannot put spans into somebody else's trace."""
    spans = make()
    one, two = spans.publish(transaction(1), transaction(2))
    two.trace = one.trace
    spans.apply(spans.receive([two]))
    assert not spans.named("receive one")


def test_several_tables_are_told_by_what_they_share(make):
    spans = make()
    other = number_table("u")
    item = transaction(1, entries=2)
    item.entries = [ENTRY, Entry(1, b"k", 0, 60, 1, 0, 0, False)]
    draft = Draft(b"", "", 0, "", [TABLE.map_body, other.map_body], [item], 1)
    spans.origin.published(spans.origin.publishing(draft), 10)
    (commit,) = spans.named("commit shop")
    assert commit.attributes["meshnode.tables"] == ("shop.t", "shop.u")
    assert "db.collection.name" not in commit.attributes
