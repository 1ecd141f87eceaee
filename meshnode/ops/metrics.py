"""The metrics of a node, read from its board when Prometheus asks.

Theory of operation.  Actors count on the board as they go; nothing is kept twice and
nothing is worked out before a scrape.  The collector reads the board, does no I/O and
waits for nobody: what only MySQL or the bus can tell was put on the board by the census,
the gardener and the retention watch.  A value that is not known yet is absent,
never 0.  :mod:`meshnode.ops.metrics_catalogue` says what every metric means.

There is no registry: several nodes in one process (as in tests) do not meet.
"""

import platform
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from meshnode import __version__
from meshnode.actors.measures import Histogram
from meshnode.ops.metrics_catalogue import METRICS, Metric
from meshnode.ops.node_status import PARKED, NodeStatus

STATES = (
    "starting", "waiting", "running", "retrying", "paused", "halted", "failed", "fenced",
    "stopped", "finished",
)  # fmt: skip

_FAMILIES = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
}

_COUNTERS = {
    "published_transactions": "meshnode_published_transactions_total",
    "published_rows": "meshnode_published_rows_total",
    "published_frames": "meshnode_published_frames_total",
    "published_bytes": "meshnode_published_bytes_total",
    "lifts": "meshnode_lifts_total",
    "held": "meshnode_held_rows_total",
    "mended": "meshnode_mended_rows_total",
    "overtaken": "meshnode_overtaken_rows_total",
    "late_tombstones": "meshnode_late_tombstones_total",
    "gc_tombstones": "meshnode_tombstones_collected_total",
    "claims": "meshnode_claims_total",
    "retention_lost_bytes": "meshnode_retention_lost_bytes_total",
}
"""Counters of the board, and what they are called outside."""

_TRACING = {
    "spans_sent": "meshnode_trace_spans_sent_total",
    "spans_lost": "meshnode_trace_spans_lost_total",
    "traces_refused": "meshnode_traces_refused_total",
}
"""The same of the tracer."""

_PEER_COUNTERS = {
    "received_frames": "meshnode_received_frames_total",
    "received_bytes": "meshnode_received_bytes_total",
    "applied_transactions": "meshnode_applied_transactions_total",
    "applied_rows": "meshnode_applied_rows_total",
    "applied_bytes": "meshnode_applied_bytes_total",
    "parked": "meshnode_rows_parked_total",
    "set_aside": "meshnode_rows_set_aside_total",
}
"""Counters kept for each peer."""

_RETRIES = {"busy": "busy", "replans": "replan", "retries": "retry", "row_errors": "row"}

_QUEUES_OF_BYTES = frozenset({"transactions", "incoming"})


class Sample(NamedTuple):
    """A value of the metric ``name``; ``labels`` without the region, in the catalogue's order."""

    name: str
    labels: tuple[str, ...]
    value: float | Histogram


class NodeCollector(Collector):
    """Reads the board of one node."""

    def __init__(self, node: NodeStatus) -> None:
        self.node = node

    def collect(self) -> Iterator[Family]:
        """Every family of the catalogue, in its order."""
        families = {metric.name: _family(metric) for metric in METRICS}
        own = self.node.region.name
        for sample in self.samples():
            family = families[sample.name]
            if isinstance(sample.value, Histogram):
                buckets = sample.value.cumulative()
                family.add_metric((own, *sample.labels), buckets, sample.value.total)
            else:
                family.add_metric((own, *sample.labels), sample.value)
        yield from families.values()

    def samples(self) -> Iterable[Sample]:
        """Everything that is known at this moment."""
        yield from self._streams()
        yield from self._counters()
        yield from self._queues()
        yield from self._census()
        yield from self._process()

    def _streams(self) -> Iterator[Sample]:
        node, board = self.node, self.node.board
        now = board.now_us()
        yield Sample("meshnode_published_seq", (), board.tail.seq)
        if board.published_us:
            yield Sample("meshnode_tail_delay_seconds", (), (now - board.published_us) / 1e6)
        if node.beat_age is not None:
            yield Sample("meshnode_heartbeat_age_seconds", (), node.beat_age)
        for peer in node.view.now.peers(node.region.name):
            at, progress = (peer.name,), node.progress(peer)
            lag, ahead = node.lag(peer), progress.ahead.value()
            if lag is not None:
                yield Sample("meshnode_lag_seconds", at, lag)
            if ahead is not None:
                yield Sample("meshnode_clock_skew_seconds", at, ahead)
            yield Sample("meshnode_applied_seq", at, progress.seq)
            yield Sample("meshnode_peer_paused", at, peer.id in board.pauses.now)
            yield Sample("meshnode_apply_batch_rows", at, progress.batch_rows)
            if progress.retention_left is not None:
                yield Sample("meshnode_retention_left_seconds", at, progress.retention_left)
            for counted, name in _PEER_COUNTERS.items():
                yield Sample(name, at, progress.counts[counted])
        bus = node.view.now.bus
        if bus.kind == "kafka" and bus.kafka is not None:
            yield Sample("meshnode_retention_seconds", (), bus.kafka.retention_hours * 3600)

    def _counters(self) -> Iterator[Sample]:
        board = self.node.board
        for counted, name in _COUNTERS.items():
            yield Sample(name, (), board.counts[counted])
        traced = board.observer.counts()
        for counted, name in _TRACING.items():
            yield Sample(name, (), traced.get(counted, 0))
        for counted, name in _RETRIES.items():
            yield Sample("meshnode_apply_retries_total", (name,), board.counts[counted])
        for labels, count in board.conflicts.items():
            yield Sample("meshnode_conflicts_total", labels, count)

    def _queues(self) -> Iterator[Sample]:
        for labels, queue in self.node.board.queues.items():
            yield Sample("meshnode_queue_entries", labels, len(queue))
            if labels[0] in _QUEUES_OF_BYTES:
                yield Sample("meshnode_queue_bytes", labels, queue.weight)
                yield Sample("meshnode_queue_capacity_bytes", labels, queue.capacity)

    def _census(self) -> Iterator[Sample]:
        node, census = self.node, self.node.board.census
        if census.letters is not None:
            for state, count in census.letters.items():
                yield Sample("meshnode_dead_letters", (state,), count)
            # Every table, so that its first parked row is seen as an increase.
            parked = dict.fromkeys(census.tombstones, 0) | census.parked
            for table, count in parked.items():
                yield Sample("meshnode_parked_rows", (table,), count)
        if census.mend is not None:
            yield Sample("meshnode_mend_rows", (), census.mend)
        for table, count in census.tombstones.items():
            yield Sample("meshnode_tombstone_rows", (table,), count)
        gc = node.gc()
        if gc is not None:
            limit, holder = gc
            age = (node.board.now_us() - limit) / 1e6
            yield Sample("meshnode_gc_limit_age_seconds", (), age)
            for name in (*(region.name for region in node.view.now.regions), PARKED):
                yield Sample("meshnode_gc_held_back", (name,), name == holder)

    def _process(self) -> Iterator[Sample]:
        node, board = self.node, self.node.board
        yield Sample("meshnode_ready", (), not node.reasons())
        yield Sample("meshnode_epoch", (), board.epoch)
        for actor in node.actors:
            yield Sample("meshnode_actor_restarts_total", (actor.name,), actor.state.restarts)
            for state in STATES:
                found = actor.state.state == state
                yield Sample("meshnode_actor_state", (actor.name, state), found)
        yield Sample("meshnode_event_loop_delay_seconds", (), board.loop_delay)
        yield Sample("meshnode_build_info", (__version__, platform.python_version()), 1)
        topology = node.view.now
        yield Sample("meshnode_topology_info", (topology.mesh, topology.digest), 1)


def _family(metric: Metric) -> Family:
    labels = ("region", *metric.labels)
    return _FAMILIES[metric.kind](
        metric.name, metric.meaning.replace("`", ""), labels=labels, unit=metric.unit
    )


class _Taken(Collector):
    """Families that were collected already."""

    def __init__(self, families: Sequence[Family]) -> None:
        self.families = families

    def collect(self) -> Sequence[Family]:
        return self.families


class Exposition:
    """What ``/metrics`` answers for one node."""

    def __init__(self, node: NodeStatus) -> None:
        self._node = NodeCollector(node)
        self._process = ProcessCollector(registry=None)

    def take(self) -> Collector:
        """What is on the board at this moment; to be called on the node's event loop."""
        return _Taken([*self._node.collect()])

    def text(self, taken: Collector, accept: str) -> tuple[bytes, str]:
        """``taken`` as text and its content type: OpenMetrics if ``accept`` asks for it.

        Most of the work of a scrape.  It touches nothing of the node, so it may be done in a
        thread, where it does not keep the actors waiting.
        """
        encoder, content_type = choose_encoder(accept)
        return encoder(_Taken([*taken.collect(), *self._process.collect()])), content_type
