"""The net effect of a transaction on each key, for every shape of transaction."""

from itertools import permutations

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

from meshnode.core.change import Partial, Transaction, net_effects
from meshnode.core.stamp import ZERO, Stamp

T = number_table()
OTHER = number_table("other")
NAMES = text_table()
KNOWN = {table.digest: table for table in (T, OTHER, NAMES)}


def s(ts, origin=OWN):
    return Stamp(ts, origin)


def nets(tx):
    return net_effects(tx, KNOWN)


def only(tx):
    found = nets(tx)
    assert len(found) == 1
    return next(iter(found.values()))


def test_an_insert_found_nothing():
    net = only(transaction(write(T, (1, s(10)))))
    assert (net.before, net.stamp, net.replaced) == (None, s(10), ZERO)
    assert (net.unseen, net.tomb) == (None, None)
    assert (net.op, net.place) == (0, 0)


def test_an_update_replaced_its_before_image():
    net = only(transaction(update(T, ((1, s(10, PEER)), (1, s(20))))))
    assert (net.before, net.stamp, net.replaced) == (s(10, PEER), s(20), s(10, PEER))
    assert net.unseen is None


def test_a_delete_with_its_tombstone():
    net = only(transaction(delete(T, (1, s(10))), tombs=((1, s(20)),)))
    assert (net.before, net.stamp, net.tomb) == (s(10), None, s(20))
    assert net.unseen == s(10)
    assert net.replaced == s(20)


def test_a_delete_that_no_trigger_saw():
    net = only(transaction(delete(T, (1, s(10)))))
    assert (net.before, net.stamp, net.tomb, net.unseen) == (s(10), None, None, s(10))


def test_the_place_of_the_tombstone_in_the_log_does_not_matter():
    images = delete(T, (1, s(10)))
    tomb = (T.digest, wire_key(1), s(20))
    before = Transaction("a:1", 0, ops=[images], tombstones=[tomb])
    assert only(before).tomb == s(20)


def test_a_tombstone_whose_row_stands_in_another_part():
    tx = Transaction("a:1", 0, tombstones=[(T.digest, wire_key(1), s(20))])
    net = only(tx)
    assert (net.before, net.stamp, net.tomb, net.replaced) == (None, None, s(20), s(20))
    assert (net.op, net.unseen) == (-1, None)


def test_a_tombstone_of_a_table_never_seen_is_left_out():
    tx = Transaction("a:1", 0, tombstones=[("feedfeedfeedfeed", wire_key(1), s(20))])
    assert nets(tx) == {}


def test_the_highest_of_several_tombstones_counts():
    for order in permutations((s(20), s(30), s(25))):
        tombs = [(T.digest, wire_key(1), stamp) for stamp in order]
        assert only(Transaction("a:1", 0, tombstones=tombs)).tomb == s(30)


def test_replace_is_a_delete_and_an_insert():
    tx = transaction(delete(T, (1, s(10))), write(T, (1, s(20))), tombs=((1, s(19)),))
    net = only(tx)
    assert (net.before, net.stamp, net.tomb) == (s(10), s(20), s(19))
    assert net.replaced == s(19)
    assert net.op == 1


def test_an_insert_that_goes_again():
    tx = transaction(write(T, (1, s(10))), delete(T, (1, s(10))), tombs=((1, s(11)),))
    net = only(tx)
    assert (net.before, net.stamp, net.tomb, net.unseen) == (None, None, s(11), s(10))


def test_several_updates_keep_the_first_before_and_the_last_after():
    tx = transaction(
        update(T, ((1, s(10)), (1, s(20)))),
        update(T, ((1, s(20)), (1, s(30)))),
    )
    net = only(tx)
    assert (net.before, net.stamp, net.replaced, net.op) == (s(10), s(30), s(20), 1)


def test_the_last_image_of_a_key_inside_one_event():
    net = only(transaction(update(T, ((1, s(10)), (1, s(20))), ((1, s(20)), (1, s(30))))))
    assert (net.stamp, net.op, net.place) == (s(30), 0, 1)


def test_an_update_that_went_back_in_time():
    net = only(transaction(update(T, ((1, s(30, PEER)), (1, s(20))))))
    assert (net.before, net.stamp, net.replaced, net.unseen) == (
        s(30, PEER), s(20), s(30, PEER), s(30, PEER),
    )  # fmt: skip


def test_an_update_that_kept_its_stamp_hides_no_delete():
    net = only(transaction(update(T, ((1, s(30, PEER)), (1, s(30, PEER))))))
    assert (net.stamp, net.replaced, net.unseen) == (s(30, PEER), s(30, PEER), None)


def test_a_changed_key_is_a_delete_and_an_upsert():
    tx = transaction(update(T, ((1, s(10)), (2, s(20)))), tombs=((1, s(21)),))
    found = nets(tx)
    old, new = found[at(T, 1)], found[at(T, 2)]
    assert (old.before, old.stamp, old.tomb, old.unseen) == (s(10), None, s(21), s(10))
    assert (new.before, new.stamp, new.replaced) == (None, s(20), ZERO)


def test_a_changed_key_without_tombstone_is_an_unseen_delete():
    found = nets(transaction(update(T, ((1, s(10)), (2, s(20))))))
    assert (found[at(T, 1)].tomb, found[at(T, 1)].unseen) == (None, s(10))


def test_a_swap_of_two_keys_goes_through_a_third():
    tx = transaction(
        update(T, ((1, s(10)), (9, s(20)))),
        update(T, ((2, s(11)), (1, s(21)))),
        update(T, ((9, s(20)), (2, s(22)))),
        tombs=((1, s(20)), (2, s(21)), (9, s(22))),
    )
    found = nets(tx)
    first, second, passed = (found[at(T, key)] for key in (1, 2, 9))
    assert (first.before, first.stamp, first.tomb) == (s(10), s(21), s(20))
    assert (second.before, second.stamp, second.tomb) == (s(11), s(22), s(21))
    assert (passed.before, passed.stamp, passed.tomb) == (None, None, s(22))


def test_keys_come_in_the_order_of_their_first_touch():
    tx = transaction(write(T, (3, s(10)), (1, s(10))), delete(T, (2, s(5)), (3, s(10))))
    assert list(nets(tx)) == [at(T, 3), at(T, 1), at(T, 2)]


def test_equal_keys_of_two_tables_are_two_keys():
    tx = transaction(write(T, (1, s(10))), write(OTHER, (1, s(11))))
    found = nets(tx)
    assert found[at(T, 1)].stamp == s(10)
    assert found[at(OTHER, 1)].stamp == s(11)


def test_a_key_rewritten_to_an_equal_spelling_is_not_changed():
    net = only(transaction(update(NAMES, (("anna", s(10)), ("Anna", s(20))))))
    assert (net.before, net.stamp, net.unseen) == (s(10), s(20), None)
    assert net.key == wire_key("Anna"), "the row now has this spelling"


def test_equal_spellings_in_several_operations_are_one_key():
    tx = transaction(
        delete(NAMES, ("anna", s(10))),
        write(NAMES, ("ANNA", s(20))),
        tombs=(("anna", s(19)),),
    )
    net = only(tx)
    assert (net.before, net.stamp, net.tomb, net.key) == (s(10), s(20), s(19), wire_key("ANNA"))


def test_a_tombstone_in_another_spelling_belongs_to_the_row():
    net = only(transaction(delete(NAMES, ("anna", s(10))), tombs=(("ANNA", s(20)),)))
    assert net.tomb == s(20)


def test_a_partial_image_is_a_row_without_image():
    tx = Transaction("a:1", 0, partial=[Partial(T, wire_key(1), True, s(20))])
    net = only(tx)
    assert (net.partial, net.stamp, net.op) == (True, s(20), -1)
    tx = Transaction("a:1", 0, partial=[Partial(T, wire_key(1), True, None)])
    assert only(tx).stamp == ZERO


def test_a_partial_image_after_a_full_one_hides_its_image():
    tx = transaction(write(T, (1, s(10))), partial=[Partial(T, wire_key(1), True, s(20))])
    net = only(tx)
    assert (net.partial, net.stamp, net.op) == (True, s(20), -1)


@pytest.mark.parametrize("shown", [None, s(10)])
def test_a_full_image_after_a_partial_delete_is_the_row(shown):
    """REPLACE with all columns in a session that logs no more of what it deletes than the key."""
    tx = transaction(
        write(T, (1, s(20))),
        partial=[Partial(T, wire_key(1), False, shown, behind=0)],
        tombs=((1, s(19)),),
    )
    net = only(tx)
    assert (net.partial, net.stamp, net.op, net.tomb) == (False, s(20), 0, s(19))


def test_a_full_image_between_two_partial_ones_is_not_the_row():
    one = Partial(T, wire_key(1), False, None, behind=0)
    net = only(transaction(write(T, (1, s(20))), partial=[one, one._replace(behind=1)]))
    assert (net.stamp, net.op) == (None, -1)


def test_a_partial_delete():
    tx = Transaction(
        "a:1", 0,
        partial=[Partial(T, wire_key(1), False, s(10))],
        tombstones=[(T.digest, wire_key(1), s(20))],
    )  # fmt: skip
    net = only(tx)
    assert (net.partial, net.stamp, net.tomb, net.unseen) == (False, None, s(20), s(10))


def test_a_partial_image_of_a_key_that_then_goes():
    tx = Transaction(
        "a:1", 0,
        partial=[Partial(T, wire_key(1), True, s(20)), Partial(T, wire_key(1), False, s(20))],
        tombstones=[(T.digest, wire_key(1), s(21))],
    )  # fmt: skip
    net = only(tx)
    assert (net.stamp, net.tomb) == (None, s(21))


def test_keys_of_an_operation():
    assert write(T, (1, s(1)), (1, s(2))).wire_keys() == [wire_key(1), wire_key(1)]
    changes = update(T, ((1, s(1)), (1, s(2))), ((1, s(2)), (2, s(3))))
    assert changes.wire_keys() == [wire_key(1), wire_key(1), wire_key(2)]


def test_a_table_has_a_title():
    assert T.title == "shop.t"


def test_a_delete_and_its_tombstone_meet_though_the_table_was_defined_anew_since():
    """The newest form known may be of a definition that comes later in the binlog."""
    newer = number_table()
    assert newer is not T and newer.digest == T.digest
    tx = transaction(delete(T, (1, s(10))), tombs=((1, s(20)),))
    (net,) = net_effects(tx, {T.digest: newer}).values()
    assert (net.table, net.tomb, net.unseen) == (T, s(20), s(10))
    tx = Transaction(
        "a:1", 0,
        partial=[Partial(T, wire_key(1), False, s(10))],
        tombstones=[(T.digest, wire_key(1), s(20))],
    )  # fmt: skip
    (net,) = net_effects(tx, {T.digest: newer}).values()
    assert (net.table, net.tomb) == (T, s(20))
