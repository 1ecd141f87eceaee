"""Small local transactions that make the stream true: looks, lifts, late tombstones.

No client can stop the stream: every lock is asked for with NOWAIT.  What is
locked is told apart by halving, and left to ``meshnode.mend``.

A lift is an ordinary local transaction.  It comes round in the binlog and is
published then; the row of ``meshnode.mend`` that it writes and removes again
tells the tailer what the lifted row had replaced.  The stamp is written with a
``BINLOG`` update that holds only the key before and only the stamp after: no
trigger fires, and no other column is touched.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from meshnode import limits
from meshnode.core.change import NetKey, Table
from meshnode.core.lifting import TABLE_GONE, Judge, Verdict, owes_a_record
from meshnode.core.mend import Fate, LateTombstone, Lift, Reason, Restamped
from meshnode.core.plan import Form, Step
from meshnode.core.resolve import Kind
from meshnode.core.stamp import ZERO, Stamp
from meshnode.errors import Halt, OtherKey, RowError
from meshnode.faultpoints import fault
from meshnode.mysql import catalog, mend_rows
from meshnode.mysql.apply import TombstoneMap, run, set_format, stamp_event
from meshnode.mysql.builders import binlog_statement
from meshnode.mysql.halving import halve
from meshnode.mysql.images import local_images
from meshnode.mysql.localtables import LocalTables
from meshnode.mysql.lookup import FOR_SHARE_NOWAIT, FOR_UPDATE_NOWAIT, Lookup, read_stamps
from meshnode.mysql.mend_rows import HeldRow
from meshnode.mysql.queries import CatalogRows
from meshnode.mysql.records import ConflictRow, key_json, text, write_conflicts
from meshnode.mysql.session import Session, names_no_table

CLOCK = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)"
"""The server's time in microseconds since 1970, as the triggers' clock counts it."""

LOOKS = 3
"""How often one looks whether a tombstone is there, if a client's delete writes it meanwhile."""


def _greatest(late: Iterable[LateTombstone]) -> dict[Table, dict[NetKey, LateTombstone]]:
    """The greatest late tombstone of each key, by table.

    The last need not be it: a row that was inserted under a clock that stepped back, and
    deleted too, has a lower one than the row before it.
    """
    found: dict[Table, dict[NetKey, LateTombstone]] = defaultdict(dict)
    for tombstone in late:
        group = found[tombstone.table]
        at = (tombstone.table, tombstone.table.fold(tombstone.key))
        if at not in group or group[at].stamp < tombstone.stamp:
            group[at] = tombstone
    return found


class MendingStatements:
    """The mender's statements, on one session; ``own`` is this region's id."""

    def __init__(
        self,
        session: Session,
        own: int,
        lookup: Callable[[Table], Lookup],
        charsets: Mapping[int, str],
        restamped: Restamped,
    ) -> None:
        self.session = session
        self.own = own
        self.lookup = lookup
        self.charsets = charsets
        self.restamped = restamped
        self.tables = LocalTables(session)
        self._buried: set[Table] = set()

    async def tombstones(
        self, keys: Mapping[Table, Iterable[bytes]]
    ) -> tuple[dict[NetKey, Stamp], set[NetKey]]:
        """The tombstones of wire keys, and the keys that are locked, by canonical key."""
        found: dict[NetKey, Stamp] = {}
        locked: set[NetKey] = set()
        for table, wire in keys.items():
            lookup = self.lookup(table)

            async def look(chunk: Sequence[bytes], table=table, lookup=lookup) -> None:
                found.update(
                    await read_stamps(
                        self.session, lookup, table, chunk, FOR_SHARE_NOWAIT, tombstones=True
                    )
                )

            for key in await halve(list(dict.fromkeys(wire)), look, limits.LOCK_KEYS):
                locked.add((table, table.fold(key)))
        return found, locked

    async def clock(self) -> int:
        """The server's time in microseconds since 1970."""
        return int(str((await self.session.query(CLOCK))[0][0]))

    async def lift(
        self, lifts: Sequence[Lift], fde: bytes, promised: Callable[[], int], hold: bool = True
    ) -> None:
        """Lift rows in transactions of up to ``MEND_ROWS``; each lift gets its fate.

        What met a lock goes to ``meshnode.mend``.  Without ``hold`` it is there already: a lift
        whose row has gone from there meanwhile was settled by somebody else, and gets none.
        """
        if not lifts:
            return
        await set_format(self.session, fde)

        async def work(chunk: Sequence[Lift]) -> None:
            async with self.session.transaction():
                done = await self._lift(chunk, promised(), hold)
            self._remember(done, committed=True)
            fault("mending.lifted")

        for lift in await halve(lifts, work, limits.MEND_ROWS):
            lift.fate = Fate.HELD
        held = [lift for lift in lifts if lift.fate is Fate.HELD and hold]
        for start in range(0, len(held), limits.MEND_ROWS):
            chunk = held[start : start + limits.MEND_ROWS]
            async with self.session.transaction():
                await self._hold(chunk)

    async def overtake(self, lifts: Mapping[Lift, Stamp]) -> None:
        """Settle lifts that are overtaken for certain, by the versions given.

        No row is touched, so no client is in the way.
        """
        every = list(lifts)
        for start in range(0, len(every), limits.MEND_ROWS):
            chunk = every[start : start + limits.MEND_ROWS]
            lost = [lift for lift in chunk if not self.restamped.by(lift, lifts[lift])]
            async with self.session.transaction():
                waiting = await mend_rows.locked(self.session, chunk)
                entries = ((lift, waiting.get((lift.table.digest, lift.key))) for lift in chunk)
                settled = [lift for lift, entry in entries if entry and entry.seen == lift.seen]
                if settled:
                    await self.session.query(mend_rows.take_out(settled))
                records = [
                    self._overtaken(lift, lifts[lift])
                    for lift in lost
                    if lift.reason is not Reason.TOMBSTONE
                ]
                await write_conflicts(self.session, records)
            for lift in chunk:
                lift.fate = Fate.LIFTED
            for lift in lost:
                lift.fate = Fate.OVERTAKEN

    async def _hold(self, lifts: Sequence[Lift]) -> None:
        """Leave lifts to ``meshnode.mend``; a version whose place one takes there is recorded."""
        waiting = await mend_rows.locked(self.session, lifts)
        records: list[ConflictRow] = []
        puts: list[Lift] = []
        for lift in lifts:
            marker = (lift.table.digest, lift.key)
            entry = waiting.get(marker)
            if entry is not None and owes_a_record(entry, lift):
                records.append(self._replaced(entry, lift))
            if entry is not None and entry.seen == lift.seen and lift.is_bare:
                # Found below a late tombstone; its record will need what is known here.
                lift = replace(lift, shown=entry.image)
            puts.append(lift)
            # The same key may come again.
            waiting[marker] = mend_rows.as_held_row(lift, self.charsets)
        for statement in mend_rows.put(puts, self.charsets):
            await self.session.query(statement)
        await write_conflicts(self.session, records)

    def _remember(self, verdicts: Sequence[Verdict], committed: bool) -> None:
        for verdict in verdicts:
            if verdict.done is not None and verdict.stamp is not None:
                self.restamped.note(verdict.done, verdict.stamp, committed)

    async def _lift(self, lifts: Sequence[Lift], promised: int, hold: bool) -> list[Verdict]:
        """Lift in the open transaction; what was done, some of it to rows."""
        by_table: dict[Table, list[Lift]] = defaultdict(list)
        for lift in lifts:
            by_table[lift.table].append(lift)
        judged: list[tuple[Lift, Verdict]] = []
        records: list[ConflictRow] = []
        events: list[bytes] = []
        for table, group in by_table.items():
            found = await self._judged(table, group, promised, hold)
            for lift, verdict, entry in found:
                judged.append((lift, verdict))
                if verdict.lost_to is not None:
                    records.append(self._overtaken(lift, verdict.lost_to))
                if verdict.replaces:
                    assert entry is not None
                    records.append(self._replaced(entry, lift))
            stamps = [(lift.key, *each.stamp) for lift, each, _ in found if each.stamp is not None]
            if stamps:
                events.append(stamp_event(await self._present(table), stamps))
        ready = [verdict.done for _, verdict in judged if verdict.done is not None]
        if ready:
            # The tailer reads there what the lifted rows had replaced.
            for statement in mend_rows.put(ready, self.charsets, images=False):
                await self.session.query(statement)
            await self.session.query(binlog_statement(events))
        settled = [lift for lift, verdict in judged if verdict.settles]
        if settled:
            await self.session.query(mend_rows.take_out(settled))
        if ready:
            fault("mending.lift")
        if records:
            await write_conflicts(self.session, records)
        verdicts = [verdict for _, verdict in judged]
        # The answer to the COMMIT may be lost.
        self._remember(verdicts, committed=False)
        for lift, verdict in judged:
            if verdict.fate is not None:
                lift.fate = verdict.fate
        return verdicts

    async def _judged(
        self, table: Table, lifts: Sequence[Lift], promised: int, hold: bool
    ) -> list[tuple[Lift, Verdict, HeldRow | None]]:
        """Lock all that there is of these keys; what becomes of each lift, and what waited."""
        lookup = self.lookup(table)
        keys = [lift.key for lift in lifts]
        try:
            rows = await read_stamps(self.session, lookup, table, keys, FOR_UPDATE_NOWAIT)
        except Halt as error:
            if not names_no_table(error):
                raise
            return [(lift, TABLE_GONE, None) for lift in lifts]
        tombs = await read_stamps(
            self.session, lookup, table, keys, FOR_UPDATE_NOWAIT, tombstones=True
        )
        waiting = await mend_rows.locked(self.session, lifts)
        judge = Judge(self.own, self.restamped, hold, await self.clock(), promised)
        found = []
        for lift in lifts:
            at, entry = (table, table.fold(lift.key)), waiting.get((table.digest, lift.key))
            found.append((lift, judge.judge(lift, rows.get(at), tombs.get(at), entry), entry))
        return found

    async def _present(self, table: Table) -> Table:
        """The table as it is defined now, which the rows' locks keep from changing.

        The binlog may show an older form, in which the stamp stands elsewhere.
        """
        present = await self.tables.named(table.schema, table.name)
        if present is None or present.shape.key_columns != table.shape.key_columns:
            raise Halt(
                f"the key of {table.title} was changed while a row waited to be lifted",
                "docs/OPERATING.md, 'What stops a stream'",
            )
        return present

    def _overtaken(self, lift: Lift, over: Stamp) -> ConflictRow:
        """The record of a version that was not published before ``over`` came."""
        why = f"changed again before it could be published: {lift.reason}"
        shown = mend_rows.shown(lift, self.charsets)
        return self._record(lift, why, over, lift.seen, shown)

    def _replaced(self, entry: HeldRow, lift: Lift) -> ConflictRow:
        """The record of a version that waits no longer, because ``lift`` is about a later one."""
        why = "changed again while it waited for a lock"
        return self._record(lift, why, lift.seen or ZERO, entry.seen, entry.image)

    def _record(
        self, lift: Lift, why: str, winner: Stamp, loser: Stamp | None, image: str | None
    ) -> ConflictRow:
        shape = lift.table.shape
        return ConflictRow(
            shape, key_json(shape, lift.key, self.charsets), Kind.OVERTAKEN, "certain", why,
            winner, loser or ZERO, "NULL", text(image), self.own, 0, "",
        )  # fmt: skip

    async def hold_late(self, late: LateTombstone) -> None:
        """Leave a late tombstone that met a lock to ``meshnode.mend``."""
        await self.session.query(mend_rows.put_late(late))

    async def rows_below(self, late: Sequence[LateTombstone]) -> list[Lift]:
        """Own rows that a tombstone buried late stands above: they must be lifted over it.

        They were judged when the tombstone was not there yet.  Raises Busy when
        one of them is locked.
        """
        lifts: list[Lift] = []
        for table, group in _greatest(late).items():
            keys = [tombstone.key for tombstone in group.values()]
            rows = await read_stamps(
                self.session, self.lookup(table), table, keys, FOR_SHARE_NOWAIT
            )
            for at, row in rows.items():
                tombstone = group[at]
                if row < tombstone.stamp:
                    lifts.append(
                        Lift(table, tombstone.key, row, tombstone.stamp, False,
                             Reason.TOMBSTONE, None)
                    )  # fmt: skip
        return lifts

    async def bury(self, late: Sequence[LateTombstone], fde: bytes) -> list[LateTombstone]:
        """Write late tombstones; those that met a lock are returned."""
        if not late:
            return []
        await set_format(self.session, fde)

        async def work(chunk: Sequence[LateTombstone]) -> None:
            for looks in range(LOOKS, 0, -1):
                try:
                    async with self.session.transaction():
                        await self._bury(chunk)
                    return
                except RowError as error:
                    if not error.duplicate or looks == 1:
                        raise

        return await halve(late, work, limits.MEND_ROWS)

    async def _bury(self, late: Sequence[LateTombstone]) -> None:
        # Tombstones before all rows: the tailer takes one behind rows of another table for that
        # of a trigger that stands on the wrong table.
        groups = _greatest(late)
        there = [table for table, group in groups.items() if await self._raise(table, group)]
        for table in there:
            group = groups[table]
            keys = [tombstone.key for tombstone in group.values()]
            lookup = self.lookup(table)
            rows = await read_stamps(self.session, lookup, table, keys, FOR_UPDATE_NOWAIT)
            below = [(group[at], row) for at, row in rows.items() if group[at].takes(row, self.own)]
            if below:
                await self._remove(table, below)

    async def _require_buried(self, table: Table) -> None:
        """Halt while the tombstone table does not have the key that ``table`` has."""
        if table in self._buried:
            return
        if not await catalog.buried(CatalogRows(self.session), table.shape):
            raise OtherKey(table.title)
        self._buried.add(table)

    async def _raise(self, table: Table, group: Mapping[NetKey, LateTombstone]) -> bool:
        """Write the tombstones of one table; False if it is gone."""
        lookup = self.lookup(table)
        keys = [tombstone.key for tombstone in group.values()]
        try:
            known = await read_stamps(
                self.session, lookup, table, keys, FOR_UPDATE_NOWAIT, tombstones=True
            )
        except Halt as error:
            if not names_no_table(error):
                raise
            return False
        raises = [
            (tombstone.key, tombstone.stamp, at in known)
            for at, tombstone in group.items()
            if known.get(at, ZERO) < tombstone.stamp
        ]
        if raises:
            await self._require_buried(table)
            events = TombstoneMap(table.shape).raise_events(raises, 1)
            await self.session.query(binlog_statement(events))
        return True

    async def _remove(self, table: Table, rows: Sequence[tuple[LateTombstone, Stamp]]) -> None:
        """Rows of other regions that a late tombstone beats: gone, with a record."""
        shape = table.shape
        lookup = self.lookup(table)
        images = await local_images(self.session, lookup, [late.key for late, _ in rows], table)
        await write_conflicts(
            self.session,
            [
                ConflictRow(
                    shape, key_json(shape, late.key, self.charsets), Kind.LATE_DELETE, "certain",
                    "a delete that no trigger saw beats this row", late.stamp, row, "NULL",
                    text(images.get(table.fold(late.key))), self.own, 0, "",
                )
                for late, row in rows
            ],
        )  # fmt: skip
        step = Step(table, Form.DELETE_BY_KEY, [(late.key, b"") for late, _ in rows])
        await run(self.session, [step])
