"""Mutants of rules that live in the tailer, the mender and the start of a node.

The decisions are the core's; the order of statements, what is locked, and what is
committed with what are the actors'.  The model's actors do as the node's do, step by
step, and these mutants change a step.
"""

from collections.abc import Iterator

from meshnode.core.mend import Fate, LateTombstone
from meshnode.core.stamp import ZERO, Stamp
from meshnode.core.wire import Claim, Frame

from .client import Client
from .database import MEMBER
from .heart import Heart
from .mender import Mender
from .mending import Mending
from .mutants import mutant, replaced, rules_of
from .origin import INCARNATION, VERSION, Origin


@mutant(
    "Tombstones: a trigger never lowers one that is there",
    aims=("cascade", "clocks", ""),
    shown=rules_of("stamps", "test_a_trigger_never_lowers_a_tombstone"),
)
def a_trigger_lowers_a_tombstone() -> Iterator[None]:
    def make(tombstone):
        def lowering(self, tx, key, old):
            yield from tombstone(self, tx, key, old)
            # What the trigger would have written, had it not looked.
            stamp = Stamp(max(self.database.clock, old.ts + 1), self.database.number)
            if self.database.records.get(~key, ZERO) > stamp:
                self.database.bury(tx, key, stamp)

        return lowering

    with replaced(Client, "_tombstone", make):
        yield


@mutant(
    "Version replaced: the tailer looks at tombstones with a locking read",
    aims=("lags",),
    shown=rules_of("looking", "test_the_tailer_looks_at_tombstones_under_a_lock"),
)
def the_tailer_looks_without_a_lock() -> Iterator[None]:
    def make(_):
        def plain(self, keys):
            found = ((key, self.database.plain(None, ~key)) for key in keys)
            return {key: stamp for key, stamp in found if stamp is not None}

        return plain

    with replaced(Mender, "look_at", make):
        yield


@mutant(
    "Lift: if the row was changed meanwhile, a record says so",
    aims=("cascade", "locks", ""),
    shown=rules_of("looking", "test_an_overtaken_lift_leaves_a_record"),
)
def an_overtaken_lift_leaves_no_record() -> Iterator[None]:
    with replaced(Mending, "record_overtaken", lambda _: lambda self, tx, lift: None):
        yield


@mutant(
    "Lift: it is written only over the stamp that was judged",
    aims=("cascade", "hot", ""),
    shown=rules_of("looking", "test_only_the_row_that_was_judged_is_lifted"),
)
def a_lift_takes_whatever_row_stands() -> Iterator[None]:
    with replaced(Mending, "is_seen", lambda _: lambda self, lift, row: True):
        yield


@mutant(
    "Late tombstone: write it first, then look at the row",
    aims=("cascades",),
    shown=rules_of("late_tombstones", "test_a_late_tombstone_is_written_before_the_look"),
)
def a_late_tombstone_looks_first() -> Iterator[None]:
    def make(_):
        def reversed_order(self, tx, by_key):
            yield from self.look_below(tx, by_key)
            yield self.step()
            yield from self.write_late(tx, by_key)

        return reversed_order

    with replaced(Mending, "bury_all", make):
        yield


@mutant(
    "Late tombstone: a row of another region's origin below it goes",
    aims=("cascade", ""),
    shown=rules_of("late_tombstones", "test_a_late_tombstone_takes_what_it_beats"),
)
def a_late_tombstone_leaves_what_it_beats() -> Iterator[None]:
    with replaced(LateTombstone, "takes", lambda _: lambda self, row, own: False):
        yield


@mutant(
    "Late tombstone: a row of origin 0 is newer and stays",
    aims=("bare", "cascade", ""),
    shown=rules_of("late_tombstones", "test_an_unstamped_row_is_newer_than_a_late_tombstone"),
)
def a_late_tombstone_takes_an_unstamped_row() -> Iterator[None]:
    def greedy(_):
        return lambda self, row, own: row < self.stamp and row.origin != own

    with replaced(LateTombstone, "takes", greedy):
        yield


@mutant(
    "Late tombstone: a row of the own origin is newer and stays",
    aims=("bare", "cascade", ""),
    shown=rules_of("late_tombstones", "test_an_own_row_is_newer_than_a_late_tombstone"),
)
def a_late_tombstone_takes_an_own_row() -> Iterator[None]:
    def greedy(_):
        return lambda self, row, own: row < self.stamp and row.origin != 0

    with replaced(LateTombstone, "takes", greedy):
        yield


@mutant(
    "Order: mending is committed before the frame that passes it is appended",
    aims=("epochs", "cascade", ""),
    shown=rules_of("taking_over", "test_mending_is_committed_before_the_append"),
)
def mending_after_the_append() -> Iterator[None]:
    """Each draft takes its mending along, and the publisher does it behind the append."""
    put_off: dict[int, tuple] = {}
    real = Mender.mend

    def later(_):
        def mend(self, examined):
            for each in examined:
                for lift in each.lifts.values():
                    lift.fate = Fate.LIFTED
            self.put_off = examined
            return
            yield

        return mend

    def carried(draft):
        def drafting(self, batch):
            found = yield from draft(self, batch)
            if found.items:
                put_off[id(found.items)] = (found.items, self, self.put_off)
            else:
                yield from real(self, self.put_off)
            return found

        return drafting

    def behind(append):
        def appending(self, record):
            position = yield from append(self, record)
            if isinstance(record, Frame):
                _, mender, examined = put_off.pop(id(record.items))
                yield from real(mender, examined)
            return position

        return appending

    with (
        replaced(Mender, "mend", later),
        replaced(Mender, "draft", carried),
        replaced(Origin, "append", behind),
    ):
        yield


@mutant(
    "Loop: only local transactions are published",
    shown=rules_of("streams", "test_applied_transactions_are_not_published"),
)
def applied_transactions_are_published() -> Iterator[None]:
    with replaced(Mender, "is_applied", lambda _: lambda self, logged: False):
        yield


@mutant(
    "Loop: never decide by the origin column alone what is local",
    aims=("cascade", "hot", ""),
    shown=rules_of("streams", "test_the_origin_column_does_not_say_what_is_local"),
)
def the_loop_is_decided_by_the_origin_column() -> Iterator[None]:
    def make(_):
        def by_column(self, logged):
            stamps = [(after or before)[0] for _, _, before, _, after in logged.changes]
            stamps += [stamp for _, stamp in logged.tombs]
            return bool(stamps) and stamps[0].origin not in (self.number, 0)

        return by_column

    with replaced(Mender, "is_applied", make):
        yield


@mutant(
    "Taking over: the tailer trusts no checkpoint but the end of its own topic",
    aims=("epochs", ""),
    shown=rules_of("taking_over", "test_the_end_of_the_own_topic_counts"),
)
def a_checkpoint_of_its_own() -> Iterator[None]:
    def remember(read_own_end):
        def reading(self, member, end):
            self.saved = member.tail.resume
            return read_own_end(self, member, end)

        return reading

    def trust(_):
        return lambda self, ledger: int(self.saved) if self.saved else self.region.since

    with replaced(Origin, "read_own_end", remember), replaced(Origin, "first_position", trust):
        yield


@mutant(
    "Huge transactions: the resume position moves only with the last part",
    aims=("huge", "epochs", ""),
    shown=rules_of("claims", "test_the_position_moves_with_the_last_part"),
)
def the_position_moves_with_each_part() -> Iterator[None]:
    with replaced(Mender, "_resume", lambda _: lambda self, number, part: number + (part > 0)):
        yield


@mutant(
    "Taking over: a new process claims the stream under an epoch of its own",
    aims=("epochs", ""),
    shown=rules_of("claims", "test_each_process_claims_the_stream"),
)
def no_claim() -> Iterator[None]:
    """The epochs in MySQL stay; in the topic there is only the first."""

    def silent(_):
        def claim(self, epoch):
            return (yield from self.append(Claim(VERSION, "shop", self.number, INCARNATION, 1)))

        return claim

    def unsigned(append):
        def appending(self, record):
            record.epoch = 1
            return (yield from append(self, record))

        return appending

    def content(read_own_end):
        def reading(self, member, end):
            tail = member.tail
            tail = tail._replace(epoch=min(1, tail.epoch))
            ledger = read_own_end(self, member._replace(tail=tail), end)
            ledger.epoch = member.epoch
            return ledger

        return reading

    with (
        replaced(Origin, "claim", silent),
        replaced(Origin, "append", unsigned),
        replaced(Origin, "read_own_end", content),
    ):
        yield


@mutant(
    "Taking over: go on after the last valid item, not after the last",
    aims=("epochs", ""),
    shown=rules_of("taking_over", "test_the_last_item_that_counts_is_the_last"),
)
def the_last_item_counts_valid_or_not() -> Iterator[None]:
    def make(read_own_end):
        def trusting(self, member, end):
            ledger = read_own_end(self, member, end)
            for place in range(end - 1, -1, -1):
                record = self.region.topic.record(place)
                if isinstance(record, Frame):
                    ledger.seq, ledger.resume = record.items[-1].seq, record.resume
                    break
            return ledger

        return trusting

    with replaced(Origin, "read_own_end", make):
        yield


@mutant(
    "Taking over: read forward to the own claim",
    aims=("epochs", ""),
    shown=rules_of("taking_over", "test_the_topic_is_read_to_the_own_claim"),
)
def the_end_is_read_before_the_claim() -> Iterator[None]:
    """What lands between is not seen."""

    def early(epoch_to_claim):
        def raising(self):
            self.end_before = len(self.region.topic)
            return (yield from epoch_to_claim(self))

        return raising

    def make(read_own_end):
        def reading(self, member, end):
            ledger = read_own_end(self, member, max(self.end_before, member.tail.position))
            ledger.epoch = member.epoch
            return ledger

        return reading

    with replaced(Origin, "epoch_to_claim", early), replaced(Origin, "read_own_end", make):
        yield


@mutant(
    "Taking over: member.tail is written under the own epoch only",
    aims=("epochs", ""),
    shown=rules_of("taking_over", "test_a_dead_process_does_not_move_the_tail"),
)
def a_dead_process_moves_the_tail() -> Iterator[None]:
    def make(beat):
        def careless(self):
            member = self.database.records[MEMBER]
            epoch, self.node.epoch = self.node.epoch, member.epoch
            try:
                return (yield from beat(self))
            finally:
                self.node.epoch = epoch

        return careless

    with replaced(Heart, "beat", make):
        yield
