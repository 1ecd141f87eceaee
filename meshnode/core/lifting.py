"""What becomes of a lift once its row can be looked at under a lock.

Theory of operation.  A lift is about one version of one row: the stamp that was seen.  Between
that moment and the lock anybody may have come by, so the look has three answers.  The row stands
as it was seen: it is lifted, above everything that the look, the stream and the promise know
of.  It carries just the stamp that an earlier attempt at this very lift wrote: that one
was committed, whatever became of its answer.  Anything else stands there, or nothing: the
version is overtaken, and where no peer will ever see it, its loss is recorded.

What waits in ``meshnode.mend`` is settled with it.  An entry of the version that the lift is about
goes, and an entry of an earlier one is replaced and, unless the stream has shown it, recorded.
Without ``hold`` the lift is what waited there: if its entry is gone, somebody else has settled it.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from meshnode.core.mend import Fate, Lift, Reason, Restamped
from meshnode.core.stamp import ZERO, Stamp, lifted


class Waiting(Protocol):
    """An entry of ``mend`` that waits to be lifted, as far as it matters here."""

    @property
    def seen(self) -> Stamp | None:
        """The version it is about; ``None`` where whatever stands is to be lifted."""
        ...

    @property
    def is_published(self) -> bool:
        """Whether the stream has shown that version, which only stands too low now."""
        ...


class Verdict(NamedTuple):
    """What is to be done about one lift, in the transaction that has looked.

    ``fate`` is ``None`` where nothing is.  ``settles``: the key's entry is taken out.  ``lost_to``:
    the version that was seen is recorded as overtaken by this one.  ``replaces``: what waited is
    recorded as changed again.  ``done`` is the lift as it is carried out, ``stamp`` what the
    row gets; both ``None`` unless a row is written.
    """

    fate: Fate | None
    settles: bool = False
    lost_to: Stamp | None = None
    replaces: bool = False
    done: Lift | None = None
    stamp: Stamp | None = None


TABLE_GONE = Verdict(Fate.OVERTAKEN, settles=True)
"""The rows went with their table, and the DROP has its own say."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges lifts of region ``own`` that looked at ``clock``, with ``promised`` as the frontier.

    Both in microseconds since 1970.
    """

    own: int
    restamped: Restamped
    hold: bool
    clock: int
    promised: int

    def judge(
        self, lift: Lift, row: Stamp | None, tomb: Stamp | None, entry: Waiting | None
    ) -> Verdict:
        """What becomes of ``lift`` whose key has this row, tombstone and entry, all locked."""
        is_there = entry is not None and entry.seen == lift.seen
        if not is_there and not self.hold:
            return Verdict(None)
        if row is not None and self.restamped.by(lift, row):
            return Verdict(Fate.LIFTED, settles=is_there)
        if row is None or lift.seen not in (None, row):
            # Below a tombstone that came later the version is published as it is: no loss.
            is_lost = lift.reason is not Reason.TOMBSTONE
            lost_to = max(row or ZERO, tomb or ZERO) if is_lost else None
            settles = entry is not None and is_there and may_settle(lift, entry)
            return Verdict(Fate.OVERTAKEN, settles, lost_to)
        return self._lifted(lift, row, tomb or ZERO, entry)

    def _lifted(self, lift: Lift, row: Stamp, tomb: Stamp, entry: Waiting | None) -> Verdict:
        # A copy: undone, and tried again, the lift knows no more than before.
        done = replace(lift, seen=row)
        if tomb > lift.base:
            done.base, done.base_row = tomb, False
        ts = lifted(self.clock, row.ts, max(tomb, lift.base, lift.above).ts, self.promised)
        return Verdict(
            Fate.LIFTED, True, replaces=owes_a_record(entry, lift), done=done,
            stamp=Stamp(ts, self.own),
        )  # fmt: skip


def may_settle(lift: Lift, entry: Waiting) -> bool:
    """Whether ``lift``, found overtaken, may take out the entry of the version it is about.

    One over a late tombstone writes no record: an entry that owes one stays for the resolver,
    who comes by with the image.
    """
    return entry.is_published or lift.reason is not Reason.TOMBSTONE or not lift.is_bare


def owes_a_record(entry: Waiting | None, lift: Lift) -> bool:
    """Whether what waits is lost because ``lift`` is about a later version of its key.

    Its writer has seen it, but nobody else ever will.
    """
    return entry is not None and entry.seen != lift.seen and not entry.is_published
