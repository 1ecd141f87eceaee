"""The tailer and mender of a region: from its binlog to drafts of frames.

The same steps in the same order as the node's ``actors/mender.py``: read, look up the
tombstones, let the core judge, mend, and only when that is committed hand the draft on.
"""

from collections.abc import Generator, Iterable

from meshnode.core.change import Mended, Net, NetKey, Transaction, net_effects
from meshnode.core.mend import (
    Examined,
    Examiner,
    Fate,
    Lift,
    Removed,
    keys_to_look_up,
    to_item,
)
from meshnode.core.plain import Plain, plain, plain_item
from meshnode.core.stamp import ZERO, Stamp
from meshnode.core.wire import Item

from .clockwork import Steps
from .database import MEND
from .mending import Mending
from .table import TABLE, Logged, key_of, row_ops, wire_key

KNOWN = {TABLE.digest: TABLE}
NUMBERS = {TABLE: 0}


class Draft:
    """A frame without its numbers."""

    __slots__ = ("beats", "ends", "items", "promised", "resume")

    def __init__(self, promised: int, resume: int, items: list[Item], ends: bool) -> None:
        self.promised = promised
        self.resume = resume
        self.items = items
        self.ends = ends


class Mender(Mending):
    """Turns what the binlog has from ``resume`` on into drafts."""

    def start(self, promised: int, resume: int) -> None:
        """Begin behind ``resume`` transactions, with the promise that the stream has shown."""
        self.examiner = Examiner(self.number, promised)
        self.removed = Removed(self.node.removals)
        self.at = (resume, 0)
        self.resume = resume
        self.held: dict[int, Mended] = {}
        self.late: dict[int, Stamp] = {}
        for record, value in self.database.records.items():
            if MEND <= record < MEND + 1000:
                note = self.database.plain(None, record)
                if note is not None:
                    self.held[record - MEND] = value[0]

    # Reading

    def is_applied(self, logged: Logged) -> bool:
        """Whether the mesh itself applied it: its first row event is that of ``applied``."""
        return logged.applied

    def passes_over(self, logged: Logged) -> bool:
        """Whether nothing of it is for the stream."""
        return self.is_applied(logged) or logged.activates

    def at_end(self) -> bool:
        """Whether there is nothing more to publish; what is not for the stream is passed over."""
        binlog = self.database.binlog
        number, part = self.at
        while number < len(binlog) and self.passes_over(binlog[number]):
            number += 1
        self.at = (number, part)
        return number >= len(binlog)

    def read(self, most: int) -> list[Transaction]:
        """The next local transactions, or parts of them."""
        batch: list[Transaction] = []
        binlog = self.database.binlog
        number, part = self.at
        while number < len(binlog) and len(batch) < most:
            logged = binlog[number]
            if self.passes_over(logged):
                number += 1
                continue
            tx = self._transaction(logged, number, part)
            batch.append(tx)
            number, part = (number + 1, 0) if tx.last else (number, part + 1)
        self.at = (number, part)
        self.resume = self._resume(number, part)
        return batch

    def _resume(self, number: int, part: int) -> int:
        """Whole transactions passed: one that is read in parts counts with its last."""
        return number

    def _transaction(self, logged: Logged, number: int, part: int) -> Transaction:
        changes, tombs = logged.changes, logged.tombs
        last = True
        if logged.cuts:
            cuts = [(0, 0), *logged.cuts, (len(changes), len(tombs))]
            (low, first), (high, end) = cuts[part], cuts[part + 1]
            changes, tombs = changes[low:high], tombs[first:end]
            last = part + 2 == len(cuts)
        tx = Transaction(f"{self.number}:{number + 1}", logged.commit_us, part, last)
        if logged.partial:
            for _, key, _, to, row in changes:
                if row is None or key != to:
                    tx.partial.append((TABLE, wire_key(key), False, None))
                if row is not None:
                    tx.partial.append((TABLE, wire_key(to), True, row[0]))
        else:
            tx.ops = row_ops(changes)
        if tombs:
            tx.tombstones = [(TABLE.digest, wire_key(key), stamp) for key, stamp in tombs]
        if logged.mended:
            tx.mended = {(TABLE.digest, wire_key(key)): note for key, note in logged.mended.items()}
        tx.beat = logged.beat
        return tx

    # The draft

    def draft(self, batch: list[Transaction]) -> Generator[int | None, None, Draft]:
        """The draft of one batch, whatever it needs mended being committed."""
        promised, resume = self.examiner.promised, self.resume
        ordinary = [
            None if self.held else plain(tx, self.examiner.own, NUMBERS) for tx in batch
        ]  # fmt: skip
        nets = {
            place: net_effects(tx, KNOWN)
            for place, (tx, index) in enumerate(zip(batch, ordinary))
            if index is None
        }
        self._add_held_bases(nets.values())
        tombstones, locked = yield from self.look_up(ordinary, nets.values())
        self.add_late(ordinary, nets.values(), tombstones)
        examined: dict[int, Examined] = {}
        for place, (tx, index) in enumerate(zip(batch, ordinary)):
            if index is not None:
                if index.stands(self.examiner.promised, tombstones, locked):
                    continue
                nets[place] = net_effects(tx, KNOWN)
            examined[place] = self.examiner.examine(tx, nets[place], tombstones, locked)
        yield from self.mend(list(examined.values()))
        items = self.items(batch, ordinary, examined, tombstones)
        return Draft(promised, resume, items, batch[-1].last)

    def look_up(
        self, ordinary: Iterable[Plain | None], nets: Iterable[dict[NetKey, Net]]
    ) -> Generator[int | None, None, tuple[dict[NetKey, Stamp], set[NetKey]]]:
        """The tombstones of what was written, under locks; and the keys that are locked."""
        wanted = self._wanted(ordinary, nets)
        found: dict[NetKey, Stamp] = {}
        if not wanted:
            return found, set()
        if self.node.slowness:
            yield self.step()
        keys = sorted(key_of(wire) for _, wire in wanted)

        def work(chunk: list[int]) -> Steps:
            for key, stamp in self.look_at(chunk).items():
                found[TABLE, wire_key(key)] = stamp
            return
            yield

        locked = yield from self.halve(keys, work)
        if locked:
            self.counts["tombstone locked at the look"] += len(locked)
        return found, {(TABLE, wire_key(key)) for key in locked}

    def look_at(self, keys: list[int]) -> dict[int, Stamp]:
        """One statement, which commits by itself."""
        return self.database.look(keys, True)

    def mend(self, examined: list[Examined]) -> Steps:
        """Bury, then lift; a key only once, an earlier touch in the batch is superseded."""
        lifts: dict[NetKey, Lift] = {}
        early: list[Lift] = []
        for each in examined:
            for at, lift in each.lifts.items():
                if at in lifts:
                    early.append(lifts.pop(at))
                lifts[at] = lift
        late = [tombstone for each in examined for tombstone in each.late.values()]
        if not late and not lifts:
            return
        for tombstone in (yield from self.bury(late)):
            yield from self.hold_late(tombstone)
            key = key_of(tombstone.key)
            self.late[key] = max(tombstone.stamp, self.late.get(key, ZERO))
        yield from self.lift(early)
        yield from self.lift(list(lifts.values()))
        for lift in (*early, *lifts.values()):
            if lift.fate is Fate.HELD:
                self.held[key_of(lift.key)] = Mended(
                    lift.seen or lift.base, lift.base, lift.base_row
                )

    def items(
        self,
        batch: list[Transaction],
        ordinary: list[Plain | None],
        examined: dict[int, Examined],
        tombstones: dict[NetKey, Stamp],
    ) -> list[Item]:
        """What is published of each transaction."""
        items = []
        for place, (tx, index) in enumerate(zip(batch, ordinary)):
            each = examined.get(place)
            if each is None and self.held:
                # What was held back just now may be what this one wrote over.
                each = Examined(tx, net_effects(tx, KNOWN), {}, {})
            if each is None:
                item = plain_item(tx, index, NUMBERS)
                self.counts["plain"] += 1
            else:
                item = to_item(each, tombstones, self._bases(each), NUMBERS, self.removed)
            if item is not None:
                items.append(item)
        return items

    def add_late(
        self,
        ordinary: Iterable[Plain | None],
        nets: Iterable[dict[NetKey, Net]],
        tombstones: dict[NetKey, Stamp],
    ) -> None:
        """A published delete counts, also while its tombstone waits for a lock."""
        for at in self._wanted(ordinary, nets) if self.late else ():
            stamp = self.late.get(key_of(at[1]))
            if stamp is not None and tombstones.get(at, ZERO) >= stamp:
                del self.late[key_of(at[1])]
            elif stamp is not None:
                tombstones[at] = stamp

    def _wanted(
        self, ordinary: Iterable[Plain | None], nets: Iterable[dict[NetKey, Net]]
    ) -> dict[NetKey, None]:
        """The keys whose tombstones decide whether an upsert stands."""
        wanted: dict[NetKey, None] = {}
        for index in ordinary:
            if index is not None:
                wanted.update(((TABLE, key), None) for key in index.keys[TABLE])
        for at in keys_to_look_up(nets):
            wanted[at] = None
        return wanted

    def _add_held_bases(self, nets: Iterable[dict[NetKey, Net]]) -> None:
        """A write over a version that was held back has replaced what that one replaced, too."""
        if not self.held:
            return
        for each in nets:
            for net in each.values():
                note = self.held.get(key_of(net.key))
                if note is not None:
                    net.replaced = max(net.replaced, note.base)

    def _bases(self, examined: Examined) -> dict[NetKey, Mended]:
        """What rows of this transaction replaced that the stream has never shown."""
        if not self.held and not examined.tx.mended:
            return {}
        found: dict[NetKey, Mended] = {}
        for at, net in examined.nets.items():
            key = key_of(net.key)
            note = examined.tx.mended.get((TABLE.digest, net.key)) or self.held.get(key)
            if note is not None:
                found[at] = note
                if at not in examined.lifts:
                    self.held.pop(key, None)
        return found
