"""Work on rows of which clients hold some: what is locked is told apart by halving."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from meshnode.errors import Busy

PATIENCE_SECONDS = (0.002, 0.005, 0.015, 0.04)
"""Pauses before a locked key is tried again; after the last one it is held back."""


async def halve(entries: Sequence, work: Callable[[Sequence], Awaitable[None]], size: int) -> list:
    """Run ``work`` on chunks of ``size``, halving those that meet a lock; the locked ones.

    Most locks are those of a client that is about to commit, so what is locked
    is tried again a few times within a tenth of a second.
    """
    locked = await _halve_once(entries, work, size)
    for pause in PATIENCE_SECONDS:
        if not locked:
            break
        await asyncio.sleep(pause)
        locked = await _halve_once(locked, work, size)
    return locked


async def _halve_once(
    entries: Sequence, work: Callable[[Sequence], Awaitable[None]], size: int
) -> list:
    locked: list = []
    todo = [entries[at : at + size] for at in range(0, len(entries), size)]
    while todo:
        chunk = todo.pop(0)
        try:
            await work(chunk)
        except Busy:
            if len(chunk) == 1:
                locked.append(chunk[0])
            else:
                middle = len(chunk) // 2
                todo[:0] = [chunk[:middle], chunk[middle:]]
    return locked
