"""The store port for those who keep house: the heart, the gardener, the census."""

from collections.abc import Sequence
from typing import Protocol

from meshnode.store.session import Session
from meshnode.store.values import Letters, Tail


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

    async def incarnations(self) -> dict[int, int]:
        """The incarnation of each peer's stream, by region id; 0 where nothing of it is applied."""
        ...

    async def parked(self) -> list[int]:
        """The times of all rows that wait in ``dead_letter``."""
        ...

    async def activations(self) -> dict[str, int]:
        """Since when each replicated table is active, by digest.

        A tombstone of before is in no stream: only `init` can compare it with other regions.
        """
        ...

    async def any_stable(self, digest: str, since: int, limit: int) -> bool:
        """Whether the table has a tombstone with a time above ``since``, up to ``limit``."""
        ...

    async def note_limit(self, limit: int) -> None:
        """Say in ``member`` that tombstones up to ``limit`` may be gone.  Committed at once."""
        ...

    async def drop_stable(self, digest: str, since: int, limit: int, rows: int) -> int:
        """Drop at most ``rows`` of these tombstones; how many went.  Committed at once."""
        ...

    async def forget(self, days: int, rows: int) -> None:
        """Delete closed letters and records older than ``days``, at most ``rows`` of each."""
        ...


class Counting(Session, Protocol):
    """The session of the census, and of who watches the server's settings."""

    async def letters(self) -> list[Letters]:
        """The letters that are not closed."""
        ...

    async def waiting(self) -> int:
        """How many keys wait to be mended."""
        ...

    async def tombstones(self) -> dict[str, int]:
        """About how many tombstones there are, by table; no table is read through."""
        ...

    async def settings(self, names: Sequence[str]) -> dict[str, str]:
        """The server's settings as it shows them; one that it does not have is left out."""
        ...
