"""One region of the simulation: a database, a tailer that mends, and appliers.

Every method is one atomic step; the schedule (:mod:`.world`) decides what comes
between them.  The tailer takes three steps for a frame: look, mend, append; a
crash may come between any two, and a frame of a dead process may still land
after the claim of its successor.
"""

import contextlib
import random
from collections import defaultdict
from dataclasses import dataclass

from meshnode.core.change import Mended, NetKey, Transaction, net_effects
from meshnode.core.check import check, scan
from meshnode.core.frontier import frontier, gc_limit
from meshnode.core.ledger import Ledger
from meshnode.core.mend import (
    Examined,
    Examiner,
    Fate,
    Lift,
    Reason,
    Removed,
    keys_to_look_up,
    to_item,
)
from meshnode.core.plan import Ancestry, Plan, Work
from meshnode.core.stamp import ZERO, Stamp, lifted
from meshnode.core.wire import (
    DELETE,
    PART,
    UPDATE,
    VERSION,
    WRITE,
    Beat,
    Claim,
    Frame,
    Item,
    Sender,
    decode,
    encode,
)

from .database import Database
from .journal import Journal
from .model import (
    TABLE,
    Locked,
    Logged,
    apply_batch,
    image,
    key_of,
    row_op,
    wire_key,
)

INCARNATION = 7


@dataclass
class Progress:
    """A row of ``applied``."""

    seq: int = 0
    epoch: int = 0
    position: int = 0
    frontier: int = 0
    heard: int = 0


@dataclass
class Draft:
    """A batch on its way through the tailer."""

    epoch: int
    examined: list[Examined]
    tombstones: dict[NetKey, Stamp]
    promised: int
    resume: int
    end: tuple[int, int]
    frame: bytes = b""


class Region(Database):
    """The database, which survives a crash, and the process, which does not."""

    def __init__(self, number: int, rng: random.Random, journal: Journal) -> None:
        super().__init__(number, journal)
        self.rng = rng
        self.applied: dict[int, Progress] = defaultdict(Progress)
        self.promised = 0
        self.epoch = 0
        self.topic: list[bytes] = []
        self.counts: dict[str, int] = defaultdict(int)
        self.start()

    def beat(self) -> None:
        oldest = min((client.began for client in self.clients), default=None)
        heard = max((each.heard for each in self.applied.values()), default=0) or None
        self.promised = frontier(self.clock, oldest, heard, self.promised)
        self.binlog.append(Logged(beat=Beat(1, self.clock, self.promised, "")))

    def collect(self, members: list[int]) -> None:
        """Drop the tombstones that nobody can need."""
        peers = [self.applied[each].frontier for each in members if each != self.number]
        limit = gc_limit(peers, self.published, [])
        for key, stamp in list(self.data.tombs.items()):
            if stamp.ts <= limit and key not in self.locks.tombs:
                del self.data.tombs[key]
                self.counts["collected"] += 1

    # The process

    def start(self) -> None:
        """Claim the stream, fold the topic, go on from where it ends."""
        self.epoch += 1
        self.topic.append(encode(Claim(VERSION, "shop", self.number, INCARNATION, self.epoch)))
        sender = Sender("shop", self.number, str(self.number))
        self.ledger = Ledger(sender.name, INCARNATION)
        for payload in self.topic:
            self.ledger.take(decode(payload, sender))
        assert self.ledger.epoch == self.epoch
        self.published = self.ledger.promised
        self.promised = max(self.promised, self.published)
        self.examiner = Examiner(self.number, self.ledger.promised)
        self.removed = Removed()
        self.at = (int(self.ledger.resume or 0), 0)
        self.resume = self.at[0]
        self.draft: Draft | None = None
        self.held = {key: note for key, (_, note) in self.notes.items()}
        self.ancestry = Ancestry(20, self.number)

    def crash(self) -> None:
        """Die and start again; the frame that was on its way may land too late."""
        late = self.draft.frame if self.draft else b""
        self.counts["crashes"] += 1
        self.start()
        if late and self.rng.random() < 0.5:
            self.counts["late frames"] += 1
            self.topic.append(late)

    def tail(self) -> bool:
        """The next step of the tailer; whether there was anything to do."""
        if self.draft is None:
            return self._look()
        if not self.draft.frame:
            self._mend(self.draft)
        else:
            self._append(self.draft)
        return True

    def _read(self, most: int) -> tuple[list[Transaction], list[int], tuple[int, int]]:
        """Transactions and parts from here on; the transactions that each of them completes."""
        batch: list[Transaction] = []
        passed: list[int] = []
        number, part = self.at
        while number < len(self.binlog) and len(batch) < most:
            logged = self.binlog[number]
            statements = logged.statements
            parts = [[each] for each in statements] if logged.in_parts else [statements]
            tx = Transaction(f"{self.number}:{number + 1}", self.now, part)
            tx.last = part == len(parts) - 1
            for kind, rows, tombs in parts[part]:
                tx.ops.append(row_op(kind, rows))
                tx.tombstones += [(TABLE.digest, wire_key(key), stamp) for key, stamp in tombs]
            tx.mended = {(TABLE.digest, wire_key(key)): note for key, note in logged.mended.items()}
            tx.beat = logged.beat
            batch.append(tx)
            number, part = (number + 1, 0) if tx.last else (number, part + 1)
            passed.append(number)
        return batch, passed, (number, part)

    def _look(self) -> bool:
        batch, passed, end = self._read(self.rng.randint(1, 5))
        if not batch:
            return False
        promised = self.examiner.promised
        nets = [net_effects(tx, {TABLE.digest: TABLE}) for tx in batch]
        tombstones: dict[NetKey, Stamp] = {}
        locked: set[NetKey] = set()
        for at in keys_to_look_up(nets):
            key = key_of(at[1])
            if key in self.locks.tombs:
                locked.add(at)
            elif key in self.data.tombs:
                tombstones[at] = self.data.tombs[key]
        examined = [
            self.examiner.examine(tx, each, tombstones, locked)
            for tx, each in zip(batch, nets, strict=True)
        ]
        self.draft = Draft(self.epoch, examined, tombstones, promised, passed[-1], end)
        return True

    def _mend(self, draft: Draft) -> None:
        """Bury, lift, and make the frame: what the mender does before it hands a draft on."""
        lifts: dict[NetKey, Lift] = {}
        early: list[Lift] = []
        for each in draft.examined:
            for at, lift in each.lifts.items():
                if at in lifts:
                    early.append(lifts.pop(at))
                lifts[at] = lift
        for each in draft.examined:
            for late in each.late.values():
                try:
                    self._bury(key_of(late.key), late.stamp)
                except Locked:
                    key = key_of(late.key)
                    self.unburied[key] = max(late.stamp, self.unburied.get(key, ZERO))
        for lift in (*early, *lifts.values()):
            try:
                lift.fate = self._lift(lift)
            except Locked:
                lift.fate = Fate.HELD
                note = Mended(lift.seen or lift.base, lift.base, lift.base_row)
                self.notes[key_of(lift.key)] = (lift.image, note)
                self.held[key_of(lift.key)] = note
            self.counts[lift.fate] += 1
        items = []
        for each in draft.examined:
            bases: dict[NetKey, Mended] = {}
            for at, net in each.nets.items():
                note = each.tx.mended.get((TABLE.digest, net.key)) or self.held.get(key_of(net.key))
                if note is not None:
                    bases[at] = note
                    if at not in each.lifts:
                        self.held.pop(key_of(net.key), None)
            item = to_item(each, draft.tombstones, bases, {TABLE: 0}, self.removed)
            if item is not None:
                items.append(item)
        for item in items:
            self.ledger.seq += 1
            item.seq = self.ledger.seq
        frame = Frame(
            VERSION, "shop", self.number, INCARNATION, draft.epoch, "9.7.0", b"", draft.promised,
            str(draft.resume), [TABLE.map_body], items,
        )  # fmt: skip
        draft.frame = encode(frame)
        if not items:
            self._acknowledged(draft)

    def _append(self, draft: Draft) -> None:
        self.topic.append(draft.frame)
        self._acknowledged(draft)

    def _acknowledged(self, draft: Draft) -> None:
        for each in draft.examined:
            if each.tx.beat is not None:
                self.published = max(self.published, each.tx.beat.frontier)
        self.at, self.draft = draft.end, None

    def _lift(self, lift: Lift) -> Fate:
        key = key_of(lift.key)
        if key in self.locks.rows or key in self.locks.tombs:
            raise Locked
        row, tomb = self.data.rows.get(key), self.data.tombs.get(key, ZERO)
        if row is None or lift.seen not in (None, row[0]):
            if lift.reason is not Reason.TOMBSTONE and lift.image is not None:
                rows, start, stop = lift.image
                self.journal.recorded(rows[start:stop])
            return Fate.OVERTAKEN
        base, base_row = (tomb, False) if tomb > lift.base else (lift.base, lift.base_row)
        lift.base, lift.base_row, lift.seen = base, base_row, row[0]
        ts = lifted(self.clock, row[0].ts, max(tomb, base).ts, self.promised)
        new = (Stamp(ts, self.number), row[1])
        statement = (UPDATE, image(key, row) + image(key, new), [])
        self.binlog.append(Logged([statement], {key: Mended(row[0], base, base_row)}))
        self.data.rows[key] = new
        self.notes.pop(key, None)
        return Fate.LIFTED

    def _bury(self, key: int, stamp: Stamp) -> None:
        """Write the tombstone first, then look at the row."""
        if key in self.locks.rows or key in self.locks.tombs:
            raise Locked
        self.counts["buried"] += 1
        logged = Logged()
        if self.data.tombs.get(key, ZERO) < stamp:
            self.data.tombs[key] = stamp
            logged.statements.append((WRITE, b"", [(key, stamp)]))
        row = self.data.rows.get(key)
        if row is not None and row[0] < stamp and row[0].origin not in (self.number, 0):
            self.journal.recorded(image(key, row))
            self.journal.buried(self.number, key)
            logged.statements.append((DELETE, image(key, row), []))
            del self.data.rows[key]
        if logged.statements:
            self.binlog.append(logged)

    def resolve(self) -> None:
        """Work off what was held back because of a lock."""
        for key, stamp in list(self.unburied.items()):
            with contextlib.suppress(Locked):
                self._bury(key, stamp)
                del self.unburied[key]
                row = self.data.rows.get(key)
                if row is not None and row[0] < stamp:
                    # Examined before the tombstone was there: nobody else would lift it.
                    self._lift(
                        Lift(TABLE, wire_key(key), row[0], ZERO, False, Reason.TOMBSTONE, None)
                    )
        for key, (image_, note) in list(self.notes.items()):
            with contextlib.suppress(Locked):
                seen = note.seen if note.seen != ZERO else None
                lift = Lift(
                    TABLE, wire_key(key), seen, note.base, note.base_row, Reason.LOCKED, image_
                )
                if self._lift(lift) is Fate.OVERTAKEN:
                    self.notes.pop(key, None)

    # Appliers

    def apply(self, peer: "Region", most: int, back: int) -> bool:
        """Apply some items of ``peer``, reading ``back`` records again; whether any was new."""
        progress = self.applied[peer.number]
        sender = Sender("shop", peer.number, str(peer.number))
        ledger = Ledger(sender.name, INCARNATION, progress.seq, progress.epoch)
        works: list[Work] = []
        parts: list[Work] = []
        reached, frontier_, heard = progress.seq, progress.frontier, progress.heard
        position, epoch = progress.position, progress.epoch
        for place in range(max(0, progress.position - back), len(peer.topic)):
            record = decode(peer.topic[place], sender)
            items: list[Item] = ledger.take(record)
            if ledger.voided:
                parts, reached = [], ledger.voided[-1]
            for number, item in enumerate(items, 1):
                scanned = scan(item, [TABLE], sender.name)
                work = Work(item, scanned, check(item, [TABLE], scanned, sender.name))
                if item.kind == PART:
                    parts.append(work)
                    if not item.last:
                        continue
                    works, parts = works + parts, []
                else:
                    works.append(work)
                reached = item.seq
                if item.beat is not None:
                    frontier_, heard = max(frontier_, item.beat.frontier), item.beat.wall_us
                position = place + (number == len(items))
                epoch = ledger.epoch
                if len(works) >= most:
                    break
            if len(works) >= most:
                break
        if reached == progress.seq:
            return False
        try:
            data, plan = apply_batch(self.data, works, self.ancestry, self.locks)
        except Locked:
            self.counts["busy"] += 1
            return False
        self._record(plan)
        before, self.data = self.data, data
        self.journal.applied(self.number, before, self.data)
        self.applied[peer.number] = Progress(
            reached, epoch, position, frontier_, max(heard, progress.heard)
        )
        for at, stamp, base in plan.written:
            self.ancestry.note(at, stamp, base)
        self.counts["exact"] += plan.exact_items
        self.counts["outcomes"] += len(works) - plan.exact_items
        return True

    def _record(self, plan: Plan) -> None:
        for record in plan.records:
            self.counts["conflicts"] += 1
            key = key_of(record.incoming.at[1])
            if not record.conflict.arrived_won:
                if record.incoming.image is not None:
                    self.journal.recorded(record.incoming.image.bytes())
            elif key in self.data.rows:
                self.journal.recorded(image(key, self.data.rows[key]))
