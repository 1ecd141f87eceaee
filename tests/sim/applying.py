"""One apply transaction, step by step, as the node's ``mysql/applying.py`` has it.

Fence, lock, plan, write, look, record, commit: every step is a method of its own, and
others may act between any two.
"""

from collections.abc import Generator, Mapping, Sequence

from meshnode.core import look
from meshnode.core.change import NetKey
from meshnode.core.plan import Form, Plan, Work, make_plan
from meshnode.core.resolve import Local
from meshnode.core.wire import REMOVE
from meshnode.errors import Replan

from .actor import Actor
from .clockwork import Steps
from .database import LOCKING, SHARED, RowError, Surprise, Tx
from .journal import Loser
from .table import TABLES, key_of, row_of, rows_of

Values = dict[NetKey, int]


class Applying(Actor):
    """The statements of an apply transaction; ``wide``: this region's table has more columns."""

    def __init__(self, node) -> None:
        super().__init__(node)
        self.wide = frozenset(TABLES) if node.region.wide else frozenset()

    def outcomes(
        self, tx: Tx, works: Sequence[Work], deep: bool, wait: bool, split: bool
    ) -> Generator[int | None, None, Plan]:
        """Steps 2 to 5 in the open transaction; what was done."""
        state = yield from self.lock(tx, works, deep, wait)
        plan = make_plan(works, state, self.node.ancestry, self.wide, split)
        values = self.standing(plan)
        if self.node.slowness:
            yield self.step()
        yield from self.write_images(tx, plan)
        if plan.tombstones:
            if self.node.slowness:
                yield self.step()
            yield from self.write_tombstones(tx, plan)
        if self.node.slowness:
            yield self.step()
        self.look_at_tombstones(tx, plan)
        if plan.removals:
            if self.node.slowness:
                yield self.step()
            self.look_at_rows(tx, plan)
        self.record(tx, plan, values)
        return plan

    def lock(
        self, tx: Tx, works: Sequence[Work], deep: bool, wait: bool
    ) -> Generator[int | None, None, dict[NetKey, Local]]:
        """Lock the rows of all keys and read their stamps; tombstones where deletes need them."""
        rows: dict[int, NetKey] = {}
        tombs: dict[int, NetKey] = {}
        for work in works:
            for at, entry, _ in work.incoming:
                key = key_of(at[1])
                rows[key] = at
                if deep or entry.outcome == REMOVE or not work.item.exact:
                    tombs[key] = at
        database = self.database
        if wait:
            yield from self._queue(tx, sorted(rows))
        stamps = database.read_stamps(tx, sorted(rows), False, LOCKING)
        buried = {}
        if tombs:
            if self.node.slowness:
                yield self.step()
            if wait:
                yield from self._queue(tx, [~key for key in sorted(tombs)])
            buried = database.read_stamps(tx, sorted(tombs), True, LOCKING)
        return {rows[key]: Local(stamps.get(key), buried.get(key)) for key in {**stamps, **buried}}

    def _queue(self, tx: Tx, records: Sequence[int]) -> Steps:
        """Wait for the records that somebody else has."""
        database = self.database
        for record in records:
            if record in database.records or record in database.owners:
                yield from self.take(tx, record)
                if record not in database.records:
                    database.drop_absent(tx, record)

    def standing(self, plan: Plan) -> Values:
        """The values of the local rows that take part in conflicts, before they are written."""
        values = {}
        for record in plan.records:
            at = record.incoming.at
            before = plan.before.get(at)
            if before is not None and before.row is not None:
                values[at] = self.database.records[key_of(at[1])][1]
        return values

    def write_images(self, tx: Tx, plan: Plan) -> Steps:
        """Send the plan's images through the server's row applier."""
        database = self.database
        for step in plan.steps:
            form = step.form
            for chunk in step.chunks:
                if form is Form.UPDATE_BY_KEY:
                    changes = [(key_of(chunk[0]), *row_of(chunk[1]))]
                elif form is Form.DELETE_BY_KEY:
                    changes = [(key_of(chunk[0]), 0, None)]
                elif form is Form.UPDATE:
                    rows = rows_of(chunk)
                    pairs = zip(rows[::2], rows[1::2], strict=True)
                    changes = [(before[0], *after) for before, after in pairs]
                elif form is Form.WRITE:
                    changes = [(-1, *row) for row in rows_of(chunk)]
                else:
                    changes = [(row[0], 0, None) for row in rows_of(chunk)]
                for key, to, row in changes:
                    if row is not None:
                        self.region.constrain(row)
                        if to != key and not database.acquire(tx, to):
                            yield from self.take(tx, to)
                    if key >= 0 and not database.acquire(tx, key):
                        yield from self.take(tx, key)
                    if key < 0:
                        database.write(tx, to, row)
                    elif row is None:
                        database.remove(tx, key)
                    else:
                        database.change(tx, key, to, row)

    def write_tombstones(self, tx: Tx, plan: Plan) -> Steps:
        """Raise the plan's tombstones: rebuilt from what was locked."""
        database = self.database
        for at, stamp in plan.tombstones.items():
            key = key_of(at[1])
            before = plan.before.get(at)
            known = None if before is None else before.tomb
            if known is not None and known >= stamp:
                continue
            if not database.acquire(tx, ~key):
                yield from self.take(tx, ~key)
            present = database.records.get(~key)
            if known is None and present is not None:
                raise Surprise(f"a tombstone of {key} appeared")
            if known is not None and present is None:
                raise RowError(1032)
            database.bury(tx, key, stamp)

    def look_at_tombstones(self, tx: Tx, plan: Plan) -> None:
        """After the upserts: no tombstone may stand that is newer."""
        upserts = {key_of(at[1]): at for at in plan.upserts}
        found = self.database.read_stamps(tx, sorted(upserts), True, SHARED)
        records = len(plan.records)
        for key, tomb in found.items():
            try:
                look.beside_upsert(plan, upserts[key], tomb)
            except Replan as error:
                raise Surprise(str(error)) from None
        self.counts["insert over an unseen tombstone"] += len(plan.records) - records

    def look_at_rows(self, tx: Tx, plan: Plan) -> None:
        """After the tombstones: no row may stand below them."""
        removals = {key_of(at[1]): at for at in plan.removals}
        found = self.database.read_stamps(tx, sorted(removals), False, SHARED)
        for key, row in found.items():
            try:
                look.beside_removal(plan, removals[key], row)
            except Replan:
                self.found_below(tx, key)

    def found_below(self, tx: Tx, key: int) -> None:
        """A row that nobody had planned for stands below its tombstone."""
        raise Surprise(f"a row of {key} stands below its tombstone")

    def record(self, tx: Tx, plan: Plan, values: Mapping[NetKey, int]) -> None:
        """The conflict records that the plan owes."""
        for each in plan.records:
            found = each.conflict
            self.counts[f"conflict: {found.kind.name.lower()}"] += 1
            self.counts[f"conflict {found.certainty}"] += 1
            at = each.incoming.at
            if found.arrived_won:
                value = values.get(at)
            else:
                image = each.incoming.image
                value = None if image is None else row_of(image.bytes())[1][1]
            tx.conflicts.append(Loser(key_of(at[1]), value, found.loser))
