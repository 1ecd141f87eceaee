"""The store port for the tailer: what a server has logged, and the transactions made of it."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from meshnode.core.change import Transaction


class Stream(Protocol):
    """What a server logs, from one place on."""

    async def read(self, most: int) -> list:
        """The next packets, as many as are here, one to ``most``; waits for the first."""
        ...

    def close(self) -> None:
        """Drop the connection at once."""
        ...


class Notices(Protocol):
    """What the bookkeeping's own rows and definitions tell of ``region`` as they pass.

    ``epoch``: the highest one that was seen; ``definitions`` counts statements that may have
    changed a replicated table.
    """

    region: str
    epoch: int
    definitions: int


class Assembler(Protocol):
    """Makes transactions of packets."""

    notices: Notices

    def feed(self, packets: Sequence) -> Iterator[Transaction]:
        """The local transactions that end in ``packets``; `Halt` where one cannot be streamed.

        What the mesh itself applied and what was decided to be skipped is left out.  Raises
        `LostCommits` where the newest transaction that was published is not in the log.
        """
        ...
