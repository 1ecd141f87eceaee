"""Small local transactions that make the stream true: looks, lifts, late tombstones.

No client can stop the stream: every lock is asked for with NOWAIT.  What is
locked is told apart by halving, and left to ``meshnode.mend``.

A lift is an ordinary local transaction.  It comes round in the binlog and is
published then; the row of ``meshnode.mend`` that it writes and removes again
tells the tailer what the lifted row had replaced.  The stamp is written with a
``BINLOG`` update that holds only the key before and only the stamp after: no
trigger fires, and no other column is touched.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from meshnode import limits
from meshnode.core.change import NetKey, Table
from meshnode.core.mend import Fate, LateTombstone, Lift, Reason, Restamped
from meshnode.core.plan import Form, Step
from meshnode.core.resolve import Kind
from meshnode.core.stamp import ZERO, Stamp, lifted
from meshnode.errors import Busy, Halt
from meshnode.faultpoints import fault
from meshnode.mysql.apply import TombstoneMap, run, set_format, stamp_event
from meshnode.mysql.builders import binlog_statement
from meshnode.mysql.images import local_images
from meshnode.mysql.localtables import LocalTables
from meshnode.mysql.lookup import FOR_SHARE_NOWAIT, FOR_UPDATE_NOWAIT, Lookup, read_stamps
from meshnode.mysql.records import (
    ConflictRow,
    image_json,
    key_json,
    raw,
    text,
    write_conflicts,
)
from meshnode.mysql.session import Session, names_no_table

CLOCK = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)"
"""The server's time in microseconds since 1970, as the triggers' clock counts it."""

PATIENCE_SECONDS = (0.002, 0.005, 0.015, 0.04)
"""Pauses before a locked key is tried again; after the last one it is held back."""

LATE = 2
"""In ``mend.base_row``: not a lift but a late tombstone that met a lock."""


def key_hash(key: bytes, late: bool = False) -> bytes:
    """16 bytes that stand for a key of any length.

    A late tombstone and a lift of the same key may wait at the same time.
    """
    person = b"late" if late else b""
    return hashlib.blake2b(key, digest_size=16, person=person).digest()


async def halve(entries: Sequence, work: Callable[[Sequence], Awaitable[None]], size: int) -> list:
    """Run ``work`` on chunks of ``size``, halving those that meet a lock; the locked ones.

    Most locks are those of a client that is about to commit, so what is locked
    is tried again a few times within a tenth of a second.
    """
    locked = await _halve_once(entries, work, size)
    for pause in PATIENCE_SECONDS:
        if not locked:
            break
        await asyncio.sleep(pause)
        locked = await _halve_once(locked, work, size)
    return locked


async def _halve_once(
    entries: Sequence, work: Callable[[Sequence], Awaitable[None]], size: int
) -> list:
    locked: list = []
    todo = [entries[at : at + size] for at in range(0, len(entries), size)]
    while todo:
        chunk = todo.pop(0)
        try:
            await work(chunk)
        except Busy:
            if len(chunk) == 1:
                locked.append(chunk[0])
            else:
                middle = len(chunk) // 2
                todo[:0] = [chunk[:middle], chunk[middle:]]
    return locked


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


class Mending:
    """The mender's statements, on one session; ``own`` is this region's id."""

    def __init__(
        self,
        session: Session,
        own: int,
        lookup: Callable[[Table], Lookup],
        charsets: Mapping[int, str],
        max_packet: int,
        restamped: Restamped,
    ) -> None:
        self.session = session
        self.own = own
        self.lookup = lookup
        self.charsets = charsets
        self.max_packet = max_packet
        self.restamped = restamped
        self.tables = LocalTables(session)

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

        What met a lock goes to ``meshnode.mend``, unless it is there already
        (``hold`` is false).
        """
        if not lifts:
            return
        await set_format(self.session, fde)

        async def work(chunk: Sequence[Lift]) -> None:
            wrote: list[tuple[Lift, Stamp]] = []
            await self._in_transaction(lambda: self._lift(chunk, promised(), wrote))
            self._remember(wrote, committed=True)
            fault("mending.lifted")

        for lift in await halve(lifts, work, limits.MEND_ROWS):
            lift.fate = Fate.HELD
        held = [lift for lift in lifts if lift.fate is Fate.HELD and hold]
        for start in range(0, len(held), limits.MEND_ROWS):
            chunk = held[start : start + limits.MEND_ROWS]
            await self.session.query(self._mend_rows(chunk, images=True))

    async def _in_transaction(self, body: Callable[[], Awaitable[None]]) -> None:
        await self.session.query(b"BEGIN")
        try:
            await body()
            await self.session.query(b"COMMIT")
        except BaseException:
            if not self.session.closed:
                await self.session.rollback()
            raise

    def _remember(self, wrote: Sequence[tuple[Lift, Stamp]], committed: bool) -> None:
        for lift, stamp in wrote:
            self.restamped.note(lift, stamp, committed)

    async def _lift(
        self, lifts: Sequence[Lift], promised: int, wrote: list[tuple[Lift, Stamp]]
    ) -> None:
        """Lift in the open transaction; ``wrote`` learns the stamps that rows have got."""
        by_table: dict[Table, list[Lift]] = defaultdict(list)
        for lift in lifts:
            by_table[lift.table].append(lift)
        fates: list[tuple[Lift, Fate]] = []
        records: list[ConflictRow] = []
        ready: list[Lift] = []
        events: list[bytes] = []
        for table, group in by_table.items():
            lookup = self.lookup(table)
            keys = [lift.key for lift in group]
            try:
                rows = await read_stamps(self.session, lookup, table, keys, FOR_UPDATE_NOWAIT)
            except Halt as error:
                if not names_no_table(error):
                    raise
                # Dropped since: its rows are overtaken, and the DROP has its own say.
                fates += ((lift, Fate.OVERTAKEN) for lift in group)
                continue
            tombs = await read_stamps(
                self.session, lookup, table, keys, FOR_UPDATE_NOWAIT, tombstones=True
            )
            clock = await self.clock()
            stamps: list[tuple[bytes, int, int]] = []
            for lift in group:
                at = (table, table.fold(lift.key))
                row, tomb = rows.get(at), tombs.get(at, ZERO)
                if row is not None and self.restamped.by(lift, row):
                    fates.append((lift, Fate.LIFTED))
                    continue
                if row is None or lift.seen not in (None, row):
                    fates.append((lift, Fate.OVERTAKEN))
                    if lift.reason is not Reason.TOMBSTONE:
                        records.append(self._overtaken(lift, row, tomb))
                    continue
                if tomb > lift.base:
                    lift.base, lift.base_row = tomb, False
                lift.seen = row
                ts = lifted(clock, row.ts, max(tomb, lift.base, lift.above).ts, promised)
                stamps.append((lift.key, ts, self.own))
                ready.append(lift)
                wrote.append((lift, Stamp(ts, self.own)))
                fates.append((lift, Fate.LIFTED))
            if stamps:
                events.append(stamp_event(await self._present(table), stamps))
        if ready:
            await self.session.query(self._mend_rows(ready))
            await self.session.query(binlog_statement(events))
            await self.session.query(self._unmend(ready))
            fault("mending.lift")
        if records:
            await write_conflicts(self.session, records)
        # The answer to the COMMIT may be lost.
        self._remember(wrote, committed=False)
        for lift, fate in fates:
            lift.fate = fate

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

    def _mend_rows(self, lifts: Sequence[Lift], images: bool = False) -> str:
        values = []
        for lift in lifts:
            seen = lift.seen or ZERO
            values.append(
                f"('{lift.table.digest}',{raw(key_hash(lift.key))},{raw(lift.key)},{seen.ts},"
                f"{seen.origin},{lift.base.ts},{lift.base.origin},{int(lift.base_row)},"
                f"{self._image(lift) if images else 'NULL'},UTC_TIMESTAMP(6))"
            )
        return (
            "REPLACE INTO meshnode.mend (digest, key_hash, row_key, seen_ts, seen_origin,"
            f" base_ts, base_origin, base_row, image, at) VALUES {','.join(values)}"
        )

    def _image(self, lift: Lift) -> str:
        """The row that was seen as a JSON literal, for the record of an overtaken lift."""
        if lift.image is None:
            return text(lift.shown)
        rows, start, stop = lift.image
        return image_json(lift.table.shape, rows[start:stop], self.charsets)

    def _unmend(self, lifts: Sequence[Lift]) -> str:
        keys = ",".join(f"('{lift.table.digest}',{raw(key_hash(lift.key))})" for lift in lifts)
        return f"DELETE FROM meshnode.mend WHERE (digest, key_hash) IN ({keys})"

    def _overtaken(self, lift: Lift, row: Stamp | None, tomb: Stamp) -> ConflictRow:
        shape = lift.table.shape
        return ConflictRow(
            shape, key_json(shape, lift.key, self.charsets), Kind.OVERTAKEN, "certain",
            f"changed again before it could be published: {lift.reason}", max(row or ZERO, tomb),
            lift.seen or ZERO, "NULL", self._image(lift), self.own, 0, "",
        )  # fmt: skip

    async def hold_late(self, late: LateTombstone) -> None:
        """Leave a late tombstone that met a lock to ``meshnode.mend``.

        One that waits there for the key already may be the greater (its origin is the same).
        """
        await self.session.query(
            "INSERT INTO meshnode.mend (digest, key_hash, row_key, seen_ts, seen_origin,"
            f" base_ts, base_origin, base_row, at) VALUES ('{late.table.digest}',"
            f"{raw(key_hash(late.key, late=True))},{raw(late.key)},{late.stamp.ts},"
            f"{late.stamp.origin},0,0,{LATE},UTC_TIMESTAMP(6)) AS late ON DUPLICATE KEY UPDATE"
            " seen_ts = GREATEST(mend.seen_ts, late.seen_ts), at = late.at"
        )

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
            await self._in_transaction(lambda: self._bury(chunk))

        return await halve(late, work, limits.MEND_ROWS)

    async def _bury(self, late: Sequence[LateTombstone]) -> None:
        for table, group in _greatest(late).items():
            lookup = self.lookup(table)
            keys = [tombstone.key for tombstone in group.values()]
            try:
                known = await read_stamps(
                    self.session, lookup, table, keys, FOR_UPDATE_NOWAIT, tombstones=True
                )
            except Halt as error:
                if not names_no_table(error):
                    raise
                continue
            raises = [
                (tombstone.key, tombstone.stamp, at in known)
                for at, tombstone in group.items()
                if known.get(at, ZERO) < tombstone.stamp
            ]
            if raises:
                events = TombstoneMap(table.shape).raise_events(raises, 1)
                await self.session.query(binlog_statement(events))
            rows = await read_stamps(self.session, lookup, table, keys, FOR_UPDATE_NOWAIT)
            below = [
                (at, row)
                for at, row in rows.items()
                if row < group[at].stamp and row.origin not in (self.own, 0)
            ]
            if below:
                await self._remove(table, [(group[at], row) for at, row in below])

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
        await run(self.session, [step], self.max_packet)
