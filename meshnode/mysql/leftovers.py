"""What was held back from the stream or parked by it, worked off on a session of its own."""

from collections.abc import Callable, Sequence

import msgspec

from meshnode.core.change import Table
from meshnode.core.check import Image, Incoming
from meshnode.core.mend import Fate, LateTombstone, Lift, Reason, Restamped
from meshnode.core.plan import Ancestry, Work, make_plan
from meshnode.core.shape import Equal, compare
from meshnode.core.stamp import ZERO, Stamp
from meshnode.core.wire import TRANSACTION, Entry, Item
from meshnode.errors import Busy, Halt, Replan
from meshnode.mysql import catalog
from meshnode.mysql.apply import set_format
from meshnode.mysql.applying import Applying
from meshnode.mysql.localtables import LocalTables
from meshnode.mysql.lookup import FOR_SHARE_NOWAIT, read_stamps
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.mending import LATE, Mending, key_hash
from meshnode.mysql.queries import CatalogRows
from meshnode.mysql.records import raw, text
from meshnode.mysql.session import RowError, Session

ROWS_A_ROUND = 500


class Letter(msgspec.Struct, array_like=True):
    """What a replay needs: the format, the table map, the entry, and the after image."""

    version: int
    format: bytes
    table_map: bytes
    entry: Entry
    image: bytes | None


class Leftovers:
    """Statements over ``meshnode.mend`` and ``meshnode.dead_letter`` of one region."""

    def __init__(
        self,
        session: Session,
        own: int,
        lookups: Lookups,
        ancestry: Ancestry,
        restamped: Restamped,
        max_packet: int,
    ) -> None:
        self.session = session
        self.own = own
        self.lookups = lookups
        self.ancestry = ancestry
        self.max_packet = max_packet
        self.mending = Mending(session, own, lookups, lookups.charsets, max_packet, restamped)
        self.tables = LocalTables(session)
        self._looked_to = 0
        # When the entries of ``meshnode.mend`` were written that are being worked off.
        self._read: dict[tuple[str, bytes], str] = {}

    async def definitions(self) -> object:
        """Something that changes whenever a column of a replicated table does."""
        return await self.session.query(
            "SELECT COUNT(*), BIT_XOR(CRC32(CONCAT_WS('|', c.TABLE_SCHEMA, c.TABLE_NAME,"
            " c.ORDINAL_POSITION, c.COLUMN_NAME, c.COLUMN_TYPE, c.COLLATION_NAME, c.IS_NULLABLE,"
            " c.COLUMN_DEFAULT, c.COLUMN_KEY))) FROM meshnode.tables t"
            " JOIN information_schema.COLUMNS c"
            " ON c.TABLE_SCHEMA = t.schema_name AND c.TABLE_NAME = t.table_name"
        )

    # Held-back keys

    async def mend(self, fde: bytes, promised: Callable[[], int]) -> tuple[int, int]:
        """Try every held-back key once; how many were lifted and how many overtaken."""
        rows = await self.session.query(
            "SELECT m.digest, HEX(m.row_key), m.seen_ts, m.seen_origin, m.base_ts, m.base_origin,"
            " m.base_row, m.image, t.schema_name, t.table_name, HEX(m.key_hash),"
            " CAST(m.at AS CHAR) FROM meshnode.mend m"
            f" LEFT JOIN meshnode.tables t ON t.digest = m.digest"
            # In no order, so that keys which stay locked do not keep the others waiting.
            f" ORDER BY RAND() LIMIT {ROWS_A_ROUND}"
        )
        if not rows:
            return 0, 0
        lifts: list[Lift] = []
        late: list[LateTombstone] = []
        self._read = {(str(row[0]), bytes.fromhex(str(row[-2]))): str(row[-1]) for row in rows}
        for row in rows:
            await self._sort(row[:-2], lifts, late)
        await self.lookups.fold(
            self.session,
            [(each.table, each.key) for each in (*lifts, *late) if each.table.folds is not None],
        )
        # A late tombstone may have to wait on when the row is free already.
        above = {(each.table.digest, each.key): each.stamp for each in late}
        for lift in lifts:
            lift.above = above.get((lift.table.digest, lift.key), ZERO)
        below = await self._bury(late, fde, promised)
        await self.mending.lift(lifts, fde, promised, hold=False)
        # A lift takes its entry out itself, but not one that it found done.
        over = [lift for lift in lifts if lift.fate is not Fate.HELD]
        await self._forget([(lift.table.digest, key_hash(lift.key)) for lift in over])
        lifted = sum(lift.fate is Fate.LIFTED for lift in (*lifts, *below))
        return lifted, sum(lift.fate is Fate.OVERTAKEN for lift in lifts)

    async def _sort(self, row: tuple, lifts: list[Lift], late: list[LateTombstone]) -> None:
        """Make a row of ``meshnode.mend`` a lift or a late tombstone again."""
        digest, key, seen_ts, seen_origin, base_ts, base_origin, base_row, image, *names = row
        wire = bytes.fromhex(str(key))
        schema, name = names
        table = await self.tables.named(str(schema), str(name)) if schema else None
        seen = Stamp(seen_ts, seen_origin)
        if table is None:
            await self._forget([(str(digest), key_hash(wire, late=base_row == LATE))])
        elif base_row == LATE:
            late.append(LateTombstone(table, wire, seen))
        else:
            lifts.append(
                Lift(
                    table, wire, seen if seen != ZERO else None, Stamp(base_ts, base_origin),
                    bool(base_row), Reason.LOCKED, None, None if image is None else str(image),
                )
            )  # fmt: skip

    async def _bury(
        self, late: Sequence[LateTombstone], fde: bytes, promised: Callable[[], int]
    ) -> list[Lift]:
        """Write late tombstones whose lock is gone, and lift the rows that stand below them."""
        locked = await self.mending.bury(late, fde)
        buried = [each for each in late if each not in locked]
        try:
            below = await self.mending.rows_below(buried)
        except Busy:
            return []
        await self.mending.lift(below, fde, promised)
        await self._forget([(each.table.digest, key_hash(each.key, late=True)) for each in buried])
        return below

    async def _forget(self, keys: Sequence[tuple[str, bytes]]) -> None:
        """Take entries out of ``meshnode.mend``: table digest and key hash.

        Only as they were read: the mender may have put a later version of the key in the
        place of one, and that has not been worked off.
        """
        if keys:
            entries = ",".join(
                f"('{digest}',{raw(hashed)},{text(self._read[digest, hashed])})"
                for digest, hashed in keys
            )
            await self.session.query(
                f"DELETE FROM meshnode.mend WHERE (digest, key_hash, at) IN ({entries})"
            )

    # Dead letters

    async def replay(self, epoch: Callable[[], int], replicated: Callable[[str, str], bool]) -> int:
        """Put every letter that waits for it through the ordinary decision; how many closed."""
        rows = await self.session.query(
            "SELECT id, origin, seq, tx_id, HEX(body) FROM meshnode.dead_letter"
            f" WHERE state = 'replay' ORDER BY id LIMIT {ROWS_A_ROUND}"
        )
        closed = 0
        for number, origin, seq, tx_id, body in rows:
            note = ""
            try:
                letter = msgspec.msgpack.decode(bytes.fromhex(str(body)), type=Letter)
                note = await self._replay(
                    letter, number, origin, seq, str(tx_id), epoch(), replicated
                )
            except (RowError, Halt, msgspec.MsgspecError) as error:
                if not self.session.closed:
                    await self.session.rollback()
                note = str(error)
            except (Busy, Replan):
                await self.session.rollback()
                continue
            if note:
                await self.session.query(
                    f"UPDATE meshnode.dead_letter SET state = 'open', note = {text(note[:255])}"
                    f" WHERE id = {number} AND state = 'replay'"
                )
            else:
                closed += 1
        return closed

    async def _replay(
        self,
        letter: Letter,
        number: int,
        origin: int,
        seq: int,
        tx_id: str,
        epoch: int,
        replicated: Callable[[str, str], bool],
    ) -> str:
        """Apply one letter; why it could not be, or ''."""
        table = self.tables.mapped(letter.table_map)
        local = await catalog.shape(CatalogRows(self.session), table.schema, table.name)
        if local is None or not replicated(table.schema, table.name):
            return f"table {table.title} is not replicated here"
        if not isinstance(compare(table.shape, local), Equal):
            return f"the definition of {table.title} differs from that of the parked row"
        entry = letter.entry
        if table.folds is not None:
            await self.lookups.fold(self.session, [(table, entry.key)])
        image = Image(letter.image, 0, len(letter.image)) if letter.image is not None else None
        incoming = Incoming((table, table.fold(entry.key)), entry, image)
        work = Work(Item(seq, TRANSACTION, tx_id, 0, exact=False), [], [incoming])
        applying = Applying(self.session, self.lookups, self.max_packet)
        await set_format(self.session, letter.format)
        await self.session.query("BEGIN")
        await self.session.query(
            "UPDATE meshnode.applied SET replays = replays + 1"
            f" WHERE origin = {origin} AND epoch = {epoch}"
        )
        if self.session.found != 1:
            await self.session.rollback()
            return "the node is being replaced: try again"
        state = await applying.lock([work], deep=True, wait=False)
        plan = make_plan([work], state, self.ancestry, split=True)
        images = await applying.standing(plan)
        await applying.write(plan)
        await applying.look(plan)
        await applying.record(plan, images, origin)
        await self.session.query(
            "UPDATE meshnode.dead_letter SET state = 'closed', closed_at = UTC_TIMESTAMP(6),"
            f" note = 'replayed' WHERE id = {number}"
        )
        await self.session.query("COMMIT")
        for at, stamp, base in plan.written:
            self.ancestry.note(at, stamp, base)
        return ""

    async def close_overtaken(self) -> int:
        """Close letters whose key has reached a version at or above the parked one."""
        rows = await self.session.query(
            "SELECT id, HEX(body) FROM meshnode.dead_letter WHERE state = 'open' AND code > 0"
            f" AND id > {self._looked_to} ORDER BY id LIMIT {ROWS_A_ROUND}"
        )
        # Round by round through all of them: the oldest may stay open for long.
        self._looked_to = rows[-1][0] if len(rows) == ROWS_A_ROUND else 0
        closed = 0
        for number, body in rows:
            try:
                letter = msgspec.msgpack.decode(bytes.fromhex(str(body)), type=Letter)
            except msgspec.MsgspecError:
                continue
            table = self.tables.mapped(letter.table_map)
            local = await catalog.shape(CatalogRows(self.session), table.schema, table.name)
            if local is None:
                continue
            if table.folds is not None:
                await self.lookups.fold(self.session, [(table, letter.entry.key)])
            version = await self._version(table, letter.entry.key)
            if version is not None and version >= letter.entry.stamp:
                await self.session.query(
                    "UPDATE meshnode.dead_letter SET state = 'closed',"
                    " closed_at = UTC_TIMESTAMP(6), note = 'overtaken by a later version'"
                    f" WHERE id = {number} AND state = 'open'"
                )
                closed += 1
        return closed

    async def _version(self, table: Table, key: bytes) -> Stamp | None:
        lookup = self.lookups(table)
        at = (table, table.fold(key))
        try:
            row = await read_stamps(self.session, lookup, table, [key], FOR_SHARE_NOWAIT)
            tomb = await read_stamps(
                self.session, lookup, table, [key], FOR_SHARE_NOWAIT, tombstones=True
            )
        except (Busy, Halt):
            # Locked, or the table has other columns by now: neither says anything of the key.
            return None
        return max(row.get(at, ZERO), tomb.get(at, ZERO))
