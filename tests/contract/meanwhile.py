"""Something else happens while a store is between two statements of a transaction."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from store_harness import Memory, Region_
from virtual.session import Wire

from meshnode.mysql import mending

Work = Callable[[], Awaitable[None]]


@contextmanager
def after_next_look(region: Region_, work: Work) -> Iterator[None]:
    """Do ``work`` before the next transaction that mends goes on from its first look."""
    once = _Once(work)
    if isinstance(region, Memory):
        real, region.store.wire = region.store.wire, once
    else:
        real, mending.read_stamps = mending.read_stamps, once.after(mending.read_stamps)
    try:
        yield
    finally:
        if isinstance(region, Memory):
            region.store.wire = real
        else:
            mending.read_stamps = real
    assert once.is_done


class _Once(Wire):
    """Does ``work`` the first time that it is asked."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.is_done = False

    async def between(self) -> None:
        if not self.is_done:
            self.is_done = True
            await self._work()

    def after(self, read: Callable) -> Callable:
        """``read``, and then the work."""

        async def read_first(*arguments: Any, **options: Any) -> dict:
            found = await read(*arguments, **options)
            await self.between()
            return found

        return read_first
