"""The hold: where the publisher waits while nothing may go out.

What is on its way when the hold is closed still goes out; nothing is lost, because what waits
is in the binlog and is read again at every start.
"""

import asyncio


class Hold:
    """Open at first.  ``reason``: why it is closed; empty while it is open, or nobody knows."""

    def __init__(self) -> None:
        self.reason = ""
        self._open = asyncio.Event()
        self._open.set()

    @property
    def closed(self) -> bool:
        return not self._open.is_set()

    def close(self, reason: str = "") -> None:
        """Let nothing pass; a reason that was given stays until another one, or `open`."""
        self.reason = reason or self.reason
        self._open.clear()

    def open(self) -> None:
        """Let everything pass."""
        self.reason = ""
        self._open.set()

    async def passed(self) -> None:
        """Wait until it is open."""
        while self.closed:
            await self._open.wait()
