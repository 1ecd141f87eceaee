"""Mutants of row versions and of what the tailer mends."""

from collections.abc import Iterator

import msgspec

from meshnode.core import resolve
from meshnode.core.mend import Examined, Examiner, Reason, to_item
from meshnode.core.plain import Plain
from meshnode.core.resolve import Local, decide
from meshnode.core.stamp import ZERO, Stamp, lifted
from meshnode.core.wire import REMOVE

from .applying import Applying
from .mender import Mender
from .mutants import everywhere, mutant, replaced, rules_of
from .table import key_of


def without(reason: Reason):
    """``Examiner.judge`` that lifts nothing for ``reason``."""

    def make(judge):
        def blind(self, net, tombstone):
            found = judge(self, net, tombstone)
            return None if found is reason else found

        return blind

    return make


@mutant(
    "Stamps: the order of versions is total, (time, region)",
    aims=("hot", ""),
    shown=rules_of("deciding", "test_versions_of_one_time_are_told_apart_by_their_region"),
)
def stamps_without_the_region() -> Iterator[None]:
    def bare(stamp):
        return None if stamp is None else Stamp(stamp.ts, 0)

    def make(decide):
        return lambda outcome, new, local: decide(
            outcome, bare(new), Local(bare(local.row), bare(local.tomb))
        )

    with everywhere(decide, make):
        yield


@mutant(
    "Tombstones: a tombstone's stamp never falls",
    aims=("hot", ""),
    shown=rules_of("deciding", "test_a_tombstone_never_falls"),
)
def tombstones_fall() -> Iterator[None]:
    def make(_):
        return lambda outcome, new, tomb: new if outcome == REMOVE else tomb

    def write(write_tombstones):
        def lowering(self, tx, plan):
            for at, stamp in plan.tombstones.items():
                before = plan.before.get(at)
                if before is not None and before.tomb is not None and before.tomb > stamp:
                    yield from self.take(tx, ~key_of(at[1]))
                    self.database.bury(tx, key_of(at[1]), stamp)
            yield from write_tombstones(self, tx, plan)

        return lowering

    with everywhere(resolve.raised, make), replaced(Applying, "write_tombstones", write):
        yield


@mutant(
    "Version replaced: an insert replaces its key's tombstone, so the tailer looks at it",
    aims=("hot", ""),
    shown=rules_of("mending", "test_the_tombstone_of_an_insert_is_looked_at"),
)
def the_tailer_ignores_tombstones() -> Iterator[None]:
    with (
        replaced(Examiner, "judge", lambda judge: lambda self, net, _: judge(self, net, None)),
        replaced(
            Plain,
            "stands",
            lambda stands: lambda self, promised, found, locked: stands(self, promised, (), ()),
        ),
    ):
        yield


@mutant(
    "Version replaced: also the tombstone that the transaction wrote itself",
    aims=("hot", ""),
    shown=rules_of("mending", "test_the_tombstone_of_the_own_transaction_counts"),
)
def a_tombstone_of_the_own_transaction_does_not_count() -> Iterator[None]:
    def make(judge):
        def blind(self, net, tombstone):
            found = judge(self, net, tombstone)
            own = found is Reason.REPLACED and net.tomb is not None and net.stamp <= net.tomb
            return None if own else found

        return blind

    with replaced(Examiner, "judge", make):
        yield


@mutant(
    "Lift: an upsert that is not above the version replaced is lifted",
    aims=("clocks", ""),
    shown=rules_of("mending", "test_a_stamp_that_did_not_rise_is_lifted"),
)
def a_stamp_that_did_not_rise_is_published() -> Iterator[None]:
    with replaced(Examiner, "judge", without(Reason.REPLACED)):
        yield


@mutant(
    "Lift: also when it is equal to the version replaced",
    aims=("clocks", "hot", ""),
    shown=rules_of("mending", "test_a_stamp_that_stayed_is_lifted"),
)
def lifted_when_below_but_not_when_equal() -> Iterator[None]:
    def make(judge):
        def lenient(self, net, tombstone):
            found = judge(self, net, tombstone)
            if found is Reason.REPLACED and net.stamp == net.replaced:
                found = judge(self, _above(net), tombstone)
            if found is Reason.TOMBSTONE and net.stamp == tombstone:
                return None
            return found

        return lenient

    with replaced(Examiner, "judge", make):
        yield


def _above(net):
    """The same effect, but it replaced nothing."""
    return msgspec.structs.replace(net, replaced=Stamp(0, 0))


@mutant(
    "Lift: an upsert at or below the promised frontier is lifted",
    aims=("frontier", ""),
    shown=rules_of("mending", "test_nothing_is_published_below_the_promise"),
)
def the_promise_is_not_enforced() -> Iterator[None]:
    with (
        replaced(Examiner, "judge", without(Reason.PROMISE)),
        replaced(
            Plain,
            "stands",
            lambda stands: lambda self, promised, found, locked: stands(self, 0, found, locked),
        ),
    ):
        yield


@mutant(
    "Lift: an upsert whose stamp is not of this region is lifted",
    aims=("cascade", ""),
    shown=rules_of("mending", "test_foreign_stamps_are_not_published"),
)
def foreign_and_missing_stamps_are_published() -> Iterator[None]:
    with replaced(Examiner, "judge", without(Reason.ORIGIN)):
        yield


@mutant(
    "Lift: a row whose image is not full is lifted, not published",
    aims=("partial",),
    shown=rules_of("mending", "test_partial_images_are_not_published"),
)
def partial_images_are_published() -> Iterator[None]:
    with replaced(Examiner, "judge", without(Reason.PARTIAL)):
        yield


@mutant(
    "Held back: what cannot be looked at, because somebody holds it",
    aims=("looks",),
    shown=rules_of("mending", "test_a_tombstone_that_is_locked_counts"),
)
def what_could_not_be_looked_at_is_published() -> Iterator[None]:
    def make(look_up):
        def trusting(self, ordinary, nets):
            found, _ = yield from look_up(self, ordinary, nets)
            return found, set()

        return trusting

    with replaced(Mender, "look_up", make):
        yield


@mutant(
    "Lift: the stamp is written with BINLOG, above what was replaced, not through the trigger",
    aims=("clocks", "hot", ""),
    shown=rules_of("mending", "test_a_lift_is_above_what_was_replaced"),
)
def lifted_through_the_trigger() -> Iterator[None]:
    def make(_):
        return lambda clock, seen, replaced, promised: max(clock, seen + 1)

    with everywhere(lifted, make):
        yield


@mutant(
    "Lift: above all that the row is known to have replaced, not its base alone",
    aims=("settle",),
    shown=rules_of("late_tombstones", "test_a_lift_is_above_a_late_tombstone_that_waits"),
)
def lifted_above_the_base_alone() -> Iterator[None]:
    def make(examine):
        def only_above_the_base(self, *arguments):
            examined = examine(self, *arguments)
            for lift in examined.lifts.values():
                lift.above = ZERO
            return examined

        return only_above_the_base

    with replaced(Examiner, "examine", make):
        yield


@mutant(
    "Lift: the new stamp is above the promise too",
    aims=("frontier", ""),
    shown=rules_of("mending", "test_a_lift_regards_the_promise"),
)
def lifted_without_regard_to_the_promise() -> Iterator[None]:
    def make(lifted):
        return lambda clock, seen, replaced, promised: lifted(clock, seen, replaced, 0)

    with everywhere(lifted, make):
        yield


@mutant(
    "Late tombstone: a delete that no trigger saw gets one",
    aims=("cascade", ""),
    shown=rules_of("mending", "test_a_delete_that_no_trigger_saw_is_published"),
)
def late_tombstones_are_left_out() -> Iterator[None]:
    def make(examine):
        def blind(self, tx, nets, tombstones, locked=frozenset()):
            kept = dict(tombstones)
            examined = examine(self, tx, nets, tombstones, locked)
            examined.late.clear()
            tombstones.clear()
            tombstones.update(kept)
            return examined

        return blind

    with replaced(Examiner, "examine", make), everywhere(to_item, _inexact):
        yield


def _inexact(to_item):
    """Items that lack an entry say so, or the receiver refuses them before it sees the fault."""

    def make(examined: Examined, *others):
        item = to_item(examined, *others)
        if item is not None and item.exact and len(item.entries) < len(examined.nets):
            item.exact = False
        return item

    return make


@mutant(
    "Late tombstone: also of a delete before a re-insert that is lifted",
    aims=("forged",),
    shown=rules_of("late_tombstones", "test_a_delete_before_a_lifted_insert_gets_one"),
)
def a_delete_hidden_by_a_lifted_insert_has_no_tombstone() -> Iterator[None]:
    def make(examine):
        def blind(self, tx, nets, tombstones, locked=frozenset()):
            kept = dict(tombstones)
            examined = examine(self, tx, nets, tombstones, locked)
            for at in [at for at in examined.late if examined.nets[at].stamp is not None]:
                del examined.late[at]
                tombstones.pop(at)
                if at in kept:
                    tombstones[at] = kept[at]
            return examined

        return blind

    with replaced(Examiner, "examine", make):
        yield


@mutant(
    "Late tombstone: its stamp follows from the row that went, not from the clock",
    aims=("frontier", ""),
    shown=rules_of("late_tombstones", "test_a_late_tombstone_is_dated_by_what_went"),
)
def late_tombstones_take_the_clock() -> Iterator[None]:
    """The oracle is told the stamps: it knows such deletes by those that they should have."""
    menders: list[Mender] = []

    def watch(draft):
        def watched(self, batch):
            menders[:] = [self]
            return draft(self, batch)

        return watched

    def make(examine):
        def by_clock(self, tx, nets, tombstones, locked=frozenset()):
            examined = examine(self, tx, nets, tombstones, locked)
            database = menders[0].database
            for at, late in examined.late.items():
                kept = late.stamp
                late.stamp = max(kept, Stamp(database.clock, self.own))
                tombstones[at] = max(tombstones[at], late.stamp)
                deletes, key = database.journal.deletes, key_of(late.key)
                if (key, kept) in deletes:
                    deletes[key, late.stamp] = deletes[key, kept]
            return examined

        return by_clock

    with replaced(Mender, "draft", watch), replaced(Examiner, "examine", make):
        yield


@mutant(
    "Late tombstone: what follows in the batch must be above it",
    aims=("after",),
    shown=rules_of("mending", "test_a_late_tombstone_counts_for_what_follows"),
)
def late_tombstones_do_not_count_for_what_follows() -> Iterator[None]:
    def make(examine):
        return lambda self, tx, nets, tombstones, locked=frozenset(): examine(
            self, tx, nets, dict(tombstones), locked
        )

    with replaced(Examiner, "examine", make):
        yield


@mutant(
    "Net effect: it never hides a tombstone whose upsert is not itself published",
    aims=("undone",),
    shown=rules_of("late_tombstones", "test_the_net_effect_hides_no_tombstone"),
)
def the_net_effect_hides_a_tombstone() -> Iterator[None]:
    def make(to_item):
        def hiding(examined: Examined, *others):
            nets = {
                at: msgspec.structs.replace(net, tomb=None) if at in examined.lifts else net
                for at, net in examined.nets.items()
            }
            late = {at: each for at, each in examined.late.items() if at not in examined.lifts}
            return to_item(Examined(examined.tx, nets, examined.lifts, late), *others)

        return hiding

    with everywhere(to_item, make):
        yield
