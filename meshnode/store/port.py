"""The port of the store: a region's MySQL, in the words of the mesh.

Actors say what must happen to the rows of their region; how it is said to a server is the
adapter's affair (:mod:`meshnode.mysql.store`).  The cut follows one question: at which
points does it matter that a process dies, is cancelled, or meets somebody else?  Between two
methods of a session it does; within one it does not, save where the method says so.  Methods
take batches, never rows: none costs more round trips than its statements need.

What every store promises:

- **A session holds one transaction at a time**, under READ COMMITTED.  A row that exists, or that
  an open transaction has written, can be locked; one that is absent cannot.
- **Looks lock.**  They see the newest committed version, or the transaction's own, and what
  somebody else holds they do not wait for: `Busy`.
- **All or nothing.**  What a transaction wrote is there after `commit`, and nothing of it after
  `rollback`, after `close`, and after the process has died.  A `commit` that raises or is
  cancelled may have happened; the position that it moved says whether.
- **A session that was cancelled in the middle of a call, or lost, is closed** and stays so.
- **Errors of the driver never pass**: `Busy` (somebody holds the row), `Replan` (the rows are not
  as the plan has them), `RowError` (this row cannot stand here), `Halt` and `Refused` (an
  operator has to do something), `Retry` for everything else.  After any of them the caller rolls
  back, or goes back to a mark; nothing is retried here.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from meshnode.core.change import Marker, Mended, NetKey, Table
from meshnode.core.ledger import Published
from meshnode.core.mend import LateTombstone, Lift, Restamped
from meshnode.core.plan import Plan, Work
from meshnode.core.resolve import Local
from meshnode.core.runs import Segment, Touched
from meshnode.core.shape import Shape
from meshnode.core.stamp import Stamp
from meshnode.core.wire import Item
from meshnode.store.keeping import Beating, Counting, Gardening
from meshnode.store.session import Session
from meshnode.store.values import (
    Decisions,
    Definition,
    Fence,
    History,
    Letter,
    Log,
    Member,
    Progress,
    Unable,
    Waiting,
)


class Writing(Session, Protocol):
    """A session that carries out plans.

    A transaction, once it is open, is ``lock``, ``standing``, ``write``, ``look``, ``record`` for
    each plan, then ``commit``.  What the core decides stands between ``lock`` and ``standing``.
    """

    async def definition(self, table: Table) -> Definition:
        """How ``table`` stands here now; outside a transaction."""
        ...

    async def learn(self, keys: Iterable[tuple[Table, bytes]]) -> None:
        """Learn the canonical forms of character keys (``Table.folds``); outside a transaction."""
        ...

    async def lock(self, works: Iterable[Work], deep: bool, wait: bool) -> Mapping[NetKey, Local]:
        """Lock the rows of all keys and read their stamps; tombstones where deletes need them.

        ``deep`` reads the tombstones of every key.  Without ``wait`` a locked row raises
        `Busy` at once, with it after ``limits.LOCK_WAIT_SECONDS``.
        """
        ...

    async def standing(self, plan: Plan) -> dict[NetKey, str]:
        """The rows that are about to lose, for `record`: as JSON text."""
        ...

    async def write(self, plan: Plan) -> None:
        """Send the plan's images, then raise its tombstones.

        Errors: `RowError` where a row cannot stand; `Replan` where a row or a tombstone is there,
        or is not, against the plan.
        """
        ...

    async def look(self, plan: Plan) -> None:
        """Look at the other side of what was written; `Replan` if the plan did not see it.

        A tombstone beside an upsert must not be newer, a row beside a removal not below it.
        """
        ...

    async def record(self, plan: Plan, images: Mapping[NetKey, str], origin: int) -> None:
        """Write the records of conflicts that the plan owes; ``images`` are those of `standing`."""
        ...

    async def commit(self) -> None:
        """Make the transaction last."""
        ...

    async def rollback(self) -> None:
        """Undo the transaction; a session that cannot is closed.  Raises nothing."""
        ...


class Applying(Writing, Protocol):
    """The session of an applier; an apply transaction begins with its fence."""

    async def progress(self, origin: int) -> Progress | None:
        """The row of ``origin`` in ``applied``; ``None`` where there is none."""
        ...

    async def begin(self, format: bytes, fence: Fence) -> bool:
        """Open a transaction with ``fence``; False if the row is not ours to move.

        ``format`` is the format description that the images follow, empty if there are none.
        The transaction is open in either case.
        """
        ...

    def prepare(self, segments: Sequence[Segment], tables: Sequence[Touched]) -> object:
        """All that `straight` has to say about these runs; nothing is said yet.

        Alone of all methods it may be called while another one is under way.  Errors: `RowError`
        where an image is too large, `Halt` where a table's keys cannot be asked for.
        """
        ...

    async def straight(self, prepared: object, opening: tuple[bytes, Fence] | None) -> bool:
        """Write runs as they are: lock and compare the bases, write, look, in few statements.

        ``prepared`` comes from `prepare` of this session.  With ``opening`` (format and fence) in a
        transaction of their own, begun and fenced in the same breath; False if the fence did not
        hold.  Without, in the open one.
        Errors: `Replan` when anything is not as the runs have it, and all those of `write`.
        """
        ...

    async def park(self, rows: Sequence[Unable], item: Item, origin: int, format: bytes) -> None:
        """Put ``rows`` of ``item`` into ``dead_letter``, each with what a replay needs."""
        ...

    async def save(self, name: str) -> None:
        """Set a mark in the open transaction; one of the same name is replaced."""
        ...

    async def back_to(self, name: str) -> None:
        """Undo what was written since the mark; the locks may stay."""
        ...


class Mending(Session, Protocol):
    """The session of the mender: small local transactions that make the stream true.

    Every method commits its own transactions and can be repeated.  No lock is waited for longer
    than a tenth of a second.
    """

    async def held(self) -> dict[Marker, Mended]:
        """What waits in ``mend`` to be lifted, with what it had replaced.

        Rows whose stamp nobody has seen are not among them.
        """
        ...

    async def late(self) -> dict[Marker, Stamp]:
        """The late tombstones that wait in ``mend``."""
        ...

    async def table(self, digest: str) -> Table | None:
        """The replicated table with this digest as it is defined now; ``None`` if it is gone."""
        ...

    async def learn(self, keys: Iterable[tuple[Table, bytes]]) -> None:
        """Learn the canonical forms of character keys (``Table.folds``)."""
        ...

    async def tombstones(
        self, keys: Mapping[Table, Iterable[bytes]]
    ) -> tuple[dict[NetKey, Stamp], set[NetKey]]:
        """The tombstones of wire keys, looked at under locks, and the keys that stay locked."""
        ...

    async def lift(
        self, lifts: Sequence[Lift], fde: bytes, promised: Callable[[], int], hold: bool = True
    ) -> None:
        """Lift rows; each lift gets its fate.  What stays locked goes to ``mend``.

        A row that carries another stamp than the one seen is overtaken, and a record of it is
        written, but for a lift over a tombstone; so is one that waits in ``mend`` and whose place
        a later version of its key takes, there or in the stream.  A version has left ``mend`` when
        it is lifted or overtaken.  Without ``hold`` the lifts are what waits there: one that
        another session has settled meanwhile gets no fate.  ``fde`` is the server's format
        description.
        """
        ...

    async def overtake(self, lifts: Mapping[Lift, Stamp]) -> None:
        """Settle lifts that are overtaken for certain, as `lift` would, without a look at a row.

        Each with the version that came over it.  One that an earlier attempt has lifted to that
        very version is lifted.
        """
        ...

    async def bury(self, late: Sequence[LateTombstone], fde: bytes) -> list[LateTombstone]:
        """Write late tombstones, then remove rows of other regions below them.

        Returns those that stay locked.
        """
        ...

    async def hold_late(self, late: LateTombstone) -> None:
        """Leave a late tombstone that stays locked to ``mend``."""
        ...


class Claiming(Mending, Protocol):
    """The session of the origin: it takes the region's stream over, and then mends it."""

    async def member(self) -> Member:
        """The row of ``member``; `Refused` where the region was never initialised."""
        ...

    async def end_others(self) -> None:
        """End the account's other sessions; what they had not committed is rolled back."""
        ...

    async def raise_epoch(
        self, appliers: bool, found: Callable[[int, int], None], committing: Callable[[int], None]
    ) -> int:
        """Raise the epoch in ``member``, with ``appliers`` also in all of ``applied``; the new one.

        In one transaction, which gives the region its incarnation if it has none yet.  ``found``
        gets the epoch found there, now locked, and the highest of ``applied``: nothing lasts if it
        raises.  ``committing`` gets the new one before COMMIT: what fails earlier is rolled back.
        """
        ...

    async def decisions(self) -> Decisions:
        """What operators have decided about this region's stream until now."""
        ...

    async def history(self) -> History:
        """What the server has executed and purged."""
        ...

    async def open_log(
        self,
        after: str,
        newest: Published | None,
        tables: Sequence[tuple[str, str]],
        skipped: Sequence[str],
        part_bytes: Callable[[], int],
    ) -> Log:
        """Read all that was logged and is not in ``after`` (GTIDs), on a connection of its own.

        ``newest`` of them must be the same transaction in the log.
        ``tables`` are replicated at that place already, others join on their way; transactions
        ``skipped`` are left out; a huge one comes in parts of about ``part_bytes()``.
        """
        ...


class Resolving(Writing, Mending, Protocol):
    """The session of the resolver: it works off what was held back and what was set aside.

    A replay is a transaction of plans like those of an applier, begun with `begin_replay`.
    """

    async def definitions(self) -> object:
        """Something that changes whenever a column of a replicated table does."""
        ...

    async def waiting(self, most: int) -> list[Waiting]:
        """Entries of ``mend``, in no order, so that none keeps the others waiting for ever."""
        ...

    async def rows_below(self, late: Sequence[LateTombstone]) -> list[Lift]:
        """Own rows that these tombstones stand above, as lifts; `Busy` if one is locked."""
        ...

    async def forget(self, entries: Sequence[Waiting]) -> None:
        """Take entries out of ``mend``, where they still are as they were read."""
        ...

    async def shape(self, table: Table) -> Shape | None:
        """How ``table`` stands here now; ``None`` if it does not exist."""
        ...

    async def version(self, table: Table, key: bytes) -> Stamp | None:
        """The greatest stamp of row and tombstone; ``None`` where that cannot be said now.

        `Busy` after a wait for somebody who has locked the whole table.
        """
        ...

    async def to_replay(self, most: int, after: int) -> list[Letter]:
        """The first letters with a number above ``after`` that are to be replayed."""
        ...

    async def beside(self, items: Collection[tuple[int, int]], most: int) -> list[Letter]:
        """The first letters of ``items`` that an operator has because of a unique value.

        An item is named by origin and seq.  Also letters of rows that were only locked at first.
        """
        ...

    async def taken(self, most: int, after: int) -> list[Letter]:
        """The first letters above ``after`` that an operator has because of a unique value.

        Also letters of rows that were only locked at first.
        """
        ...

    async def parked(self, most: int, after: int) -> list[Letter]:
        """The first letters above ``after`` that are left to an operator, or `postponed`."""
        ...

    async def begin_replay(self, letter: Letter, epoch: int) -> bool:
        """Open a transaction for ``letter``; False if the region is not under ``epoch``.

        The tailer knows it for one of the mesh's own.  It is open in either case.
        """
        ...

    async def replayed(self, letter: Letter) -> None:
        """Close ``letter`` in the open transaction."""
        ...

    async def postponed(self, letter: Letter, why: str) -> None:
        """Note what is in the way of ``letter``: still to be replayed, or open without a note."""
        ...

    async def refused(self, letter: Letter, why: str) -> None:
        """Leave ``letter`` to an operator, unless one has decided about it meanwhile."""
        ...

    async def overtaken(self, letter: Letter) -> None:
        """Close ``letter``, whose key has gone on, if it is still one of the `parked`."""
        ...


class Store(Protocol):
    """The database of one region, as one node uses it.

    The sessions' own transactions are not taken for those of clients (the heart asks how
    old these are).  A session is closed at the end of its block, whatever ended it.
    """

    def table_of(self, body: bytes) -> Table:
        """The table that a table map's body means, which a frame carries as the origin logged it.

        The server is not asked.  `Halt` where the body lacks what a table needs.
        """
        ...

    def applying(self, name: str) -> AbstractAsyncContextManager[Applying]:
        """A session for the applier ``name``."""
        ...

    def claiming(self, restamped: Restamped) -> AbstractAsyncContextManager[Claiming]:
        """A session for the origin; its lifts and the resolver's share ``restamped``."""
        ...

    def resolving(self, restamped: Restamped) -> AbstractAsyncContextManager[Resolving]:
        """A session for the resolver."""
        ...

    def beating(self) -> AbstractAsyncContextManager[Beating]:
        """A session for the heart."""
        ...

    def gardening(self) -> AbstractAsyncContextManager[Gardening]:
        """A session for the gardener."""
        ...

    def counting(self) -> AbstractAsyncContextManager[Counting]:
        """A session for the census, or for who watches the settings."""
        ...
