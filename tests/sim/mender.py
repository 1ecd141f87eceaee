"""The tailer and mender of a region: from its binlog to drafts of frames.

The same steps in the same order as the node's ``actors/mender.py``: read, look up the
tombstones, let the core judge, mend, and only when that is committed hand the draft on.
"""

from collections.abc import Generator, Iterable

from meshnode.core.change import (
    Marker,
    Mended,
    Net,
    NetKey,
    Partial,
    Table,
    Transaction,
    net_effects,
)
from meshnode.core.held import HeldBack, in_turn, surely_overtaken, turns
from meshnode.core.mend import Examined, Examiner, Removed, keys_to_look_up, to_item
from meshnode.core.plain import Plain, plain, plain_item
from meshnode.core.stamp import Stamp
from meshnode.core.wire import Item

from .clockwork import Steps
from .database import LATE, LETTERS, MEND
from .journal import WORDS
from .mending import Mending
from .table import AT, TABLES, Logged, key_of, row_ops, spelled, table_of, wire_key

KNOWN = {table.digest: table for table in TABLES}
NUMBERS = {table: number for number, table in enumerate(TABLES)}


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
        self.held = HeldBack()
        self.load()

    def load(self) -> None:
        """Take over what was held back before this life."""
        rows: list[tuple[Marker, Mended]] = []
        late: list[tuple[Marker, Stamp]] = []
        for record in self.database.records:
            entry = self.database.plain(None, record) if MEND <= record < LETTERS else None
            if entry is None:
                continue
            if record >= LATE:
                key = record - LATE
                late.append(((table_of(key).digest, wire_key(key)), entry))
            elif entry.seen is not None:
                note = Mended(entry.seen, entry.base, entry.base_row)
                key = record - MEND
                rows.append(((table_of(key).digest, wire_key(key)), note))
        self.held.load(rows, late)

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
        if number < self.region.words_since:
            changes = [each for each in changes if each[1] < WORDS]
            tombs = [each for each in tombs if each[0] < WORDS]
        tx = Transaction(f"{self.number}:{number + 1}", logged.commit_us, part, last)
        if logged.partial:
            for _, key, _, to, row in changes:
                if row is None or key != to:
                    tx.partial.append(Partial(table_of(key), wire_key(key), False, None))
                if row is not None:
                    tx.partial.append(Partial(table_of(to), wire_key(to), True, row[0]))
        else:
            tx.ops = row_ops(changes)
        if tombs:
            tx.tombstones = [(table_of(key).digest, wire_key(key), stamp) for key, stamp in tombs]
        if logged.mended:
            values = {key: row[1] for *_, key, row in changes if row is not None}
            tx.mended = {
                (table_of(key).digest, spelled(key, values[key])): note
                for key, note in logged.mended.items()
            }
        tx.beat = logged.beat
        return tx

    # The draft

    def draft(self, batch: list[Transaction]) -> Generator[int | None, None, Draft]:
        """The draft of one batch, whatever it needs mended being committed."""
        promised, resume = self.examiner.promised, self.resume
        ordinary = [self._plain(tx) for tx in batch]
        nets = {
            place: net_effects(tx, KNOWN)
            for place, (tx, index) in enumerate(zip(batch, ordinary))
            if index is None
        }
        self.held.raise_replaced(nets.values())
        tombstones, locked = yield from self.look_up(ordinary, nets.values())
        wanted: dict[Table, list[bytes]] = {}
        for (table, _), key in self._wanted(ordinary, nets.values()).items():
            wanted.setdefault(table, []).append(key)
        self.held.raise_tombstones(wanted, tombstones, promised)
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

    def _plain(self, tx: Transaction) -> Plain | None:
        """The index of an ordinary transaction, one that touches nothing held back."""
        index = plain(tx, self.examiner.own, NUMBERS)
        return None if index is None or self.held.touched_by(index) else index

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
                found[AT[key]] = stamp
            return
            yield

        locked = yield from self.halve(keys, work)
        if locked:
            self.counts["tombstone locked at the look"] += len(locked)
        return found, {AT[key] for key in locked}

    def look_at(self, keys: list[int]) -> dict[int, Stamp]:
        """One statement, which commits by itself."""
        return self.database.look(keys, True)

    def mend(self, examined: list[Examined]) -> Steps:
        """Bury, then lift; a key only once, an earlier touch in the batch is superseded."""
        superseded, lifts = in_turn(examined)
        late = [tombstone for each in examined for tombstone in each.late.values()]
        if not late and not lifts:
            return
        for tombstone in (yield from self.bury(late)):
            yield from self.hold_late(tombstone)
            self.held.wait(tombstone)
        overtaken = surely_overtaken(superseded, lifts)
        yield from self.overtake(overtaken)
        chains = self.held.chains((*superseded, *lifts))
        for turn in turns([lift for lift in superseded if lift not in overtaken]):
            chains.rebase(turn)
            yield from self.lift(turn)
        chains.rebase(lifts)
        yield from self.lift(lifts)

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
            if each is None and self.held.touched_by(ordinary[place]):
                # What was held back just now may be what this one wrote over.
                each = Examined(tx, net_effects(tx, KNOWN), {}, {})
            if each is None:
                item = plain_item(tx, index, NUMBERS)
                self.counts["plain"] += 1
            else:
                item = to_item(each, tombstones, self.held.bases(each), NUMBERS, self.removed)
            if item is not None:
                items.append(item)
        return items

    def _wanted(
        self, ordinary: Iterable[Plain | None], nets: Iterable[dict[NetKey, Net]]
    ) -> dict[NetKey, bytes]:
        """The keys whose tombstones decide whether an upsert stands, as they were spelled."""
        wanted: dict[NetKey, bytes] = {}
        for index in ordinary:
            if index is not None:
                for table, keys in index.keys.items():
                    wanted.update(((table, table.fold(key)), key) for key in keys)
        for each in nets:
            for at in keys_to_look_up((each,)):
                wanted[at] = each[at].key
        return wanted
