"""Mutants of rules about keys and about tables: which key a row has, and from where it counts."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from meshnode.core.mend import Examined, to_item
from meshnode.core.wire import UPDATE
from meshnode.ops.alignment import Action, Decision

from . import joining
from .joining import Joining
from .mutants import constant, everywhere, mutant, replaced, rules_of
from .table import TABLES


@mutant(
    "Keys: an update that changes the key is a delete of the old and a write of the new",
    shown=rules_of("mending", "test_a_changed_key_is_a_delete_too"),
)
def a_key_change_is_a_write_of_the_new_key_alone() -> Iterator[None]:
    """The items without the old key say so, or the receiver refuses them first."""

    def make(to_item):
        def one_sided(examined: Examined, *others):
            left = {
                op.table.fold(pair[2])
                for op in examined.tx.ops
                if op.kind == UPDATE
                for pair in op.found
                if op.table.fold(pair[2]) != op.table.fold(pair[6])
            }
            gone = {at for at, net in examined.nets.items() if net.stamp is None and at[1] in left}
            item = to_item(examined, *others)
            if item is not None and gone:
                wires = {examined.nets[at].key for at in gone}
                item.entries = [each for each in item.entries if each.key not in wires]
                item.exact = False
            return item

        return one_sided

    with everywhere(to_item, make):
        yield


@mutant(
    "Keys: those that the collation calls equal are one key",
    aims=("words",),
    shown=rules_of("stamps", "test_keys_are_folded_by_weights"),
)
def keys_are_told_apart_by_their_bytes() -> Iterator[None]:
    with ExitStack() as stack:
        for table in TABLES:
            if table.folds is not None:
                kept = dict(table.folds)
                stack.callback(table.folds.update, kept)
                table.folds.update({wire: wire for wire in kept})
        yield


@mutant(
    "Tables: what was written before one joined is told by its stamp and what stood, not by the"
    " clock alone",
    aims=("stepped",),
    shown=rules_of("joining", "test_what_was_stamped_before_a_clock_stepped_back_is_compared"),
)
def the_clock_alone_says_what_was_before_a_table_joined() -> Iterator[None]:
    with replaced(Joining, "newest_us", lambda _: lambda self, database: 0):
        yield


def the_tombstone_wins(decide: Callable[..., Decision]) -> Callable[..., Decision]:
    """``decide`` that takes a tombstone for newer than the row that stands below it."""

    def blind(states, *others):
        found = decide(states, *others)
        if found.action is not Action.LIFT_ROW or found.seen == found.above:
            return found
        above = found.above
        holder = min(region for region, state in states.items() if state.tombstone == above)
        return Decision(Action.LIFT_TOMBSTONE, holder, above, above)

    return blind


@mutant(
    "Tables: a row that stands below its tombstone when one joins was written after the delete",
    aims=("again",),
    shown=rules_of("joining", "test_what_was_stamped_before_a_clock_stepped_back_is_compared"),
)
def a_tombstone_is_newer_than_the_row_below_it() -> Iterator[None]:
    with constant(joining, "decide", the_tombstone_wins(joining.decide)):
        yield
