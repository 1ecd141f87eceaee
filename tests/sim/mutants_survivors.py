"""Mutants that the simulation cannot kill, each with the reason.

The rule is either implied by others, so that nothing depends on it alone, or it is about
something that a schedule does not show.  The gate says so when one of them dies.
"""

SURVIVORS: dict[str, str] = {
    "a losing delete leaves no tombstone": (
        "The row that the delete lost to stands above it, and when that row goes, by whatever way,"
        " its tombstone is above the row. Only between a delete that no trigger saw and its late"
        " tombstone is the key open to older versions, which the late tombstone takes back, with"
        " a record. Kept: it costs nothing, and tombstones are then the same in all regions."
    ),
    "a duplicate is decided by the version": (
        "It differs only where an upsert has exactly the stamp of a tombstone and there is no row."
        " No such upsert is published: one that is equal to the version replaced is lifted (the"
        " mutant of that rule dies). Kept as the second line; tests/unit/core/test_resolve.py"
        " shows it."
    ),
    "at a tie the delete wins": (
        "For the same reason: of one region's stamps no upsert is equal to a tombstone of its key,"
        " and stamps of two regions never are. tests/unit/core/test_resolve.py shows the tie."
    ),
    "what a held version replaced is forgotten": (
        "Implied by the look: a version below what it replaced never stands without a tombstone"
        " above that (the trigger's, or the late one that is written or noted before the stream"
        " passes the version), and whoever writes over it finds that standing, locked, or among"
        " those that wait. The second line; that the same note gives the base is needed (the"
        " mutant of that rule dies)."
    ),
    "rows below a held late tombstone stay there": (
        "Implied: a tombstone that waits counts for what is written meanwhile, also in a process"
        " that has begun anew, so the mender has lifted such a row already, or will. The second"
        " line: with both off the mesh fails (a mutant of its own)."
    ),
    "at its base without looking whether the row exists": (
        "Again a row and a tombstone of one key would need the same stamp. Where both are none"
        " (an unstamped row, and a key that was never there) MySQL's row applier refuses what the"
        " origin saw otherwise, with 1062 or 1032, and the item is decided key by key. It died"
        " while wrong bases were published."
    ),
    "a gap is passed over": (
        "A topic that keeps what it has acknowledged has none: a publisher waits for one frame's"
        " answer before it sends the next, and whoever takes over goes on behind the last valid"
        " item of the topic. The rule is for a bus that has lost records, which no schedule has:"
        " tests/unit/core/test_ledger.py shows it, and tests/integration/test_kafka_topics.py"
        " with files of an older state."
    ),
    "nobody is killed": (
        "Not needed for safety: what a predecessor's sessions may still commit is fenced by the"
        " epoch (appliers, replays, heartbeats) or may be done twice (late tombstones, lifts,"
        " which come round in the binlog and are judged again). It is needed for progress: the"
        " session of a process that hangs would hold its locks until wait_timeout."
    ),
    "a beaten claim goes on": (
        "The second line: its epoch is below that of `member`, so nobody counts its frames, and"
        " its first heartbeat or apply transaction finds the higher epoch and ends the node."
    ),
}

UNSHOWN: dict[str, str] = {}
"""Mutants that nobody has seen die in as many schedules as the tests run, and that are not known
to be harmless either: holes of the simulation until a sharper schedule is found."""
