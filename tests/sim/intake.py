"""Reading a peer's stream ahead: which records count, what a step of it is.

As the node's ``actors/intake.py``: the ledger judges the records, stretches of ordinary
items become runs, and of a huge transaction only the place is kept until its last part
has been seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from meshnode.core.ledger import Ledger
from meshnode.core.runs import Segment, eligible, prove
from meshnode.core.wire import PART, TRANSACTION, Frame, Item

from .actor import Actor
from .bus import Link, Topic
from .clockwork import Process, Steps
from .table import TABLES

INCARNATION = 7


def about_words(item: Item) -> bool:
    """Whether the item has rows of the second table."""
    return any(entry.table for entry in item.entries)


class Progress(NamedTuple):
    """A row of ``applied``."""

    seq: int = 0
    epoch: int = 0
    position: int = 0
    frontier: int = 0
    heard: int = 0
    own_epoch: int = 0


class Ready(NamedTuple):
    """One step of a stream, with what ``applied`` says behind it.

    An item, a run (``segments``), a huge transaction (``huge``: where its first part is,
    the epoch there, first and last number), or only a mark.
    """

    mark: Progress
    items: Sequence[Item] = ()
    huge: tuple[int, int, int, int] | None = None
    segments: list[Segment] | None = None
    start: int = 0


class Intake(Actor):
    """Reads the stream of region ``peer`` from ``position`` on."""

    peer: int
    topic: Topic
    ledger: Ledger
    process: Process | None
    asleep: bool
    position: int
    frontier: int
    heard: int
    open: tuple[int, int, int, int] | None
    link: Link

    def notice(self) -> None:
        """There may be something to read."""
        if self.asleep and self.process is not None:
            self.clockwork.wake(self.process)

    def more(self, pending: deque[Ready]) -> Steps:
        """Wait for the next steps of the stream."""
        region, topic, link = self.region, self.topic, self.link
        records = topic.records
        if region.weather.back and self.rng.random() < 0.2:
            self.position = max(0, self.position - int(self.rng.random() * region.weather.back))
            self.counts["stream read again"] += 1
        while not pending:
            if link.cut or self.position >= len(records) or self.barred():
                self.asleep = True
                yield None
                self.asleep = False
                continue
            due = topic.arrived[self.position] + link.latency - self.clockwork.now
            if due > 0:
                yield due
                continue
            seen = self.clockwork.now - link.latency
            for _ in range(8):
                place = self.position
                if place >= len(records) or topic.arrived[place] > seen or self.barred():
                    break
                self.position = place + 1
                self._read(place, pending)

    def barred(self) -> bool:
        """Whether the next record is about a table that is not active here yet."""
        if self.region.knows_words:
            return False
        record = self.topic.record(self.position)
        barred = isinstance(record, Frame) and any(map(about_words, record.items))
        self.counts["frame waited for its table"] += barred
        return barred

    def _read(self, place: int, pending: deque[Ready]) -> None:
        ledger = self.ledger
        record = self.topic.record(place)
        items = ledger.take(record)
        if not isinstance(record, Frame):
            if ledger.voided:
                self.open = None
                self.counts["parts voided by a claim"] += 1
                pending.append(Ready(self._mark(ledger.voided[-1], place + 1)))
            return
        if not items:
            if record.items and record.epoch < ledger.epoch:
                self.counts["frame of a dead process"] += 1
            return
        last = items[-1].seq
        stretch: list[Item] = []
        for item in items:
            if self.region.straight and item.kind == TRANSACTION and eligible(item, TABLES):
                stretch.append(item)
            else:
                self._stretch(stretch, place, last, pending)
                stretch = []
                self._single(item, place, last, pending)
        self._stretch(stretch, place, last, pending)

    def _stretch(self, items: list[Item], place: int, last: int, pending: deque[Ready]) -> None:
        if not items:
            return
        segments = None
        if sum(len(item.entries) for item in items) >= self.region.straight:
            segments = prove(items, TABLES)
        if segments is None:
            for item in items:
                self._single(item, place, last, pending)
        else:
            mark = self._mark(items[-1].seq, place + (items[-1].seq == last))
            pending.append(Ready(mark, items, None, segments, place))

    def _single(self, item: Item, place: int, last: int, pending: deque[Ready]) -> None:
        if item.beat is not None:
            self.heard = item.beat.wall_us
            self.frontier = max(self.frontier, item.beat.frontier)
        mark = self._mark(item.seq, place + (item.seq == last))
        if item.kind != PART:
            pending.append(Ready(mark, (item,)))
            return
        self.part(item, mark, place, pending)

    def part(self, item: Item, mark: Progress, place: int, pending: deque[Ready]) -> None:
        """Only the place of a part is kept; with the last all are handed on."""
        if self.open is None:
            self.open = (place, self.ledger.epoch, item.seq, item.seq)
        if item.last:
            pending.append(Ready(mark, (), (*self.open[:3], item.seq)))
            self.open = None

    def _mark(self, seq: int, position: int) -> Progress:
        return Progress(
            seq, self.ledger.epoch, position, self.frontier, self.heard, self.node.apply_epoch
        )

    def parts_of(self, huge: tuple[int, int, int, int]) -> list[Item]:
        """The parts of a huge transaction, read and judged again."""
        place, epoch, first, last = huge
        ledger = Ledger(self.topic.sender.name, INCARNATION, first - 1, epoch)
        found: list[Item] = []
        while not found or found[-1].seq < last:
            items = ledger.take(self.topic.record(place))
            found += [item for item in items if item.seq <= last]
            place += 1
        return found
