"""What every session of the store port is."""

from typing import Protocol

from meshnode.store.values import Pause


class Session(Protocol):
    """One connection of one actor; not for use by two tasks at once."""

    server: str
    """The name of the region's server, for messages."""

    @property
    def closed(self) -> bool:
        """Whether the connection is gone: then every call raises `Retry`."""
        ...

    async def keep_alive(self) -> None:
        """Say something if nothing was said for a while: servers end idle sessions."""
        ...

    async def pauses(self) -> dict[int, Pause]:
        """The peers whose stream an operator holds, by region id."""
        ...

    def close(self) -> None:
        """Drop the connection at once; the store rolls back.  Repeatable."""
        ...
