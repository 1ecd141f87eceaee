"""Rows of the bookkeeping in a database in memory, and what their records are called."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from meshnode.core.wire import Beat, Item
from meshnode.store.values import Tail, Unable

from .database import Database, Name

MEMBER = Name("member", "", b"")
HEARTBEAT = Name("heartbeat", "", b"")


@dataclass(frozen=True)
class MemberRow:
    """The row of ``member``."""

    epoch: int = 0
    tail: Tail = field(default_factory=Tail)
    incarnation: int = 0
    mesh: str = "shop"
    region: int = 1


@dataclass(frozen=True)
class Applied:
    """A row of ``applied``."""

    incarnation: int = 0
    seq: int = 0
    position: bytes = b""
    stream_epoch: int = 0
    frontier: int = 0
    heard_us: int = 0
    commit_us: int = 0
    heard_beat: int = 0
    epoch: int = 0
    replays: int = 0


@dataclass(frozen=True)
class Parked:
    """A dead letter; ``state`` is open, replay or closed."""

    number: int
    row: Unable
    item: Item
    origin: int
    format: bytes
    state: str
    note: str = ""

    @property
    def is_parked(self) -> bool:
        """Whether it is left to an operator, or something else than a lock keeps it waiting."""
        return self.state == "open" or (
            self.state == "replay" and not self.code and bool(self.note)
        )

    @property
    def code(self) -> int:
        """MySQL's number of the error; 0 where the row was only locked."""
        return getattr(self.row.error, "code", 0)


def applied_name(origin: int) -> Name:
    return Name("applied", "", bytes((origin,)))


def letter_name(number: int) -> Name:
    return Name("letter", "", number.to_bytes(4, "big"))


def install(database: Database, own: int, peers: Iterable[int], epoch: int = 0) -> None:
    """The bookkeeping of region ``own`` as ``init`` leaves it, but for the epoch."""
    database.records[MEMBER] = MemberRow(epoch, region=own)
    database.records[HEARTBEAT] = Beat(0, 0, 0, "{}")
    for peer in peers:
        database.records[applied_name(peer)] = Applied(epoch=epoch)
