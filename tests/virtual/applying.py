"""An applier's session over a database in memory: the same steps as ``meshnode/mysql/applying.py``.

Nothing is decided here that the port leaves to the caller.  Rows are found by primary key, as
``BINLOG`` finds them; every key is locked in one order.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from meshnode.core import look
from meshnode.core.change import NetKey, Table
from meshnode.core.plan import FORMS, Form, Plan, Step, Work
from meshnode.core.resolve import Local
from meshnode.core.runs import Segment, Touched
from meshnode.core.stamp import Stamp
from meshnode.core.wire import REMOVE, Item
from meshnode.errors import Replan, RowError
from meshnode.limits import LOCK_WAIT_SECONDS
from meshnode.store.values import Definition, Fence, Progress, Unable

from .bookkeeping import Applied, Parked, applied_name, letter_name
from .database import Name, Row, row_name, row_of, tomb_name
from .rows import filled
from .session import MemorySession


class Conflicted(NamedTuple):
    """A conflict record: images as they were before the write, in hexadecimal digits."""

    key: bytes
    kind: str
    winner: Stamp
    loser: Stamp
    stood: str | None
    arrived: bytes | None
    tx_id: str


class MemoryWriting(MemorySession):
    """A session that carries out plans."""

    async def definition(self, table: Table) -> Definition:
        async def read() -> Definition:
            local = self.database.tables.get(table.digest)
            if local is None:
                return Definition(False)
            return Definition(True, local.shape, [True] * len(local.shape.columns))

        return await self._say(read)

    async def learn(self, keys: Iterable[tuple[Table, bytes]]) -> None:
        """Keys whose equal values are equal bytes need nothing to be learnt."""

    async def lock(self, works: Iterable[Work], deep: bool, wait: bool) -> dict[NetKey, Local]:
        return await self._say(lambda: self._lock(works, deep, wait))

    async def _lock(self, works: Iterable[Work], deep: bool, wait: bool) -> dict[NetKey, Local]:
        rows: dict[NetKey, None] = {}
        tombs: dict[NetKey, None] = {}
        for work in works:
            for at, entry, _ in work.incoming:
                rows[at] = None
                if deep or entry.outcome == REMOVE or not work.item.exact:
                    tombs[at] = None
        patience = LOCK_WAIT_SECONDS if wait else None
        found: dict[NetKey, Local] = {}
        for table in sorted({at[0] for at in rows}, key=lambda table: table.digest):
            stamps = await self._stamps(row_name, rows, table, True, patience)
            buried = await self._stamps(tomb_name, tombs, table, True, patience)
            for at in dict.fromkeys((*stamps, *buried)):
                found[at] = Local(stamps.get(at), buried.get(at))
        return found

    async def _stamps(
        self,
        named: Callable[[NetKey], Name],
        keys: Iterable[NetKey],
        table: Table,
        exclusive: bool,
        wait: float | None,
    ) -> dict[NetKey, Stamp]:
        """One statement: the stamps of those keys of ``table`` that exist, locked in order."""
        found: dict[NetKey, Stamp] = {}
        await self.store.wire.between()
        for at in sorted((at for at in keys if at[0] is table), key=lambda at: at[1]):
            value = await self.database.read(self._open(), named(at), exclusive, wait)
            if value is not None:
                found[at] = value.stamp if isinstance(value, Row) else value
        return found

    async def standing(self, plan: Plan) -> dict[NetKey, str]:
        async def read() -> dict[NetKey, str]:
            found: dict[NetKey, str] = {}
            for record in plan.records:
                at = record.incoming.at
                before = plan.before.get(at)
                row = self.database.value(self.tx, row_name(at))
                if before is not None and before.row is not None and row is not None:
                    found[at] = row.image.hex()
            return found

        return await self._say(read) if plan.records else {}

    async def write(self, plan: Plan) -> None:
        await self._say(lambda: self._write(plan))

    async def _write(self, plan: Plan) -> None:
        await self._steps(plan.steps)
        await self.store.wire.between()
        for at, stamp in plan.tombstones.items():
            before = plan.before.get(at)
            known = None if before is None else before.tomb
            if known is not None and known >= stamp:
                continue
            try:
                if known is None:
                    await self.database.insert(self._open(), tomb_name(at), stamp)
                else:
                    await self.database.update(self._open(), tomb_name(at), stamp)
            except RowError as error:
                raise Replan("a tombstone appeared meanwhile") from error

    async def _steps(self, steps: Iterable[Step]) -> None:
        for step in steps:
            await self.store.wire.between()
            for chunk in step.chunks:
                await self._images(step.table, step.form, chunk)

    async def _images(self, table: Table, form: Form, chunk: Any) -> None:
        """Carry images out as ``BINLOG`` does: rows are found by primary key."""
        tx, database = self._open(), self.database
        if form in (Form.UPDATE_BY_KEY, Form.DELETE_BY_KEY):
            key, after = chunk
            name = row_name((table, table.fold(key)))
            if form is Form.DELETE_BY_KEY:
                await database.delete(tx, name)
            else:
                await self._change(table, name, after)
        elif form is Form.UPDATE:
            for start, middle, key, _, _, stop, *_ in table.scan_pairs(chunk, 0, len(chunk)):
                assert start < middle < stop
                await self._change(table, row_name((table, table.fold(key))), chunk[middle:stop])
        else:
            for start, stop, key, *_ in table.scan_rows(chunk, 0, len(chunk)):
                name = row_name((table, table.fold(key)))
                if form is Form.WRITE:
                    await database.insert(tx, name, row_of(table, chunk[start:stop])[1])
                else:
                    await database.delete(tx, name)

    async def _change(self, table: Table, name: Name, after: bytes) -> None:
        """An update, which may move the row to another key."""
        key, row = row_of(table, after)
        new = row_name((table, table.fold(key)))
        if new == name:
            await self.database.update(self._open(), name, row)
        else:
            old: Row = self.database.value(self.tx, name)
            await self.database.delete(self._open(), name)
            moved = filled(table, row.image, old.table, old.image)
            await self.database.insert(self._open(), new, Row(old.table, row.stamp, moved))

    async def look(self, plan: Plan) -> None:
        await self._say(lambda: self._look(plan))

    async def _look(self, plan: Plan) -> None:
        for table in dict.fromkeys(at[0] for at in plan.upserts):
            found = await self._stamps(tomb_name, plan.upserts, table, False, None)
            for at, tomb in found.items():
                look.beside_upsert(plan, at, tomb)
        for table in dict.fromkeys(at[0] for at in plan.removals):
            found = await self._stamps(row_name, plan.removals, table, False, None)
            for at, row in found.items():
                look.beside_removal(plan, at, row)

    async def record(self, plan: Plan, images: Mapping[NetKey, str], origin: int) -> None:
        async def write() -> None:
            for record in plan.records:
                at, entry, image = record.incoming
                found = record.conflict
                self.database.note(
                    self._open(), "conflict",
                    Conflicted(
                        entry.key, str(found.kind), found.winner, found.loser, images.get(at),
                        image.bytes() if image else None, record.item.tx_id,
                    ),
                )  # fmt: skip

        if plan.records:
            await self._say(write)


class MemoryApplying(MemoryWriting):
    """An applier's session."""

    async def progress(self, origin: int) -> Progress | None:
        async def read() -> Progress | None:
            row: Applied | None = self.database.value(None, applied_name(origin))
            if row is None:
                return None
            return Progress(
                row.incarnation, row.seq, row.position, row.stream_epoch, row.frontier,
                row.heard_us, row.commit_us, row.heard_beat, row.epoch,
            )  # fmt: skip

        return await self._say(read)

    async def begin(self, format: bytes, fence: Fence) -> bool:
        return await self._say(lambda: self._begin(fence))

    async def _begin(self, fence: Fence) -> bool:
        self.tx = self.database.begin()
        name = applied_name(fence.origin)
        row = await self.database.read(self.tx, name, True, LOCK_WAIT_SECONDS)
        if row is None or (row.seq, row.epoch) != (fence.seq, fence.epoch):
            return False
        mark = fence.mark
        moved = replace(
            row, incarnation=fence.incarnation, seq=mark.seq, position=mark.position,
            stream_epoch=mark.stream_epoch, frontier=max(row.frontier, mark.frontier),
            heard_us=mark.heard_us, heard_beat=mark.heard_beat,
            commit_us=max(row.commit_us, mark.commit_us),
        )  # fmt: skip
        await self.database.update(self.tx, name, moved)
        await self.store.wire.between()
        return True

    def prepare(
        self, segments: Sequence[Segment], tables: Sequence[Touched]
    ) -> tuple[Sequence[Segment], Sequence[Touched]]:
        return segments, tables

    async def straight(
        self,
        prepared: tuple[Sequence[Segment], Sequence[Touched]],
        opening: tuple[bytes, Fence] | None,
    ) -> bool:
        return await self._say(lambda: self._straight(*prepared, opening))

    async def _straight(
        self,
        segments: Sequence[Segment],
        tables: Sequence[Touched],
        opening: tuple[bytes, Fence] | None,
    ) -> bool:
        held = True if opening is None else await self._begin(opening[1])
        for touched in tables:
            table = touched.table
            known = {
                (table, table.fold(key)): base for key, base in zip(touched.known, touched.bases)
            }
            if await self._stamps(row_name, known, table, True, None) != known:
                raise Replan(f"{table.title}: rows that are not at their base")
        await self._steps(Step(each.table, FORMS[each.kind], [each.rows]) for each in segments)
        for touched in tables:
            table = touched.table
            keys = {(table, table.fold(key)): key for key in touched.keys}
            found = await self._stamps(tomb_name, keys, table, False, None)
            for at, tomb in found.items():
                if not touched.tolerates(keys[at], tomb):
                    raise Replan(f"{table.title}: a tombstone stands beside a row")
        return held

    async def park(self, rows: Sequence[Unable], item: Item, origin: int, format: bytes) -> None:
        async def write() -> None:
            for row in rows:
                number = self.database.next_number("letter")
                state = "open" if isinstance(row.error, RowError) else "replay"
                letter = Parked(number, row, item, origin, format, state)
                await self.database.insert(self._open(), letter_name(number), letter)

        if rows:
            await self._say(write)
