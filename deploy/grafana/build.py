#!/usr/bin/env python3
"""Writes the dashboards of a mesh as JSON, to ``dashboards/`` beside this file.

The JSON is what Grafana is given and what is under version control; change this file and run it.
``--check`` writes nothing, and fails if what is there is not what would be written.
"""

import json
import sys
from pathlib import Path

from panels import (
    Json,
    Query,
    dashboard,
    heatmap,
    matrix,
    series,
    signed,
    stat,
    steps,
    table,
    timeline,
    variable,
)

FOLDER = Path(__file__).parent / "dashboards"

MESH = 'job="$job"'
REGION = 'job="$job", region="$region"'
STANDING = 'state=~"halted|failed|fenced"'

JOB = variable("job", "Mesh", "label_values(meshnode_ready, job)")
ONE = variable("region", "Region", f"label_values(meshnode_ready{{{MESH}}}, region)")

LAG = steps(("yellow", 5), ("orange", 10), ("red", 60))
ONE_IS_RED = steps(("red", 1))
ZERO_IS_RED = {
    "mode": "absolute",
    "steps": [{"color": "red", "value": None}, {"color": "green", "value": 1}],
}


def rate(name: str, where: str) -> str:
    return f"rate({name}{{{where}}}[$__rate_interval])"


def by(labels: str, expr: str) -> str:
    return f"sum by ({labels}) ({expr})"


def conflicts(labels: str, where: str) -> str:
    """Conflicts a second by region; 0 where there were none, because a series begins with one."""
    return (
        by(labels, rate("meshnode_conflicts_total", where))
        + f" or on (region) 0 * sum by (region) (meshnode_ready{{{where}}})"
    )


def overview() -> Json:
    """All regions of a mesh, and who hears whom."""
    now = [
        stat("Nodes", "none", "Nodes that are ready, and nodes that Prometheus knows.",
             Query(f"sum(meshnode_ready{{{MESH}}})", "ready"),
             Query(f"count(up{{{MESH}}})", "known")),
        stat("Worst lag", "s", "Age of the oldest of the newest heartbeats, of all pairs.",
             Query(f"max(meshnode_lag_seconds{{{MESH}}})", "lag"), limits=LAG),
        stat("Halted actors", "none", "Actors that are halted, failed or fenced.",
             Query(f"sum(meshnode_actor_state{{{MESH}, {STANDING}}})", "actors"),
             limits=ONE_IS_RED),
        stat("Open letters", "none", "Parked rows and skipped transactions.",
             Query(f'sum(meshnode_dead_letters{{{MESH}, state=~"open|skipped"}})', "letters"),
             limits=ONE_IS_RED),
        stat("Paused peers", "none", "Streams that an operator holds.",
             Query(f"sum(meshnode_peer_paused{{{MESH}}})", "paused"),
             limits=steps(("orange", 1))),
        stat("Topology files", "none", "Different topology files in use: 1 is right.",
             Query(f"count(count by (digest) (meshnode_topology_info{{{MESH}}}))", "files"),
             limits=steps(("orange", 2))),
    ]  # fmt: skip
    pairs = [
        matrix("Lag", "s",
               "Each line is a region, each column a peer: how old the newest heartbeat of the "
               "peer is that the region has applied.",
               Query(f"max by (region, peer) (meshnode_lag_seconds{{{MESH}}})", ""),
               rows="region", columns="peer", limits=LAG),
        matrix("Items behind", "short",
               "Each line is a region, each column a peer: what the peer has published and the "
               "region has not applied. Nodes are scraped at different times: a few are nothing.",
               Query("clamp_min("
                     f'max by (peer) (label_replace(meshnode_published_seq{{{MESH}}}, "peer", '
                     '"$1", "region", "(.+)")) - on (peer) group_right () '
                     f"max by (region, peer) (meshnode_applied_seq{{{MESH}}}), 0)", ""),
               rows="region", columns="peer", limits=steps(("yellow", 1000), ("orange", 100000))),
        series("Worst lag of a region", "s",
               "High in one region: look at that region and its links.",
               Query(f"max by (region) (meshnode_lag_seconds{{{MESH}}})", "{{region}}"), width=12),
        series("Worst lag behind a peer", "s",
               "High for one peer: it does not publish, or its topic cannot be read.",
               Query(f"max by (peer) (meshnode_lag_seconds{{{MESH}}})", "{{peer}}"), width=12),
    ]  # fmt: skip
    rates = [
        series("Published transactions", "cps", "Local transactions published, a second.",
               Query(by("region", rate("meshnode_published_transactions_total", MESH)),
                     "{{region}}")),
        series("Published bytes", "Bps", "Bytes appended to the own topic, a second.",
               Query(by("region", rate("meshnode_published_bytes_total", MESH)), "{{region}}")),
        series("Publishing delay", "s", "How long a commit may be unpublished.",
               Query(f"max by (region) (meshnode_tail_delay_seconds{{{MESH}}})", "{{region}}")),
        series("Applied transactions", "cps", "Transactions of all peers applied, a second.",
               Query(by("region", rate("meshnode_applied_transactions_total", MESH)),
                     "{{region}}")),
        series("Applied rows", "cps", "Rows of all peers written, a second.",
               Query(by("region", rate("meshnode_applied_rows_total", MESH)), "{{region}}")),
        series("Received bytes", "Bps", "Bytes read from the topics of all peers, a second.",
               Query(by("region", rate("meshnode_received_bytes_total", MESH)), "{{region}}")),
    ]  # fmt: skip
    eye = [
        series("Conflicts", "cps", "Conflicts recorded, a second.",
               Query(conflicts("region", MESH), "{{region}}")),
        series("Dead letters", "short", "Letters that are not closed.",
               Query(by("region, state", f"meshnode_dead_letters{{{MESH}}}"),
                     "{{region}} {{state}}")),
        series("Lifts", "cps", "Own rows stamped anew because their stamp came too late.",
               Query(by("region", rate("meshnode_lifts_total", MESH)), "{{region}}")),
        series("Actors by state", "short", "All actors of all nodes.",
               Query(by("state", f"meshnode_actor_state{{{MESH}}}"), "{{state}}"), stacked=True),
        series("Age of the tombstone limit", "s", "Tombstones younger than this are kept.",
               Query(f"max by (region) (meshnode_gc_limit_age_seconds{{{MESH}}})", "{{region}}")),
        series("Retention left", "percentunit",
               "Of the stream that is nearest to being forgotten by the bus, as a share of the "
               "retention. Empty on a bus that does not forget by age.",
               Query(f"min by (region) (meshnode_retention_left_seconds{{{MESH}}}"
                     " / on (job, instance, region) group_left () "
                     f"meshnode_retention_seconds{{{MESH}}})", "{{region}}")),
        series("Clock ahead", "s", "How far a region's clock is at least ahead of another's.",
               Query(f"clamp_min(max by (peer) (meshnode_clock_skew_seconds{{{MESH}}}), 0)",
                     "{{peer}}")),
        series("Memory", "bytes", "Memory of the processes.",
               Query(f"process_resident_memory_bytes{{{MESH}}} * on (job, instance) "
                     f"group_left (region) meshnode_topology_info{{{MESH}}}", "{{region}}")),
        series("Processors", "percentunit", "Processor time; a node can use one processor.",
               Query(rate("process_cpu_seconds_total", MESH) + " * on (job, instance) "
                     f"group_left (region) meshnode_topology_info{{{MESH}}}", "{{region}}")),
    ]  # fmt: skip
    return dashboard(
        "meshnode-overview", "meshnode: mesh", "All regions of a mesh.", [JOB],
        [("Now", now), ("Who hears whom", pairs), ("Rates", rates), ("What needs an eye", eye)],
    )  # fmt: skip


def region() -> Json:
    """One region from its own node's view."""
    topology = f"* on (job, instance) group_left (region) meshnode_topology_info{{{REGION}}}"
    now = [
        stat("Ready", "bool_yes_no", "As /readyz says; it also gives the reasons.",
             Query(f"meshnode_ready{{{REGION}}}", "ready"), limits=ZERO_IS_RED),
        stat("Epoch", "none", "Under which the region is claimed.",
             Query(f"meshnode_epoch{{{REGION}}}", "epoch")),
        stat("Age of the heartbeat", "s", "Of the newest that is committed in the own MySQL.",
             Query(f"meshnode_heartbeat_age_seconds{{{REGION}}}", "age"), limits=LAG),
        stat("Publishing delay", "s", "How long a commit may be unpublished.",
             Query(f"meshnode_tail_delay_seconds{{{REGION}}}", "delay"), limits=LAG),
        stat("Halted actors", "none", "Actors that are halted, failed or fenced.",
             Query(f"sum(meshnode_actor_state{{{REGION}, {STANDING}}})", "actors"),
             limits=ONE_IS_RED),
        stat("Up for", "s", "Since the process started.",
             Query(f"(time() - process_start_time_seconds{{{MESH}}}) {topology}", "up")),
    ]  # fmt: skip
    actors = [
        timeline("Actors that run", "Red while an actor is in any other state.",
                 Query(f'1 - meshnode_actor_state{{{REGION}, state="running"}}', "{{actor}}"),
                 width=16),
        table("States", "none", "What each actor is doing; /status has reason and remedy.",
              Query(f"max by (actor, state) (meshnode_actor_state{{{REGION}}} == 1)", "")),
        series("Restarts", "short", "Starts of actors after an error, in five minutes.",
               Query(f"increase(meshnode_actor_restarts_total{{{REGION}}}[5m])", "{{actor}}")),
        series("Claims", "short", "Claims of the region by this process.",
               Query(f"meshnode_claims_total{{{REGION}}}", "claims")),
        table("Versions", "none", "The node's version, and its Python.",
              Query(f"max by (version, python) (meshnode_build_info{{{REGION}}})", "")),
    ]  # fmt: skip
    out = [
        series("Published", "cps", "Local transactions, rows and frames, a second.",
               Query(rate("meshnode_published_transactions_total", REGION), "transactions"),
               Query(rate("meshnode_published_rows_total", REGION), "rows"),
               Query(rate("meshnode_published_frames_total", REGION), "frames")),
        series("Published bytes", "Bps", "Bytes appended to the own topic, a second.",
               Query(rate("meshnode_published_bytes_total", REGION), "bytes")),
        series("Lifts", "cps", "Own rows stamped anew, set aside because locked, lifted after "
               "all, and changed before they could be.",
               Query(rate("meshnode_lifts_total", REGION), "lifted"),
               Query(rate("meshnode_held_rows_total", REGION), "held"),
               Query(rate("meshnode_mended_rows_total", REGION), "mended"),
               Query(rate("meshnode_overtaken_rows_total", REGION), "overtaken")),
        series("Waiting to be lifted", "short", "Keys in meshnode.mend.",
               Query(f"meshnode_mend_rows{{{REGION}}}", "keys")),
        series("Late tombstones", "cps", "Local deletes that no trigger saw.",
               Query(rate("meshnode_late_tombstones_total", REGION), "deletes")),
        series("Applied elsewhere", "short", "Items of this region that each other has not "
               "applied.",
               Query(f"clamp_min(max(meshnode_published_seq{{{REGION}}}) - on () group_right () "
                     f'max by (region) (meshnode_applied_seq{{{MESH}, peer="$region"}}), 0)',
                     "{{region}}")),
    ]  # fmt: skip
    incoming = [
        series("Lag", "s", "Age of the newest heartbeat of each peer that is applied here.",
               Query(f"meshnode_lag_seconds{{{REGION}}}", "{{peer}}")),
        series("Applied transactions", "cps", "Of each peer, a second.",
               Query(rate("meshnode_applied_transactions_total", REGION), "{{peer}}")),
        series("Applied rows", "cps", "Of each peer, a second.",
               Query(rate("meshnode_applied_rows_total", REGION), "{{peer}}")),
        series("Received", "Bps", "Bytes read from the topic of each peer, a second.",
               Query(rate("meshnode_received_bytes_total", REGION), "{{peer}}")),
        series("Received records", "cps", "Records read from the topic of each peer, a second.",
               Query(rate("meshnode_received_frames_total", REGION), "{{peer}}")),
        series("Applied bytes", "Bps", "Row images of each peer, a second.",
               Query(rate("meshnode_applied_bytes_total", REGION), "{{peer}}")),
        heatmap("Batches", "short", "Rows in one local transaction.",
                Query(by("le", f"increase(meshnode_apply_batch_rows_bucket{{{REGION}}}"
                               "[$__rate_interval])"), "{{le}}")),
        series("Tried again", "cps", "Apply transactions tried again, by the reason.",
               Query(rate("meshnode_apply_retries_total", REGION), "{{class}}")),
        series("Paused", "none", "1 while an operator holds the peer.",
               Query(f"meshnode_peer_paused{{{REGION}}}", "{{peer}}")),
        series("Retention left", "s", "Until the bus forgets what is not applied of a peer. "
               "Empty on a bus that does not forget by age.",
               Query(f"meshnode_retention_left_seconds{{{REGION}}}", "{{peer}}"),
               Query(f"meshnode_retention_seconds{{{REGION}}}", "all of it")),
        series("Queues", "short", "Entries that wait between actors.",
               Query(f"meshnode_queue_entries{{{REGION}}}", "{{queue}} {{peer}}")),
        series("Fill of the queues", "percentunit", "Weight, as a share of that at which the "
               "producer stops.",
               Query(f"meshnode_queue_bytes{{{REGION}}}"
                     f" / meshnode_queue_capacity_bytes{{{REGION}}}", "{{queue}} {{peer}}")),
    ]  # fmt: skip
    left = [
        series("Parked rows", "short", "By table.",
               Query(f"meshnode_parked_rows{{{REGION}}}", "{{table}}")),
        series("Letters", "short", "Letters that are not closed, by state.",
               Query(f"meshnode_dead_letters{{{REGION}}}", "{{state}}")),
        signed(series("Clocks", "s", "Clock of the peer minus the own one, at least.",
                      Query(f"meshnode_clock_skew_seconds{{{REGION}}}", "{{peer}}"))),
        series("Tombstones", "short", "By table, as InnoDB estimates them.",
               Query(f"meshnode_tombstone_rows{{{REGION}}}", "{{table}}")),
        series("Tombstones dropped", "cps", "A second.",
               Query(rate("meshnode_tombstones_collected_total", REGION), "dropped")),
        series("Age of the tombstone limit", "s", "Tombstones younger than this are kept, for "
               "the one that is named.",
               Query(f"meshnode_gc_limit_age_seconds{{{REGION}}} * on (job, instance, region) "
                     f"group_right () (meshnode_gc_held_back{{{REGION}}} == 1)", "{{by}}")),
    ]  # fmt: skip
    process = [
        series("Processor", "percentunit", "Of one processor.",
               Query(f"{rate('process_cpu_seconds_total', MESH)} {topology}", "node")),
        series("Memory", "bytes", "Memory of the process.",
               Query(f"process_resident_memory_bytes{{{MESH}}} {topology}", "resident"),
               Query(f"process_virtual_memory_bytes{{{MESH}}} {topology}", "virtual")),
        series("Open files", "short", "File descriptors.",
               Query(f"process_open_fds{{{MESH}}} {topology}", "open"),
               Query(f"process_max_fds{{{MESH}}} {topology}", "allowed")),
        series("Delay of the event loop", "s", "One timer in 100, and in two, is later.",
               *(Query(f"histogram_quantile({q}, sum by (le) ("
                       f"{rate('meshnode_event_loop_delay_seconds_bucket', REGION)}))", name)
                 for q, name in (("0.99", "1 in 100"), ("0.5", "1 in 2")))),
        series("Spans", "cps", "Spans that the tracing endpoint took, spans that were lost, and "
               "transactions that were not recorded, a second.",
               Query(rate("meshnode_trace_spans_sent_total", REGION), "sent"),
               Query(rate("meshnode_trace_spans_lost_total", REGION), "lost"),
               Query(rate("meshnode_traces_refused_total", REGION), "not recorded")),
    ]  # fmt: skip
    return dashboard(
        "meshnode-region", "meshnode: region", "One region, as its own node sees it.", [JOB, ONE],
        [("Now", now), ("Actors", actors), ("Out", out), ("In", incoming),
         ("What is left behind", left), ("Process", process)],
    )  # fmt: skip


def disputes() -> Json:
    """Conflicts, and what else rows meet on their way."""
    found = "meshnode_conflicts_total"
    recorded = [
        series("By kind", "cps", "Conflicts recorded in all regions, a second.",
               Query(by("kind", rate(found, MESH)), "{{kind}}"), stacked=True),
        series("By table", "cps", "Conflicts recorded in all regions, a second.",
               Query(by("table", rate(found, MESH)), "{{table}}"), stacked=True),
        series("By region", "cps", "Where the loser was found.",
               Query(conflicts("region", MESH), "{{region}}"), stacked=True),
        matrix("Tables and kinds", "short", "Conflicts recorded since the nodes started.",
               Query(by("table, kind", f"{found}{{{MESH}}}"), ""),
               rows="table", columns="kind", limits=steps(("yellow", 100), ("orange", 10000))),
        series("Share of the applied rows", "percentunit", "Conflicts for each row applied.",
               Query(f"({conflicts('region', MESH)}) / on (region) clamp_min("
                     + by("region", rate("meshnode_applied_rows_total", MESH)) + ", 1)",
                     "{{region}}"), width=12),
    ]  # fmt: skip
    late = [
        series(title, "cps", description, Query(by("region", rate(name, MESH)), "{{region}}"))
        for title, description, name in (
            ("Lifts", "Own rows stamped anew before they were published.",
             "meshnode_lifts_total"),
            ("Held", "Rows that were locked when they had to be lifted.",
             "meshnode_held_rows_total"),
            ("Mended", "Held rows that were lifted since.", "meshnode_mended_rows_total"),
            ("Overtaken", "Rows changed again before they could be lifted; their image is in "
             "conflict_log.", "meshnode_overtaken_rows_total"),
            ("Late tombstones", "Local deletes that no trigger saw.",
             "meshnode_late_tombstones_total"),
        )
    ]  # fmt: skip
    late.append(
        series("Waiting to be lifted", "short", "Keys in meshnode.mend.",
               Query(by("region", f"meshnode_mend_rows{{{MESH}}}"), "{{region}}"))
    )  # fmt: skip
    parked = [
        series("Rows parked", "cps", "Rows that did not go in, a second, by the region they are "
               "parked in and the one they come from.",
               Query(by("region, peer", rate("meshnode_rows_parked_total", MESH)),
                     "{{region}} of {{peer}}")),
        series("Rows set aside", "cps", "Rows that wait because a client holds them locked, "
               "a second.",
               Query(by("region, peer", rate("meshnode_rows_set_aside_total", MESH)),
                     "{{region}} of {{peer}}")),
        series("Parked now", "short", "By table, in all regions.",
               Query(by("table", f"meshnode_parked_rows{{{MESH}}}"), "{{table}}"), stacked=True),
        series("Letters", "short", "Letters that are not closed, by state.",
               Query(by("state", f"meshnode_dead_letters{{{MESH}}}"), "{{state}}"), stacked=True),
        series("Tried again", "cps", "Apply transactions tried again, by the reason.",
               Query(by("class", rate("meshnode_apply_retries_total", MESH)), "{{class}}"),
               stacked=True),
        series("Tried again in a region", "cps", "Apply transactions tried again.",
               Query(by("region", rate("meshnode_apply_retries_total", MESH)), "{{region}}")),
    ]  # fmt: skip
    return dashboard(
        "meshnode-conflicts", "meshnode: conflicts", "What rows meet on their way.", [JOB],
        [("Conflicts", recorded), ("Late stamps", late), ("Rows that do not go in", parked)],
    )  # fmt: skip


DASHBOARDS = {"overview": overview, "region": region, "conflicts": disputes}


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    stale = []
    for name, make in DASHBOARDS.items():
        path = FOLDER / f"{name}.json"
        text = json.dumps(make(), indent=2, ensure_ascii=False) + "\n"
        if check and (not path.exists() or path.read_text() != text):
            stale.append(path.name)
        elif not check:
            path.write_text(text)
    if stale:
        print(f"{', '.join(stale)}: not what {Path(__file__).name} writes; run it", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
