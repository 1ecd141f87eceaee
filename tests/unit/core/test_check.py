"""No lie that an index or a row image can tell reaches MySQL."""

import pytest
from core_values import (
    PEER,
    at,
    delete,
    entry,
    image,
    item_of,
    number_table,
    received,
    text_table,
    transaction,
    update,
    wire_key,
    write,
)
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from meshnode.core.check import check, keys, scan
from meshnode.core.stamp import Stamp
from meshnode.core.wire import DELETE, REMOVE, UPDATE, UPSERT, WRITE, Entry, Item, Op
from meshnode.errors import Halt

T, OTHER = number_table(), number_table("other")
TABLES = [T, OTHER]


def s(ts, origin=PEER):
    return Stamp(ts, origin)


def honest() -> Item:
    """A write, an update, a delete and a changed key, with their index."""
    tx = transaction(
        write(T, (1, s(20))),
        update(T, ((2, s(10)), (2, s(21)))),
        delete(T, (3, s(10))),
        update(T, ((4, s(10)), (5, s(22)))),
        tombs=((3, s(23)), (4, s(24))),
    )
    return item_of(tx, own=PEER)


def with_entry(index: int, **changes) -> Item:
    item = honest()
    entries = list(item.entries)
    entries[index] = replace(entries[index], **changes)
    return replace(item, entries=entries)


def refused(item: Item, said: str, tables=TABLES) -> None:
    with pytest.raises(Halt) as caught:
        scanned = scan(item, tables, "east")
        keys(item, tables, scanned, "east")
        check(item, tables, scanned, "east")
    assert said in caught.value.what
    assert "east" in caught.value.what
    assert caught.value.remedy


def test_the_truth_passes_with_its_images():
    found = received(honest(), TABLES).incoming
    assert [each.at for each in found] == [at(T, key) for key in (1, 2, 3, 4, 5)]
    images = [each.image.bytes() if each.image else None for each in found]
    assert images == [image(1, s(20)), image(2, s(21)), None, None, image(5, s(22))]


WRITTEN, CHANGED, DELETED, LEFT, REACHED = range(5)
LIES = [
    (WRITTEN, {"table": 1}, "no image of that key"),
    (WRITTEN, {"table": 2}, "names table 2 of 2"),
    (WRITTEN, {"table": -1}, "names table -1 of 2"),
    (WRITTEN, {"key": wire_key(9)}, "no image of that key"),
    (WRITTEN, {"key": wire_key(3)}, "no image of that key"),
    (WRITTEN, {"key": b""}, "no image of that key"),
    (WRITTEN, {"ts": 19}, "an image with stamp 20.2"),
    (WRITTEN, {"ts": 21}, "an image with stamp 20.2"),
    (WRITTEN, {"origin": 3}, "an image with stamp 20.2"),
    (WRITTEN, {"outcome": REMOVE}, "no delete of that key"),
    (CHANGED, {"outcome": REMOVE}, "no delete of that key"),
    (WRITTEN, {"outcome": 2}, "outcome of unknown kind 2"),
    (CHANGED, {"key": wire_key(1), "ts": 20}, "two index entries"),
    (DELETED, {"outcome": UPSERT}, "no image of that key"),
    (DELETED, {"key": wire_key(9)}, "no delete of that key"),
    (DELETED, {"key": wire_key(4)}, "two index entries"),
    (DELETED, {"ts": 0}, "impossible stamp"),
    (DELETED, {"ts": -1}, "impossible stamp"),
    (DELETED, {"ts": 2**64}, "impossible stamp"),
    (DELETED, {"origin": 0}, "impossible stamp"),
    (DELETED, {"origin": 256}, "impossible stamp"),
    (LEFT, {"outcome": UPSERT}, "no image of that key"),
    (REACHED, {"outcome": REMOVE}, "no delete of that key"),
]


@pytest.mark.parametrize(("index", "changes", "said"), LIES)
def test_an_entry_that_the_images_contradict(index, changes, said):
    refused(with_entry(index, **changes), said)


@pytest.mark.parametrize("missing", range(5))
def test_a_row_that_no_entry_names(missing):
    item = honest()
    entries = [each for index, each in enumerate(item.entries) if index != missing]
    refused(replace(item, entries=entries), "rows that its index does not name")


def test_one_entry_twice():
    item = honest()
    for number in range(5):
        refused(replace(item, entries=[*item.entries, item.entries[number]]), "two index entries")


def test_an_item_that_is_not_exact_may_leave_rows_out():
    item = honest()
    kept = replace(item, exact=False, entries=item.entries[1:2])
    assert [each.at for each in received(kept, TABLES).incoming] == [at(T, 2)]


def test_and_may_delete_what_its_images_do_not():
    item = replace(honest(), exact=False, entries=[entry(1, REMOVE, s(30)), entry(8, REMOVE, s(9))])
    assert [each.image for each in received(item, TABLES).incoming] == [None, None]


def test_but_writes_nothing_without_an_image():
    item = replace(honest(), exact=False, entries=[entry(8, UPSERT, s(30))])
    refused(item, "no image of that key")


def test_the_last_image_of_a_key_is_the_one():
    tx = transaction(write(T, (1, s(20))), update(T, ((1, s(20)), (1, s(21)))))
    (found,) = received(item_of(tx, own=PEER), TABLES).incoming
    assert found.image.bytes() == image(1, s(21))
    item = item_of(tx, own=PEER)
    refused(replace(item, entries=[replace(item.entries[0], ts=20)]), "stamp 21.2")


@pytest.mark.parametrize("table", [2, -1, 2**63])
def test_an_operation_on_a_table_that_is_not_there(table):
    refused(Item(1, 0, "a:1", 0, ops=[Op(table, WRITE, b"")]), f"names table {table}")


def test_an_operation_of_unknown_kind():
    refused(Item(1, 0, "a:1", 0, ops=[Op(0, 3, image(1, s(1)))]), "unknown kind 3")


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (WRITE, image(1, s(1), "text")),
        (DELETE, image(1, s(1), "text")),
        (UPDATE, image(1, s(1), "before") + image(1, s(2), "after")),
    ],
)
def test_images_cut_anywhere(kind, rows):
    for size in range(1, len(rows)):
        refused(Item(1, 0, "a:1", 0, ops=[Op(0, kind, rows[:size])]), "malformed images")
        refused(Item(1, 0, "a:1", 0, ops=[Op(0, kind, rows + rows[:size])]), "malformed images")


def test_an_update_without_its_after_image():
    refused(Item(1, 0, "a:1", 0, ops=[Op(0, UPDATE, image(1, s(1)))]), "malformed images")


def test_a_length_that_points_beyond_the_image():
    rows = bytearray(image(1, s(1), "ab"))
    assert rows[9] == 2
    for length in (3, 60, 255):
        rows[9] = length
        refused(Item(1, 0, "a:1", 0, ops=[Op(0, WRITE, bytes(rows))]), "malformed images")


@given(st.binary(max_size=80), st.sampled_from((WRITE, UPDATE, DELETE)))
def test_any_bytes_are_images_or_a_halt(rows, kind):
    item = Item(1, 0, "a:1", 0, ops=[Op(0, kind, rows)])
    try:
        scanned = scan(item, TABLES, "east")
    except Halt:
        return
    covered = sum((row[5] if kind == UPDATE else row[1]) - row[0] for row in scanned[0].found)
    assert covered == len(rows)


changes = st.fixed_dictionaries(
    {},
    optional={
        "table": st.integers(-1, 2),
        "key": st.integers(0, 6).map(wire_key),
        "outcome": st.integers(-1, 2),
        "ts": st.integers(-1, 30),
        "origin": st.integers(-1, 256),
    },
)


@given(st.integers(0, 4), changes)
def test_no_changed_entry_of_an_exact_item_passes(index, change):
    item = with_entry(index, **change)
    said = item.entries[index]
    was = honest().entries[index]
    unproven = was.outcome == REMOVE and (
        (said.table, said.key, said.outcome) == (was.table, was.key, was.outcome)
    )
    if said == was or (unproven and said.ts > 0 and 0 < said.origin < 256):
        received(item, TABLES)
        return
    with pytest.raises(Halt):
        received(item, TABLES)


def test_character_keys_are_asked_for_before_the_check():
    table = text_table()
    tx = transaction(update(table, (("anna", s(10)), ("Bert", s(20)))), tombs=(("anna", s(21)),))
    item = item_of(tx, own=PEER)
    table.folds = {}
    scanned = scan(item, [table], "east")
    wanted = keys(item, [table], scanned, "east")
    assert wanted == {(table, wire_key("anna")), (table, wire_key("Bert"))}
    table.folds = {wire_key("anna"): b"ANNA"}
    # Known keys too: they may be forgotten before the others are learnt.
    assert keys(item, [table], scanned, "east") == wanted
    table.folds[wire_key("Bert")] = b"BERT"
    assert [each.at for each in check(item, [table], scanned, "east")] == [
        (table, b"ANNA"),
        (table, b"BERT"),
    ]


def test_keys_of_binary_tables_need_no_question():
    item = honest()
    assert keys(item, TABLES, scan(item, TABLES, "east"), "east") == set()


def test_an_entry_in_another_spelling_finds_its_image():
    table = text_table()
    item = item_of(transaction(write(table, ("anna", s(20)))), own=PEER)
    other = Entry(0, wire_key("ANNA"), UPSERT, 20, PEER, 0, 0, False)
    (found,) = received(replace(item, entries=[other]), [table]).incoming
    assert found.at == at(table, "anna")
