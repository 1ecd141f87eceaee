"""Which published writes of one key lost, that is, were not seen by the winner's writers.

Every version says which one it was written over, so the winner has a chain of ancestors.  An
upsert outside the chain lost a conflict, and somebody must have a record of it.

A delete may have been forgotten (its tombstone collected) before a new row with its key
was inserted; the insert then says that it replaced nothing.  The ``gc_limit`` of its region
tells which deletes may have been forgotten.  An insert says the same, or names an older delete
of its own region, when its key was deleted again before its node came to look, be it in the same
transaction: the only tombstone there was is that of the later delete.  What it replaced is then
an older delete, its own region's or one that its region had applied.  In both cases it counts as
written over the newest delete that it can have seen.
"""

from collections.abc import Collection, Iterable, Mapping, Set
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
    """The writes of one key that lost to ``winner``; ``gc_limits`` by region name.

    ``entries`` of one region in the order of its stream.
    """
    by_stamp: dict[Stamp, Published] = {}
    for entry in entries:
        # The first, which knows what it replaced: a late tombstone comes round once more.
        by_stamp.setdefault(entry.stamp, entry)
    chain = {winner.stamp}
    oldest_known = ZERO
    at: Published | None = winner
    while at is not None:
        base = at.base
        replaced = by_stamp.get(base)
        if base == ZERO or (replaced is not None and replaced.removed):
            base = max(base, _forgotten(at, by_stamp.values(), gc_limits[at.region]))
        if base == ZERO or base in chain:
            break
        chain.add(base)
        child, at = at, by_stamp.get(base)
        if at is None:
            oldest_known = max(base, _published_before(child, by_stamp.values()))
    writes = [
        entry
        for stamp, entry in by_stamp.items()
        if stamp > oldest_known and stamp not in chain and not entry.removed
    ]
    return Lost(writes, oldest_known != ZERO)


def accounted_for(entries: Iterable[Published], recorded: Set[Stamp]) -> set[Stamp]:
    """The versions of one key that are on record, and those that these were written over.

    Who wrote a recorded loser had seen its ancestors, and replaced them on purpose: its image is
    what was lost.  ``recorded`` are stamps of this very key: rows that were lifted together share
    one.  A step counts only if both of its versions were published, and the later one can have
    seen the other.
    """
    by_stamp: dict[Stamp, Published] = {}
    for entry in entries:
        by_stamp.setdefault(entry.stamp, entry)
    found: set[Stamp] = set()
    for stamp in by_stamp.keys() & recorded:
        at: Published | None = by_stamp[stamp]
        while at is not None and at.stamp not in found:
            found.add(at.stamp)
            before = by_stamp.get(at.base)
            at = before if before is not None and _may_precede(before, at) else None
    return found


def letter_counts(state: str, note: str) -> bool:
    """Whether a dead letter is a record of its row, by its state and the note of its end.

    A row that was set aside and never stood had no conflict to lose, also when a later version of
    its key has closed the letter.  One that was replayed went through the ordinary decision: if
    it lost, then or later, that has a record of its own.
    """
    return state != "closed" or note != "replayed"


def _may_precede(before: Published, after: Published) -> bool:
    """Whether ``after`` can have been written over ``before``: above it, and not before it."""
    return before.stamp < after.stamp and (before.region != after.region or before.seq <= after.seq)


def _published_before(entry: Published, entries: Iterable[Published]) -> Stamp:
    """The newest version that the region of ``entry`` had published of the key before it.

    A version that waited for a lift and was overtaken stands above it, whatever its stamp says.
    """
    return max(
        (each.stamp for each in entries if each.region == entry.region and each.seq < entry.seq),
        default=ZERO,
    )


def _forgotten(entry: Published, entries: Collection[Published], limit: int) -> Stamp:
    """The newest delete that may have been collected, or overwritten, before anyone looked."""
    mine = [each for each in entries if each.removed and each.region == entry.region]
    overwritten = entry.removed or any(
        each.seq >= entry.seq and each.stamp > entry.stamp for each in mine
    )
    if entry.base != ZERO and not overwritten:
        # Its node has seen the tombstone that it names.
        return ZERO
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
