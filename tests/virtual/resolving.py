"""The resolver's session over a database in memory: what was held back, and what was set aside."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from meshnode.core.change import Table
from meshnode.core.mend import LateTombstone, Lift, Reason
from meshnode.core.shape import Shape
from meshnode.core.stamp import ZERO, Stamp
from meshnode.errors import DUPLICATE, Busy
from meshnode.limits import LOCK_WAIT_SECONDS
from meshnode.store.values import Letter, Waiting

from .applying import MemoryWriting
from .bookkeeping import Applied, Parked, applied_name, letter_name
from .database import row_name, tomb_name
from .mending import Held, MemoryMending, mend_name


class MemoryResolving(MemoryWriting, MemoryMending):
    """What the resolver says."""

    async def definitions(self) -> object:
        async def read() -> object:
            return sorted(
                (digest, table.map_body) for digest, table in self.database.tables.items()
            )

        return await self._say(read)

    # Held-back keys

    async def waiting(self, most: int) -> list[Waiting]:
        return [Waiting(_work(held), held) for held in (await self.entries())[:most]]

    async def forget(self, entries: Sequence[Waiting]) -> None:
        async def delete() -> None:
            tx = self.tx = self.database.begin()
            for held in (each.entry for each in entries):
                name = mend_name(held.table, held.key, held.late)
                # Another one in its place is not what was read.
                if await self.database.read(tx, name, True, LOCK_WAIT_SECONDS) is held:
                    await self.database.delete(tx, name)

        if entries:
            await self._alone(delete)

    # Dead letters

    async def shape(self, table: Table) -> Shape | None:
        async def read() -> Shape | None:
            local = self.database.tables.get(table.digest)
            return None if local is None else local.shape

        return await self._say(read)

    async def version(self, table: Table, key: bytes) -> Stamp | None:
        at = table, table.fold(key)

        async def look() -> Stamp:
            tx = self.tx = self.database.begin()
            row = await self.database.read(tx, row_name(at), False, None)
            tomb = await self.database.read(tx, tomb_name(at), False, None)
            return max(row.stamp if row else ZERO, tomb or ZERO)

        try:
            return await self._alone(look)
        except Busy:
            return None

    async def to_replay(self, most: int, after: int) -> list[Letter]:
        return await self._letters(
            lambda each: each.state == "replay" and each.number > after, most
        )

    async def beside(self, items: Collection[tuple[int, int]], most: int) -> list[Letter]:
        def wanted(each: Parked) -> bool:
            return _is_taken(each) and (each.origin, each.item.seq) in items

        return await self._letters(wanted, most)

    async def taken(self, most: int, after: int) -> list[Letter]:
        return await self._letters(lambda each: _is_taken(each) and each.number > after, most)

    async def parked(self, most: int, after: int) -> list[Letter]:
        return await self._letters(lambda each: each.is_parked and each.number > after, most)

    async def _letters(self, wanted: Callable[[Parked], bool], most: int) -> list[Letter]:
        async def read() -> list[Letter]:
            letters = [each for each in self.database.records.values() if isinstance(each, Parked)]
            letters.sort(key=lambda each: each.number)
            return [_letter(each) for each in letters if wanted(each)][:most]

        return await self._say(read)

    async def begin_replay(self, letter: Letter, epoch: int) -> bool:
        async def begin() -> bool:
            tx = self.tx = self.database.begin()
            name = applied_name(letter.origin)
            row: Applied | None = await self.database.read(tx, name, True, LOCK_WAIT_SECONDS)
            if row is None or row.epoch != epoch:
                return False
            await self.database.update(tx, name, replace(row, replays=row.replays + 1))
            return True

        return await self._say(begin)

    async def replayed(self, letter: Letter) -> None:
        await self._say(lambda: self._note(letter, "closed", "replayed", bool))

    async def refused(self, letter: Letter, why: str) -> None:
        await self._decided(letter, _is_to_be_replayed, "open", why)

    async def postponed(self, letter: Letter, why: str) -> None:
        def has_room(row: Parked) -> bool:
            return row.state == "replay" or (row.state == "open" and not row.note)

        await self._decided(letter, has_room, "", why)

    async def overtaken(self, letter: Letter) -> None:
        note = "overtaken by a later version"
        await self._decided(letter, lambda row: row.is_parked, "closed", note)

    async def _decided(
        self, letter: Letter, still: Callable[[Parked], bool], new: str, note: str
    ) -> None:
        async def decide() -> None:
            self.tx = self.database.begin()
            await self._note(letter, new, note, still)

        await self._alone(decide)

    async def _note(
        self, letter: Letter, state: str, note: str, still: Callable[[Parked], bool]
    ) -> None:
        tx, name = self._open(), letter_name(letter.number)
        row: Parked | None = await self.database.read(tx, name, True, LOCK_WAIT_SECONDS)
        if row is not None and still(row):
            await self.database.update(tx, name, replace(row, state=state or row.state, note=note))


def _is_taken(row: Parked) -> bool:
    return row.state == "open" and row.code in (0, DUPLICATE)


def _is_to_be_replayed(row: Parked) -> bool:
    return row.state == "replay"


def _work(held: Held) -> Lift | LateTombstone:
    if held.late:
        return LateTombstone(held.table, held.key, held.seen or ZERO)
    return Lift(
        held.table, held.key, held.seen, held.base, held.base_row,
        Reason.TOMBSTONE if held.is_published else Reason.LOCKED, None,
        held.image.hex() if held.image else None,
    )  # fmt: skip


def _letter(parked: Parked) -> Letter:
    incoming, item = parked.row.incoming, parked.item
    image = None if incoming.image is None else incoming.image.bytes()
    return Letter(
        parked.number, parked.origin, item.seq, item.tx_id, parked.code, incoming.at[0],
        incoming.entry, image, parked.format,
    )  # fmt: skip
