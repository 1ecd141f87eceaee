"""What the stream has not shown, and what is written over it."""

import pytest
from core_values import (
    OWN,
    PEER,
    at,
    delete,
    number_table,
    text_table,
    transaction,
    update,
    wire_key,
    write,
)

from meshnode.core.change import Mended, Partial, Transaction, net_effects
from meshnode.core.held import HeldBack, in_turn, is_hidden, surely_overtaken, turns
from meshnode.core.mend import Examined, Examiner, Fate, LateTombstone, Lift, Reason
from meshnode.core.plain import plain
from meshnode.core.stamp import ZERO, Stamp

T = number_table()
KNOWN = {T.digest: T}
K = at(T, 1)
MARK = (T.digest, wire_key(1))


def s(ts, origin=OWN):
    return Stamp(ts, origin)


def examined(tx, promised=0, fate=Fate.HELD):
    found = Examiner(OWN, promised).examine(tx, net_effects(tx, KNOWN), {})
    for lift in found.lifts.values():
        lift.fate = fate
    return found


def published(tx):
    return Examined(tx, net_effects(tx, KNOWN), {}, {})


def hold(held):
    """Let a lift of version 10, which replaced a peer's version 5, be held back."""
    each = examined(transaction(update(T, ((1, s(5, PEER)), (1, s(10))))), promised=15)
    assert held.bases(each) == {}


def over():
    """A write over version 10 that is published."""
    return published(transaction(update(T, ((1, s(10)), (1, s(20))))))


@pytest.mark.parametrize(
    ("reason", "fate", "hidden"),
    [
        (Reason.PROMISE, Fate.HELD, True),
        (Reason.PROMISE, Fate.OVERTAKEN, True),
        (Reason.PROMISE, Fate.LIFTED, False),
        (Reason.TOMBSTONE, Fate.HELD, True),
        (Reason.TOMBSTONE, Fate.OVERTAKEN, False),
        (Reason.TOMBSTONE, Fate.LIFTED, False),
    ],
)
def test_which_versions_the_stream_never_shows(reason, fate, hidden):
    lift = Lift(T, wire_key(1), s(10), ZERO, False, reason, None)
    lift.fate = fate
    assert is_hidden(lift) is hidden


def test_a_key_is_lifted_once_and_the_last_touch_counts():
    first = examined(transaction(write(T, (1, ZERO), (2, ZERO))))
    second = examined(transaction(update(T, ((1, ZERO), (1, ZERO)))))
    third = examined(transaction(update(T, ((1, ZERO), (1, s(9, PEER))))))
    superseded, others = in_turn([first, second, third])
    assert superseded == [first.lifts[K], second.lifts[K]]
    assert others == [first.lifts[at(T, 2)], third.lifts[K]]


def test_what_was_written_over_an_overtaken_row_is_rebased_before_it_is_lifted():
    """Two updates without triggers: the row still stands under the stamp of the first of them."""
    first = examined(transaction(update(T, ((1, s(5)), (1, s(10, PEER))))))
    second = examined(transaction(update(T, ((1, s(10, PEER)), (1, s(12, PEER))))))
    third = examined(transaction(update(T, ((1, s(12, PEER)), (1, s(12, PEER))))))
    superseded, others = in_turn([first, second, third])
    assert turns(superseded) == [[first.lifts[K]], [second.lifts[K]]]
    assert turns([]) == []

    overtaken = surely_overtaken(superseded, others)
    assert overtaken == {first.lifts[K]: s(12, PEER)}
    first.lifts[K].fate = Fate.OVERTAKEN
    second.lifts[K].fate = None
    HeldBack().chains((*superseded, *others)).rebase([second.lifts[K]])
    assert (second.lifts[K].base, second.lifts[K].base_row) == (s(5), True)


def lift_of(seen, key=1):
    return Lift(T, wire_key(key), seen, ZERO, False, Reason.PROMISE, None)


def test_only_a_row_that_may_still_stand_there_needs_a_look():
    """It carries the stamp of a later touch, or nobody has seen which stamp that one has."""
    first, other = lift_of(s(10)), lift_of(s(10), key=2)
    second, last = lift_of(s(11)), lift_of(s(12))
    assert surely_overtaken([first, second], [other, last]) == {first: s(12), second: s(12)}
    assert surely_overtaken([lift_of(s(12)), lift_of(s(12))], [last]) == {}
    assert surely_overtaken([first, lift_of(s(11))], [lift_of(None)]) == {}
    unseen = lift_of(None)
    assert surely_overtaken([unseen, second], [last]) == {second: s(12)}
    assert surely_overtaken([second, unseen], [last]) == {}


class Asked(dict):
    """Canonical forms that count how often they were asked for."""

    def __init__(self):
        self.times = 0

    def __missing__(self, key):
        self.times += 1
        return key.upper()


def test_the_bases_of_a_hot_key_cost_one_step_a_lift():
    words = text_table()
    words.folds = Asked()
    lifts = [
        Lift(words, wire_key("hot"), s(n + 1), s(n), True, Reason.PROMISE, None, fate=Fate.HELD)
        for n in range(50)
    ]
    chains = HeldBack().chains(lifts)
    for lift in lifts:
        chains.rebase([lift])
    assert {each.base for each in lifts} == {s(0)}
    assert words.folds.times == 2 * len(lifts)


def test_the_write_over_a_hidden_version_has_what_that_one_replaced_as_its_base():
    held = HeldBack()
    hold(held)
    note = held.bases(over())[K]
    assert (note.seen, note.base, note.base_row) == (s(10), s(5, PEER), True)
    assert held.rows == {} and held.bases(over()) == {}


@pytest.mark.parametrize(
    "tx",
    [
        transaction(update(T, ((1, s(12, PEER)), (1, s(20))))),
        transaction(write(T, (1, s(20)))),
        transaction(delete(T, (1, s(12, PEER)))),
    ],
    ids=("over a row of others", "where no row was", "of a row of others"),
)
def test_a_note_about_a_version_that_is_gone_says_nothing_and_goes(tx):
    held = HeldBack()
    hold(held)
    assert held.bases(published(tx)) == {}
    assert held.rows == {}


def test_a_tombstone_alone_says_nothing_of_the_row():
    """So a late one comes round, and perhaps before the write over the held row."""
    held = HeldBack()
    hold(held)
    alone = Transaction("a:2", 0, tombstones=[(T.digest, wire_key(1), s(6))])
    assert held.bases(published(alone)) == {}
    assert list(held.bases(over())) == [K]


def test_a_lift_that_comes_round_brings_its_own_note():
    held = HeldBack()
    hold(held)
    tx = transaction(update(T, ((1, s(10)), (1, s(40)))))
    tx.mended = {MARK: Mended(s(10), s(7), False)}
    assert held.bases(published(tx)) == {K: tx.mended[MARK]}
    assert held.rows == {}


def test_a_chain_of_hidden_versions_goes_back_to_what_peers_have():
    held = HeldBack()
    first = examined(transaction(update(T, ((1, s(5)), (1, s(10))))), promised=15)
    second = examined(transaction(update(T, ((1, s(10)), (1, s(11))))), promised=15)
    third = examined(transaction(update(T, ((1, s(11)), (1, s(12))))), promised=15)
    held.chains([each.lifts[K] for each in (first, second, third)]).rebase([third.lifts[K]])
    assert [each.lifts[K].base for each in (first, second, third)] == [s(5)] * 3
    for each in (first, second, third):
        held.bases(each)
    assert held.rows[MARK].seen == s(12)
    later = examined(transaction(update(T, ((1, s(12)), (1, s(13))))), promised=15)
    held.chains([later.lifts[K]]).rebase([later.lifts[K]])
    assert (later.lifts[K].base, later.lifts[K].base_row) == (s(5), True)


def test_a_version_below_a_later_tombstone_that_is_published_ends_the_chain():
    held = HeldBack()
    first = examined(transaction(update(T, ((1, s(5)), (1, s(10))))), promised=15)
    shown = first.lifts[K]
    shown.reason, shown.fate = Reason.TOMBSTONE, Fate.OVERTAKEN
    second = examined(transaction(update(T, ((1, s(10)), (1, s(11))))), promised=15)
    held.chains([shown, second.lifts[K]]).rebase([second.lifts[K]])
    assert second.lifts[K].base == s(10)


def test_a_row_whose_stamp_nobody_saw_is_not_noted():
    held = HeldBack()
    tx = Transaction("a:1", 0, partial=[Partial(T, wire_key(1), True, s(20))])
    assert held.bases(examined(tx)) == {} and held.rows == {}


def test_what_a_held_version_replaced_counts_for_what_follows():
    held = HeldBack()
    held.rows[MARK] = Mended(s(10), s(30, PEER), True)
    nets = net_effects(transaction(update(T, ((1, s(10)), (1, s(20))))), KNOWN)
    held.raise_replaced([nets])
    assert nets[K].replaced == s(30, PEER)


def test_a_tombstone_that_waits_counts_until_the_table_shows_it():
    held = HeldBack()
    held.wait(LateTombstone(T, wire_key(1), s(51)))
    held.wait(LateTombstone(T, wire_key(1), s(41)))
    found = {K: s(20)}
    held.raise_tombstones({T: [wire_key(1), wire_key(2)]}, found, 0)
    assert found == {K: s(51)}
    held.raise_tombstones({T: [wire_key(1)]}, {K: s(51)}, 0)
    assert held.late == {}


def test_tombstones_that_wait_are_not_kept_without_end():
    """What follows is above the promise, and so above those that it has passed."""
    held = HeldBack(capacity=2)
    for key in (1, 2):
        held.wait(LateTombstone(T, wire_key(key), s(50 + key)))
    held.raise_tombstones({}, {}, promised=51)
    assert len(held.late) == 2, "still the bases of what is written over them"
    held.wait(LateTombstone(T, wire_key(3), s(53)))
    held.raise_tombstones({}, {}, promised=52)
    assert list(held.late.values()) == [s(53)]


def test_of_two_spellings_of_a_key_the_later_counts():
    held = HeldBack()
    notes = [Mended(s(ts), s(ts - 5, PEER), True) for ts in (10, 20, 15)]
    held.load(((MARK, note) for note in notes), ((MARK, s(ts)) for ts in (51, 61, 41)))
    assert (held.rows, held.late) == ({MARK: notes[1]}, {MARK: s(61)})


def test_a_note_taken_over_waits_for_the_version_that_it_is_about():
    """The stream is read again from before it: what came earlier has nothing to do with it."""
    held = HeldBack()
    note = Mended(s(10), s(30, PEER), True)
    held.load([(MARK, note)], [])
    before = transaction(update(T, ((1, s(5)), (1, s(8)))))
    over_it = transaction(update(T, ((1, s(10)), (1, s(20)))))
    behind = transaction(update(T, ((1, s(20)), (1, s(21)))))
    nets = [net_effects(tx, KNOWN) for tx in (before, over_it, behind)]
    held.raise_replaced(nets)
    assert [each[K].replaced for each in nets] == [s(5), s(30, PEER), s(30, PEER)]
    assert held.bases(Examined(before, nets[0], {}, {})) == {}
    assert held.rows == {MARK: note}
    assert held.bases(Examined(over_it, nets[1], {}, {})) == {K: note}
    assert held.rows == {}


def test_a_note_taken_over_counts_for_a_row_that_is_not_shown_in_full():
    held = HeldBack()
    held.load([(MARK, Mended(s(10), s(30, PEER), True))], [])
    nets = net_effects(Transaction("a:1", 0, partial=[Partial(T, wire_key(1), True, s(20))]), KNOWN)
    held.raise_replaced([nets])
    assert nets[K].replaced == s(30, PEER)


def test_the_next_write_may_spell_the_key_otherwise():
    """One key where the collation does not count case: its notes are found all the same."""
    words = text_table()
    known = {words.digest: words}
    held = HeldBack()

    def examined_words(tx, promised=0):
        found = Examiner(OWN, promised).examine(tx, net_effects(tx, known), {})
        for lift in found.lifts.values():
            lift.fate = Fate.HELD
        return found

    first = transaction(update(words, (("Ada", s(5, PEER)), ("Ada", s(10)))))
    held.bases(examined_words(first, promised=15))
    over = transaction(update(words, (("Ada", s(10)), ("ADA", s(20)))))
    assert held.touched_by(plain(transaction(write(words, ("ada", s(20)))), OWN, {words: 0}))
    nets = net_effects(over, known)
    held.raise_replaced([nets])
    assert nets[at(words, "ADA")].replaced == s(10)
    (note,) = held.bases(Examined(over, nets, {}, {})).values()
    assert note.base == s(5, PEER) and held.rows == {}

    held.wait(LateTombstone(words, wire_key("Ada"), s(51)))
    found = {}
    held.raise_tombstones({words: [wire_key("ADA")]}, found, 0)
    assert found == {at(words, "ADA"): s(51)}


def test_ordinary_transactions_are_told_apart_by_their_keys():
    held = HeldBack()
    numbers = {T: 0}
    one = plain(transaction(write(T, (1, s(20)), (3, s(20)))), OWN, numbers)
    two = plain(transaction(write(T, (2, s(20)))), OWN, numbers)
    assert not held.touched_by(one)
    hold(held)
    assert held.touched_by(one) and not held.touched_by(two)


def test_the_oldest_notes_are_forgotten():
    held = HeldBack(capacity=2)
    for key in (1, 2, 3):
        tx = transaction(update(T, ((key, s(5)), (key, s(10)))))
        held.bases(examined(tx, promised=15))
    assert [key for _, key in held.rows] == [wire_key(2), wire_key(3)]
