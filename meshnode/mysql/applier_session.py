"""An applier's session: the store port over the statements of :mod:`meshnode.mysql.applying`."""

from collections.abc import Iterable, Sequence

import msgspec

from meshnode.core.change import Table
from meshnode.core.runs import Segment, Touched
from meshnode.core.wire import Item
from meshnode.errors import RowError
from meshnode.mysql.apply import set_format
from meshnode.mysql.applying import ApplyingStatements, fence, fence_statement
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.records import LetterBody, LetterRow, image_json, key_json, write_letters
from meshnode.mysql.session import Session
from meshnode.mysql.store_session import StoreSession
from meshnode.mysql.straight import Straight
from meshnode.store.values import Fence, Progress, Unable


class ApplierSession(ApplyingStatements, StoreSession):
    """What one applier says to its server."""

    def __init__(self, session: Session, lookups: Lookups) -> None:
        ApplyingStatements.__init__(self, session, lookups)

    async def progress(self, origin: int) -> Progress | None:
        """The row of ``origin`` in ``meshnode.applied``."""
        rows = await self.session.query(
            "SELECT incarnation, seq, HEX(position), stream_epoch, frontier, heard_us, commit_us,"
            f" heard_beat, epoch FROM meshnode.applied WHERE origin = {origin}"
        )
        if not rows:
            return None
        incarnation, seq, position, *rest = rows[0]
        return Progress(incarnation, seq, bytes.fromhex(str(position or "")), *rest)

    async def learn(self, keys: Iterable[tuple[Table, bytes]]) -> None:
        """Ask for the weights of keys that are not known yet."""
        await self.lookups.fold(self.session, keys)

    async def begin(self, format: bytes, first: Fence) -> bool:
        """Open the transaction; whether its first write has hit the row of ``applied``."""
        if format:
            await set_format(self.session, format)
        await self.session.query("BEGIN")
        return await fence(self.session, first)

    def prepare(self, segments: Sequence[Segment], tables: Sequence[Touched]) -> Straight:
        """The statements that `straight` will send."""
        return Straight(segments, tables, self.lookups, self.session.max_packet)

    async def straight(self, prepared: Straight, opening: tuple[bytes, Fence] | None) -> bool:
        """Write runs as they are, in as few packets as the server takes."""
        if opening is None:
            await prepared.write(self.session)
            return True
        format_bytes, first = opening
        await set_format(self.session, format_bytes)
        _, fenced = await prepared.write(self.session, [b"BEGIN", fence_statement(first)])
        return fenced.found == 1

    async def park(self, rows: Sequence[Unable], item: Item, origin: int, format: bytes) -> None:
        """Put ``rows`` into ``meshnode.dead_letter``; those that were only locked are replayed."""
        charsets = self.lookups.charsets
        letters = []
        for incoming, error in rows:
            table = incoming.at[0]
            entry, image = incoming.entry, incoming.image.bytes() if incoming.image else None
            letter = LetterBody(1, format, table.map_body, entry, image)
            code, state = (error.code, "open") if isinstance(error, RowError) else (0, "replay")
            letters.append(
                LetterRow(
                    table.shape, key_json(table.shape, entry.key, charsets), entry.stamp, code,
                    error.what, image_json(table.shape, image, charsets),
                    msgspec.msgpack.encode(letter), origin, item.seq, item.tx_id, state,
                )
            )  # fmt: skip
        await write_letters(self.session, letters)

    async def save(self, name: str) -> None:
        await self.session.query(f"SAVEPOINT {name}")

    async def back_to(self, name: str) -> None:
        await self.session.query(f"ROLLBACK TO SAVEPOINT {name}")
