"""The mender: makes a batch of local transactions true, and a frame of it.

For each batch: learn the canonical form of character keys, look up the
tombstones of what was written, let the core judge, lift and bury what it says,
and only when that is committed hand the frame on.  After a crash in between the
same judgement is made again, and finds the stamps changed.
"""

from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass
from itertools import chain

from meshnode.actors.board import Board
from meshnode.core.change import (
    Marker,
    Net,
    NetKey,
    Table,
    Transaction,
    net_effects,
    tombstones_of,
)
from meshnode.core.gtid import GtidSet
from meshnode.core.held import HeldBack, in_turn, surely_overtaken, turns
from meshnode.core.mend import (
    Examined,
    Examiner,
    Fate,
    Reason,
    Removed,
    keys_to_look_up,
    to_item,
)
from meshnode.core.plain import Plain, plain, plain_item
from meshnode.core.stamp import Stamp
from meshnode.core.wire import HEARTBEAT, Item
from meshnode.store.port import Mending


@dataclass(slots=True)
class Draft:
    """A frame without its numbers: what the publisher counts and appends.

    ``taken``: when its transactions were taken from the tailer, in nanoseconds since 1970; 0
    when nobody observes.
    """

    format: bytes
    server: str
    promised: int
    resume: str
    tables: list[bytes]
    items: list[Item]
    taken: int = 0


class TableNumbers(dict):
    """A table's place in the frame, given out in the order of first use."""

    def __missing__(self, table: Table) -> int:
        self[table] = number = len(self)
        return number


class Mender:
    """Turns batches into drafts; ``executed`` is the set of transactions passed so far."""

    def __init__(
        self,
        mending: Mending,
        examiner: Examiner,
        board: Board,
        known: dict[str, Table],
        executed: GtidSet,
    ) -> None:
        self.mending = mending
        self.examiner = examiner
        self.board = board
        self.known = known
        self.executed = executed
        self.held = HeldBack()
        self.removed = Removed()

    async def load(self) -> None:
        """Take over what was held back before this process started."""
        rows, late = await self.mending.held(), await self.mending.late()
        folded = await self._folded({*rows, *late})
        self.held.load(
            ((folded[at], note) for at, note in rows.items()),
            ((folded[at], stamp) for at, stamp in late.items()),
        )

    async def _folded(self, markers: Iterable[Marker]) -> dict[Marker, Marker]:
        """Keys as ``meshnode.mend`` has them, which is as they were spelled, and canonical."""
        found: dict[Marker, Marker] = {}
        spelled: dict[str, list[bytes]] = defaultdict(list)
        for digest, key in markers:
            spelled[digest].append(key)
        for digest, keys in spelled.items():
            table = await self.mending.table(digest)
            if table is not None and table.folds is not None:
                await self.mending.learn([(table, key) for key in keys])
            for key in keys:
                found[digest, key] = digest, key if table is None else table.fold(key)
        return found

    async def draft(self, batch: list[Transaction]) -> Draft:
        """The draft of one batch, whatever it needs mended being committed."""
        promised = self.examiner.promised
        # Heartbeats come through here every second, also when nothing is written.
        await self.mending.keep_alive()
        await self._meet(batch)
        await self._fold(batch)
        numbers = TableNumbers()
        ordinary = [self._plain(tx, numbers) for tx in batch]
        nets = {
            tx: net_effects(tx, self.known) for tx, index in zip(batch, ordinary) if index is None
        }
        self.held.raise_replaced(nets.values())
        wanted = _wanted(ordinary, nets.values())
        tombstones, locked = await self.mending.tombstones(wanted)
        self.held.raise_tombstones(wanted, tombstones, promised)
        examined = self._examine(batch, ordinary, nets, tombstones, locked)
        await self._mend(list(examined.values()), batch[0].format)
        items: list[Item] = []
        rows = 0
        for tx, index in zip(batch, ordinary):
            each = examined.get(tx)
            if each is None and self.held.touched_by(index):
                # What was held back just now may be what this one wrote over.
                each = Examined(tx, net_effects(tx, self.known), {}, {})
            if each is None:
                item = plain_item(tx, index, numbers)
            else:
                self._count(each)
                item = to_item(each, tombstones, self.held.bases(each), numbers, self.removed)
            if item is not None:
                items.append(item)
                rows += tx.rows
        self._count_published(items, rows)
        self.executed.add(chain.from_iterable(tx.passed for tx in batch))
        return Draft(
            batch[0].format, batch[0].server, promised, str(self.executed),
            [table.map_body for table in numbers], items,
        )  # fmt: skip

    def _plain(self, tx: Transaction, numbers: TableNumbers) -> Plain | None:
        """The index of an ordinary transaction, one that touches nothing held back."""
        index = plain(tx, self.examiner.own, numbers)
        return None if index is None or self.held.touched_by(index) else index

    def _examine(
        self,
        batch: list[Transaction],
        ordinary: list[Plain | None],
        nets: dict[Transaction, dict[NetKey, Net]],
        tombstones: dict[NetKey, Stamp],
        locked: Set[NetKey],
    ) -> dict[Transaction, Examined]:
        """What must be mended of the transactions that are not published just as they are."""
        examined: dict[Transaction, Examined] = {}
        # In the order of the stream: a heartbeat raises the promise for what follows, and so
        # does a late tombstone for its key.
        for tx, index in zip(batch, ordinary):
            if index is not None:
                if index.stands(self.examiner.promised, tombstones, locked):
                    continue
                nets[tx] = net_effects(tx, self.known)
            examined[tx] = self.examiner.examine(tx, nets[tx], tombstones, locked)
        return examined

    async def _meet(self, batch: list[Transaction]) -> None:
        """Know the table of every tombstone, also of one whose rows have not passed yet."""
        for digest in {digest for tx in batch for digest, _, _ in tx.tombstones}:
            if digest not in self.known:
                table = await self.mending.table(digest)
                if table is not None:
                    self.known[digest] = table

    async def _fold(self, batch: list[Transaction]) -> None:
        folded = any(
            table.folds is not None for table in {op.table for tx in batch for op in tx.ops}
        )
        wanted: list[tuple[Table, bytes]] = []
        for tx in batch:
            if not folded and not tx.partial and not tx.tombstones:
                continue
            for op in tx.ops:
                if op.table.folds is not None:
                    wanted += ((op.table, key) for key in op.wire_keys())
            for table, key, *_ in tx.partial:
                if table.folds is not None:
                    wanted.append((table, key))
            for table, key, _ in tombstones_of(tx, self.known):
                if table.folds is not None:
                    wanted.append((table, key))
        if wanted:
            await self.mending.learn(wanted)

    async def _mend(self, examined: list[Examined], fde: bytes) -> None:
        superseded, lifts = in_turn(examined)
        late = [tombstone for each in examined for tombstone in each.late.values()]
        for tombstone in await self.mending.bury(late, fde):
            await self.mending.hold_late(tombstone)
            self.held.wait(tombstone)
        overtaken = surely_overtaken(superseded, lifts)
        await self.mending.overtake(overtaken)
        chains = self.held.chains((*superseded, *lifts))
        for turn in turns(lift for lift in superseded if lift not in overtaken):
            chains.rebase(turn)
            await self.mending.lift(turn, fde, lambda: self.board.promised)
        chains.rebase(lifts)
        await self.mending.lift(lifts, fde, lambda: self.board.promised)
        self.board.counts["late_tombstones"] += len(late)

    def _count(self, examined: Examined) -> None:
        counts = self.board.counts
        for lift in examined.lifts.values():
            if lift.fate is Fate.LIFTED:
                counts["lifts"] += 1
            elif lift.fate is Fate.HELD:
                counts["held"] += 1
            elif lift.reason is not Reason.TOMBSTONE:
                counts["overtaken"] += 1

    def _count_published(self, items: list[Item], rows: int) -> None:
        counts = self.board.counts
        counts["published_transactions"] += sum(
            1 for item in items if item.last and item.kind != HEARTBEAT
        )
        counts["published_rows"] += rows


def _wanted(
    ordinary: list[Plain | None], nets: Iterable[dict[NetKey, Net]]
) -> dict[Table, list[bytes]]:
    """The wire keys whose tombstones decide whether an upsert stands."""
    wanted: dict[Table, list[bytes]] = defaultdict(list)
    for index in ordinary:
        if index is not None:
            for table, keys in index.keys.items():
                wanted[table] += keys
    for each in nets:
        for at in keys_to_look_up((each,)):
            wanted[at[0]].append(each[at].key)
    return wanted
