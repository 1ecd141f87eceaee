"""Runs: what may be one, what proves it, and that going straight does what exact items do."""

import pytest
from core_values import (
    OWN,
    PEER,
    THIRD,
    at,
    delete,
    item_of,
    number_table,
    received,
    text_table,
    transaction,
    update,
    wire_key,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from meshnode import limits
from meshnode.core.plan import FORMS, Ancestry, make_plan
from meshnode.core.resolve import Local
from meshnode.core.runs import Touched, eligible, prove, touched
from meshnode.core.stamp import ZERO, Stamp
from meshnode.core.wire import REMOVE, UPDATE, WRITE, Entry, Item, Op

T, OTHER, NAMES = number_table(), number_table("other"), text_table()
TABLES = [T, OTHER, NAMES]


def s(ts: int, origin: int = PEER) -> Stamp:
    return Stamp(ts, origin)


def inserts(*keys: int, ts: int = 20, number: int = 0) -> Item:
    item = item_of(transaction(write(TABLES[number], *((key, s(ts)) for key in keys))), own=PEER)
    return numbered(item, number)


def updates(*keys: int, base: int = 20, ts: int = 30, number: int = 0) -> Item:
    pairs = (((key, s(base)), (key, s(ts))) for key in keys)
    return numbered(item_of(transaction(update(TABLES[number], *pairs)), own=PEER), number)


def numbered(item: Item, number: int) -> Item:
    ops = [replace(op, table=number) for op in item.ops]
    return replace(item, ops=ops, entries=[replace(each, table=number) for each in item.entries])


def keys(*numbers: int) -> tuple[bytes, ...]:
    return tuple(wire_key(number) for number in numbers)


def test_neighbouring_items_of_one_kind_are_one_segment():
    one, two = inserts(1, 2), inserts(3, ts=21)
    (segment,) = prove([one, two], TABLES)
    assert (segment.table, segment.kind, segment.keys) == (T, WRITE, keys(1, 2, 3))
    assert segment.rows == one.ops[0].rows + two.ops[0].rows
    assert segment.stamps == [s(20), s(20), s(21)]
    assert segment.bases == [ZERO] * 3


def test_a_segment_for_each_change_of_table_or_kind_in_order():
    items = [inserts(1), updates(1), updates(7, number=1), updates(8, number=1), inserts(2)]
    found = [(each.table, each.kind, each.keys) for each in prove(items, TABLES)]
    assert found == [
        (T, WRITE, keys(1)),
        (T, UPDATE, keys(1)),
        (OTHER, UPDATE, keys(7, 8)),
        (T, WRITE, keys(2)),
    ]


def test_an_item_with_several_operations():
    tx = transaction(write(T, (1, s(20))), update(T, ((2, s(10)), (2, s(21)))))
    first, second = prove([item_of(tx, own=PEER)], TABLES)
    assert (first.keys, second.keys, second.bases) == (keys(1), keys(2), [s(10)])


@pytest.mark.parametrize(
    "item",
    [
        replace(inserts(1), exact=False),
        replace(inserts(1), entries=[]),
        replace(inserts(1), ops=[]),
        item_of(transaction(delete(T, (1, s(10))), tombs=((1, s(20)),)), own=PEER),
        numbered(inserts(1), 3),
        numbered(inserts(1), -1),
        numbered(inserts(1), 2),
        replace(inserts(1), ops=[replace(inserts(1).ops[0], kind=7)]),
    ],
    ids=[
        "held back", "no entries", "no images", "a delete", "no such table", "no such table either",
        "character keys", "unknown kind",
    ],
)  # fmt: skip
def test_what_goes_the_long_way_from_the_start(item):
    assert not eligible(item, TABLES)
    assert eligible(inserts(1), TABLES) and eligible(updates(1), TABLES)


def test_a_large_before_image_is_for_the_long_way(monkeypatch):
    monkeypatch.setattr(limits, "BEFORE_IMAGE_BYTES", len(updates(1).ops[0].rows))
    assert eligible(updates(1), TABLES)
    assert not eligible(updates(1, 2), TABLES)
    assert eligible(inserts(1, 2, 3, 4), TABLES)


def lie(item: Item, place: int = 0, **changes: object) -> Item:
    entries: list[Entry] = list(item.entries)
    entries[place] = replace(entries[place], **changes)
    return replace(item, entries=entries)


def cut(item: Item, **changes: object) -> Item:
    return replace(item, ops=[replace(item.ops[0], **changes)])


@pytest.mark.parametrize(
    "item",
    [
        lie(inserts(1, 2), key=wire_key(3)),
        lie(inserts(1, 2), ts=21),
        lie(inserts(1, 2), origin=THIRD),
        lie(inserts(1, 2), outcome=REMOVE),
        lie(inserts(1, 2), 1, table=1),
        lie(inserts(1, 2), base_row=True),
        lie(inserts(1, 2), base_ts=5, base_origin=THIRD),
        lie(updates(1, 2), base_row=False),
        lie(updates(1, 2), base_ts=30, base_origin=PEER),
        replace(inserts(1, 2), entries=inserts(1).entries),
        replace(inserts(1), entries=inserts(1, 2).entries),
        replace(inserts(1, 2), entries=inserts(2, 1).entries),
        cut(inserts(1), rows=inserts(1).ops[0].rows[:-1]),
        cut(inserts(1), rows=b""),
        cut(inserts(1, 2), kind=UPDATE),
        replace(updates(1), ops=[Op(0, UPDATE, b"".join(
            each.ops[0].rows for each in (inserts(1), inserts(2, ts=30))))]),
    ],
    ids=[
        "key", "time", "origin", "outcome", "table", "an insert over a row", "over a tombstone",
        "an update over none", "base not below", "a row without entry", "an entry without row",
        "another order", "cut short", "empty", "other kind", "key-changing",
    ],
)  # fmt: skip
def test_what_its_images_do_not_prove_is_no_run(item):
    assert eligible(item, TABLES)
    assert prove([item], TABLES) is None
    assert prove([inserts(8, 9), item], TABLES) is None
    assert prove([inserts(8, 9)], TABLES) is not None


def test_what_must_be_found_before_the_write():
    segments = prove([updates(2, 1), inserts(3), updates(5, base=7, number=1)], TABLES)
    found = {each.table: each for each in touched(segments)}
    assert set(found[T].keys) == set(keys(1, 2, 3))
    assert (found[T].known, found[T].bases) == ([*keys(2, 1)], [s(20), s(20)])
    assert (found[OTHER].known, found[OTHER].bases) == ([*keys(5)], [s(7)])


def test_a_key_again_needs_its_own_version_before_it():
    line = [inserts(1), updates(1, base=20, ts=30), updates(2, base=9), updates(1, base=30, ts=40)]
    (found,) = touched(prove(line, TABLES))
    assert found.keys == [*keys(1, 2)]
    assert (found.known, found.bases) == ([*keys(2)], [s(9)]), "key 1 is new: none may stand there"
    assert touched(prove([updates(1), updates(1, base=25, ts=40)], TABLES)) is None
    assert touched(prove([updates(1), inserts(1, ts=40)], TABLES)) is None


def test_a_tombstone_that_was_overtaken_is_no_surprise():
    (found,) = touched(prove([inserts(1), updates(2), updates(2, base=30, ts=40)], TABLES))
    two = wire_key(2)
    assert found.tolerates(two, s(35)) and found.tolerates(two, s(40))
    assert not found.tolerates(two, s(40, THIRD))
    assert not found.tolerates(wire_key(1), s(1)), "its writer had not seen it: a record is owed"


KEYS = st.integers(1, 4)
VERSIONS = st.one_of(st.none(), st.integers(1, 6).map(lambda ts: s(ts, THIRD)))


@st.composite
def streams(draw) -> tuple[list[Item], dict]:
    """Items of inserts and updates over few keys, and a state that often fits them."""
    state = {
        key: Local(draw(VERSIONS), draw(st.one_of(st.none(), VERSIONS))) for key in range(1, 5)
    }
    believed = {key: local.row for key, local in state.items()}
    items = []
    for ts in range(10, 10 + draw(st.integers(1, 5))):
        key = draw(KEYS)
        base = believed[key] if draw(st.integers(0, 9)) else draw(VERSIONS)
        if base is None:
            item = inserts(key, ts=ts)
        else:
            item = item_of(transaction(update(T, ((key, base), (key, s(ts))))), own=PEER)
        items.append(item)
        believed[key] = s(ts)
    return items, state


def stands(found: list[Touched], state: dict) -> bool:
    """What the adapter finds out, on a state in memory."""
    for each in found:
        rows = {key: state[int.from_bytes(key, "little")].row for key in each.keys}
        if any(rows[key] != base for key, base in zip(each.known, each.bases)):
            return False
        if any(rows[key] is not None for key in set(each.keys) - set(each.known)):
            return False
        for key in each.keys:
            tomb = state[int.from_bytes(key, "little")].tomb
            if tomb is not None and not each.tolerates(key, tomb):
                return False
    return True


@settings(deadline=None)
@given(streams())
def test_what_goes_straight_is_what_the_long_way_would_have_written(stream):
    items, state = stream
    segments = prove(items, TABLES)
    found = touched(segments)
    if found is None or not stands(found, state):
        return
    local = {at(T, key): each for key, each in state.items() if each.row or each.tomb}
    plan = make_plan([received(item, TABLES) for item in items], local, Ancestry(10, OWN))
    assert plan.exact_items == len(items)
    assert plan.records == [] and plan.tombstones == {} and plan.removals == {}
    planned = [(step.table, step.form, b"".join(step.chunks)) for step in plan.steps]
    assert planned == [(each.table, FORMS[each.kind], each.rows) for each in segments]
    written = [
        (key, stamp, base)
        for each in segments
        for key, stamp, base in zip(each.keys, each.stamps, each.bases)
    ]
    assert [(at[1], stamp, base) for at, stamp, base in plan.written] == written
