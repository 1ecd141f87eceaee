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

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from meshnode.core.change import Marker, Mended, NetKey, Table
from meshnode.core.mend import LateTombstone, Lift
from meshnode.core.plan import Plan, Work
from meshnode.core.resolve import Local
from meshnode.core.runs import Segment, Touched
from meshnode.core.stamp import Stamp
from meshnode.core.wire import Item
from meshnode.store.values import Definition, Fence, Letters, Pause, Progress, Tail, Unable


class Session(Protocol):
    """One connection of one actor; not for use by two tasks at once."""

    server: str
    """The name of the region's server, for messages."""

    @property
    def closed(self) -> bool:
        """Whether the connection is gone: then every call raises `Retry`."""
        ...

    async def keep_alive(self) -> None:
        """Say something if nothing was said for a while: servers end idle sessions."""
        ...

    async def pauses(self) -> dict[int, Pause]:
        """The peers whose stream an operator holds, by region id."""
        ...

    def close(self) -> None:
        """Drop the connection at once; the store rolls back.  Repeatable."""
        ...


class Applying(Session, Protocol):
    """The session of an applier.

    An apply transaction is ``begin``, then ``lock``, ``standing``, ``write``, ``look``,
    ``record`` for each plan, then ``commit``.  What the core decides stands between ``lock`` and
    ``standing``.
    """

    async def progress(self, origin: int) -> Progress | None:
        """The row of ``origin`` in ``applied``; ``None`` where there is none."""
        ...

    async def definition(self, table: Table) -> Definition:
        """How ``table`` stands here now; outside a transaction."""
        ...

    async def learn(self, keys: Iterable[tuple[Table, bytes]]) -> None:
        """Learn the canonical forms of character keys (``Table.folds``); outside a transaction."""
        ...

    async def begin(self, format: bytes, fence: Fence) -> bool:
        """Open a transaction with ``fence``; False if the row is not ours to move.

        ``format`` is the format description that the images follow, empty if there are none.
        The transaction is open in either case.
        """
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

    async def commit(self) -> None:
        """Make the transaction last."""
        ...

    async def rollback(self) -> None:
        """Undo the transaction; a session that cannot is closed.  Raises nothing."""
        ...


class Mending(Session, Protocol):
    """The session of the mender: small local transactions that make the stream true.

    Every method commits its own transactions and can be repeated.  No lock is waited for longer
    than a tenth of a second.
    """

    async def held(self) -> dict[Marker, Mended]:
        """What waits in ``mend`` to be lifted, with what it had replaced."""
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
        """Lift rows; each lift gets its fate.  What stays locked goes to ``mend`` (``hold``).

        A row that carries another stamp than the one seen is overtaken, and a record of it is
        written, but for a lift over a tombstone.  ``fde`` is the server's format description.
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


class Beating(Session, Protocol):
    """The session of the heart; times in microseconds since 1970, by the server's clock."""

    async def promised(self) -> int:
        """The frontier in the heartbeat row: what this region has promised so far."""
        ...

    async def clock(self) -> int:
        """The server's time."""
        ...

    async def oldest_open(self, now: int) -> int | None:
        """When the oldest open transaction of a client began; ``None`` if there is none.

        Where that cannot be found out, as long ago as a frontier ever waits for one.
        """
        ...

    async def beat(self, epoch: int, tail: Tail, now: int, promise: int, body: str) -> bool:
        """Write ``tail`` into ``member`` and a beat into the heartbeat row, in one transaction.

        False, and nothing is written, where ``member`` has another epoch.
        """
        ...

    async def tell(self, epoch: int, now: int, body: str) -> None:
        """Write a beat that promises nothing new, if ``member`` has ``epoch``."""
        ...


class Gardening(Session, Protocol):
    """The session of the gardener."""

    async def frontiers(self) -> dict[int, int]:
        """The frontier applied from each peer, by region id."""
        ...

    async def parked(self) -> list[int]:
        """The times of all rows that wait in ``dead_letter``."""
        ...

    async def digests(self) -> list[str]:
        """The digests of all replicated tables."""
        ...

    async def any_stable(self, digest: str, limit: int) -> bool:
        """Whether the table has a tombstone with a time at or below ``limit``."""
        ...

    async def note_limit(self, limit: int) -> None:
        """Say in ``member`` that tombstones up to ``limit`` may be gone.  Committed at once."""
        ...

    async def drop_stable(self, digest: str, limit: int, rows: int) -> int:
        """Drop at most ``rows`` tombstones up to ``limit``; how many went.  Committed at once."""
        ...

    async def forget(self, days: int, rows: int) -> None:
        """Delete closed letters and records older than ``days``, at most ``rows`` of each."""
        ...


class Counting(Session, Protocol):
    """The session of the census."""

    async def letters(self) -> list[Letters]:
        """The letters that are not closed."""
        ...

    async def waiting(self) -> int:
        """How many keys wait to be mended."""
        ...

    async def tombstones(self) -> dict[str, int]:
        """About how many tombstones there are, by table; no table is read through."""
        ...


class Store(Protocol):
    """The database of one region, as one node uses it.

    The sessions' own transactions are not taken for those of clients (the heart asks how
    old these are).  A session is closed at the end of its block, whatever ended it.
    """

    def applying(self, name: str) -> AbstractAsyncContextManager[Applying]:
        """A session for the applier ``name``."""
        ...

    def beating(self) -> AbstractAsyncContextManager[Beating]:
        """A session for the heart."""
        ...

    def gardening(self) -> AbstractAsyncContextManager[Gardening]:
        """A session for the gardener."""
        ...

    def counting(self) -> AbstractAsyncContextManager[Counting]:
        """A session for the census."""
        ...
