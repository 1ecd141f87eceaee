"""The intake: reads a peer's topic ahead of its applier and makes items ready.

Frames are decoded, judged by the ledger, and their images scanned here, while
the applier waits for MySQL.  Of a huge transaction only the place is kept: it is
handed on when its last part has been seen, and read again while it is applied.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from meshnode.actors.board import Board
from meshnode.actors.kernel import Mailbox
from meshnode.bus.port import BusReader, Position, Record
from meshnode.core.change import Table
from meshnode.core.check import Incoming, Scanned, check, scan
from meshnode.core.ledger import Ledger
from meshnode.core.wire import PART, Frame, Item, Sender, decode
from meshnode.errors import Halt
from meshnode.mysql.maps import make_table

READ_BYTES = 1024 * 1024
ITEM_WEIGHT = 300


class Mark(NamedTuple):
    """What ``meshnode.applied`` says once an item is applied; times in microseconds."""

    seq: int
    tx_id: str
    position: Position
    stream_epoch: int
    frontier: int
    heard_us: int
    commit_us: int


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
    mean; ``used`` those that it touches.  A ``refusal`` ends the stream: it is raised
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


class Report(msgspec.Struct):
    """What the bus needs of a heartbeat's body: ``[seq, frontier, position, heard]`` by origin."""

    applied: dict[str, tuple[int, int, str, int]] = {}


class TableCache:
    """Tables of one stream by their table map, so that equal maps are one table."""

    def __init__(self) -> None:
        self._tables: dict[bytes, Table] = {}

    def of(self, frame: Frame) -> list[Table]:
        """The frame's tables, in its order."""
        found = []
        for body in frame.tables:
            table = self._tables.get(body[6:])
            if table is None:
                table = self._tables[body[6:]] = make_table(body)
            found.append(table)
        return found


class Intake:
    """Reads one stream from ``position`` into ``outbox``."""

    def __init__(
        self,
        reader: BusReader,
        sender: Sender,
        ledger: Ledger,
        position: Position,
        cache: TableCache,
        outbox: Mailbox[Ready],
        board: Board,
    ) -> None:
        self.reader = reader
        self.sender = sender
        self.ledger = ledger
        self.position = position
        self.cache = cache
        self.outbox = outbox
        self.board = board
        self.open: Huge | None = None
        self.heard_us = 0
        self.frontier = 0

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
            for record in await self.reader.read(self.position, READ_BYTES):
                await self._record(record)
                self.position = record.after

    async def _record(self, record: Record) -> None:
        content = decode(record.payload, self.sender)
        items = self.ledger.take(content)
        if not isinstance(content, Frame):
            if self.ledger.voided:
                self.open = None
                mark = self._mark(self.ledger.voided[-1], "", record.after, 0)
                await self.outbox.put(Ready(mark), ITEM_WEIGHT)
            return
        tables = self.cache.of(content) if items else []
        for number, item in enumerate(items, 1):
            place = record.after if number == len(items) else record.start
            if item.beat is not None:
                self.heard_us = max(self.heard_us, item.beat.wall_us)
                self.frontier = max(self.frontier, item.beat.frontier)
                self._acknowledged(item.beat.body)
            mark = self._mark(item.seq, item.tx_id, place, item.commit_us)
            if item.kind == PART:
                await self._part(item, mark, record, content.fde)
                continue
            size = sum(len(op.rows) for op in item.ops)
            scanned = scan(item, tables, self.sender.name)
            rows = sum(len(op.found) for op in scanned)
            used = tables_of(item, tables)
            incoming = None
            if all(table.folds is None for table in used):
                incoming = check(item, tables, scanned, self.sender.name)
            ready = Ready(
                mark, content.fde, item, tables, used, scanned, incoming, None, rows, size
            )
            await self.outbox.put(ready, size + ITEM_WEIGHT)

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

    async def _part(self, item: Item, mark: Mark, record: Record, fde: bytes) -> None:
        if self.open is None:
            self.open = Huge(record.start, self.ledger.epoch, item.seq, item.seq, item.tx_id)
        if item.last:
            huge = self.open._replace(last=item.seq)
            self.open = None
            await self.outbox.put(Ready(mark, fde, huge=huge), ITEM_WEIGHT)

    def _mark(self, seq: int, tx_id: str, position: Position, commit_us: int) -> Mark:
        return Mark(
            seq, tx_id, position, self.ledger.epoch, self.frontier, self.heard_us, commit_us
        )


def tables_of(item: Item, tables: list[Table]) -> list[Table]:
    """The tables that ``item`` touches; wrong numbers are left to the check of the item."""
    numbers = {op.table for op in item.ops}
    numbers.update(entry.table for entry in item.entries)
    return [tables[number] for number in sorted(numbers) if 0 <= number < len(tables)]


async def parts_of(
    huge: Huge, reader: BusReader, sender: Sender, cache: TableCache, incarnation: int
) -> AsyncIterator[tuple[Item, list[Table], list[Scanned]]]:
    """The parts of ``huge``, read again one record at a time and judged again by a ledger."""
    ledger = Ledger(sender.name, incarnation, huge.first - 1, huge.epoch)
    position = huge.position
    while True:
        for record in await reader.read(position, READ_BYTES):
            position = record.after
            content = decode(record.payload, sender)
            items = ledger.take(content)
            tables = cache.of(content) if isinstance(content, Frame) and items else []
            for item in items:
                yield item, tables, scan(item, tables, sender.name)
                if item.seq == huge.last:
                    return
