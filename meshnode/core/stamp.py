"""Row versions: hybrid Lamport stamps and their total order.

A stamp is ``(ts, origin)``: microseconds since 1970 from a clock that never
falls behind what it replaces, and the id of the region that wrote.  Stamps are
ordered by ``ts``, then ``origin``; the order is total, so every region picks
the same winner.  ``ZERO`` marks a row written without the mesh.

Lamport, "Time, clocks, and the ordering of events in a distributed system"
(1978); Kulkarni et al., "Logical physical clocks" (2014).
"""

from typing import NamedTuple


class Stamp(NamedTuple):
    """``ts`` in microseconds since 1970 (unsigned 64 bit), ``origin`` 0..255."""

    ts: int
    origin: int

    def __str__(self) -> str:
        return f"{self.ts}.{self.origin}"


ZERO = Stamp(0, 0)
MAX_TS = 2**64 - 1


def lifted(clock: int, seen: int, replaced: int, promised: int) -> int:
    """The time a lifted row gets: above its own, what it replaced, and the promise.

    All in microseconds.  ``clock`` is the region's present time, ``seen`` the
    stamp the row carries, ``replaced`` the version it replaced, ``promised``
    the highest frontier this region has ever written.
    """
    return max(clock, seen + 1, replaced + 1, promised + 1)


def late_tombstone(before: Stamp, own: int) -> Stamp:
    """The stamp of a delete that no trigger saw: the same however often it is worked out."""
    return Stamp(before.ts + 1, own)
