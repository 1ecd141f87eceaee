"""Keys that no image proves: those of held-back rows, and items without an index."""

import msgspec
import pytest
from core_values import OWN, entry, image, number_table, text_table

from meshnode.core.check import check, keys, scan
from meshnode.core.stamp import Stamp
from meshnode.core.wire import REMOVE, TRANSACTION, WRITE, Item, Op
from meshnode.errors import Halt

NEW = Stamp(20, OWN)


def held_back(key: bytes, table) -> None:
    """Receive an item whose only entry is a delete that has no image."""
    gone = msgspec.structs.replace(entry(1, REMOVE, NEW), key=key)
    item = Item(7, TRANSACTION, "uuid:7", 0, exact=False, entries=[gone])
    keys(item, [table], [], "east")
    check(item, [table], [], "east")


NUMBER = (1).to_bytes(8, "little")


@pytest.mark.parametrize("key", [NUMBER + b"\0", NUMBER[:7], b""])
def test_a_number_with_other_bytes_than_its_own_is_refused(key):
    held_back(NUMBER, number_table())
    with pytest.raises(Halt, match=r"item 7 .*east.*0x.*, no key of shop\.t"):
        held_back(key, number_table())


@pytest.mark.parametrize("key", [b"\3ab", b"\3abcd", b""])
def test_a_text_that_does_not_end_where_its_length_says_is_refused(key):
    """Before MySQL is asked for its weight: the question would be of other bytes."""
    held_back(b"\3abc", text_table())
    with pytest.raises(Halt, match=r"no key of shop\.names"):
        held_back(key, text_table())


@pytest.mark.parametrize(("table", "key"), [(number_table(), 1), (text_table(), "a")])
def test_rows_without_any_index_are_refused_before_the_position_moves(table, key):
    rows = image(key, NEW)
    item = Item(7, TRANSACTION, "uuid:7", 0, exact=True, ops=[Op(0, WRITE, rows)])
    with pytest.raises(Halt, match="rows that its index does not name"):
        scan(item, [table], "east")
    # What is held back as a whole has rows that nobody shall write.
    scan(msgspec.structs.replace(item, exact=False), [table], "east")
