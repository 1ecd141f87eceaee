"""The values that the store port takes and gives (see :mod:`meshnode.store.port`)."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from meshnode.core.check import Incoming
from meshnode.core.shape import Shape
from meshnode.errors import MeshError


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

    ``replicated`` from here on; ``literal`` says of each column whether its default is a literal.
    """

    replicated: bool
    shape: Shape | None = None
    literal: Sequence[bool] = ()


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
    """The end of the own topic: the newest acknowledged frame, and the epoch that held there."""

    position: bytes = b""
    seq: int = 0
    gtids: str = ""
    frontier: int = 0
    epoch: int = 0


class Letters(NamedTuple):
    """How many letters there are in one state, of one table (``None`` for a whole transaction).

    ``least`` is the least time among their stamps.
    """

    state: str
    table: str | None
    count: int
    least: int
