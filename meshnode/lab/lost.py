"""Which published writes of one key lost, that is, were not seen by the winner's writers.

Every version says which one it was written over, so the winner has a chain of ancestors.  An
upsert outside the chain lost a conflict, and somebody must have a record of it.

A delete may have been forgotten (its tombstone collected) before a new row with its key
was inserted; the insert then says that it replaced nothing.  The ``gc_limit`` of its region
tells which deletes may have been forgotten.  An insert says the same when its key was deleted
again before its node came to look: the only tombstone there was is that of the later
delete.  What it replaced is then an older delete, its own region's or one that its region had
applied.  In both cases it counts as written over the newest delete that it can have seen.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from meshnode.lab.topics import Published, Stamp

ZERO = Stamp(0, 0)


class Lost(NamedTuple):
    """Upserts outside the winner's chain.

    ``cut_short``: the chain ends at a version that was never published (it was lifted, or is
    older than the mesh); what is older than that version may be its ancestor and is left out.
    """

    writes: list[Published]
    cut_short: bool


def lost_writes(
    entries: Iterable[Published], winner: Published, gc_limits: Mapping[str, int]
) -> Lost:
    """The writes of one key that lost to ``winner``; ``gc_limits`` by region name."""
    by_stamp = {entry.stamp: entry for entry in entries}
    chain = {winner.stamp}
    oldest_known = ZERO
    at: Published | None = winner
    while at is not None:
        base = at.base
        if base == ZERO:
            base = _forgotten(at, by_stamp.values(), gc_limits[at.region])
        if base == ZERO or base in chain:
            break
        chain.add(base)
        at = by_stamp.get(base)
        if at is None:
            oldest_known = base
    writes = [
        entry
        for stamp, entry in by_stamp.items()
        if stamp > oldest_known and stamp not in chain and not entry.removed
    ]
    return Lost(writes, oldest_known != ZERO)


def _forgotten(entry: Published, entries: Collection[Published], limit: int) -> Stamp:
    """The newest delete that may have been collected, or overwritten, before anyone looked."""
    mine = [each for each in entries if each.removed and each.region == entry.region]
    overwritten = any(each.seq >= entry.seq and each.stamp > entry.stamp for each in mine)
    return max(
        (
            each.stamp
            for each in entries
            if each.removed
            and each.stamp < entry.stamp
            and (
                overwritten
                or each.stamp.ts <= limit
                or (each.region == entry.region and each.seq <= entry.seq)
            )
        ),
        default=ZERO,
    )
