"""What the actors of one node know of each other: counters, clocks, positions.

The board holds facts, no rules.  It is what ``status`` shows and what the
heartbeat carries.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from meshnode import limits
from meshnode.actors.hold import Hold
from meshnode.actors.kernel import Mailbox
from meshnode.actors.measures import BATCH_ROWS, DELAYS, Histogram, RecentMaximum
from meshnode.actors.observer import Observer, StreamObserver, StreamUnobserved, Unobserved
from meshnode.actors.pauses import Pauses
from meshnode.core.mend import Restamped
from meshnode.core.plan import Ancestry
from meshnode.store.values import Tail


@dataclass
class PeerProgress:
    """How far a peer's stream is applied here; times in microseconds since 1970.

    ``counts`` are those of the board that concern this peer alone, ``batch_rows`` the sizes of
    the transactions in which it was applied.  ``ahead`` is the peer's clock minus this region's,
    in seconds, less the time that a heartbeat was on its way: the truth is at least this.
    ``retention_left`` in seconds, None where the bus cannot say.
    """

    seq: int = 0
    frontier: int = 0
    heard_us: int = 0
    commit_us: int = 0
    position: bytes = b""
    counts: Counter[str] = field(default_factory=Counter)
    batch_rows: Histogram = field(default_factory=lambda: Histogram(BATCH_ROWS))
    ahead: RecentMaximum = field(default_factory=RecentMaximum)
    retention_left: float | None = None
    observer: StreamObserver = field(default_factory=StreamUnobserved)

    def batch(self, rows: int, size: int) -> None:
        """A batch with ``rows`` whose images have ``size`` bytes is applied."""
        if rows:
            self.batch_rows.observe(rows)
            self.counts["applied_bytes"] += size


@dataclass
class Census:
    """What only MySQL can count, as the census found it last; None before its first round.

    ``letters`` by state, ``parked`` rows by table, ``parked_ts`` the least stamp of these;
    ``mend`` the keys that wait to be mended; ``tombstones`` MySQL's estimate of the rows, by table.
    """

    letters: dict[str, int] | None = None
    parked: dict[str, int] = field(default_factory=dict)
    parked_ts: int | None = None
    mend: int | None = None
    tombstones: dict[str, int] = field(default_factory=dict)


@dataclass
class Board:
    """Facts shared by the actors of one node; ``own`` is its region's id.

    ``epoch``: the claim this process holds, 0 before the first; ``apply_epoch``: its first one,
    under which it applies, and which the rows of ``applied`` have until a successor starts;
    ``raising``: it is being replaced at this moment.  ``epochs``: those that this process
    may have set, and those that it found there (:func:`meshnode.actors.takeover.raise_epoch`).
    ``promised``: the highest frontier ever written to the heartbeat row.  ``threads``: server
    threads of this node, whose transactions are not the clients'.  ``format``: the server's
    present format description event.  ``acknowledged``: how far each peer says it has applied
    this region's stream.

    For those who look from outside: ``conflicts`` by table and kind; ``queues`` are the present
    mailboxes by name and peer ('' for the own stream); ``beat_us`` is the wall time of
    the newest own heartbeat that was written, ``published_us`` of the newest that is in the topic.
    """

    own: int
    epoch: int = 0
    apply_epoch: int = 0
    raising: bool = False
    epochs: set[int] = field(default_factory=set)
    incarnation: int = 0
    promised: int = 0
    tail: Tail = field(default_factory=Tail)
    noted: bytes = b""
    """The position of the newest tail that is known to stand in ``member``."""
    peers: dict[int, PeerProgress] = field(default_factory=dict)
    acknowledged: dict[int, bytes] = field(default_factory=dict)
    threads: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    format: bytes = b""
    definitions: int = 0
    """Raised whenever a table definition may have changed here."""
    pauses: Pauses = field(default_factory=Pauses)
    hold: Hold = field(default_factory=Hold)
    """Closed while nothing may be published."""
    census: Census = field(default_factory=Census)
    conflicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    queues: dict[tuple[str, str], Mailbox[Any]] = field(default_factory=dict)
    loop_delay: Histogram = field(default_factory=lambda: Histogram(DELAYS))
    observer: Observer = field(default_factory=Unobserved)
    beat_us: int = 0
    published_us: int = 0
    retention: float | None = None
    """How long the bus keeps a record, in seconds; None where it does not forget by age."""
    restamped: Restamped = field(default_factory=Restamped)
    """What lifts of this process wrote."""
    ancestry: Ancestry = field(init=False)

    def __post_init__(self) -> None:
        self.ancestry = Ancestry(limits.BASES_KEPT, self.own)
        self._claimed = asyncio.Event()
        self._clock_offset_us = 0

    def inherit(self, former: "Board") -> None:
        """Take over from the same process's former board what holds beyond the node it was of."""
        self.epochs, self.restamped = former.epochs, former.restamped

    def now_us(self) -> int:
        """The clock of the region's MySQL, in microseconds since 1970, as the last beat found it.

        Heartbeats and stamps are of that clock; before the first beat it is this machine's.
        """
        return time.time_ns() // 1000 + self._clock_offset_us

    def clock_read(self, now_us: int) -> None:
        """The server's clock says ``now_us`` at this moment."""
        self._clock_offset_us = now_us - time.time_ns() // 1000

    def heard(self, region: int, wall_us: int) -> None:
        """A heartbeat that ``region`` wrote at ``wall_us``, by its clock, has arrived."""
        self.peer(region).ahead.note((wall_us - self.now_us()) / 1e6)

    def received(self, region: int, size: int) -> None:
        """A record of ``size`` bytes was read from the topic of ``region``."""
        counts = self.peer(region).counts
        counts["received_frames"] += 1
        counts["received_bytes"] += size

    def peer(self, region: int) -> PeerProgress:
        """What is known of the peer with the id ``region``."""
        return self.peers.setdefault(region, PeerProgress())

    @property
    def is_claimed(self) -> bool:
        """Whether this process has taken the region over."""
        return self._claimed.is_set()

    def claim(self) -> None:
        """This process now holds its epoch, and knows the end of its topic."""
        self.counts["claims"] += 1
        self._claimed.set()

    async def claimed(self) -> None:
        """Wait until this process has taken the region over for the first time."""
        await self._claimed.wait()
