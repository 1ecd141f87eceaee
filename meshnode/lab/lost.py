"""Which published writes of one key lost, that is, were not seen by the winner's writers.

Every version says which one it was written over, so the winner has a line of ancestors.  An
upsert outside it lost a conflict, and somebody must have a record of it.

A delete may have been forgotten (its tombstone collected) before a new row with its key
was inserted; the insert then says that it replaced nothing.  The ``gc_limit`` of its region
tells which deletes may have been forgotten.  An insert says the same, or names an older delete
of its own region, when its key was deleted again before its node came to look, be it in the same
transaction: the only tombstone there was is that of the later delete.  What it replaced is then
an older delete, its own region's or one that its region had applied.  In both cases it counts as
written over the newest delete that it can have seen.  So does one that names its own region's
delete, which a node remembers, where another one's later tombstone may have been collected.

A row that came and went beneath a newer version of its own region was deleted on purpose, and so
was one whose key its region inserted anew, also when the insert is dated below the delete: it took
the time before it waited for the delete's lock.  One that came beneath its own region's delete and
was written over before its node looked is published as it is: who wrote next had seen it.

An upsert over nothing that follows an upsert of its own region is a row whose partial image did
not say what it replaced: a region's own writes of a key see one another.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Set
from typing import NamedTuple

from meshnode.lab.topics import Published, Stamp

ZERO = Stamp(0, 0)


class Lost(NamedTuple):
    """Upserts that are no ancestors of the winner.

    ``cut_short``: the line ends at a version that was never published (it was lifted, or is
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
    seen = {winner.stamp}
    oldest_known = ZERO
    later = [winner]
    while later:
        at = later.pop()
        for base in _bases(at, by_stamp, gc_limits[at.region]) - seen:
            seen.add(base)
            before = by_stamp.get(base)
            if before is None:
                # A version that waited for a lift and was overtaken stands above those published
                # before it, whatever its stamp says.
                oldest_known = max(oldest_known, base, _published_before(at, by_stamp.values()))
            else:
                later.append(before)
    accounted = seen | _line(by_stamp, _beneath(by_stamp.values()))
    writes = [
        entry
        for stamp, entry in by_stamp.items()
        if stamp > oldest_known and stamp not in accounted and not entry.removed
    ]
    return Lost(writes, oldest_known != ZERO)


def _beneath(entries: Iterable[Published]) -> list[Published]:
    """What its region wrote beneath a newer version, and then over it again.

    The deletes, where it had published any newer version; and the upserts beneath its own
    delete, once the region has published the key above that.
    """
    newest: dict[str, Stamp] = {}
    deleted: dict[str, Stamp] = {}
    inserted: dict[str, list[Published]] = defaultdict(list)
    found: list[Published] = []
    for each in entries:
        before, gone = newest.get(each.region, ZERO), deleted.get(each.region, ZERO)
        if each.removed and before > each.stamp:
            found.append(each)
        elif gone > each.stamp:
            inserted[each.region].append(each)
        elif inserted[each.region]:
            found += inserted.pop(each.region)
        newest[each.region] = max(before, each.stamp)
        if each.removed:
            deleted[each.region] = max(gone, each.stamp)
    return found


def _bases(entry: Published, by_stamp: Mapping[Stamp, Published], limit: int) -> set[Stamp]:
    """What ``entry`` was written over: what it names, and what it may have left unsaid."""
    replaced = by_stamp.get(entry.base)
    found = {entry.base}
    if entry.base == ZERO or (replaced is not None and replaced.removed):
        # Its own region's deletes are named from memory, also where the tombstone has gone.
        is_read = replaced is not None and replaced.region != entry.region
        found.add(_forgotten(entry, by_stamp.values(), limit, is_read))
        if not entry.removed:
            # It may have taken the time before it waited for the lock of a delete above it.
            deletes = (each for each in by_stamp.values() if each.removed)
            found.add(_published_before(entry, deletes))
    if entry.base == ZERO and not entry.removed:
        found.add(_stood(entry, by_stamp.values()))
    return found - {ZERO}


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
    return _line(by_stamp, [by_stamp[stamp] for stamp in by_stamp.keys() & recorded])


def _line(by_stamp: Mapping[Stamp, Published], last: Iterable[Published]) -> set[Stamp]:
    """``last`` and all that they were written over."""
    found: set[Stamp] = set()
    for each in last:
        at: Published | None = each
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
    """The newest of ``entries`` that the region of ``entry`` had published before it; or ZERO."""
    return max(
        (each.stamp for each in entries if each.region == entry.region and each.seq < entry.seq),
        default=ZERO,
    )


def _stood(entry: Published, entries: Collection[Published]) -> Stamp:
    """The upsert of its own region that ``entry`` was written over without saying so; or ZERO.

    A row of which the binary log had only a part is restamped with an unknown base, and after a
    crash perhaps once more.
    """
    mine = [each for each in entries if each.region == entry.region and each.seq < entry.seq]
    former = max(mine, key=lambda each: each.seq, default=None)
    if former is None or former.removed or former.stamp > entry.stamp:
        return ZERO
    if any(each.removed and former.stamp < each.stamp < entry.stamp for each in entries):
        return ZERO  # perhaps an insert: it had to name the delete
    return former.stamp


def _forgotten(
    entry: Published, entries: Collection[Published], limit: int, is_read: bool
) -> Stamp:
    """The newest delete that may have been collected, or overwritten, before anyone looked.

    ``is_read``: the delete that ``entry`` names can only come from its tombstone, which was there.
    """
    mine = [each for each in entries if each.removed and each.region == entry.region]
    overwritten = entry.removed or any(
        each.seq >= entry.seq and each.stamp > entry.stamp for each in mine
    )
    if is_read and not overwritten:
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
