"""What is lifted, what is buried late, and what is published of the rest."""

import pytest
from core_values import (
    OWN,
    PEER,
    at,
    delete,
    image,
    transaction,
    update,
    wire_key,
    write,
)
from judged import KNOWN, K, T, examine, publish, s, summary

from meshnode.core.change import Partial, Transaction, net_effects
from meshnode.core.mend import Examiner, Fate, LateTombstone, Reason, image_of, keys_to_look_up
from meshnode.core.stamp import ZERO
from meshnode.core.wire import HEARTBEAT, PART, REMOVE, TRANSACTION, UPSERT, Beat


def test_a_good_update_is_published_as_it_is():
    tx = transaction(update(T, ((1, s(10, PEER)), (1, s(20)))))
    examined = examine(tx, promised=19)
    assert (examined.lifts, examined.late) == ({}, {})
    item = publish(examined)
    assert summary(item) == [(wire_key(1), UPSERT, s(20), s(10, PEER), True)]
    assert (item.kind, item.exact, item.lifts, item.seq) == (TRANSACTION, True, 0, 0)
    assert [op.rows for op in item.ops] == [op.rows for op in tx.ops]


REASONS = [
    (Reason.ORIGIN, transaction(write(T, (1, s(20, PEER)))), {}, frozenset(), 0),
    (Reason.ORIGIN, transaction(write(T, (1, ZERO))), {}, frozenset(), 0),
    (Reason.PROMISE, transaction(write(T, (1, s(20)))), {}, frozenset(), 20),
    (
        Reason.REPLACED,
        transaction(update(T, ((1, s(30, PEER)), (1, s(20))))),
        {}, frozenset(), 0,
    ),
    (
        Reason.REPLACED,
        transaction(update(T, ((1, s(20)), (1, s(20))))),
        {}, frozenset(), 0,
    ),
    (
        Reason.REPLACED,
        transaction(delete(T, (1, s(10))), write(T, (1, s(20))), tombs=((1, s(20)),)),
        {}, frozenset(), 0,
    ),
    (Reason.TOMBSTONE, transaction(write(T, (1, s(20)))), {K: s(20)}, frozenset(), 0),
    (Reason.TOMBSTONE, transaction(write(T, (1, s(20)))), {K: s(20, PEER)}, frozenset(), 0),
    (
        Reason.PARTIAL,
        Transaction("a:1", 0, partial=[Partial(T, wire_key(1), True, s(20))]),
        {}, frozenset(), 0,
    ),
    (Reason.LOCKED, transaction(write(T, (1, s(20)))), {}, frozenset({K}), 0),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "tx", "tombstones", "locked", "promised"), REASONS)
def test_what_is_lifted(reason, tx, tombstones, locked, promised):
    examined = examine(tx, tombstones, locked, promised)
    assert [lift.reason for lift in examined.lifts.values()] == [reason]


def test_every_reason_has_its_test():
    assert {reason for reason, *_ in REASONS} == set(Reason)


@pytest.mark.parametrize(
    ("tx", "tombstones", "promised"),
    [
        (transaction(write(T, (1, s(20)))), {}, 19),
        (transaction(write(T, (1, s(20)))), {K: s(19, PEER)}, 0),
        (transaction(update(T, ((1, s(19, PEER)), (1, s(20))))), {}, 0),
        (transaction(update(T, ((1, s(20, 0)), (1, s(20))))), {}, 0),
    ],
)
def test_what_just_stands(tx, tombstones, promised):
    assert examine(tx, tombstones, frozenset(), promised).lifts == {}


def test_a_lift_names_what_it_replaces():
    tx = transaction(update(T, ((1, s(30, PEER)), (1, s(40)))))
    lift = examine(tx, promised=50).lifts[K]
    assert (lift.seen, lift.base, lift.base_row) == (s(40), s(30, PEER), True)
    rows, start, stop = lift.image
    assert rows[start:stop] == image(1, s(40))

    tx = transaction(write(T, (1, s(20, PEER))))
    lift = examine(tx, {K: s(15)}).lifts[K]
    assert (lift.seen, lift.base, lift.base_row) == (s(20, PEER), s(15), False)
    rows, start, stop = lift.image
    assert rows[start:stop] == image(1, s(20, PEER))


def test_a_lift_is_above_all_that_the_row_has_replaced():
    """Also what its base, an older row, does not say: else it comes round to be lifted again."""
    tx = transaction(update(T, ((1, s(10)), (1, s(11)))))
    nets = net_effects(tx, KNOWN)
    nets[K].replaced = s(500, PEER)
    lift = Examiner(OWN, 0).examine(tx, nets, {}).lifts[K]
    assert (lift.reason, lift.base, lift.above) == (Reason.REPLACED, s(10), s(500, PEER))
    examined = examine(transaction(write(T, (1, s(20)))), {K: s(30)})
    assert examined.lifts[K].above == s(30), "which may wait for a lock and not stand there yet"


def test_a_partial_row_is_lifted_whatever_stands():
    tx = Transaction("a:1", 0, partial=[Partial(T, wire_key(1), True, s(20))])
    lift = examine(tx).lifts[K]
    assert (lift.seen, lift.image) == (None, None)


def test_the_image_of_an_update_is_its_after_image():
    op = update(T, ((1, s(10)), (1, s(20))), ((2, s(10)), (2, s(21))))
    rows, start, stop = image_of(op, 1)
    assert rows[start:stop] == image(2, s(21))


def test_a_lifted_row_is_not_published_and_the_item_not_exact():
    tx = transaction(write(T, (1, s(20, PEER)), (2, s(20))))
    examined = examine(tx)
    examined.lifts[K].fate = Fate.LIFTED
    item = publish(examined)
    assert summary(item) == [(wire_key(2), UPSERT, s(20), ZERO, False)]
    assert (item.exact, item.lifts) == (False, 1)


@pytest.mark.parametrize("fate", [Fate.LIFTED, Fate.OVERTAKEN, Fate.HELD])
@pytest.mark.parametrize(
    "case", [case for case in REASONS if case[0] is not Reason.TOMBSTONE], ids=lambda c: str(c[0])
)
def test_no_fate_publishes_a_lifted_row(case, fate):
    _, tx, tombstones, locked, promised = case
    examined = examine(tx, tombstones, locked, promised)
    examined.lifts[K].fate = fate
    item = publish(examined, tombstones)
    assert item is None or all(entry.outcome == REMOVE for entry in item.entries)


def test_a_row_under_a_tombstone_that_came_later_is_published():
    tx = transaction(write(T, (1, s(20))))
    examined = examine(tx, {K: s(30)})
    assert examined.lifts[K].reason is Reason.TOMBSTONE
    examined.lifts[K].fate = Fate.OVERTAKEN
    item = publish(examined, {K: s(30)})
    assert summary(item) == [(wire_key(1), UPSERT, s(20), ZERO, False)]


@pytest.mark.parametrize("fate", [Fate.LIFTED, Fate.HELD])
def test_a_row_under_a_tombstone_that_came_first_is_not(fate):
    tx = transaction(write(T, (1, s(20))))
    examined = examine(tx, {K: s(30)})
    examined.lifts[K].fate = fate
    assert publish(examined, {K: s(30)}) is None


def test_nothing_left_of_a_transaction_is_no_item():
    assert publish(examine(Transaction("a:1", 0))) is None


def test_nothing_left_of_a_part_is_an_empty_part():
    examined = examine(transaction(write(T, (1, ZERO)), part=2, last=True))
    examined.lifts[K].fate = Fate.LIFTED
    item = publish(examined)
    assert (item.kind, item.part, item.last, item.entries, item.ops) == (PART, 2, True, [], [])
    item = publish(examine(Transaction("a:1", 0, part=0, last=False)))
    assert (item.kind, item.part, item.last) == (PART, 0, False)


def test_a_delete_is_published_with_its_tombstone():
    tx = transaction(delete(T, (1, s(10, PEER))), tombs=((1, s(20)),))
    examined = examine(tx, promised=99)
    assert (examined.lifts, examined.late) == ({}, {}), "the promise binds upserts only"
    item = publish(examined)
    assert summary(item) == [(wire_key(1), REMOVE, s(20), s(10, PEER), True)]
    assert item.exact


def test_a_delete_without_tombstone_gets_a_late_one():
    tx = transaction(delete(T, (1, s(10, PEER))))
    examined = examine(tx)
    late = examined.late[K]
    assert (late.table, late.key, late.stamp) == (T, wire_key(1), s(11))
    item = publish(examined)
    assert summary(item) == [(wire_key(1), REMOVE, s(11), s(10, PEER), True)]
    assert item.exact


def test_a_late_tombstone_is_the_same_when_worked_out_again():
    tx = transaction(delete(T, (1, s(10, PEER))))
    assert examine(tx).late[K].stamp == examine(tx, promised=10**9).late[K].stamp


def test_a_tombstone_below_the_last_delete_does_not_cover_it():
    tx = transaction(
        delete(T, (1, s(10))), write(T, (1, s(30))), delete(T, (1, s(30))), tombs=((1, s(20)),)
    )
    assert examine(tx).late[K].stamp == s(31)


def test_a_delete_hidden_under_an_upsert_that_is_lifted_is_published():
    tx = transaction(delete(T, (1, s(10, PEER))), write(T, (1, s(20, PEER))))
    examined = examine(tx)
    assert (examined.lifts[K].reason, examined.late[K].stamp) == (Reason.ORIGIN, s(11))
    examined.lifts[K].fate = Fate.LIFTED
    item = publish(examined)
    assert summary(item) == [(wire_key(1), REMOVE, s(11), s(10, PEER), True)]
    assert not item.exact, "the images would write the row that is held back"


def test_its_own_tombstone_too():
    tx = transaction(delete(T, (1, s(10))), write(T, (1, s(20))), tombs=((1, s(25)),))
    examined = examine(tx)
    assert examined.late == {}
    examined.lifts[K].fate = Fate.LIFTED
    item = publish(examined)
    assert summary(item) == [(wire_key(1), REMOVE, s(25), s(10), True)]


def test_an_upsert_that_is_published_covers_the_delete_before_it():
    tx = transaction(delete(T, (1, s(10))), write(T, (1, s(20))))
    examined = examine(tx)
    assert (examined.lifts, examined.late) == ({}, {})
    assert summary(publish(examined)) == [(wire_key(1), UPSERT, s(20), s(10), True)]


def test_an_update_that_went_back_gets_a_tombstone_and_a_lift():
    tx = transaction(update(T, ((1, s(30, PEER)), (1, s(20)))))
    examined = examine(tx)
    assert examined.late[K].stamp == s(31)
    examined.lifts[K].fate = Fate.LIFTED
    assert summary(publish(examined)) == [(wire_key(1), REMOVE, s(31), s(30, PEER), True)]


def test_the_old_key_of_a_row_that_moved():
    tx = transaction(update(T, ((1, s(10)), (2, s(20)))))
    examined = examine(tx)
    assert list(examined.late) == [K]
    item = publish(examined)
    assert summary(item) == [
        (wire_key(1), REMOVE, s(11), s(10), True),
        (wire_key(2), UPSERT, s(20), ZERO, False),
    ]
    assert item.exact


def test_a_tombstone_without_row_is_published_but_not_exact():
    tx = Transaction("a:1", 0, tombstones=[(T.digest, wire_key(1), s(20))])
    item = publish(examine(tx))
    assert summary(item) == [(wire_key(1), REMOVE, s(20), ZERO, False)]
    assert not item.exact


def test_partial_images_make_the_item_inexact():
    tx = transaction(write(T, (2, s(20))), partial=[Partial(T, wire_key(1), True, s(20))])
    examined = examine(tx)
    examined.lifts[K].fate = Fate.LIFTED
    item = publish(examined)
    assert [key for key, *_ in summary(item)] == [wire_key(2)]
    assert not item.exact


@pytest.mark.parametrize("shown", [None, s(10)])
def test_a_row_put_back_whole_after_a_partial_delete_is_published(shown):
    """The delete came first, though its image was short: the row is there."""
    tx = transaction(
        write(T, (1, s(20))),
        partial=[Partial(T, wire_key(1), False, shown, behind=0)],
        tombs=((1, s(19)),),
    )
    examined = examine(tx, {K: s(19)})
    assert (examined.lifts, examined.late) == ({}, {})
    item = publish(examined)
    assert [each[:3] for each in summary(item)] == [(wire_key(1), UPSERT, s(20))]
    assert not item.exact


def test_a_beat_raises_the_promise_for_what_follows():
    examiner = Examiner(OWN, 5)
    beat = Transaction("a:1", 77, beat=Beat(1, 100, 50, "{}"))
    item = publish(examiner.examine(beat, {}, {}))
    assert (item.kind, item.beat.frontier, item.commit_us) == (HEARTBEAT, 50, 77)
    assert examiner.promised == 50
    tx = transaction(write(T, (1, s(50))))
    assert examiner.examine(tx, net_effects(tx, KNOWN), {}).lifts[K].reason is Reason.PROMISE
    examiner.examine(Transaction("a:3", 0, beat=Beat(2, 100, 40, "{}")), {}, {})
    assert examiner.promised == 50


def test_only_keys_that_end_with_a_whole_row_are_looked_up():
    tx = transaction(
        write(T, (1, s(20))),
        delete(T, (2, s(10))),
        update(T, ((3, s(10)), (4, s(20)))),
        partial=[Partial(T, wire_key(5), True, s(20))],
    )
    assert keys_to_look_up([net_effects(tx, KNOWN)]) == {at(T, 1), at(T, 4)}


def test_what_follows_a_late_tombstone_in_one_batch_must_be_above_it():
    """Its own tombstone was looked up before the late one is written."""
    examiner, tombstones = Examiner(OWN, 0), {}
    hidden = transaction(delete(T, (1, s(30, PEER))))
    assert examiner.examine(hidden, net_effects(hidden, KNOWN), tombstones).late
    below, above = (transaction(write(T, (1, s(ts)))) for ts in (31, 32))
    lifts = examiner.examine(below, net_effects(below, KNOWN), tombstones).lifts
    assert lifts[K].reason is Reason.TOMBSTONE
    assert examiner.examine(above, net_effects(above, KNOWN), tombstones).lifts == {}


@pytest.mark.parametrize(("shown", "late"), [(None, s(901)), (s(10, PEER), s(11)), (ZERO, s(1))])
def test_a_delete_whose_image_hides_the_stamp_is_buried_above_its_commit(shown, late):
    """A MINIMAL image has only the key; a tombstone at 1 would lose to the row at every peer."""
    tx = Transaction("a:1", 900, partial=[Partial(T, wire_key(1), False, shown)])
    examined = examine(tx)
    assert [each.stamp for each in examined.late.values()] == [late]
    assert summary(publish(examined))[0][:3] == (wire_key(1), REMOVE, late)


@pytest.mark.parametrize(
    ("row", "goes"),
    [(s(19, PEER), True), (s(20, PEER), False), (s(19), False), (ZERO, False)],
)
def test_a_late_tombstone_takes_only_rows_of_others_below_it(row, goes):
    assert LateTombstone(T, wire_key(1), s(20)).takes(row, OWN) is goes
