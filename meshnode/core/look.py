"""What the looks after a write may find: the other side of a key that a plan has written.

Two appliers and a client may write one key at the same time, each without having seen the
others.  So after its upserts a transaction looks at their tombstones and after its tombstones
at their rows, under locks.  What the plan did not see is a rollback and a new plan.
"""

from meshnode.core.change import NetKey
from meshnode.core.plan import ConflictRecord, Plan
from meshnode.core.resolve import CERTAIN, POSSIBLE, Conflict, Kind
from meshnode.core.stamp import Stamp
from meshnode.errors import Replan


def beside_upsert(plan: Plan, at: NetKey, tomb: Stamp) -> None:
    """The tombstone ``tomb`` stands at a key that was upserted: Replan if it is newer.

    An older one that an exact insert went over without its writer having seen it is owed a
    record, which the plan gets.
    """
    incoming = plan.upserts[at]
    entry = incoming.entry
    if tomb > entry.stamp:
        raise Replan(f"{at[0].title}: a newer tombstone stands beside a row")
    before = plan.before.get(at)
    unseen = before is None or (before.row is None and before.tomb is None)
    if not unseen or tomb == entry.base or tomb.origin == entry.origin:
        return
    if at in plan.tombstones:
        return
    certainty = CERTAIN if tomb > entry.base else POSSIBLE
    found = Conflict(Kind.UPDATE_DELETE, certainty, entry.stamp, tomb, True)
    plan.records.append(ConflictRecord(found, plan.items[at], incoming))


def beside_removal(plan: Plan, at: NetKey, row: Stamp) -> None:
    """The row ``row`` stands at a key whose tombstone was raised: Replan if it is below that."""
    if row < plan.removals[at]:
        raise Replan(f"{at[0].title}: a row stands below its tombstone")
