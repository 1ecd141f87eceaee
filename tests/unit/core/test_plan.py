"""What one apply transaction writes, and the looks it demands."""

from dataclasses import replace as with_fields

import pytest
from core_values import (
    OWN,
    PEER,
    THIRD,
    at,
    delete,
    entry,
    image,
    incoming,
    number_table,
    text_table,
    transaction,
    update,
    wire_key,
    work_of,
    write,
)
from msgspec.structs import replace

from meshnode import limits
from meshnode.core.plan import Ancestry, Form, at_base, make_plan
from meshnode.core.resolve import Kind, Local
from meshnode.core.stamp import ZERO, Stamp
from meshnode.core.wire import REMOVE, UPSERT

T, OTHER = number_table(), number_table("other")


def s(ts, origin=PEER):
    return Stamp(ts, origin)


def work(*ops, tombs=(), tombstones=None):
    return work_of(transaction(*ops, tombs=tombs), tombstones, own=PEER)


def plan(*works, state=None, ancestry=None, **options):
    ancestry = ancestry or Ancestry(100, OWN)
    return make_plan(works, state or {}, ancestry, **options)


def steps(made):
    return [(step.table, step.form, step.chunks) for step in made.steps]


INSERT = work(write(T, (1, s(20))))
UPDATE = work(update(T, ((1, s(10)), (1, s(20)))))
DELETE = work(delete(T, (1, s(10))), tombs=((1, s(20)),))
K = at(T, 1)


# The way of an item whose keys stand at their bases


def test_an_exact_insert():
    made = plan(INSERT)
    assert steps(made) == [(T, Form.WRITE, [image(1, s(20))])]
    assert (made.exact_items, made.rows, made.tombstones, made.removals) == (1, 1, {}, {})
    assert list(made.upserts) == [K], "its tombstone is looked at"
    assert made.state[K] == Local(s(20), None)
    assert (made.keys[K], made.items[K]) == (wire_key(1), INSERT.item)


def test_an_exact_update_sends_both_images():
    made = plan(UPDATE, state={K: Local(s(10), None)})
    assert steps(made) == [(T, Form.UPDATE, [image(1, s(10)) + image(1, s(20))])]
    assert made.written == [(K, s(20), s(10))]


def test_an_exact_delete_raises_the_tombstone_and_looks_at_the_row():
    made = plan(DELETE, state={K: Local(s(10), s(5))})
    assert steps(made) == [(T, Form.DELETE, [image(1, s(10))])]
    assert made.tombstones == {K: s(20)}
    assert made.removals == {K: s(20)}
    assert made.upserts == {}
    assert made.state[K] == Local(None, s(20))
    assert made.before[K] == Local(s(10), s(5)), "what was locked stays at hand"


def test_an_exact_item_keeps_the_order_of_its_source():
    swap = work(
        update(T, ((1, s(10)), (9, s(20)))),
        update(T, ((2, s(11)), (1, s(21)))),
        update(T, ((9, s(20)), (2, s(22)))),
        tombs=((1, s(20)), (2, s(21)), (9, s(23))),
    )
    made = plan(swap, state={K: Local(s(10), None), at(T, 2): Local(s(11), None)})
    assert [(form, len(chunks)) for _, form, chunks in steps(made)] == [(Form.UPDATE, 3)]
    assert made.tombstones == {at(T, 9): s(23)}
    assert set(made.upserts) == {K, at(T, 2)}
    assert made.exact_items == 1


def test_steps_of_one_kind_are_one_step():
    made = plan(work(write(T, (1, s(20)))), work(write(T, (2, s(21)))))
    assert steps(made) == [(T, Form.WRITE, [image(1, s(20)), image(2, s(21))])]
    made = plan(work(write(T, (1, s(20)))), work(write(OTHER, (2, s(21)))))
    assert len(made.steps) == 2


BASES = [
    (entry(1, UPSERT, s(20)), Local(None, None), True),
    (entry(1, UPSERT, s(20)), Local(None, s(5)), False),
    (entry(1, UPSERT, s(20)), Local(s(5), None), False),
    (entry(1, UPSERT, s(20), s(10)), Local(None, None), True),
    (entry(1, UPSERT, s(20), s(10)), Local(None, s(10)), True),
    (entry(1, UPSERT, s(20), s(10)), Local(None, s(10, 3)), False),
    (entry(1, UPSERT, s(20), s(10)), Local(s(10), None), False),
    (entry(1, UPSERT, s(20), s(10), True), Local(s(10), None), True),
    (entry(1, UPSERT, s(20), s(10), True), Local(s(10), s(9)), True),
    (entry(1, UPSERT, s(20), s(10), True), Local(s(10), s(20)), False),
    (entry(1, UPSERT, s(20), s(10), True), Local(s(9), None), False),
    (entry(1, UPSERT, s(20), s(10), True), Local(s(10, 3), None), False),
    (entry(1, UPSERT, s(20), s(10), True), Local(None, s(10)), False),
    (entry(1, UPSERT, s(20), s(10), True), Local(None, None), False),
    (entry(1, UPSERT, s(20), s(30), True), Local(s(30), None), False),
    (entry(1, UPSERT, s(20), s(20), True), Local(s(20), None), False),
    (entry(1, REMOVE, s(20), s(30)), Local(None, s(30)), False),
    (entry(1, REMOVE, s(20), s(10), True), Local(s(10), None), True),
]


@pytest.mark.parametrize(("entry_", "local", "expected"), BASES)
def test_at_base(entry_, local, expected):
    assert at_base(incoming(T, entry_), local) is expected


# The way of outcomes


def inexact(work_):
    return with_fields(work_, item=replace(work_.item, exact=False))


def test_an_insert_over_a_row_becomes_an_update():
    made = plan(INSERT, state={K: Local(s(10, THIRD), None)})
    assert steps(made) == [(T, Form.UPDATE_BY_KEY, [(wire_key(1), image(1, s(20)))])]
    assert (made.exact_items, list(made.upserts)) == (0, [K])
    (record,) = made.records
    assert (record.conflict.kind, record.conflict.winner) == (Kind.INSERT_INSERT, s(20))
    assert record.incoming.at == K


def test_an_update_of_a_missing_row_becomes_an_insert():
    made = plan(UPDATE, state={K: Local(None, s(15, THIRD))})
    assert steps(made) == [(T, Form.WRITE, [image(1, s(20))])]
    assert made.records[0].conflict.kind is Kind.UPDATE_DELETE


def test_an_update_that_lost_writes_nothing():
    made = plan(UPDATE, state={K: Local(s(30, THIRD), None)})
    assert (made.steps, made.upserts, made.removals, made.written) == ([], {}, {}, [])
    assert made.records[0].conflict.loser == s(20)


def test_a_duplicate_writes_nothing_and_owes_nothing():
    made = plan(UPDATE, state={K: Local(s(20), None)})
    assert (made.steps, made.upserts, made.records) == ([], {}, [])
    made = plan(DELETE, state={K: Local(None, s(20))})
    assert (made.steps, made.tombstones, made.removals, made.records) == ([], {}, {}, [])


def test_a_delete_of_another_version_goes_by_key():
    made = plan(DELETE, state={K: Local(s(15, THIRD), None)})
    assert steps(made) == [(T, Form.DELETE_BY_KEY, [(wire_key(1), b"")])]
    assert (made.tombstones, made.removals) == ({K: s(20)}, {K: s(20)})


def test_a_delete_of_a_missing_row_still_leaves_its_tombstone():
    made = plan(DELETE)
    assert (made.steps, made.tombstones, made.removals) == ([], {K: s(20)}, {K: s(20)})
    assert made.state[K] == Local(None, s(20))


def test_a_delete_that_lost_raises_the_tombstone_below_the_row():
    made = plan(DELETE, state={K: Local(s(30, THIRD), s(5, THIRD))})
    assert (made.steps, made.tombstones, made.removals) == ([], {K: s(20)}, {K: s(20)})
    assert made.state[K] == Local(s(30, THIRD), s(20))
    assert made.records[0].conflict.kind is Kind.DELETE_UPDATE


def test_a_delete_below_the_tombstone_changes_nothing():
    made = plan(DELETE, state={K: Local(None, s(25, THIRD))})
    assert (made.steps, made.tombstones, made.removals) == ([], {}, {})


def test_a_delete_that_the_tombstone_has_outlived_leaves_a_row_that_waits_to_be_lifted():
    state = {K: Local(ZERO, s(30, THIRD))}
    made = plan(DELETE, state=state)
    assert (made.steps, made.tombstones, made.removals) == ([], {}, {})
    assert made.state == state
    again = work(write(T, (1, s(25))), tombstones={K: s(20)})
    made = plan(DELETE, again, state=state)
    assert (made.steps, made.upserts) == ([], {}), "nor is anything written below it"


def test_deletes_come_before_writes():
    moved = work(update(T, ((1, s(10)), (2, s(20)))), tombs=((1, s(21)),))
    made = plan(moved, state={K: Local(s(11, THIRD), None)})
    assert steps(made) == [
        (T, Form.DELETE_BY_KEY, [(wire_key(1), b"")]),
        (T, Form.WRITE, [image(2, s(20))]),
    ]


def test_only_the_winners_of_an_item_are_written():
    both = work(update(T, ((1, s(10)), (1, s(20))), ((2, s(10)), (2, s(20)))))
    made = plan(both, state={K: Local(s(30, THIRD), None), at(T, 2): Local(s(10), None)})
    assert steps(made) == [(T, Form.UPDATE_BY_KEY, [(wire_key(2), image(2, s(20)))])]
    assert [record.incoming.at for record in made.records] == [K]


def test_rows_held_back_make_it_outcomes():
    held = inexact(work(write(T, (1, s(20)), (2, s(20)))))
    held = with_fields(held, incoming=held.incoming[1:])
    made = plan(held)
    assert steps(made) == [(T, Form.WRITE, [image(2, s(20))])]


def test_a_key_in_another_spelling_is_the_same_key():
    names = text_table()
    change = work(update(names, (("anna", s(10)), ("anna", s(20)))))
    here = at(names, "ANNA")
    made = plan(change, state={here: Local(s(15, THIRD), None)})
    assert made.steps[0].chunks == [(wire_key("anna"), image("anna", s(20)))]
    assert made.keys == {here: wire_key("anna")}


# Splitting, wide tables, large images


def test_split_deletes_all_then_writes_all():
    swap = work(update(T, ((1, s(10)), (1, s(20))), ((2, s(10)), (2, s(20)))))
    state = {K: Local(s(10), None), at(T, 2): Local(s(10), None)}
    assert plan(swap, state=state).exact_items == 1
    made = plan(swap, state=state, split=True)
    assert steps(made) == [
        (T, Form.DELETE_BY_KEY, [(wire_key(1), b""), (wire_key(2), b"")]),
        (T, Form.WRITE, [image(1, s(20)), image(2, s(20))]),
    ]
    assert (made.exact_items, made.rows) == (0, 4)
    assert (made.tombstones, set(made.upserts)) == ({}, {K, at(T, 2)})


def test_an_update_of_a_wider_table_is_written_anew():
    made = plan(UPDATE, state={K: Local(s(10), None)}, wide={T})
    assert steps(made) == [
        (T, Form.DELETE_BY_KEY, [(wire_key(1), b"")]),
        (T, Form.WRITE, [image(1, s(20))]),
    ]
    assert plan(INSERT, wide={T}).exact_items == 1
    assert plan(DELETE, state={K: Local(s(10), None)}, wide={T}).exact_items == 1
    assert plan(UPDATE, state={K: Local(s(10), None)}, wide={OTHER}).exact_items == 1


@pytest.mark.parametrize(("excess", "exact"), [(0, 1), (1, 0)])
def test_a_large_before_image_is_cut_to_its_key(monkeypatch, excess, exact):
    size = len(image(1, s(10), "x" * 20))
    monkeypatch.setattr(limits, "BEFORE_IMAGE_BYTES", size - excess)
    large = transaction(update(T, ((1, s(10), "x" * 20), (1, s(20), "small"))))
    made = plan(work_of(large, own=PEER), state={K: Local(s(10), None)})
    assert made.exact_items == exact
    if not exact:
        assert steps(made) == [(T, Form.UPDATE_BY_KEY, [(wire_key(1), image(1, s(20), "small"))])]
    gone = transaction(delete(T, (1, s(10), "x" * 20)), tombs=((1, s(20)),))
    made = plan(work_of(gone, own=PEER), state={K: Local(s(10), None)})
    assert made.exact_items == exact


def test_a_large_image_that_is_written_stays_whole(monkeypatch):
    monkeypatch.setattr(limits, "BEFORE_IMAGE_BYTES", 5)
    assert plan(INSERT).exact_items == 1


# Batches


def test_items_of_a_batch_build_on_each_other():
    made = plan(INSERT, work(update(T, ((1, s(20)), (1, s(30))))))
    assert [form for _, form, _ in steps(made)] == [Form.WRITE, Form.UPDATE]
    assert made.exact_items == 2
    assert made.state[K] == Local(s(30), None)
    assert made.upserts[K].entry.ts == 30, "the last version is looked at"
    assert [(stamp, base) for _, stamp, base in made.written] == [(s(20), ZERO), (s(30), s(20))]


def test_a_delete_and_an_insert_after_it_in_one_batch():
    again = work(write(T, (1, s(30))), tombstones={K: s(20)})
    made = plan(DELETE, again, state={K: Local(s(10), None)})
    assert [form for _, form, _ in steps(made)] == [Form.DELETE, Form.WRITE]
    assert made.tombstones == {K: s(20)}
    assert (set(made.upserts), made.removals) == ({K}, {})
    assert made.state[K] == Local(s(30), s(20))


def test_an_insert_and_a_delete_after_it_in_one_batch():
    gone = work(delete(T, (1, s(20))), tombs=((1, s(30)),))
    made = plan(INSERT, gone)
    assert [form for _, form, _ in steps(made)] == [Form.WRITE, Form.DELETE]
    assert (made.upserts, made.removals) == ({}, {K: s(30)})


def test_a_loser_and_then_a_winner_in_one_batch():
    state = {K: Local(s(25, THIRD), None)}
    made = plan(UPDATE, work(update(T, ((1, s(20)), (1, s(30))))), state=state)
    assert steps(made) == [(T, Form.UPDATE_BY_KEY, [(wire_key(1), image(1, s(30)))])]
    assert made.exact_items == 0
    assert len(made.records) == 2, "each of the two lost or beat a version it had not seen"


def test_an_exact_item_after_outcomes():
    other = work(write(T, (2, s(21))))
    made = plan(UPDATE, other, state={K: Local(s(30, THIRD), None)})
    assert steps(made) == [(T, Form.WRITE, [image(2, s(21))])]
    assert made.exact_items == 1


def test_the_locked_state_is_not_touched():
    state = {K: Local(s(10), None)}
    plan(UPDATE, state=state)
    assert state == {K: Local(s(10), None)}


# Ancestry


def test_a_version_of_this_region_has_no_ancestor_that_could_arrive():
    known = Ancestry(10, OWN)
    assert known.of(K, s(20, OWN)) == ()


def test_ancestors_newest_first_and_bounded():
    known = Ancestry(100, OWN)
    assert known.of(K, s(20)) is None
    before = ZERO
    for ts in range(10, 18):
        known.note(K, s(ts), before)
        before = s(ts)
    assert known.of(K, s(17)) == (s(16), s(15), s(14), s(13))
    assert known.of(K, s(18)) is None


def test_a_version_written_over_something_else_starts_a_new_line():
    known = Ancestry(10, OWN)
    known.note(K, s(10), ZERO)
    assert known.of(K, s(10)) == ()
    known.note(K, s(30), s(20, THIRD))
    assert known.of(K, s(30)) == (s(20, THIRD),)


def test_the_oldest_versions_are_forgotten():
    known = Ancestry(4, OWN)
    for key in (1, 2, 3, 4, 5):
        known.note(at(T, key), s(10), s(5))
    assert [known.of(at(T, key), s(10)) for key in (1, 2)] == [None, None]
    assert [known.of(at(T, key), s(10)) for key in (3, 4, 5)] == [(s(5),)] * 3


def test_a_line_goes_on_in_what_is_kept_longer():
    known = Ancestry(4, OWN)
    for ts in (10, 11, 12):
        known.note(K, s(ts), s(ts - 1))
    assert known.of(K, s(12)) == (s(11), s(10), s(9))


def test_many_versions_at_once_are_noted_like_one_by_one():
    known = Ancestry(100, OWN)
    known.note_all(T, [at(T, 1)[1], at(T, 2)[1]], [(10, PEER), (11, PEER)], [(0, 0), (5, PEER)])
    assert known.of(at(T, 1), s(10)) == ()
    assert known.of(at(T, 2), s(11)) == (s(5),)


def test_a_late_version_that_its_successor_had_seen_is_no_conflict():
    known = Ancestry(10, OWN)
    known.note(K, s(30, THIRD), s(20))
    made = plan(UPDATE, state={K: Local(s(30, THIRD), None)}, ancestry=known)
    assert (made.records, made.steps) == ([], [])


def test_a_late_version_is_no_conflict_where_only_what_replaced_it_was_seen_here():
    """X at one region, Y over it at another, Z over Y here; then X comes over a slow link."""
    known = Ancestry(10, OWN)
    here = {K: Local(s(40, OWN), None)}
    (record,) = plan(UPDATE, state=here, ancestry=known).records
    assert record.conflict.loser == s(20)
    known.note(K, s(30, THIRD), s(20))
    assert plan(UPDATE, state=here, ancestry=known).records == []
    assert known.overwritten(K, s(20)) and not known.overwritten(K, s(30, THIRD))
