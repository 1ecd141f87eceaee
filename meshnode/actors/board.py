"""What the actors of one node know of each other: counters, clocks, positions.

The board holds facts, no rules.  It is what ``status`` shows and what the
heartbeat carries.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from meshnode import limits
from meshnode.core.plan import Ancestry


@dataclass
class PeerProgress:
    """How far a peer's stream is applied here; times in microseconds since 1970."""

    seq: int = 0
    frontier: int = 0
    heard_us: int = 0
    commit_us: int = 0
    position: bytes = b""


@dataclass
class Tail:
    """The end of the own topic: the newest acknowledged frame, and the epoch that held there."""

    position: bytes = b""
    seq: int = 0
    gtids: str = ""
    frontier: int = 0
    epoch: int = 0


@dataclass
class Board:
    """Facts shared by the actors of one node; ``own`` is its region's id.

    ``epoch``: the claim this process holds, 0 before the first;
    ``raising``: it is being replaced at this moment.  ``promised``: the highest frontier
    ever written to the heartbeat row.  ``threads``: server threads of this node,
    whose transactions are not the clients'.  ``format``: the server's
    present format description event.  ``acknowledged``: how far each
    peer says it has applied this region's stream.  ``pulse`` is set when a beat
    should come early.
    """

    own: int
    epoch: int = 0
    raising: bool = False
    incarnation: int = 0
    promised: int = 0
    tail: Tail = field(default_factory=Tail)
    peers: dict[int, PeerProgress] = field(default_factory=dict)
    acknowledged: dict[int, bytes] = field(default_factory=dict)
    threads: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    format: bytes = b""
    definitions: int = 0
    """Raised whenever a table definition may have changed here."""
    ancestry: Ancestry = field(init=False)

    def __post_init__(self) -> None:
        self.ancestry = Ancestry(limits.BASES_KEPT, self.own)
        self._claimed = asyncio.Event()

    def claim(self) -> None:
        """This process now holds its epoch, and knows the end of its topic."""
        self._claimed.set()

    async def claimed(self) -> None:
        """Wait until this process has taken the region over for the first time."""
        await self._claimed.wait()
