"""Works of a peer for the store suites: one row each, and a transaction to apply them in."""

from store_harness import TABLE, Region_, fence
from virtual.rows import (
    ZERO,
    Stamp,
    deleted,
    image,
    transaction_of,
    updated,
    wire_key,
    work_of,
    written,
)

from meshnode.core.mend import Lift, Reason
from meshnode.core.plan import Ancestry, Plan, Work, make_plan
from meshnode.store.port import Applying

PEER = 2
OLD, NEW, NEWER = Stamp(1000, PEER), Stamp(2000, PEER), Stamp(3000, PEER)


def insert(key: int, stamp: Stamp = OLD, value: str = "in") -> Work:
    return work_of(transaction_of(written(TABLE, (key, stamp, value))), own=stamp.origin)


def update(key: int, base: Stamp, stamp: Stamp, value: str = "up") -> Work:
    tx = transaction_of(updated(TABLE, ((key, base, "in"), (key, stamp, value))))
    return work_of(tx, own=stamp.origin)


def delete(key: int, base: Stamp, stamp: Stamp) -> Work:
    tx = transaction_of(deleted(TABLE, (key, base, "in")), tombs=((key, stamp),))
    return work_of(tx, own=stamp.origin)


def lift(key: int, seen: Stamp, base: Stamp = ZERO, reason: Reason = Reason.PROMISE) -> Lift:
    """A lift of a row of this region."""
    shown = image(key, seen, "in")
    return Lift(TABLE, wire_key(key), seen, base, False, reason, (shown, 0, len(shown)))


def at(key: int) -> tuple:
    return TABLE, wire_key(key)


def plan_of(*works: Work, state: dict | None = None) -> Plan:
    return make_plan(works, state or {}, Ancestry(100, 1))


async def opened(region: Region_, session: Applying, origin: int = PEER) -> Applying:
    """``session`` with an apply transaction begun."""
    stored = await session.progress(origin)
    assert stored is not None
    assert await session.begin(region.format, fence(stored.seq + 1, stored.seq, origin))
    return session
