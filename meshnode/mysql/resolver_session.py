"""The resolver's session: over ``meshnode.mend`` and ``meshnode.dead_letter``, and its replays."""

from collections.abc import Collection, Sequence

import msgspec

from meshnode.core.change import Table
from meshnode.core.mend import LateTombstone, Lift, Reason, Restamped
from meshnode.core.shape import Shape
from meshnode.core.stamp import ZERO, Stamp
from meshnode.errors import DUPLICATE, Busy, Halt
from meshnode.mysql import catalog
from meshnode.mysql.apply import set_format
from meshnode.mysql.applying import ApplyingStatements
from meshnode.mysql.lookup import FOR_SHARE_NOWAIT, read_stamps
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.mend_rows import LATE, held_row
from meshnode.mysql.mender_session import MenderSession
from meshnode.mysql.queries import CatalogRows
from meshnode.mysql.records import LetterBody, text
from meshnode.mysql.rowdigest import table_digest
from meshnode.mysql.session import Session
from meshnode.store.values import Letter, Waiting

PARKED = "(state = 'open' OR state = 'replay' AND code = 0 AND note <> '')"
"""Letters that are left to an operator, or that something else than a lock keeps waiting."""

TAKEN = f"state = 'open' AND code IN (0, {DUPLICATE})"
"""Letters that are left to an operator because of a unique value, or were only locked at first."""

_DEFINITION = (
    "SHA2(JSON_ARRAY(c.TABLE_SCHEMA, c.TABLE_NAME, c.ORDINAL_POSITION, c.COLUMN_NAME,"
    " c.COLUMN_TYPE, c.COLLATION_NAME, c.IS_NULLABLE, c.COLUMN_DEFAULT, c.EXTRA, c.COLUMN_KEY),"
    " 256)"
)
"""Of a column.  No checksum that is linear, as CRC32 is: under XOR, two columns of equally long
descriptions could change places unseen."""


class ResolverSession(ApplyingStatements, MenderSession):
    """What the resolver of region ``own`` says to its server."""

    def __init__(self, session: Session, own: int, lookups: Lookups, restamped: Restamped) -> None:
        MenderSession.__init__(self, session, own, lookups, restamped)
        ApplyingStatements.__init__(self, session, lookups)

    async def definitions(self) -> object:
        """A checksum over the columns of all replicated tables."""
        return await self.session.query(
            f"SELECT {table_digest(_DEFINITION)} FROM meshnode.tables t"
            " JOIN information_schema.COLUMNS c"
            " ON c.TABLE_SCHEMA = t.schema_name AND c.TABLE_NAME = t.table_name"
        )

    # Held-back keys

    async def waiting(self, most: int) -> list[Waiting]:
        """Entries of ``meshnode.mend``; each is named by digest, key hash and time of writing."""
        rows = await self.session.query(
            "SELECT m.digest, HEX(m.row_key), m.seen_ts, m.seen_origin, m.base_ts, m.base_origin,"
            " m.base_row, m.image, t.schema_name, t.table_name, HEX(m.key_hash),"
            " CAST(m.at AS CHAR) FROM meshnode.mend m"
            " LEFT JOIN meshnode.tables t ON t.digest = m.digest"
            # In no order, so that keys which stay locked do not keep the others waiting.
            f" ORDER BY RAND() LIMIT {most}"
        )
        names = {(str(row[8]), str(row[9])) for row in rows if row[8] is not None}
        tables = {name: await self.tables.named(*name) for name in names}
        return [
            Waiting(
                _work(tables.get((str(row[8]), str(row[9]))), *row[1:8]),
                (str(row[0]), str(row[10]), str(row[11])),
            )
            for row in rows
        ]

    async def forget(self, entries: Sequence[Waiting]) -> None:
        """Take entries out of ``meshnode.mend``.

        Only as they were read: the mender may have put another in the place of one, and that
        has not been worked off.
        """
        if entries:
            names = ",".join(
                f"('{digest}',X'{hashed}',{text(at)})"
                for digest, hashed, at in (each.entry for each in entries)
            )
            await self.session.query(
                f"DELETE FROM meshnode.mend WHERE (digest, key_hash, at) IN ({names})"
            )

    # Dead letters

    async def shape(self, table: Table) -> Shape | None:
        """The table's columns as the catalogue has them now."""
        return await catalog.shape(CatalogRows(self.session), table.schema, table.name)

    async def version(self, table: Table, key: bytes) -> Stamp | None:
        """The greatest stamp of row and tombstone.

        None where one is locked, or the table has other columns by now: neither says anything.
        Busy where the whole table is locked.
        """
        lookup = self.lookups(table)
        at = (table, table.fold(key))
        try:
            row = await read_stamps(self.session, lookup, table, [key], FOR_SHARE_NOWAIT)
            tomb = await read_stamps(
                self.session, lookup, table, [key], FOR_SHARE_NOWAIT, tombstones=True
            )
        except (Busy, Halt, KeyError) as error:
            if isinstance(error, Busy) and error.waited:
                raise
            # KeyError: a row that is none of those asked for, in a column of another collation.
            return None
        return max(row.get(at, ZERO), tomb.get(at, ZERO))

    async def to_replay(self, most: int, after: int) -> list[Letter]:
        """The oldest letters above ``after`` in state ``replay``."""
        return await self._letters(f"state = 'replay' AND id > {after}", most)

    async def beside(self, items: Collection[tuple[int, int]], most: int) -> list[Letter]:
        """Open letters of ``items`` whose unique value somebody else had."""
        among = ",".join(f"({origin},{seq})" for origin, seq in items)
        return await self._letters(f"{TAKEN} AND (origin, seq) IN ({among})", most)

    async def taken(self, most: int, after: int) -> list[Letter]:
        """The oldest open letters above ``after`` whose unique value somebody else had."""
        return await self._letters(f"{TAKEN} AND id > {after}", most)

    async def parked(self, most: int, after: int) -> list[Letter]:
        """The oldest letters above ``after`` that are open, or wait for more than a lock."""
        return await self._letters(f"{PARKED} AND id > {after}", most)

    async def _letters(self, which: str, most: int) -> list[Letter]:
        rows = await self.session.query(
            "SELECT id, origin, seq, tx_id, code, HEX(body) FROM meshnode.dead_letter"
            f" WHERE {which} ORDER BY id LIMIT {most}"
        )
        return [
            self._letter(number, origin, seq, str(tx_id), code, bytes.fromhex(str(body)))
            for number, origin, seq, tx_id, code, body in rows
        ]

    def _letter(
        self, number: int, origin: int, seq: int, tx_id: str, code: int, body: bytes
    ) -> Letter:
        try:
            read = msgspec.msgpack.decode(body, type=LetterBody)
            table = self.tables.mapped(read.table_map)
        except (msgspec.MsgspecError, Halt) as error:
            return Letter(number, origin, seq, tx_id, code, flaw=str(error))
        return Letter(number, origin, seq, tx_id, code, table, read.entry, read.image, read.format)

    async def begin_replay(self, letter: Letter, epoch: int) -> bool:
        """Open the transaction; whether its first write has hit the row of ``applied``."""
        await set_format(self.session, letter.format)
        await self.session.query("BEGIN")
        await self.session.query(
            "UPDATE meshnode.applied SET replays = replays + 1"
            f" WHERE origin = {letter.origin} AND epoch = {epoch}"
        )
        return self.session.found == 1

    async def replayed(self, letter: Letter) -> None:
        """Close ``letter``."""
        await self.session.query(
            "UPDATE meshnode.dead_letter SET state = 'closed', closed_at = UTC_TIMESTAMP(6),"
            f" note = 'replayed' WHERE id = {letter.number}"
        )

    async def postponed(self, letter: Letter, why: str) -> None:
        """Give ``letter`` a note; the same one again writes nothing."""
        await self.session.query(
            f"UPDATE meshnode.dead_letter SET note = {text(why[:255])} WHERE id = {letter.number}"
            " AND (state = 'replay' OR state = 'open' AND note = '')"
        )

    async def refused(self, letter: Letter, why: str) -> None:
        """Open ``letter`` again with a note."""
        await self.session.query(
            f"UPDATE meshnode.dead_letter SET state = 'open', note = {text(why[:255])}"
            f" WHERE id = {letter.number} AND state = 'replay'"
        )

    async def overtaken(self, letter: Letter) -> None:
        """Close ``letter``, if it is still open or has its note."""
        await self.session.query(
            "UPDATE meshnode.dead_letter SET state = 'closed',"
            " closed_at = UTC_TIMESTAMP(6), note = 'overtaken by a later version'"
            f" WHERE id = {letter.number} AND {PARKED}"
        )


def _work(
    table: Table | None,
    key: object,
    seen_ts: int,
    seen_origin: int,
    base_ts: int,
    base_origin: int,
    base_row: int,
    image: object,
) -> Lift | LateTombstone | None:
    """A row of ``meshnode.mend`` as a lift or a late tombstone again."""
    if table is None:
        return None
    wire = bytes.fromhex(str(key))
    if base_row == LATE:
        return LateTombstone(table, wire, Stamp(seen_ts, seen_origin))
    held = held_row(seen_ts, seen_origin, base_ts, base_origin, base_row, image)
    reason = Reason.TOMBSTONE if held.is_published else Reason.LOCKED
    return Lift(table, wire, held.seen, held.base, held.base_row, reason, None, held.image)
