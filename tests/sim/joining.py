"""A table that joins the mesh with rows of before, while clients write: what ``init`` does.

Each region's triggers stand already.  Its stream begins where the row of ``tables`` stands
in its binlog; what was written before that is compared across the regions and lifted in the
region with the greatest version, by the decision of :mod:`meshnode.ops.alignment`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING

from meshnode.core.stamp import ZERO, Stamp
from meshnode.ops.alignment import Action, Decision, State, decide

from .clockwork import Clockwork, Steps
from .database import Database, Locked
from .journal import Told
from .table import Row

if TYPE_CHECKING:
    from .region import Region

SEED = 1
"""The region whose unversioned rows win."""

RETRY = 1_000_000


class Joining:
    """``init`` over all regions; ``baseline`` are the rows that it had no reason to touch.

    ``later``: only the second table joins, and the mesh is at work already.
    """

    def __init__(
        self, regions: Iterable[Region], rng: random.Random, keys: list[int], later: bool
    ) -> None:
        self.regions = {region.number: region for region in regions}
        self.rng = rng
        self.keys = keys
        self.later = later
        self.since_us = 0
        self.baseline: dict[int, Row] = {}
        self.done = False

    def fill(self) -> None:
        """Rows of before: alike everywhere, only in some regions, or different."""
        journal = next(iter(self.regions.values())).journal
        for key in self.keys:
            kind = self.rng.random()
            same = (ZERO, journal.new_value())
            for number, region in self.regions.items():
                records = region.database.records
                if kind < 0.3:
                    records[key] = self.baseline[key] = same
                elif self.rng.random() < 0.6:
                    stamp = Stamp(region.database.clock - 1000, number)
                    stamp = ZERO if kind < 0.7 else stamp
                    records[key] = (stamp, journal.new_value())

    def run(self, clockwork: Clockwork, span: int) -> Steps:
        """The rows of ``tables``, one region after another, and then the comparison."""
        order = sorted(self.regions, key=lambda _: self.rng.random())
        for number in order:
            yield 1 + int(self.rng.random() * span)
            yield from self.activate(self.regions[number])
        yield 1 + int(self.rng.random() * span)
        left = list(self.keys)
        while left:
            held = []
            for key in left:
                if not (yield from self._settle(key, span)):
                    held.append(key)
            left = held
            if left:
                yield RETRY
        self.done = True

    def activate(self, region: Region) -> Steps:
        """The stream of the region begins here, dated after it is committed.

        The clock may have stepped back since a row was written: the date is no less than what
        stands there (:mod:`meshnode.ops.activation`).
        """
        database = region.database
        tx = database.begin("activate")
        tx.logged.activates = True
        database.commit(tx)
        if self.later:
            region.words_since = len(database.binlog)
            region.notice()
        else:
            region.since = len(database.binlog)
            region.start()
        self.since_us = max(self.since_us, database.clock)
        # The COMMIT returns when it shows, and with it all that came before it in the binlog.
        yield database.commit_lag + 1
        self.since_us = max(self.since_us, self.newest_us(database))

    def newest_us(self, database: Database) -> int:
        """The greatest time in the stamps that stand in the region."""
        found = [0]
        for key in self.keys:
            row, tomb = database.plain(None, key), database.plain(None, ~key)
            found += [stamp.ts for stamp in (row and row[0], tomb) if stamp]
        return max(found)

    def _settle(self, key: int, span: int) -> Steps:
        """Look at a key in all regions and lift what has to be; False if it was locked."""
        states = {}
        for number, region in self.regions.items():
            row = region.database.plain(None, key)
            tomb = region.database.plain(None, ~key)
            stamp, value = row if row is not None else (None, None)
            states[number] = State(stamp, None if value is None else str(value), tomb)
        decision = decide(states, self.since_us, SEED)
        if decision.action is Action.REFUSE:
            # The seed has no row and the others differ: the operator names one of them.
            seed = min(number for number, state in states.items() if state.row is not None)
            decision = decide(states, self.since_us, seed)
        if decision.action in (Action.NONE, Action.STREAM):
            return True
        yield 1 + int(self.rng.random() * span / 10)
        return self._lift(self.regions[decision.region], key, decision)

    def _lift(self, region: Region, key: int, decision: Decision) -> bool:
        """Give the row, or the tombstone, a stamp above every version of the key."""
        database = region.database
        row = decision.action is Action.LIFT_ROW
        record = key if row else ~key
        tx = database.begin("init")
        tx.notes = Told([], [])
        try:
            found = database.locked(tx, record)
        except Locked:
            database.rollback(tx)
            return False
        stamp = Stamp(max(database.clock, decision.above.ts + 1), region.number)
        if row and found is not None and found[0] == decision.seen:
            database.change(tx, key, key, (stamp, found[1]))
            region.counts["init lifted a row"] += 1
        elif not row and found == decision.seen:
            # A client may have inserted the key since it was looked at.
            stamp = Stamp(decision.above.ts + 1, region.number)
            database.bury(tx, key, stamp)
            shown = len(region.journal.shown[region.number, key])
            region.journal.deletes[key, tuple(stamp)] = (region.number, shown)
            region.counts["init lifted a tombstone"] += 1
        else:
            region.counts["init found a row written since"] += 1
        database.commit(tx)
        return True
