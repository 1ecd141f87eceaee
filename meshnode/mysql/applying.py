"""One apply transaction: fence, lock, write, look, record, commit.

The order is what makes it right.  The first write is the row of
``meshnode.applied``: the dedup, the fence against another process, and the mark
by which the tailer knows the transaction.  Then the rows are locked and their
stamps read, the core plans, the images go through ``BINLOG``; and only then the
other side is looked at, tombstones after upserts and rows after tombstones,
with locking reads.  Anything the plan did not see is a rollback and a new plan.
"""

from collections import defaultdict
from collections.abc import Iterable

from meshnode.core import look
from meshnode.core.change import NetKey, Table
from meshnode.core.plan import Plan, Work
from meshnode.core.resolve import Local
from meshnode.core.stamp import Stamp
from meshnode.core.wire import REMOVE
from meshnode.errors import Replan
from meshnode.mysql import catalog
from meshnode.mysql.apply import TombstoneMap, run
from meshnode.mysql.builders import binlog_statement
from meshnode.mysql.images import local_images
from meshnode.mysql.lookup import (
    FOR_SHARE_NOWAIT,
    FOR_UPDATE,
    FOR_UPDATE_NOWAIT,
    read_stamps,
)
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.queries import CatalogRows
from meshnode.mysql.records import ConflictRow, image_json, key_json, text, write_conflicts
from meshnode.mysql.session import RowError, Session
from meshnode.store.values import Definition, Fence

Keys = dict[Table, dict[bytes, NetKey]]


class ApplyingStatements:
    """The statements of an apply transaction on one session."""

    def __init__(self, session: Session, lookups: Lookups) -> None:
        self.session = session
        self.lookups = lookups
        self._tombstone_maps: dict[Table, TombstoneMap] = {}

    async def definition(self, table: Table) -> Definition:
        """How ``table`` stands here now; the catalogue is asked only if it is replicated."""
        active = await self.session.query(
            f"SELECT 1 FROM meshnode.tables WHERE digest = '{table.digest}' AND state = 'active'"
        )
        if not active:
            return Definition(False)
        local = await catalog.read(CatalogRows(self.session), table.schema, table.name)
        if local is None:
            return Definition(True)
        buried = await catalog.buried(CatalogRows(self.session), local.shape)
        return Definition(True, local.shape, local.literal, buried)

    async def lock(self, works: Iterable[Work], deep: bool, wait: bool) -> dict[NetKey, Local]:
        """Lock the rows of all keys and read their stamps; tombstones where deletes need them.

        ``deep`` reads the tombstones of every key.  Without ``wait`` a locked
        row raises Busy at once.
        """
        rows: Keys = defaultdict(dict)
        tombs: Keys = defaultdict(dict)
        known: set[Table] = set()
        for work in works:
            for at, entry, _ in work.incoming:
                rows[at[0]][entry.key] = at
                if entry.base_row:
                    known.add(at[0])
                if deep or entry.outcome == REMOVE or not work.item.exact:
                    tombs[at[0]][entry.key] = at
        mode = FOR_UPDATE if wait else FOR_UPDATE_NOWAIT
        stamps: dict[NetKey, Stamp] = {}
        buried: dict[NetKey, Stamp] = {}
        for table in sorted(rows, key=lambda table: table.digest):
            lookup = self.lookups(table)
            fresh = table not in known
            stamps.update(
                await read_stamps(self.session, lookup, table, rows[table], mode, fresh=fresh)
            )
            if tombs[table]:
                buried.update(
                    await read_stamps(
                        self.session, lookup, table, tombs[table], mode, tombstones=True
                    )
                )
        return {at: Local(stamps.get(at), buried.get(at)) for at in stamps.keys() | buried.keys()}

    async def write(self, plan: Plan) -> None:
        """Send the plan's images, then raise its tombstones."""
        await run(self.session, plan.steps)
        if not plan.tombstones:
            return
        groups: dict[Table, list[tuple[bytes, Stamp, bool]]] = defaultdict(list)
        for at, stamp in plan.tombstones.items():
            before = plan.before.get(at)
            exists = before is not None and before.tomb is not None
            if exists and before.tomb >= stamp:
                continue
            groups[at[0]].append((plan.keys[at], stamp, exists))
        events: list[bytes] = []
        for number, (table, rows) in enumerate(groups.items(), 1):
            # By form: the digest stays when the key's type changes, the images do not.
            known = self._tombstone_maps.get(table)
            if known is None:
                known = self._tombstone_maps[table] = TombstoneMap(table.shape)
            events += known.raise_events(rows, number)
        if events:
            try:
                await self.session.query(binlog_statement(events))
            except RowError as error:
                if error.duplicate:
                    raise Replan(f"a tombstone appeared meanwhile: {error.what}") from error
                raise

    async def look(self, plan: Plan) -> None:
        """The locking reads after the write; Replan when they find what the plan did not."""
        upserts: Keys = defaultdict(dict)
        for at, incoming in plan.upserts.items():
            upserts[at[0]][incoming.entry.key] = at
        for table, keys in upserts.items():
            found = await read_stamps(
                self.session, self.lookups(table), table, keys, FOR_SHARE_NOWAIT, tombstones=True
            )
            for at, tomb in found.items():
                look.beside_upsert(plan, at, tomb)
        removals: Keys = defaultdict(dict)
        for at in plan.removals:
            removals[at[0]][plan.keys[at]] = at
        for table, keys in removals.items():
            found = await read_stamps(
                self.session, self.lookups(table), table, keys, FOR_SHARE_NOWAIT
            )
            for at, row in found.items():
                look.beside_removal(plan, at, row)

    async def record(self, plan: Plan, images: dict[NetKey, str], origin: int) -> None:
        """Write the conflict records the plan owes."""
        rows = []
        for record in plan.records:
            at, entry, image = record.incoming
            table, found = at[0], record.conflict
            shape, charsets = table.shape, self.lookups.charsets
            arrived = image_json(shape, image.bytes() if image else None, charsets)
            stood = text(images.get(at))
            won = found.arrived_won
            rows.append(
                ConflictRow(
                    shape, key_json(shape, entry.key, charsets), found.kind, found.certainty,
                    "the later stamp wins", found.winner, found.loser,
                    arrived if won else stood, stood if won else arrived,
                    origin, record.item.seq, record.item.tx_id,
                )
            )  # fmt: skip
        if rows:
            await write_conflicts(self.session, rows)

    async def standing(self, plan: Plan) -> dict[NetKey, str]:
        """The local rows that take part in conflicts, as JSON text, before they are written."""
        wanted: Keys = defaultdict(dict)
        for record in plan.records:
            at = record.incoming.at
            before = plan.before.get(at)
            if before is not None and before.row is not None:
                wanted[at[0]][record.incoming.entry.key] = at
        found: dict[NetKey, str] = {}
        for table, keys in wanted.items():
            images = await local_images(self.session, self.lookups(table), list(keys), table)
            found.update({(table, canonical): image for canonical, image in images.items()})
        return found

    async def commit(self) -> None:
        await self.session.query("COMMIT")

    async def rollback(self) -> None:
        """Undo the transaction, unless the connection is gone with it."""
        if not self.session.closed:
            await self.session.rollback()


async def fence(session: Session, first: Fence) -> bool:
    """Send `fence_statement`; False when the row is not ours to move."""
    await session.query(fence_statement(first))
    return session.found == 1


def fence_statement(first: Fence) -> bytes:
    """The first write of every apply transaction: it must match one row."""
    mark = first.mark
    return (
        f"UPDATE meshnode.applied SET seq = {mark.seq}, tx_id = {text(mark.tx_id)},"
        f" position = X'{mark.position.hex()}', stream_epoch = {mark.stream_epoch},"
        f" incarnation = {first.incarnation}, frontier = GREATEST(frontier, {mark.frontier}),"
        f" heard_us = {mark.heard_us}, heard_beat = {mark.heard_beat},"
        f" commit_us = GREATEST(commit_us, {mark.commit_us}), applied_at = UTC_TIMESTAMP(6)"
        f" WHERE origin = {first.origin} AND seq = {first.seq} AND epoch = {first.epoch}"
    ).encode("utf-8", "surrogateescape")
