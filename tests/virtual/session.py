"""One connection with a database in memory.

A call travels to the server, is carried out there statement by statement, and its answer
travels back.  Once it has left it is carried out, whatever becomes of the client: a COMMIT of a
dead process may still happen.  A session that was cancelled or lost in between is closed, and
the server rolls back when it notices.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from meshnode.errors import MeshError, Retry
from meshnode.store.values import Pause

from .database import Transaction
from .loop import Process, outside, process_of_this_step

if TYPE_CHECKING:
    from .store import MemoryStore

Result = TypeVar("Result")


class Wire:
    """The way between a client and its server: quick and whole."""

    async def there(self) -> None:
        """A request is on its way."""

    async def back(self) -> None:
        """An answer is on its way; Retry, and it is lost."""

    async def between(self) -> None:
        """The server is between two statements."""


class RoughWire(Wire):
    """Takes up to ``lag`` seconds each way; ``loss`` is the share of answers lost."""

    def __init__(self, source: random.Random, lag: float = 0.002, loss: float = 0.0) -> None:
        self.random = source
        self.lag = lag
        self.loss = loss

    async def there(self) -> None:
        await asyncio.sleep(self.random.uniform(0, self.lag))

    async def back(self) -> None:
        await asyncio.sleep(self.random.uniform(0, self.lag))
        if self.random.random() < self.loss:
            raise Retry("2013: lost connection during query")

    async def between(self) -> None:
        if self.random.random() < 0.5:
            await asyncio.sleep(self.random.uniform(0, self.lag))


class MemorySession:
    """One connection; statements are carried out one after the other."""

    def __init__(self, store: "MemoryStore", name: str) -> None:
        self.store = store
        self.database = store.database
        self.server = f"{store.region} (memory)"
        self.name = name
        self.process: Process | None = process_of_this_step()
        self.tx: Transaction | None = None
        self._closed = False
        self._working: asyncio.Task | None = None

    @property
    def closed(self) -> bool:
        return self._closed

    async def _say(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Have the server do ``work``; errors of it are raised here."""
        if self._closed:
            raise Retry("2013: the session is closed")
        assert self._working is None, "a session is not for two tasks at once"
        loop = asyncio.get_running_loop()
        # Not a shielded task: whose cancellation comes first would show in the order of callbacks.
        answer: asyncio.Future[tuple[Any, Exception | None]] = loop.create_future()
        self._working = loop.create_task(self._served(work, answer), context=outside())
        try:
            found, error = await answer
            await self.store.wire.back()
        except BaseException:
            self.close()
            raise
        self._working = None
        if error is not None:
            raise error
        return found

    async def _served(self, work: Callable[[], Awaitable[Any]], answer: asyncio.Future) -> None:
        """Carry ``work`` out, whether or not somebody still waits for the answer."""
        await self.store.wire.there()
        found, failed = None, None
        try:
            found = await work()
        except Exception as error:
            failed = error
        if not answer.done():
            answer.set_result((found, failed))

    def close(self) -> None:
        """Hang up; what was said is still carried out, and what it left open rolled back."""
        if self._closed:
            return
        self._closed = True
        self.store.sessions.pop(self, None)
        working, self._working = self._working, None
        self.store.leaving(self._left(working))

    async def _left(self, working: asyncio.Task | None) -> None:
        if working is not None:
            await asyncio.wait([working])
        else:
            await self.store.wire.there()
        if self.tx is not None:
            self.database.rollback(self.tx)

    async def keep_alive(self) -> None:
        async def nothing() -> None:
            """DO 0."""

        await self._say(nothing)

    async def pauses(self) -> dict[int, Pause]:
        async def read() -> dict[int, Pause]:
            return dict(self.store.paused)

        return await self._say(read)

    # Transactions

    async def _alone(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """A transaction of its own, which ``work`` begins."""
        try:
            found = await self._say(work)
        except MeshError:
            await self.rollback()
            raise
        await self.commit()
        return found

    def _open(self) -> Transaction:
        """The open transaction; after a deadlock or a rollback a statement would stand alone."""
        if self.tx is None or self.tx.ended:
            raise Retry("the transaction is gone: the caller should have rolled back")
        return self.tx

    async def save(self, name: str) -> None:
        async def mark() -> None:
            self.database.mark(self._open(), name)

        await self._say(mark)

    async def back_to(self, name: str) -> None:
        async def undo() -> None:
            self.database.back_to(self._open(), name)

        await self._say(undo)

    async def commit(self) -> None:
        async def commit() -> None:
            tx, self.tx = self._open(), None
            self.database.commit(tx)

        await self._say(commit)

    async def rollback(self) -> None:
        async def undo() -> None:
            if self.tx is not None:
                tx, self.tx = self.tx, None
                self.database.rollback(tx)

        if self._closed:
            return
        try:
            await self._say(undo)
        except Retry:
            self.close()
