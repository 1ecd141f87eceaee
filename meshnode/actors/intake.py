"""The intake: reads a peer's topic ahead of its applier and makes items ready.

Frames are decoded, judged by the ledger, and their images scanned here, while
the applier waits for MySQL.  Stretches of ordinary items become runs
(:mod:`meshnode.core.runs`), which can be taken apart again.  Of a huge transaction
only the place is kept: it is handed on when its last part has been seen, and read
again while it is applied.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from meshnode.actors.board import Board
from meshnode.actors.kernel import FIRST_PAUSE, LONGEST_PAUSE, Mailbox, State
from meshnode.actors.patience import PatientReader
from meshnode.bus.port import BusReader, Position, Record
from meshnode.core.change import Table, definition_of, in_form
from meshnode.core.check import Incoming, Scanned, check, scan
from meshnode.core.ledger import Ledger
from meshnode.core.runs import Segment, eligible, prove
from meshnode.core.wire import PART, TRANSACTION, Frame, Item, Sender, decode
from meshnode.errors import Halt, Retry
from meshnode.store.values import Mark, Progress

READ_BYTES = 1024 * 1024
ITEM_WEIGHT = 300

RUN_ROWS = 1000
"""A run ends with the item that reaches this: the scan of one must not hold the loop up."""

LEAST_RUN_ROWS = 20
"""A run of fewer saves nothing."""


class Huge(NamedTuple):
    """A transaction in parts: its items are ``first..last``, from ``position`` on.

    ``epoch`` is the highest claim before the first of them.
    """

    position: Position
    epoch: int
    first: int
    last: int
    tx_id: str


@dataclass(slots=True)
class Ready:
    """One step of a stream: an item, a huge transaction, or only a mark (heartbeat, void parts).

    ``incoming`` are the checked entries, ``None`` while character keys have to be
    learnt from MySQL first.  ``tables`` are the frame's, which the item's numbers
    mean; ``used`` those that it touches.  A run has ``segments`` and its ``items`` instead of an
    item; from ``start`` on they are read again.  A ``refusal`` ends the stream: it is raised
    when its turn comes, and its mark means nothing.
    """

    mark: Mark
    format: bytes = b""
    item: Item | None = None
    tables: tuple[Table, ...] | list[Table] = ()
    used: tuple[Table, ...] | list[Table] = ()
    scanned: tuple[Scanned, ...] | list[Scanned] = ()
    incoming: list[Incoming] | None = None
    huge: Huge | None = None
    rows: int = 0
    size: int = 0
    refusal: Halt | None = None
    segments: list[Segment] | None = None
    items: Sequence[Item] = ()
    start: Position = b""


class Page(NamedTuple):
    """The record that items come from: its format description, its tables, its last item."""

    record: Record
    format: bytes
    tables: list[Table]
    last: int


class Report(msgspec.Struct):
    """What the bus needs of a heartbeat's body: ``[seq, frontier, position, heard]`` by origin."""

    applied: dict[str, tuple[int, int, str, int]] = {}


class PeerStream:
    """A peer's stream as everybody reads it who reads it: whose it is, and what its frames mean.

    ``table_of`` makes a table of a table map's body; equal maps are one table.
    """

    def __init__(
        self, sender: Sender, incarnation: int, table_of: Callable[[bytes], Table]
    ) -> None:
        self.sender = sender
        self.incarnation = incarnation
        self._table_of = table_of
        self._tables: dict[bytes, Table] = {}

    def tables(self, frame: Frame) -> list[Table]:
        """The frame's tables, in its order."""
        found = []
        for body in frame.tables:
            definition = definition_of(body)
            table = self._tables.get(definition)
            if table is None:
                table = self._tables[definition] = self._table_of(body)
            found.append(table)
        return found

    def ledger(self, seq: int, epoch: int) -> Ledger:
        """Judges the frames behind item ``seq``, of claims from ``epoch`` on."""
        return Ledger(self.sender.name, self.incarnation, seq, epoch)


class Intake:
    """Reads ``stream`` from where ``stored`` says into ``outbox``.

    ``state`` is the applier's: it shows why nothing is read (``failing``).  A run of ``run_rows``
    rows is long enough.
    """

    def __init__(
        self,
        stream: PeerStream,
        reader: BusReader,
        stored: Progress,
        outbox: Mailbox[Ready],
        board: Board,
        state: State,
    ) -> None:
        self.stream = stream
        self.sender = stream.sender
        self.reader = reader
        self.ledger = stream.ledger(stored.seq, stored.stream_epoch)
        self.position = stored.position
        self.outbox = outbox
        self.board = board
        self.state = state
        self.failing = False
        self.run_rows = RUN_ROWS
        self.open: Huge | None = None
        self.heard_us, self.heard_beat = stored.heard_us, stored.heard_beat
        self.frontier = stored.frontier

    async def run(self) -> None:
        """Read until the ledger, the bus or the check of an item refuses to go on.

        The refusal goes to the outbox, behind what came before it: raised here it
        would end the applier too, and at every new start before that was applied.
        """
        try:
            await self._read()
        except Halt as refusal:
            nothing = self._mark(self.ledger.seq, "", self.position, 0)
            await self.outbox.put(Ready(nothing, refusal=refusal), 0)

    async def _read(self) -> None:
        while True:
            for record in await self._records():
                await self._record(record)
                self.position = record.after

    async def _records(self) -> list[Record]:
        """What comes next.  A reader that fails for a while must not end the batch being applied.

        So it is asked again here, and not by the supervisor, which would start the applier again.
        """
        wait = FIRST_PAUSE
        while True:
            try:
                found = await self.reader.read(self.position, READ_BYTES)
            except Retry as error:
                self.failing = True
                reason = f"the stream of {self.sender.name} cannot be read: {error.what}"
                self.state.set("retrying", reason, error.remedy)
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST_PAUSE)
            else:
                if self.failing:
                    self.failing = False
                    self.state.set("running")
                return found

    async def _record(self, record: Record) -> None:
        self.board.received(self.sender.region, len(record.payload))
        content = decode(record.payload, self.sender)
        items = self.ledger.take(content)
        if not isinstance(content, Frame):
            if self.ledger.voided:
                self.open = None
                mark = self._mark(self.ledger.voided[-1], "", record.after, 0)
                await self.outbox.put(Ready(mark), ITEM_WEIGHT)
            return
        if not items:
            return
        page = Page(record, content.fde, self.stream.tables(content), items[-1].seq)
        self.board.peer(self.sender.region).observer.received(items, page.tables)
        stretch: list[Item] = []
        rows = 0
        # Around a change of its definition a frame may have a table twice.
        runs = in_form(page.tables, {})
        for item in items:
            if runs and item.kind == TRANSACTION and eligible(item, page.tables):
                stretch.append(item)
                rows += len(item.entries)
                if rows >= self.run_rows:
                    await self._stretch(stretch, rows, page)
                    stretch, rows = [], 0
            else:
                await self._stretch(stretch, rows, page)
                stretch, rows = [], 0
                await self._single(item, page)
        await self._stretch(stretch, rows, page)

    async def _stretch(self, items: list[Item], rows: int, page: Page) -> None:
        """Hand ``items`` on, as a run if they are one."""
        segments = prove(items, page.tables) if rows >= LEAST_RUN_ROWS else None
        if segments is None:
            for item in items:
                await self._single(item, page)
            return
        size = sum(len(segment.rows) for segment in segments)
        ready = Ready(
            self._mark_of(items[-1], page),
            page.format,
            tables=page.tables,
            used=list(dict.fromkeys(segment.table for segment in segments)),
            rows=rows,
            size=size,
            segments=segments,
            items=items,
            start=page.record.start,
        )
        await self.outbox.put(ready, size + ITEM_WEIGHT * len(items))
        # The applier may have an answer of its server to take.
        await asyncio.sleep(0)

    async def _single(self, item: Item, page: Page) -> None:
        if item.beat is not None:
            # The newest, not the greatest: the origin's clock may have been set back.
            self.heard_us, self.heard_beat = item.beat.wall_us, item.beat.beat
            self.board.heard(self.sender.region, item.beat.wall_us)
            self.frontier = max(self.frontier, item.beat.frontier)
            self._acknowledged(item.beat.body)
        mark = self._mark_of(item, page)
        if item.kind == PART:
            await self._part(item, mark, page)
            return
        ready = self._ready(item, page.tables, mark, page.format)
        await self.outbox.put(ready, ready.size + ITEM_WEIGHT)

    def _ready(self, item: Item, tables: Sequence[Table], mark: Mark, fde: bytes) -> Ready:
        size = sum(len(op.rows) for op in item.ops)
        scanned = scan(item, tables, self.sender.name)
        rows = sum(len(op.found) for op in scanned)
        used = tables_of(item, tables)
        incoming = None
        if all(table.folds is None for table in used):
            incoming = check(item, tables, scanned, self.sender.name)
        return Ready(mark, fde, item, tables, used, scanned, incoming, None, rows, size)

    def taken_apart(self, run: Ready) -> list[Ready]:
        """The items of a run, each a step by itself."""
        steps = []
        for item in run.items:
            mark = run.mark
            if item.seq != mark.seq:
                mark = mark._replace(
                    seq=item.seq, tx_id=item.tx_id, commit_us=item.commit_us, position=run.start
                )
            steps.append(self._ready(item, run.tables, mark, run.format))
        return steps

    def _acknowledged(self, body: str) -> None:
        """The peer says how far it has applied the own stream."""
        try:
            applied = msgspec.json.decode(body, type=Report).applied
            own = applied.get(str(self.board.own))
            position = None if own is None else bytes.fromhex(own[2])
        except (msgspec.MsgspecError, ValueError):
            return
        if position is not None:
            self.board.acknowledged[self.sender.region] = position

    async def _part(self, item: Item, mark: Mark, page: Page) -> None:
        if self.open is None:
            self.open = Huge(page.record.start, self.ledger.epoch, item.seq, item.seq, item.tx_id)
        if not item.last:
            parts = item.seq - self.open.first + 1
            self.state.set("running", f"reads ahead {item.tx_id}: {parts} parts so far")
        else:
            huge = self.open._replace(last=item.seq)
            self.open = None
            await self.outbox.put(Ready(mark, page.format, huge=huge), ITEM_WEIGHT)

    def _mark_of(self, item: Item, page: Page) -> Mark:
        # The position within a record is the record's: what is applied of it is read again.
        position = page.record.after if item.seq == page.last else page.record.start
        return self._mark(item.seq, item.tx_id, position, item.commit_us)

    def _mark(self, seq: int, tx_id: str, position: Position, commit_us: int) -> Mark:
        return Mark(
            seq, tx_id, position, self.ledger.epoch, self.frontier, self.heard_us, commit_us,
            self.heard_beat,
        )  # fmt: skip


def tables_of(item: Item, tables: list[Table]) -> list[Table]:
    """The tables that ``item`` touches; wrong numbers are left to the check of the item."""
    numbers = {op.table for op in item.ops}
    numbers.update(entry.table for entry in item.entries)
    return [tables[number] for number in sorted(numbers) if 0 <= number < len(tables)]


async def parts_of(
    huge: Huge, stream: PeerStream, reader: PatientReader
) -> AsyncIterator[tuple[Item, list[Table]]]:
    """The parts of ``huge``, read again one record at a time and judged again by a ledger."""
    ledger = stream.ledger(huge.first - 1, huge.epoch)
    position = huge.position
    while True:
        for record in await reader.read(position, READ_BYTES):
            position = record.after
            content = decode(record.payload, stream.sender)
            items = ledger.take(content)
            tables = stream.tables(content) if isinstance(content, Frame) and items else []
            for item in items:
                yield item, tables
                if item.seq == huge.last:
                    return
