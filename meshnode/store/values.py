"""The values that the store port takes and gives (see :mod:`meshnode.store.port`).

Sets of GTIDs are texts here, as MySQL writes them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from meshnode.core.change import Table
from meshnode.core.check import Incoming
from meshnode.core.mend import LateTombstone, Lift
from meshnode.core.shape import Shape
from meshnode.core.wire import Entry
from meshnode.errors import MeshError

if TYPE_CHECKING:
    from meshnode.store.logged import Assembler, Stream


class Mark(NamedTuple):
    """What ``applied`` says once an item is applied; times in microseconds since 1970.

    ``heard_us`` and ``heard_beat``: wall time and number of the newest heartbeat up to there.
    """

    seq: int
    tx_id: str
    position: bytes
    stream_epoch: int
    frontier: int
    heard_us: int
    commit_us: int
    heard_beat: int = 0


class Progress(NamedTuple):
    """How far a peer's stream is applied, as ``applied`` says, and whose ``epoch`` holds."""

    incarnation: int
    seq: int
    position: bytes
    stream_epoch: int
    frontier: int
    heard_us: int
    commit_us: int
    heard_beat: int
    epoch: int


class Fence(NamedTuple):
    """The first write of an apply transaction: ``applied`` moves from ``seq`` to ``mark``.

    It is the dedup, the mark by which the tailer knows the transaction, and the fence against
    another process: it holds only while the row stands at ``seq`` under ``epoch``.
    """

    origin: int
    incarnation: int
    mark: Mark
    seq: int
    epoch: int


class Definition(NamedTuple):
    """A table as it stands here: ``shape`` is ``None`` if it does not exist.

    ``replicated`` from here on; ``literal`` says of each column whether its default is a literal;
    ``buried``: whether its tombstone table has the same key.
    """

    replicated: bool
    shape: Shape | None = None
    literal: Sequence[bool] = ()
    buried: bool = True


class Pause(NamedTuple):
    """A peer's stream is held: since when (seconds since 1970), and the operator's reason or ''."""

    since: float
    reason: str


class Unable(NamedTuple):
    """A row that is set aside: what arrived, and the error that it met.

    With a `RowError` it can never stand here; with a `Busy` somebody held it for too long.
    """

    incoming: Incoming
    error: MeshError


class Tail(Struct):
    """The end of the own topic: the newest acknowledged frame, and the epoch that held there.

    ``tx_id``, ``commit_us``: the newest transaction in it (its GTID, when it was first committed).
    """

    position: bytes = b""
    seq: int = 0
    gtids: str = ""
    frontier: int = 0
    epoch: int = 0
    tx_id: str = ""
    commit_us: int = 0


class Member(NamedTuple):
    """The row of ``member``: who this region is, and how far its stream is known.

    ``incarnation``: microseconds since 1970 when it began, 0 before its first start.
    """

    mesh: str
    region: int
    incarnation: int
    epoch: int
    tail: Tail


class Joined(NamedTuple):
    """A replicated table, and what its server had executed before it joined."""

    schema: str
    table: str
    since: str


class Decisions(NamedTuple):
    """What operators have decided about a region's stream.

    ``tables`` that are replicated, by name; ``skipped``: transactions to be left out.
    """

    tables: list[Joined]
    skipped: list[str]


class History(NamedTuple):
    """What a server has executed, and what of it its binary log does not have any more.

    ``owned`` is what it is about to have: a transaction is in the log, and sent to whoever reads
    that, before its COMMIT is through.  As MySQL writes it, with the threads.
    """

    executed: str
    purged: str
    owned: str = ""


class Log(NamedTuple):
    """A region's binary log from one place on.

    ``stream`` gives its packets, of which ``assembler`` makes transactions.  ``known``: the tables
    that it has met so far, by digest; it grows.
    """

    stream: "Stream"
    assembler: "Assembler"
    known: dict[str, Table]


class Waiting(NamedTuple):
    """An entry of ``mend``: ``work`` is None where its table is gone.

    ``entry`` is the store's own name for it, as it was read.
    """

    work: Lift | LateTombstone | None
    entry: object


class Letter(NamedTuple):
    """A row that was set aside, of item ``seq`` of ``origin``, with what a replay needs.

    ``code`` is MySQL's number of the error, 0 where the row was only locked.  ``format`` is the
    format description that ``image`` follows; without an image it was removed.
    Where the letter cannot be read ``flaw`` says why, and there is no table and no entry.
    """

    number: int
    origin: int
    seq: int
    tx_id: str
    code: int
    table: Table | None = None
    entry: Entry | None = None
    image: bytes | None = None
    format: bytes = b""
    flaw: str = ""


class Letters(NamedTuple):
    """How many letters there are in one state, of one table (``None`` for a whole transaction).

    ``least`` is the least time among their stamps.
    """

    state: str
    table: str | None
    count: int
    least: int
