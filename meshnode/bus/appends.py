"""Concurrent appends to one topic: sent group by group, in the order in which they started.

While one group is on its way further appends wait, and then go together: the more
writers wait, the more share one flush or one batch.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from meshnode.bus.port import BusBroken, Position
from meshnode.errors import Halt, MeshError
from meshnode.limits import FRAME_MAX_BYTES

Send = Callable[[list[bytes]], Awaitable[list[Position]]]


class Appends:
    """The appends of one open writer of ``topic``.

    ``send`` makes payloads durable in order and returns the position after each; groups are up
    to ``group_bytes``.  After its first error every append fails with the same one.
    """

    def __init__(self, topic: str, send: Send, group_bytes: int) -> None:
        self._topic = topic
        self._send = send
        self._group_bytes = group_bytes
        self._waiting: deque[tuple[Sequence[bytes], asyncio.Future[list[Position]]]] = deque()
        self._flushing: asyncio.Task[None] | None = None
        self._failure: MeshError | None = None

    async def put(self, payloads: Sequence[bytes]) -> list[Position]:
        """Append ``payloads`` in order; the position after each.

        Errors: what ``send`` raises, `BusBroken` for what is no error of the mesh, `Halt` for a
        record that is too long for any reader: none of ``payloads`` is appended then.
        """
        for payload in payloads:
            if len(payload) > FRAME_MAX_BYTES:
                raise Halt(
                    f"{self._topic}: a record of {len(payload)} bytes is longer than a reader"
                    f" takes ({FRAME_MAX_BYTES} bytes)",
                    "the publisher halts before such a record: report this with the log",
                )
        if self._failure is not None:
            raise self._failure
        if not payloads:
            return []
        done: asyncio.Future[list[Position]] = asyncio.get_running_loop().create_future()
        self._waiting.append((payloads, done))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        return await done

    async def finish(self) -> None:
        """Wait for the appends under way."""
        if self._flushing is not None:
            await asyncio.wait({self._flushing})

    async def _flush(self) -> None:
        """Send what waits, group by group, until nothing does."""
        while self._waiting:
            group = self._next_group()
            payloads = [payload for some, _ in group for payload in some]
            try:
                positions = await self._send(payloads)
            except Exception as error:
                self._failure = (
                    error
                    if isinstance(error, MeshError)
                    else BusBroken(f"{self._topic}: {error!r}", "report this with the log")
                )
                # Those behind must fail too: a record never follows one that failed.
                for _, done in [*group, *self._waiting]:
                    if not done.done():
                        done.set_exception(self._failure)
                self._waiting.clear()
                return
            taken = 0
            for some, done in group:
                if not done.done():
                    done.set_result(positions[taken : taken + len(some)])
                taken += len(some)

    def _next_group(self) -> list[tuple[Sequence[bytes], asyncio.Future[list[Position]]]]:
        group = [self._waiting.popleft()]
        size = sum(map(len, group[0][0]))
        while self._waiting:
            size += sum(map(len, self._waiting[0][0]))
            if size > self._group_bytes:
                break
            group.append(self._waiting.popleft())
        return group
