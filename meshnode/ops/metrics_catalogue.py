"""Every metric that a node exports: name, type, labels, unit, meaning, and what to do.

The table of docs/OPERATING.md is this one, and a test keeps them equal.  All
metrics have the label ``region`` besides those named here.  Labels take their values from
closed sets: the regions and the replicated tables of the mesh, the actors of a node, and the
words that are named in the meaning.
"""

from typing import Literal, NamedTuple

Kind = Literal["gauge", "counter", "histogram"]


class Metric(NamedTuple):
    """One family; ``unit`` is part of its name, or empty for plain numbers."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    unit: str
    meaning: str
    action: str


PEER = ("peer",)
TABLE = ("table",)
NONE = ()
INFORMS = "informational"

METRICS = (
    # How far the regions are behind each other.
    Metric("meshnode_lag_seconds", "gauge", PEER, "seconds",
           "age of the newest heartbeat of the peer that is applied here; "
           "0 to 2 s is healthy; absent before the first; a reconnect does not reset it",
           "see the actors `applier PEER` here and `tailer` in the peer, and the link"),
    Metric("meshnode_tail_delay_seconds", "gauge", NONE, "seconds",
           "age of the newest own heartbeat that is in the own topic: "
           "how long a commit here may be unpublished",
           "see the actor `tailer`, and the bus"),
    Metric("meshnode_heartbeat_age_seconds", "gauge", NONE, "seconds",
           "age of the newest own heartbeat that is committed in the region's MySQL",
           "see whether that MySQL answers"),
    Metric("meshnode_applied_seq", "gauge", PEER, "",
           "number of the newest item of the peer that is applied here",
           "compare with `meshnode_published_seq` of the peer: the difference is what is behind"),
    Metric("meshnode_published_seq", "gauge", NONE, "",
           "number of the newest item in the own topic", INFORMS),
    Metric("meshnode_peer_paused", "gauge", PEER, "",
           "1 while an operator has paused the peer here",
           "`meshnode resume PEER --region REGION` when its reason is gone"),
    Metric("meshnode_retention_left_seconds", "gauge", PEER, "seconds",
           "time until the bus forgets the oldest record of the peer that is not applied here, by "
           "the retention of the topology file; absent where the bus does not forget by age",
           "below half of `meshnode_retention_seconds`: "
           "bring the stream back to life, or raise the topic's retention"),
    Metric("meshnode_retention_seconds", "gauge", NONE, "seconds",
           "how long the bus keeps a record, by the topology file; absent where it does not forget "
           "by age", INFORMS),
    Metric("meshnode_retention_lost_bytes_total", "counter", NONE, "bytes",
           "bytes of the own topic that were deleted because it had reached `max_bytes`, although "
           "a peer had not said to have applied them; stays 0 where the bus is Kafka",
           "above 0: the log names the peers; where one halts with *retention passed*, see "
           "A region that must be re-seeded; raise `max_bytes`"),
    # What goes out and what comes in.
    Metric("meshnode_published_transactions_total", "counter", NONE, "",
           "local transactions published", INFORMS),
    Metric("meshnode_published_rows_total", "counter", NONE, "",
           "local row changes published", INFORMS),
    Metric("meshnode_published_frames_total", "counter", NONE, "",
           "frames appended to the own topic", INFORMS),
    Metric("meshnode_published_bytes_total", "counter", NONE, "bytes",
           "bytes of these frames", INFORMS),
    Metric("meshnode_received_frames_total", "counter", PEER, "",
           "records read from the peer's topic", INFORMS),
    Metric("meshnode_received_bytes_total", "counter", PEER, "bytes",
           "bytes of these records", INFORMS),
    Metric("meshnode_applied_transactions_total", "counter", PEER, "",
           "transactions of the peer applied here", INFORMS),
    Metric("meshnode_applied_rows_total", "counter", PEER, "",
           "rows of the peer written here; what lost a conflict is not among them", INFORMS),
    Metric("meshnode_applied_bytes_total", "counter", PEER, "bytes",
           "row images of the peer's transactions, applied or beaten, "
           "without those in parts", INFORMS),
    Metric("meshnode_apply_batch_rows", "histogram", PEER, "",
           "rows of the peer in one local transaction; "
           "heartbeats and transactions in parts are not counted",
           "small batches with a growing lag: see `meshnode_apply_retries_total`"),
    Metric("meshnode_apply_retries_total", "counter", ("class",), "",
           "apply transactions tried again: `busy` (a client holds a row), `replan` (rows changed "
           "between look and write), `retry` (MySQL said try again), `row` (a row did not go in)",
           "`busy` steadily: end long client transactions; "
           "`row`: see parked rows and unique keys"),
    Metric("meshnode_queue_entries", "gauge", ("queue", "peer"), "",
           "entries waiting: `transactions` (tailer to mender), `drafts` (mender to publisher), "
           "`incoming` (of a peer, before its applier)", INFORMS),
    Metric("meshnode_queue_bytes", "gauge", ("queue", "peer"), "bytes",
           "weight of these entries, for queues that are bounded by bytes",
           "at its capacity for long: what comes after that queue is the bottleneck"),
    Metric("meshnode_queue_capacity_bytes", "gauge", ("queue", "peer"), "bytes",
           "weight at which the queue stops its producer", INFORMS),
    # What needs an eye.
    Metric("meshnode_conflicts_total", "counter", ("table", "kind"), "",
           "conflicts recorded in `conflict_log`; kinds as in `meshnode conflicts list`",
           "look at the records; route writers of one row to one region"),
    Metric("meshnode_lifts_total", "counter", NONE, "",
           "own rows stamped anew before they were published, because their stamp came too late",
           "steady: a clock that steps, or a missing trigger (`meshnode doctor`)"),
    Metric("meshnode_held_rows_total", "counter", NONE, "",
           "rows that were locked when they had to be lifted; they went to `meshnode.mend`",
           INFORMS),
    Metric("meshnode_mended_rows_total", "counter", NONE, "",
           "held rows lifted since", INFORMS),
    Metric("meshnode_overtaken_rows_total", "counter", NONE, "",
           "rows changed again before they could be lifted; their image is in `conflict_log`",
           INFORMS),
    Metric("meshnode_late_tombstones_total", "counter", NONE, "",
           "local deletes that no trigger saw; their tombstones were written by the tailer",
           "steady: cascades without `enable_cascade_triggers`, or a missing trigger"),
    Metric("meshnode_mend_rows", "gauge", NONE, "",
           "keys that wait in `meshnode.mend`",
           "end the client transactions that hold these rows"),
    Metric("meshnode_rows_parked_total", "counter", PEER, "",
           "rows of the peer parked since the start", "see Parked rows"),
    Metric("meshnode_rows_set_aside_total", "counter", PEER, "",
           "rows of the peer set aside since the start, because a client held them locked",
           "steadily: end long client transactions"),
    Metric("meshnode_parked_rows", "gauge", TABLE, "",
           "parked rows (letters open or waiting for a replay)", "see Parked rows"),
    Metric("meshnode_dead_letters", "gauge", ("state",), "",
           "letters that are not closed: `open`, `replay`, `skipped` (whole transactions)",
           "`open`: see Parked rows; `skipped`: make the regions alike, then `meshnode verify`"),
    Metric("meshnode_clock_skew_seconds", "gauge", PEER, "seconds",
           "clock of the peer's MySQL minus that of this region's, less the time that its "
           "heartbeats took, at best, within the last minute: the peer is ahead by at least this",
           "above 0.5: put the clocks right (NTP); "
           "negative values mean nothing: look from the peer's side"),
    # Tombstones.
    Metric("meshnode_tombstone_rows", "gauge", TABLE, "",
           "tombstones of the table, as InnoDB estimates it", INFORMS),
    Metric("meshnode_tombstones_collected_total", "counter", NONE, "",
           "tombstones dropped since the start", INFORMS),
    Metric("meshnode_gc_limit_age_seconds", "gauge", NONE, "seconds",
           "age of the limit below which tombstones may be dropped; "
           "absent before every peer was heard",
           "above 75: see `meshnode_gc_held_back`"),
    Metric("meshnode_gc_held_back", "gauge", ("by",), "",
           "1 for the region whose promise is the oldest, or for `parked rows`; 0 for the others",
           "if the limit is old: bring that region or its link back, end its oldest "
           "transaction, or replay the parked rows"),
    # The process.
    Metric("meshnode_ready", "gauge", NONE, "",
           "1 when `/readyz` says so", "`/readyz` gives the reasons"),
    Metric("meshnode_actor_state", "gauge", ("actor", "state"), "",
           "1 for the state that the actor is in: `starting`, `waiting`, `running`, `retrying`, "
           "`paused`, `halted`, `failed`, `fenced`, `stopped`, `finished`",
           "`halted`, `failed`, `fenced`: `/status` gives reason and remedy"),
    Metric("meshnode_actor_restarts_total", "counter", ("actor",), "",
           "starts of the actor after an error",
           "steady: see its reason in `/status`, and the log"),
    Metric("meshnode_epoch", "gauge", NONE, "",
           "epoch under which the region is claimed; 0 before", INFORMS),
    Metric("meshnode_claims_total", "counter", NONE, "",
           "claims of the region by this process",
           "steady: the origin side starts again and again, or two processes run"),
    Metric("meshnode_trace_spans_sent_total", "counter", NONE, "",
           "spans that the tracing endpoint has taken; 0 without `[tracing]`", INFORMS),
    Metric("meshnode_trace_spans_lost_total", "counter", NONE, "",
           "spans for which the queue had no room, or which the endpoint did not take",
           "see the tracing endpoint; the mesh itself does not need it"),
    Metric("meshnode_traces_refused_total", "counter", NONE, "",
           "transactions with a conflict, a lift, a parked row or a retry that were not recorded "
           "because there were too many in that second", INFORMS),
    Metric("meshnode_event_loop_delay_seconds", "histogram", NONE, "seconds",
           "how much later than asked the event loop ran a timer",
           "above 0.1: the process gets too little of a processor"),
    Metric("meshnode_build_info", "gauge", ("version", "python"), "",
           "1; the versions", INFORMS),
    Metric("meshnode_topology_info", "gauge", ("mesh", "digest"), "",
           "1; the mesh and the digest of the topology in use",
           "digests that differ: give every node the same file"),
)  # fmt: skip

PROCESS = (
    Metric("process_resident_memory_bytes", "gauge", NONE, "bytes",
           "memory of the process", "growing for hours: report it"),
    Metric("process_virtual_memory_bytes", "gauge", NONE, "bytes",
           "virtual memory of the process", INFORMS),
    Metric("process_cpu_seconds_total", "counter", NONE, "seconds",
           "processor time of the process",
           "near 1 s a second: the node is at its limit"),
    Metric("process_start_time_seconds", "gauge", NONE, "seconds",
           "when it started, since 1970", INFORMS),
    Metric("process_open_fds", "gauge", NONE, "", "open file descriptors", INFORMS),
    Metric("process_max_fds", "gauge", NONE, "", "how many it may open", INFORMS),
)  # fmt: skip
"""Those of the Prometheus client itself; they have no label ``region``."""


def table() -> str:
    """The catalogue as a table of Markdown."""
    lines = ["| name | type | labels | unit | meaning | what to do |", "|" + " --- |" * 6]
    lines += [
        f"| `{each.name}` | {each.kind} | {', '.join(each.labels)} | {each.unit} "
        f"| {each.meaning} | {each.action} |"
        for each in (*METRICS, *PROCESS)
    ]
    return "\n".join(lines) + "\n"
