"""Which region's version of a key shall be published so that all regions become alike.

Pure decisions for rows that were there before their table was replicated.  The
greatest version wins, as everywhere in the mesh.  Rows written without the mesh have
no version to compare: where they differ, only an operator can say which is
right, and names the region with ``--seed-from``.  A row that some regions do not
have at all is not in conflict: it is published from where it is, so nothing is
lost; a seed fills and overrules, it never deletes.  Unless it was deleted there: a tombstone
is collected when all have promised beyond it, also while a region has yet to apply it, and
from then on nothing shows the delete but the row that is not there.  So a row is lifted only
where all is applied that such a region had (:func:`missed`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from meshnode.core.stamp import ZERO, Stamp

NO_STREAM = 1 << 64
"""``since_us`` where no stream can be relied on.

A region begins behind what the streams have, or has applied of a stream that nobody reads any more.
"""


@dataclass(frozen=True, slots=True)
class State:
    """A key in one region: its row's stamp and digest (None without row), its tombstone."""

    row: Stamp | None
    digest: str | None
    tombstone: Stamp | None

    @property
    def version(self) -> Stamp:
        """The greater of row and tombstone; ZERO for a key that was never there."""
        return max(self.row or ZERO, self.tombstone or ZERO)


class Reach(NamedTuple):
    """How far a stream is known or applied; ``beat`` is the number of the newest heartbeat."""

    incarnation: int = 0
    seq: int = 0
    beat: int = 0


UNREAD = Reach()


@dataclass(frozen=True, slots=True)
class Progress:
    """What a region had applied, and had dropped, when its rows were looked at.

    ``own``: its own stream; the incarnation is 0 until its node has started, the beat is the one
    that stands in its MySQL.  ``applied``: the streams of the other members; nobody reads those
    of former ones on.  ``silent``: no node writes heartbeats.  ``collects``: tombstones of the
    table may be gone.  ``parked``: rows of the table wait in the dead letter.
    """

    own: Reach = UNREAD
    applied: Mapping[int, Reach] = field(default_factory=dict)
    silent: bool = False
    collects: bool = False
    parked: bool = False


class Action(StrEnum):
    NONE = "none"
    LIFT_ROW = "lift the row"
    LIFT_TOMBSTONE = "lift the tombstone"
    REFUSE = "refuse"
    STREAM = "leave it to the stream"
    BEHIND = "wait until the region has applied what another one has"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do in ``region``.

    ``seen`` is the stamp of its row, or of its tombstone; ``above`` the greatest version anywhere.

    ``losers`` are regions whose rows carry the version ``seen`` as well, and differ.  The lift is
    written over that version, so to whoever applies it there they look replaced by
    somebody who knew them: nobody but init can tell that they lose.

    ``other`` is a region without the row from which ``region`` may have missed a delete.
    """

    action: Action
    region: int = 0
    seen: Stamp = ZERO
    above: Stamp = ZERO
    reason: str = ""
    losers: tuple[int, ...] = ()
    other: int = 0


NOTHING = Decision(Action.NONE)


def missed(at: int, holder: Progress, other: int, without: Progress) -> bool:
    """Whether region ``at`` may hold a row only because it has missed a delete.

    ``without`` is region ``other`` as of when it had no row.  Of its own stream the newest noted
    item would not do: a delete that commits behind it may be dated before what is promised, after
    a long transaction for one, and be collected at once.  But whatever it has committed stands
    before its next heartbeat.  A region whose node is away writes none, and collects nothing.
    """
    if not without.own.incarnation or not without.collects or not holder.own.incarnation:
        return False  # What was never in the mesh has missed nothing of it.
    if holder.parked:
        return True
    heard = holder.applied.get(other, UNREAD)
    if heard.incarnation != without.own.incarnation:
        return True
    if heard.beat <= without.own.beat and not (without.silent and heard.seq >= without.own.seq):
        return True
    return any(
        reach[:2] > holder.applied.get(origin, UNREAD)[:2]
        for origin, reach in without.applied.items()
        if origin != at
    )


def decide(
    states: Mapping[int, State],
    since_us: int,
    seed: int | None = None,
    may_miss: Callable[[int, int], bool] = lambda holder, other: False,
) -> Decision:
    """Decide about one key.

    ``states`` holds every region by its id.  Versions above ``since_us`` were written when the
    table was replicated everywhere (:mod:`meshnode.ops.activation`): the stream has them, and
    init keeps its hands off; see :data:`NO_STREAM`.
    ``seed`` is the region whose unversioned rows win.  ``may_miss`` says of a region with the row
    and one without it whether the former may have :func:`missed` a delete.
    """
    rows = {region: state for region, state in states.items() if state.row is not None}
    top = max(state.version for state in states.values())
    if not rows:
        if top.ts > since_us or len({state.tombstone for state in states.values()}) == 1:
            return NOTHING
        # Deleted where triggers stood, before the stream began: an insert elsewhere, under a clock
        # that is behind, would lose to a delete that only this region knows.
        holder = min(region for region, state in states.items() if state.tombstone == top)
        return Decision(Action.LIFT_TOMBSTONE, holder, top, top)
    alike = len({(state.row, state.digest) for state in rows.values()}) == 1
    if alike and len(rows) == len(states) and all(s.row == top for s in rows.values()):
        return NOTHING
    if top.ts > since_us:
        return Decision(Action.STREAM, above=top)
    # A row that stands below its tombstone was written after the delete, under a clock that had
    # stepped back: to its region it has that version.
    standing = [state.row for state in rows.values() if state.version == top and state.row]
    if not standing:
        holder = min(region for region, state in states.items() if state.tombstone == top)
        return Decision(Action.LIFT_TOMBSTONE, holder, top, top)
    seen = max(standing)
    holders = sorted(
        region for region, state in rows.items() if state.version == top and state.row == seen
    )
    losers: tuple[int, ...] = ()
    if len({rows[region].digest for region in holders}) > 1:
        if seed not in holders:
            what = (
                "were written without the mesh" if seen == ZERO else f"carry one version ({seen})"
            )
            return Decision(Action.REFUSE, above=top, reason=f"rows that differ {what}")
        losers = tuple(each for each in holders if rows[each].digest != rows[seed].digest)
        holders = [seed]
    without = [region for region in states if region not in rows]
    behind = {
        holder: next((other for other in without if may_miss(holder, other)), 0)
        for holder in holders
    }
    for holder, other in behind.items():
        if not other:
            return Decision(Action.LIFT_ROW, holder, seen, top, losers=losers)
    return Decision(Action.BEHIND, holders[0], seen, top, other=behind[holders[0]])
