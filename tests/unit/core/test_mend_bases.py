"""Which version a lift or a published change says it has replaced."""

from dataclasses import replace

import pytest
from core_values import PEER, at, delete, transaction, update, wire_key, write
from judged import K, T, examine, publish, s, summary

from meshnode.core.change import Mended
from meshnode.core.mend import Fate, Removed
from meshnode.core.stamp import ZERO
from meshnode.core.wire import REMOVE, UPSERT


@pytest.mark.parametrize(
    ("tx", "base"),
    [
        (transaction(update(T, ((1, s(30, PEER)), (1, s(20))))), s(31)),
        (transaction(delete(T, (1, s(30))), write(T, (1, s(20))), tombs=((1, s(40)),)), s(40)),
        (transaction(delete(T, (1, s(10))), write(T, (1, s(20))), tombs=((1, s(40)),)), s(40)),
    ],
)
def test_a_lift_replaces_the_delete_that_is_published_in_its_place(tx, base):
    examined = examine(tx)
    lift = examined.lifts[K]
    assert (lift.base, lift.base_row) == (base, False)
    lift.fate = Fate.HELD
    assert [entry.stamp for entry in publish(examined).entries] == [base]


def test_the_base_of_an_insert_is_the_tombstone_below_it():
    tx = transaction(write(T, (1, s(20))))
    item = publish(examine(tx, {K: s(15, PEER)}), {K: s(15, PEER)})
    assert summary(item) == [(wire_key(1), UPSERT, s(20), s(15, PEER), False)]


def test_the_base_of_an_insert_is_the_delete_that_the_stream_has_shown():
    """The tombstone in the database is that of a later delete when the tailer is late."""
    removed = Removed()
    gone = transaction(delete(T, (1, s(10))), tombs=((1, s(20)),))
    publish(examine(gone), removed=removed)
    examined = examine(transaction(write(T, (1, s(30)))), {K: s(40)})
    examined.lifts[K].fate = Fate.OVERTAKEN
    item = publish(examined, {K: s(40)}, removed=removed)
    assert summary(item) == [(wire_key(1), UPSERT, s(30), s(20), False)]


@pytest.mark.parametrize(("shown", "base"), [(None, ZERO), (s(15), s(15)), (s(40), ZERO)])
@pytest.mark.parametrize("found", [s(40), s(21)])
def test_a_late_tombstone_is_not_its_own_base(shown, base, found):
    """A row came and went below a newer tombstone, so no trigger wrote one.

    ``shown`` by the stream; ``found`` in the database, or the late one where nobody has looked.
    """
    removed = Removed()
    if shown is not None:
        removed.note(K, shown)
    tx = transaction(write(T, (1, s(20))), delete(T, (1, s(20))))
    item = publish(examine(tx), {K: found}, removed=removed)
    assert summary(item) == [(wire_key(1), REMOVE, s(21), base, False)]


def test_the_newest_deletes_are_remembered_and_no_more():
    removed = Removed(capacity=2)
    for number in (1, 2, 1, 3):
        removed.note(at(T, number), s(number * 10))
    assert [removed.of(at(T, number)) for number in (1, 2, 3)] == [s(10), None, s(30)]


def test_a_delete_is_remembered_across_forms_of_its_table():
    """The table was changed between the delete and the insert."""
    removed = Removed()
    publish(examine(transaction(delete(T, (1, s(10))), tombs=((1, s(20)),))), removed=removed)
    assert removed.of((replace(T), at(T, 1)[1])) == s(20)


def test_the_base_of_a_delete_is_never_above_it():
    tx = transaction(write(T, (1, s(10))), delete(T, (1, s(10))), tombs=((1, s(11)),))
    for later in (s(11), s(30)):
        item = publish(examine(tx, {K: later}), {K: later})
        assert summary(item) == [(wire_key(1), REMOVE, s(11), ZERO, False)]
    item = publish(examine(tx, {K: s(5, PEER)}), {K: s(5, PEER)})
    assert summary(item) == [(wire_key(1), REMOVE, s(11), s(5, PEER), False)]


def test_a_lift_comes_round_with_the_base_of_the_row_it_lifted():
    tx = transaction(update(T, ((1, s(20, PEER)), (1, s(40)))))
    note = Mended(s(20, PEER), s(15, PEER), False)
    item = publish(examine(tx), mended={K: note})
    assert summary(item) == [(wire_key(1), UPSERT, s(40), s(15, PEER), False)]


def test_a_lift_that_must_be_lifted_again_keeps_the_base_of_the_row_it_lifted():
    """Its tombstone was locked when it came round: nobody has seen either of the two."""
    tx = transaction(update(T, ((1, s(20, PEER)), (1, s(40)))))
    tx.mended = {(T.digest, wire_key(1)): Mended(s(20, PEER), s(15, PEER), False)}
    lift = examine(tx, locked=frozenset({K})).lifts[K]
    assert (lift.seen, lift.base, lift.base_row) == (s(40), s(15, PEER), False)
    tx.mended = {(T.digest, wire_key(1)): Mended(s(19, PEER), s(15, PEER), False)}
    lift = examine(tx, locked=frozenset({K})).lifts[K]
    assert (lift.base, lift.base_row) == (s(20, PEER), True), "a note about another version"


def test_a_note_about_another_version_does_not_count():
    tx = transaction(update(T, ((1, s(25)), (1, s(40)))))
    note = Mended(s(20, PEER), s(15, PEER), False)
    item = publish(examine(tx), mended={K: note})
    assert summary(item) == [(wire_key(1), UPSERT, s(40), s(25), True)]
