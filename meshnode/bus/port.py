"""The port of the bus: one durable, totally ordered log of records per region.

A region appends to its own topic and every other region reads it. A record is
opaque bytes (a frame or a claim); the bus knows neither items nor stamps. A
place in a topic is a **position**, opaque bytes as well: it is stored in MySQL
next to the rows it stands for and handed back years later, so it names the
topic's incarnation and the record before it. A bus that cannot go on *exactly*
there halts; it never skips, and it never starts somewhere else instead.

What every bus promises:

- **Durable before visible.** A record can be read only when no crash of any
  process and no loss of power can take it back.
- **Order.** Records are read in the order in which they were appended, each
  whole, none twice, none left out.
- **One writer.** Once a writer's first append has returned, no record of a
  writer that was opened before it lands any more. How a bus brings that about
  is its own affair: the file bus lets a second writer wait, then fail, while the
  first is open (`WriterBusy`); Kafka opens it at once and refuses the first one
  from then on (`Fenced`). Between the second one's ``open`` and its first append
  a record of the first may still land, even of a dead one where the bus is a
  server; epochs in the records settle that, not the bus.
- **Errors of the driver never pass**: they come as the types below. A `Retry`
  means that the bus cannot be reached now; a `Refused`, that a setting is wrong.
  Both may come from any call that waits for something.

On Kafka ``append`` is a produce with ``acks=all``, ``read`` a fetch from an
offset, and a position is the topic's id with an offset and what stands before it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from meshnode.errors import Fatal, Halt, Retry

Position = bytes
"""An opaque place between two records, at most ``POSITION_MAX_BYTES`` long."""

POSITION_MAX_BYTES = 255

ORIGIN: Position = b""
"""The place before the first record that the topic ever had."""


class Record(NamedTuple):
    """One record as read: reading from ``start`` gives it first, from ``after`` the next one."""

    payload: bytes
    start: Position
    after: Position


class Retained(NamedTuple):
    """What one retention pass did; sizes in bytes.

    ``lost_bytes`` counts what was dropped over the size limit although some
    member had not applied it: that member will halt with `RetentionPassed`.
    ``behind`` are these members, by their place in ``applied``.
    """

    kept_bytes: int
    dropped_bytes: int
    lost_bytes: int
    behind: tuple[int, ...] = ()


class RetentionPassed(Halt):
    """The position is older than the oldest record kept."""


class TopicRewritten(Halt):
    """The position is not one of this topic, or other records stand there now."""


class PositionAhead(TopicRewritten):
    """The position lies beyond the end: the topic has lost records."""


class Corrupt(Halt):
    """Stored bytes are not what was appended; names file and offset."""


class BusBroken(Fatal):
    """Durability can no longer be promised: the process must end."""


class BusFull(Retry):
    """No room for the record: nothing of it is visible; open a new writer to go on."""


class WriterBusy(Retry):
    """Another process has the writer of this region open."""


class BusWriter(Protocol):
    """The one writer of a region's topic."""

    async def open(self, timeout: float) -> Position:
        """Become the writer, creating the topic if needed; return its end.

        Waits up to ``timeout`` seconds for another writer to go, then raises
        `WriterBusy`; a bus that can shut the other one out does not wait. A topic
        of another shape than the mesh needs is `Refused`. Repeatable after any
        failure and after `close`.
        Errors: `WriterBusy`, `Corrupt`, `BusFull`, `BusBroken`, `Retry`, `Refused`.
        """
        ...

    async def append(self, payload: bytes) -> Position:
        """Append one record; return the position after it.

        When it returns the record is durable and readable. Concurrent calls
        keep the order in which they started and share a flush. If it raises or
        is cancelled, the record may or may not be there: open again and read
        the end of the topic. After an error every later call fails too, so a
        record never follows one that failed.
        Errors: `BusFull`, `BusBroken`, `Fenced` by a later writer, `Retry`, and
        `Halt` for a record that the bus does not take; nothing of it is appended then.
        """
        ...

    async def append_many(self, payloads: Sequence[bytes]) -> list[Position]:
        """Append records in order; return the position after each. As `append` otherwise."""
        ...

    async def retain(
        self, applied: Iterable[Position | None], floor: Position | None, now: float
    ) -> Retained:
        """Forget what every member has applied; ``now`` in seconds since 1970.

        ``applied`` holds one position per member, None for a member that has
        not said one yet: nothing is free to go then, nor when it is empty. One that
        lies before what is kept, as an old word of a member may, frees nothing. What
        lies behind ``floor`` stays whatever its size: the owner's successor reads on
        from there, and members read the first part of an unfinished transaction again.
        None: nothing goes. The newest record always stays. Repeatable. A bus whose
        server has its own retention does nothing, nor does a writer that is not open;
        one whose appends fail does: on a full disk it makes room.
        Errors: `TopicRewritten` for a position of another topic, `BusBroken`, `Retry`.
        """
        ...

    async def close(self) -> None:
        """Finish the appends under way and let the next writer in. Repeatable."""
        ...


class BusReader(Protocol):
    """A reader of one topic; any number of them, in any process.

    It keeps no place of its own: a cancelled `read` loses nothing, and the same
    position gives the same records again. Every call waits while the topic
    does not exist yet.
    """

    async def read(self, position: Position, max_bytes: int) -> list[Record]:
        """Return the records from ``position`` on, waiting until there is one.

        Their payloads add up to at most ``max_bytes``, save that the first
        always comes whole, however long.
        Errors: `RetentionPassed`, `PositionAhead`, `TopicRewritten`, `Corrupt`, `Retry`.
        """
        ...

    async def begin(self) -> Position:
        """Return the position before the oldest record kept."""
        ...

    async def end(self) -> Position:
        """Return the position after the newest readable record."""
        ...

    async def unread_age(self, position: Position, now: float) -> float | None:
        """How long ago (seconds) the record after ``position`` was appended; None if there is none.

        ``now`` in seconds since 1970.  None also where what is unread is kept whatever its age.
        Errors: as `read`.
        """
        ...

    async def close(self) -> None:
        """Give back what the reader holds. Repeatable; no `read` may be under way."""
        ...


class Bus(Protocol):
    """All topics of one mesh, as one process sees them."""

    def writer(self, region: str) -> BusWriter:
        """Make a writer for the topic of ``region``, not yet open."""
        ...

    def reader(self, region: str) -> BusReader:
        """Make a reader of the topic of ``region``."""
        ...

    async def inspect(self, region: str) -> bool:
        """Look whether the topic of ``region`` can be used, and change nothing.

        Whether it exists: it is no fault if it does not yet.  Errors: `Refused` for what
        has to be set otherwise, `Retry` where the bus cannot be reached now.
        """
        ...

    async def close(self) -> None:
        """Give back what the bus itself holds; after its readers and writers. Repeatable."""
        ...
