"""Which region's version of a key shall be published so that all regions become alike.

Pure decisions for rows that were there before their table was replicated.  The
greatest version wins, as everywhere in the mesh.  Rows written without the mesh have
no version to compare: where they differ, only an operator can say which is
right, and names the region with ``--seed-from``.  A row that some regions do not
have at all is not in conflict: it is published from where it is, so nothing is
lost; a seed fills and overrules, it never deletes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

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


class Action(StrEnum):
    NONE = "none"
    LIFT_ROW = "lift the row"
    LIFT_TOMBSTONE = "lift the tombstone"
    REFUSE = "refuse"
    STREAM = "leave it to the stream"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do in ``region``.

    ``seen`` is the stamp of its row, or of its tombstone; ``above`` the greatest version anywhere.

    ``losers`` are regions whose rows carry the version ``seen`` as well, and differ.  The lift is
    written over that version, so to whoever applies it there they look replaced by
    somebody who knew them: nobody but init can tell that they lose.
    """

    action: Action
    region: int = 0
    seen: Stamp = ZERO
    above: Stamp = ZERO
    reason: str = ""
    losers: tuple[int, ...] = ()


NOTHING = Decision(Action.NONE)


def decide(states: Mapping[int, State], since_us: int, seed: int | None = None) -> Decision:
    """Decide about one key.

    ``states`` holds every region by its id.  Versions above ``since_us`` were written when the
    table was replicated everywhere (:mod:`meshnode.ops.activation`): the stream has them, and
    init keeps its hands off; see :data:`NO_STREAM`.
    ``seed`` is the region whose unversioned rows win.
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
    if len({rows[region].digest for region in holders}) == 1:
        return Decision(Action.LIFT_ROW, holders[0], seen, top)
    if seed in holders:
        losers = tuple(each for each in holders if rows[each].digest != rows[seed].digest)
        return Decision(Action.LIFT_ROW, seed, seen, top, losers=losers)
    what = "were written without the mesh" if seen == ZERO else f"carry one version ({seen})"
    return Decision(Action.REFUSE, above=top, reason=f"rows that differ {what}")
