"""What travels on the bus: frames and claims, as versioned msgpack.

A topic holds records.  A *frame* carries items: transactions, parts of huge
transactions, heartbeats; each has a ``seq``, counted from 1 without gaps.  A
*claim* says that a new process owns the stream from here on; it has no seq.

A transaction travels as its row images, untouched, in the order of the binlog
(``ops``), together with an index made once at the origin (``entries``): one
entry for each key that the item touches.  The index says what cannot be read
from the images: the version the first touch replaced, the outcome of the last,
the stamp of a delete.  The receiver scans the images again and believes no
entry that they contradict (:mod:`meshnode.core.check`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from meshnode.core.stamp import Stamp
from meshnode.errors import Halt

VERSION = 1

WRITE, UPDATE, DELETE = 0, 1, 2
"""Kinds of row operation, as in the binlog."""

UPSERT, REMOVE = 0, 1
"""Outcomes of an item for one key."""

TRANSACTION, PART, HEARTBEAT = 0, 1, 2
"""Kinds of item."""


class Op(msgspec.Struct, array_like=True, gc=False):
    """Row images of one kind on one table, as they stood in one or more rows events.

    ``table`` indexes the frame's ``tables``.  ``rows`` holds whole images one
    after another; for an update before and after image alternate.
    """

    table: int
    kind: int
    rows: bytes


class Entry(msgspec.Struct, array_like=True, gc=False):
    """What one item does to one key.

    ``key`` is the wire key (key columns' image pieces in column order).
    ``ts, origin`` is the new version.  ``base_*`` is the version replaced:
    a row's stamp if ``base_row``, else the tombstone's, or zero for none.
    """

    table: int
    key: bytes
    outcome: int
    ts: int
    origin: int
    base_ts: int
    base_origin: int
    base_row: bool

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.ts, self.origin)

    @property
    def base(self) -> Stamp:
        return Stamp(self.base_ts, self.base_origin)


class Beat(msgspec.Struct, array_like=True):
    """A heartbeat: the origin's wall clock and what it promises and has applied.

    ``frontier``: every upsert published after this has a stamp above it.
    ``body`` is what the status command shows, as JSON text.
    """

    beat: int
    wall_us: int
    frontier: int
    body: str


class Item(msgspec.Struct, array_like=True):
    """One element of a region's stream.

    ``exact``: applying ``ops`` as they are gives just the outcomes of
    ``entries``.  It is false when rows were held back from the item.
    ``part`` counts from 0 within ``tx_id``; ``last`` ends the transaction.
    ``lifts`` counts rows that this item left to a lift.
    ``trace``: trace id (16 bytes), id of the publishing span (8) and flags (1), as W3C's
    ``traceparent`` has them; empty when the transaction is not traced.  It decides nothing.
    """

    seq: int
    kind: int
    tx_id: str
    commit_us: int
    part: int = 0
    last: bool = True
    exact: bool = True
    ops: Sequence[Op] = ()
    entries: Sequence[Entry] = ()
    beat: Beat | None = None
    lifts: int = 0
    trace: bytes = b""


class Frame(msgspec.Struct, array_like=True, tag="F"):
    """Items of one region under one epoch and one format description.

    ``tables`` are TABLE_MAP event bodies; ``resume`` is the set of GTIDs the
    origin had executed up to the frame's end; ``promised`` the frontier that
    held at the frame's start.
    """

    version: int
    mesh: str
    region: int
    incarnation: int
    epoch: int
    server: str
    fde: bytes
    promised: int
    resume: str
    tables: list[bytes]
    items: list[Item]


class Claim(msgspec.Struct, array_like=True, tag="C"):
    """A process takes the stream over under ``epoch``."""

    version: int
    mesh: str
    region: int
    incarnation: int
    epoch: int


Record = Frame | Claim

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def encode(record: Record) -> bytes:
    """The record's bytes for the bus."""
    return _encoder.encode(record)


class Sender(NamedTuple):
    """Who a topic must be written by."""

    mesh: str
    region: int
    name: str


def decode(payload: bytes, sender: Sender) -> Record:
    """The record in ``payload``, checked to be one of ``sender``'s.

    Raises :class:`~meshnode.errors.Halt` when the bytes are no record of this
    version, mesh and region.
    """
    try:
        record = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Halt(
            f"the stream of {sender.name} holds a malformed record ({error})",
            "compare the release of the nodes, then look at the bus storage",
        ) from None
    if record.version != VERSION:
        raise Halt(
            f"the stream of {sender.name} has wire version {record.version}, this node {VERSION}",
            "upgrade the older node",
        )
    if (record.mesh, record.region) != (sender.mesh, sender.region):
        raise Halt(
            f"the stream of {sender.name} holds a record of mesh {record.mesh!r}, "
            f"region {record.region}",
            "two meshes or regions share a topic: give each its own",
        )
    return record
