"""Locks that were waited for in vain, and what is not tried because of them for a while.

Theory of operation.  MySQL tells at once that a client holds a row.  Two other locks it tells of
only by letting wait: one of a gap, which keeps new rows out, and one of a whole table.  Whoever
waits for one row after the other waits for hours, and holds what it has locked itself.  So a few
waits say it all: from then on no new row goes into that table for a while, and where one had to
wait even so, nothing does.  Rows that are not tried count as locked.

When that time is over the next one that would go in finds out whether the lock is still there.
"""

import time
from collections.abc import Iterable, Sequence

from meshnode.core.change import NetKey, Table
from meshnode.core.check import Incoming
from meshnode.core.plan import Plan
from meshnode.errors import Busy

AVOIDED_SECONDS = 10.0
"""For so long nothing is tried after a lock was waited for in vain."""

SUSPECTED_SECONDS = 60.0
"""For so long after that a table is suspected, unless a new row has gone into it."""


class NotTried(Busy):
    """Of what was to be written ``keys`` were not tried: there was a lock a moment ago."""

    def __init__(self, keys: set[NetKey]) -> None:
        names = ", ".join(sorted({table.title for table, _ in keys}))
        super().__init__(f"not tried, a client has just held a lock of a gap or table: {names}")
        self.keys = keys


class Avoided:
    """The tables with such locks, by digest: until when no new row is tried, or no row at all."""

    def __init__(self) -> None:
        self._new: dict[str, float] = {}
        self._all: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._new)

    def waited(self, tables: Iterable[Table]) -> None:
        """Rows of ``tables`` have waited in vain, and more of them are not to."""
        now = time.monotonic()
        for digest in {table.digest for table in tables}:
            avoided = self._all if self._new.get(digest, 0.0) > now else self._new
            avoided[digest] = now + AVOIDED_SECONDS

    def suspects(self, tables: Iterable[Table]) -> bool:
        """Whether one of ``tables`` has, or has just had, such a lock."""
        if not self._new:
            return False
        since = time.monotonic() - SUSPECTED_SECONDS
        self._new = {digest: until for digest, until in self._new.items() if until > since}
        return any(table.digest in self._new for table in tables)

    def rows(self, incoming: Sequence[Incoming]) -> None:
        """Raise `NotTried` if some are of a table of which no row is tried."""
        if self._all:
            now = time.monotonic()
            keys = {each.at for each in incoming if self._all.get(each.at[0].digest, 0.0) > now}
            if keys:
                raise NotTried(keys)

    def plan(self, plan: Plan) -> None:
        """Raise `NotTried` if ``plan`` has new rows for a table that takes none."""
        if self._new:
            now = time.monotonic()
            keys = {at for at in _new(plan) if self._new.get(at[0].digest, 0.0) > now}
            if keys:
                raise NotTried(keys)

    def done(self, plan: Plan) -> None:
        """``plan`` was carried out: where new rows went in is no such lock any more."""
        if self._new:
            for digest in {table.digest for table, _ in _new(plan)}:
                self._new.pop(digest, None)
                self._all.pop(digest, None)


def _new(plan: Plan) -> Iterable[NetKey]:
    """The keys of rows that do not stand here yet."""
    for at in plan.upserts:
        before = plan.before.get(at)
        if before is None or before.row is None:
            yield at
