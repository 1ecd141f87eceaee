"""The frontier: what a region promises about everything it will publish later.

    Whatever upsert I publish after this has a stamp above f.

The promise is made from what is known when the heartbeat is written and kept by
the tailer, which lifts whatever comes late (:mod:`meshnode.core.mend`).  Peers
drop a tombstone when every member, and they themselves, have promised beyond it.
"""

from collections.abc import Iterable

from meshnode import limits


def frontier(now: int, oldest_open: int | None, newest_heard: int | None, previous: int) -> int:
    """The next frontier; all in microseconds since 1970, never below ``previous``.

    ``oldest_open`` is the start of the oldest open local transaction: one that
    stays open for long holds the frontier back only so far, its rows are lifted
    then.  ``newest_heard`` is the newest wall time heard from another region: a
    clock that runs ahead of all others may not promise for them.
    """
    bound = now
    if oldest_open is not None:
        bound = min(bound, max(oldest_open, now - limits.FRONTIER_OPEN_TX_US))
    if newest_heard is not None:
        bound = min(bound, newest_heard + limits.FRONTIER_AHEAD_US)
    return max(previous, bound - limits.FRONTIER_SLACK_US)


def gc_limit(applied: Iterable[int], published: int, parked: Iterable[int]) -> int:
    """Tombstones with a time at or below this may be dropped here.

    ``applied``: the frontier applied from every other member; ``published``:
    the own frontier as it stands in the published stream; ``parked``: times of
    rows waiting in the dead letter, each of which holds its origin's down.
    """
    bound = published
    for frontier_applied in applied:
        bound = min(bound, frontier_applied)
    for ts in parked:
        bound = min(bound, ts - 1)
    return max(bound, 0)
