"""What actors tell whoever follows single transactions through the mesh.

The methods are called once for a frame or a batch, never for a row, and whoever
implements them must neither wait nor raise.  Without an observer :class:`Unobserved` and
:class:`StreamUnobserved` stand in its place and cost a call.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from meshnode.core.change import Table
from meshnode.core.wire import Item

if TYPE_CHECKING:
    from meshnode.actors.intake import Ready
    from meshnode.actors.mender import Draft


class Observer(Protocol):
    """Follows what a region publishes."""

    def now(self) -> int:
        """The time in nanoseconds since 1970; 0 when nobody wants to know it."""
        ...

    def publishing(self, draft: "Draft") -> Any:
        """``draft`` is numbered and will be encoded now; its items may be given a ``trace``.

        What is returned goes to :meth:`published`.
        """
        ...

    def published(self, begun: Any, size: int) -> None:
        """The frame of ``size`` bytes that ``begun`` belongs to is durable on the bus."""
        ...

    def counts(self) -> Mapping[str, int]:
        """What the observer has counted since the start, for the metrics: nothing, or
        ``spans_sent``, ``spans_lost`` and ``traces_refused``.
        """
        ...


class StreamObserver(Protocol):
    """Follows what a region applies of one peer: batch after batch, each in one or more tries."""

    def received(self, items: Sequence[Item], tables: Sequence[Table]) -> None:
        """The new ``items`` of one frame have come; their numbers mean ``tables``."""
        ...

    def begun(self, batch: Sequence["Ready"]) -> None:
        """A try at ``batch`` begins."""
        ...

    def decided(self) -> None:
        """It is decided what is written (for a huge transaction: of one part)."""
        ...

    def failed(self, error: Exception) -> None:
        """The try is over, nothing of it is left, and the first items of it are tried again."""
        ...

    def applied(self, conflicts: Mapping[str, int], parked: int) -> None:
        """The batch is committed.

        ``conflicts``: by transaction; ``parked``: rows, of the only transaction of the batch.
        """
        ...


class Unobserved:
    """Nobody follows what this region publishes."""

    def now(self) -> int:
        return 0

    def publishing(self, draft: "Draft") -> Any:
        return None

    def published(self, begun: Any, size: int) -> None:
        pass

    def counts(self) -> Mapping[str, int]:
        return {}


class StreamUnobserved:
    """Nobody follows what this region applies."""

    def received(self, items: Sequence[Item], tables: Sequence[Table]) -> None:
        pass

    def begun(self, batch: Sequence["Ready"]) -> None:
        pass

    def decided(self) -> None:
        pass

    def failed(self, error: Exception) -> None:
        pass

    def applied(self, conflicts: Mapping[str, int], parked: int) -> None:
        pass


@contextmanager
def observed(observer: StreamObserver, batch: Sequence["Ready"]) -> Iterator[None]:
    """One try at ``batch``; an error that leaves the block is the try's."""
    observer.begun(batch)
    try:
        yield
    except Exception as error:
        observer.failed(error)
        raise
