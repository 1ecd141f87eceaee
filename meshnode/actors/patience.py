"""Reading in the middle of an apply transaction, which a bus that is away for a while must not end.

A huge transaction is read again while it is applied, and all that was applied of it is lost if
it has to begin anew.  So a reader that fails is asked again, and the server, which ends sessions
that say nothing, is told meanwhile that somebody is there.  Not for ever: the rows that were
written are locked.
"""

import asyncio
from collections.abc import Awaitable, Callable

from meshnode.actors.kernel import FIRST_PAUSE, LONGEST_PAUSE, end
from meshnode.bus.port import BusReader, Position, Record
from meshnode.errors import Retry

PATIENCE_SECONDS = 120.0
"""For so long a transaction is kept open with nothing to apply."""

SAY_SECONDS = 5.0
"""How often the server is told so, at most."""


class PatientReader:
    """Reads as ``reader`` does, with patience; ``keep_alive`` is called while it waits.

    Until something was read nothing is lost, and an error is raised at once.
    """

    def __init__(self, reader: BusReader, keep_alive: Callable[[], Awaitable[None]]) -> None:
        self._reader = reader
        self._keep_alive = keep_alive
        self._begun = False

    async def read(self, position: Position, max_bytes: int) -> list[Record]:
        """The records from ``position`` on, as `BusReader.read` gives them; Retry after a while."""
        until = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        wait = FIRST_PAUSE
        while True:
            # Not cancelled at each turn: what is under way would begin again.
            reading = asyncio.create_task(self._reader.read(position, max_bytes))
            try:
                await self._attend(reading, until)
            finally:
                await end([reading])
            error = reading.exception()
            if error is None:
                self._begun = True
                return reading.result()
            if not isinstance(error, Retry) or not self._begun or _is_past(until):
                raise error
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_PAUSE)
            await self._keep_alive()

    async def _attend(self, reading: asyncio.Task[list[Record]], until: float) -> None:
        """Wait until ``reading`` is done."""
        while not (await asyncio.wait({reading}, timeout=SAY_SECONDS))[0]:
            if _is_past(until):
                raise Retry(f"the bus has not answered for {PATIENCE_SECONDS:.0f} s")
            await self._keep_alive()

    async def close(self) -> None:
        await self._reader.close()


def _is_past(until: float) -> bool:
    return asyncio.get_running_loop().time() >= until
