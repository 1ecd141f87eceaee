"""The collector: values come from the board, labels from closed sets, and the catalogue is true."""

from pathlib import Path

import pytest
from nodes import busy, fresh
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from meshnode.ops.metrics import _FAMILIES, STATES, Exposition
from meshnode.ops.metrics_catalogue import METRICS, PROCESS, table
from meshnode.ops.node_status import NodeStatus

OPERATING = Path(__file__).parents[3] / "docs" / "OPERATING.md"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def text_of(node: NodeStatus, accept: str = "") -> tuple[bytes, str]:
    exposition = Exposition(node)
    return exposition.text(exposition.take(), accept)


def scraped(node: NodeStatus) -> dict[tuple, float]:
    """``(sample, label values as the catalogue orders them)`` and its value."""
    text, _ = text_of(node)
    order = {each.name.removesuffix("_total"): each.labels for each in METRICS}
    found = {}
    for family in plain(text.decode()):
        for sample in family.samples:
            if family.name in order:
                labels = dict(sample.labels)
                assert labels.pop("region") == "one"
                values = [labels.pop(label) for label in order[family.name]]
                found[sample.name, *values, *labels.values()] = sample.value
    return found


def test_values_come_from_the_board():
    values = scraped(busy())
    expected = {
        ("meshnode_applied_seq", "two"): 41,
        ("meshnode_published_seq",): 90,
        ("meshnode_peer_paused", "two"): 0,
        ("meshnode_peer_paused", "three"): 1,
        ("meshnode_applied_rows_total", "two"): 5,
        ("meshnode_applied_bytes_total", "two"): 99,
        ("meshnode_applied_rows_total", "three"): 0,
        ("meshnode_received_bytes_total", "two"): 1000,
        ("meshnode_rows_parked_total", "two"): 1,
        ("meshnode_published_rows_total",): 10,
        ("meshnode_apply_retries_total", "busy"): 1,
        ("meshnode_apply_retries_total", "replan"): 2,
        ("meshnode_apply_retries_total", "retry"): 3,
        ("meshnode_apply_retries_total", "row"): 4,
        ("meshnode_conflicts_total", "app.t", "update/update"): 3,
        ("meshnode_lifts_total",): 6,
        ("meshnode_mend_rows",): 4,
        ("meshnode_parked_rows", "app.t"): 2,
        ("meshnode_dead_letters", "skipped"): 1,
        ("meshnode_tombstone_rows", "app.t"): 8,
        ("meshnode_queue_bytes", "incoming", "two"): 60,
        ("meshnode_queue_capacity_bytes", "incoming", "two"): 100,
        ("meshnode_queue_entries", "incoming", "two"): 1,
        ("meshnode_queue_entries", "drafts", ""): 0,
        ("meshnode_retention_left_seconds", "two"): 3600,
        ("meshnode_retention_seconds",): 7200,
        ("meshnode_gc_held_back", "two"): 1,
        ("meshnode_gc_held_back", "one"): 0,
        ("meshnode_gc_held_back", "parked rows"): 0,
        ("meshnode_epoch",): 7,
        ("meshnode_claims_total",): 1,
        ("meshnode_ready",): 1,
        ("meshnode_actor_state", "tailer", "running"): 1,
        ("meshnode_actor_state", "tailer", "halted"): 0,
        ("meshnode_apply_batch_rows_bucket", "two", "4.0"): 0,
        ("meshnode_apply_batch_rows_bucket", "two", "16.0"): 1,
        ("meshnode_apply_batch_rows_sum", "two"): 5,
        ("meshnode_apply_batch_rows_count", "two"): 1,
        ("meshnode_event_loop_delay_seconds_count",): 1,
    }
    assert {name: values.get(name) for name in expected} == expected
    assert ("meshnode_queue_bytes", "drafts", "") not in values, "it is bounded by entries"


def test_times_are_ages_by_the_clock_of_the_server():
    node = busy()
    node.board.clock_read(node.board.now_us() + 60_000_000)
    values = scraped(node)
    assert 61.5 <= values["meshnode_lag_seconds", "two"] < 62
    assert 61.0 <= values["meshnode_heartbeat_age_seconds",] < 61.5
    assert 62.0 <= values["meshnode_tail_delay_seconds",] < 62.5
    assert 64.0 <= values["meshnode_gc_limit_age_seconds",] < 64.5
    assert 0.24 <= values["meshnode_clock_skew_seconds", "two"] <= 0.25, "noted on arrival"


def test_parked_rows_hold_tombstones_back():
    node = busy()
    node.board.census.parked_ts = node.board.now_us() - 9_000_000
    values = scraped(node)
    assert values["meshnode_gc_held_back", "parked rows"] == 1
    assert values["meshnode_gc_held_back", "two"] == 0
    assert values["meshnode_gc_limit_age_seconds",] >= 9


def test_what_is_not_known_is_absent_and_never_0():
    values = scraped(fresh())
    names = {name for name, *_ in values}
    unknown = {
        "meshnode_lag_seconds", "meshnode_tail_delay_seconds", "meshnode_heartbeat_age_seconds",
        "meshnode_clock_skew_seconds", "meshnode_gc_limit_age_seconds", "meshnode_mend_rows",
        "meshnode_dead_letters", "meshnode_retention_left_seconds", "meshnode_tombstone_rows",
    }  # fmt: skip
    assert not names & unknown
    assert values["meshnode_ready",] == 0
    assert "meshnode_retention_seconds" not in {name for name, *_ in scraped(fresh(kind="file"))}


def test_labels_take_their_values_from_closed_sets():
    node = busy()
    closed = {
        "region": {"one"},
        "peer": {"two", "three", ""},
        "by": {"one", "two", "three", "parked rows"},
        "table": {"app.t"},
        "kind": {"update/update"},
        "class": {"busy", "replan", "retry", "row"},
        "queue": {"transactions", "drafts", "incoming"},
        "state": {*STATES, "open", "replay", "skipped"},
        "actor": {actor.name for actor in node.actors},
        "mesh": {"m"},
        "digest": {node.view.now.digest},
    }
    text, _ = text_of(node)
    for family in plain(text.decode()):
        for sample in family.samples:
            for label, value in sample.labels.items():
                if label not in ("version", "python", "le"):
                    assert value in closed[label], sample


def test_a_state_that_no_actor_had_is_still_told():
    for state in STATES:
        node = busy()
        node.actors[0].state.set(state)
        assert scraped(node)["meshnode_actor_state", "tailer", state] == 1


def test_the_catalogue_is_what_is_exported():
    """Both ways: names, types, labels and units, as parsed from a scrape with all values there."""
    text, content_type = text_of(busy(), OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    exported = {}
    for family in openmetrics(text.decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {
            tuple(sorted(label for label in sample.labels if label not in ("region", "le")))
            for sample in family.samples
        }
        assert len(labels) == 1, f"{name} has no value, or labels that differ: {labels}"
        exported[name] = (family.type, *labels)
        assert family.name.startswith("process_") or family.unit == (
            family.name.rsplit("_", 1)[-1] if family.unit else ""
        )
    told = {each.name: (each.kind, tuple(sorted(each.labels))) for each in (*METRICS, *PROCESS)}
    assert exported == told


def test_units_are_part_of_the_names():
    for each in METRICS:
        base = each.name.removesuffix("_total")
        assert base.endswith(each.unit)
        assert (each.kind == "counter") == each.name.endswith("_total")
        for unit in ("seconds", "bytes"):
            assert base.endswith(f"_{unit}") == (each.unit == unit)
        assert each.kind in _FAMILIES
        assert each.meaning
        assert each.action


def test_the_catalogue_is_in_the_runbook():
    section = OPERATING.read_text().split("\n## Metrics\n")[1].split("\n## ")[0]
    listed = [line for line in section.splitlines() if line.startswith("|")]
    assert listed == table().splitlines()


@pytest.mark.parametrize("accept", ["", "text/plain", "*/*"])
def test_plain_text_unless_openmetrics_is_asked_for(accept: str):
    text, content_type = text_of(busy(), accept)
    assert content_type.startswith("text/plain; version=0.0.4")
    assert b"# EOF" not in text
