"""What becomes of a lift, by what stands under the lock when it comes."""

from typing import NamedTuple

import pytest
from core_values import OWN, PEER, number_table, wire_key

from meshnode.core.lifting import Judge, Verdict, may_settle, owes_a_record
from meshnode.core.mend import Fate, Lift, Reason, Restamped
from meshnode.core.stamp import ZERO, Stamp

TABLE = number_table()
SEEN = Stamp(100, OWN)
IMAGE = (b"image", 0, 5)


class Entry(NamedTuple):
    seen: Stamp | None
    is_published: bool = False


def lift(seen: Stamp | None = SEEN, reason: Reason = Reason.PROMISE, **more) -> Lift:
    return Lift(TABLE, wire_key(1), seen, more.pop("base", ZERO), True, reason, IMAGE, **more)


def judge(hold: bool = True, clock: int = 0, promised: int = 0, restamped=None) -> Judge:
    return Judge(OWN, restamped or Restamped(), hold, clock, promised)


def test_a_row_as_it_was_seen_is_lifted_with_a_stamp_of_this_region():
    verdict = judge(clock=500).judge(lift(), SEEN, None, None)
    assert (verdict.fate, verdict.stamp) == (Fate.LIFTED, Stamp(500, OWN))
    assert verdict.done.seen == SEEN
    assert verdict.settles and not verdict.replaces and verdict.lost_to is None


@pytest.mark.parametrize(
    ("known", "ts"),
    [
        ({}, 101),
        ({"tomb": Stamp(300, PEER)}, 301),
        ({"base": Stamp(400, PEER)}, 401),
        ({"above": Stamp(500, PEER)}, 501),
        ({"promised": 600}, 601),
        ({"clock": 700}, 700),
    ],
    ids=["itself", "tombstone", "base", "what it has replaced", "promise", "clock"],
)
def test_it_is_lifted_above_all_that_is_known(known, ts):
    one = lift(**{name: known[name] for name in ("base", "above") if name in known})
    judged = judge(clock=known.get("clock", 0), promised=known.get("promised", 0))
    assert judged.judge(one, SEEN, known.get("tomb"), None).stamp == Stamp(ts, OWN)


def test_what_it_replaces_is_the_newest_of_base_and_tombstone_and_the_lift_itself_stays():
    one = lift(base=Stamp(50, PEER))
    above = judge().judge(one, SEEN, Stamp(60, PEER), None).done
    assert (above.base, above.base_row) == (Stamp(60, PEER), False)
    below = judge().judge(one, SEEN, Stamp(40, PEER), None).done
    assert (below.base, below.base_row) == (Stamp(50, PEER), True)
    assert (one.base, one.base_row) == (Stamp(50, PEER), True), "it may be tried again"


def test_whatever_stands_is_lifted_where_no_stamp_was_seen():
    row = Stamp(900, PEER)
    verdict = judge().judge(lift(None), row, None, None)
    assert (verdict.fate, verdict.done.seen, verdict.stamp) == (
        Fate.LIFTED, row, Stamp(901, OWN),
    )  # fmt: skip


@pytest.mark.parametrize("row", [None, Stamp(200, OWN), Stamp(50, PEER)])
@pytest.mark.parametrize("tomb", [None, Stamp(150, PEER)])
def test_anything_else_has_overtaken_it_and_is_recorded_over_it(row, tomb):
    over = max(row or ZERO, tomb or ZERO)
    assert judge().judge(lift(), row, tomb, None) == Verdict(Fate.OVERTAKEN, lost_to=over)


def test_a_version_below_a_later_tombstone_is_published_and_not_lost():
    one = lift(reason=Reason.TOMBSTONE)
    assert judge().judge(one, Stamp(200, OWN), None, None) == Verdict(Fate.OVERTAKEN)


def test_the_stamp_of_an_earlier_attempt_says_that_it_is_lifted():
    restamped = Restamped()
    restamped.note(lift(), Stamp(200, OWN), committed=True)
    judged = judge(restamped=restamped)
    assert judged.judge(lift(), Stamp(200, OWN), None, None) == Verdict(Fate.LIFTED)
    waits = Entry(SEEN)
    assert judged.judge(lift(), Stamp(200, OWN), None, waits) == Verdict(Fate.LIFTED, settles=True)


@pytest.mark.parametrize("entry", [None, Entry(Stamp(99, OWN)), Entry(None)])
def test_what_waited_and_is_gone_was_settled_by_somebody_else(entry):
    judged = judge(hold=False)
    assert judged.judge(lift(), SEEN, None, entry) == Verdict(None)
    assert judged.judge(lift(), None, None, entry) == Verdict(None)
    assert judged.judge(lift(), SEEN, None, Entry(SEEN)).fate is Fate.LIFTED


@pytest.mark.parametrize(
    ("entry", "replaces"),
    [
        (None, False),
        (Entry(SEEN), False),
        (Entry(Stamp(99, OWN)), True),
        (Entry(Stamp(99, OWN), is_published=True), False),
        (Entry(None), True),
    ],
    ids=["none", "its own", "an earlier version", "one that the stream has shown", "not seen"],
)
def test_a_version_that_waits_no_longer_is_recorded(entry, replaces):
    verdict = judge().judge(lift(), SEEN, None, entry)
    assert (verdict.settles, verdict.replaces) == (True, replaces)
    assert owes_a_record(entry, lift()) is replaces


def test_overtaken_it_settles_its_own_entry_only():
    row = Stamp(200, OWN)
    assert judge().judge(lift(), row, None, Entry(SEEN)).settles
    assert not judge().judge(lift(), row, None, Entry(Stamp(99, OWN))).settles


def test_an_entry_that_owes_a_record_outlasts_a_lift_that_writes_none():
    """A late tombstone's lift knows no image; the resolver comes by with the one that waits."""
    bare = Lift(TABLE, wire_key(1), SEEN, ZERO, False, Reason.TOMBSTONE, None)
    assert not may_settle(bare, Entry(SEEN))
    assert may_settle(bare, Entry(SEEN, is_published=True))
    assert may_settle(lift(reason=Reason.TOMBSTONE), Entry(SEEN))
    assert may_settle(lift(), Entry(SEEN))
    assert judge().judge(bare, None, None, Entry(SEEN)) == Verdict(Fate.OVERTAKEN)
