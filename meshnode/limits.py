"""Every limit of the node, named, with its unit, and how they relate.

These are the defaults; ``[limits]`` in the topology file may change those that
:class:`meshnode.topology.Limits` lists.
"""

KIB = 1024
MIB = 1024 * KIB

FRAME_TARGET_BYTES = 512 * KIB
"""A frame is closed when its items reach this size."""

FRAME_MAX_BYTES = 256 * MIB
"""A reader refuses a longer frame: its length field must be garbage."""

PART_BYTES = 1 * MIB
"""A transaction larger than this is published in parts of about this size."""

BATCH_ROWS = 4_000
"""Rows that one apply transaction takes at the most (a whole item may exceed it)."""

BATCH_BYTES = 4 * MIB
"""Bytes of row images that one apply transaction takes (likewise)."""

LOCK_KEYS = 1_000
"""Keys named in one locking statement."""

MEND_ROWS = 500
"""Rows mended in one small transaction."""

BEFORE_IMAGE_BYTES = 1 * MIB
"""A before image over this size is cut to its key."""

HEARTBEAT_SECONDS = 1.0

SILENT_SECONDS = 10.0
"""A region that was not heard for longer is silent, if its heartbeats come often enough."""

BEATS_MISSED = 3
"""Heartbeats that may be missing before a region is silent, however slow its pulse."""

FRONTIER_SLACK_US = 1_000_000
"""The frontier stays this far behind everything that bounds it."""

FRONTIER_OPEN_TX_US = 60_000_000
"""An open local transaction holds the frontier back this long at the most."""

FRONTIER_AHEAD_US = 5_000_000
"""A region never promises more than this beyond the newest peer clock it heard."""

LOCK_WAIT_SECONDS = 2.0
"""A single item waits this long for a row lock before it starts again."""

LOCKED_SECONDS = 10.0
"""A single item waits at most this long for rows that clients hold; then they are set aside."""

KEEP_CLOSED_DAYS = 30
"""Closed dead letters and conflict records are kept this long."""

BASES_KEPT = 50_000
"""Recent writes whose base is remembered for conflict records (entries)."""

REMOVALS_KEPT = 10_000
"""Recent published deletes that the tailer remembers, for the bases of what follows (keys)."""

LIFTS_KEPT = 50_000
"""Recent lifts that a process remembers, for transactions that it judges again (keys)."""

assert PART_BYTES >= FRAME_TARGET_BYTES
assert BATCH_BYTES >= PART_BYTES

BUS_SEGMENT_BYTES = 64 * MIB
"""The file bus begins a new segment when the current one has this size."""

BUS_KEEP_SECONDS = 3600.0
"""The file bus keeps a full segment at least this long, applied everywhere or not."""

BUS_MAX_BYTES = 16 * 1024 * MIB
"""The file bus keeps at most this much of one topic, applied everywhere or not."""


def silent_seconds(pulse: float) -> float:
    """Age in seconds above which a heartbeat is late, where they come every ``pulse`` seconds."""
    return max(SILENT_SECONDS, BEATS_MISSED * pulse)
