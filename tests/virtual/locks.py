"""Row locks as InnoDB grants them under READ COMMITTED: records, not gaps, first come first served.

Whoever may not wait gets `Busy` at once, also when somebody else is only waiting ahead of it.
A circle of waiters is found at once and costs the one who closes it its whole transaction.
"""

import asyncio
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from meshnode.errors import Busy, Retry

Name = Hashable


class Deadlock(Retry):
    """1213: the transaction is rolled back as a whole."""


@dataclass(eq=False)
class _Request:
    owner: object
    exclusive: bool
    granted: asyncio.Future


@dataclass(eq=False)
class _Lock:
    """``holders``: whether each of them holds it alone."""

    holders: dict[object, bool] = field(default_factory=dict)
    queue: list[_Request] = field(default_factory=list)

    def in_the_way(self, owner: object, exclusive: bool, ahead: list[_Request]) -> Iterator[object]:
        """Who keeps ``owner`` from having it now."""
        for holder, alone in self.holders.items():
            if holder is not owner and (exclusive or alone):
                yield holder
        for request in ahead:
            if request.owner is not owner and (exclusive or request.exclusive):
                yield request.owner


class Locks:
    """The locks of one database."""

    def __init__(self) -> None:
        self._locks: dict[Name, _Lock] = {}
        self._held: dict[object, dict[Name, None]] = {}

    async def take(self, owner: object, name: Name, exclusive: bool, wait: float | None) -> None:
        """Lock ``name``; ``wait`` in seconds, None: not at all.  Raises Busy, Deadlock."""
        lock = self._locks.setdefault(name, _Lock())
        held = lock.holders.get(owner)
        if held is not None and (held or not exclusive):
            return
        if not any(lock.in_the_way(owner, exclusive, lock.queue)):
            self._grant(lock, owner, name, exclusive)
            return
        if wait is None:
            raise Busy(f"3572: {name} is locked")
        request = _Request(owner, exclusive, asyncio.get_running_loop().create_future())
        lock.queue.append(request)
        try:
            if self._waits_for_itself(owner):
                raise Deadlock(f"1213: deadlock at {name}")
            async with asyncio.timeout(wait):
                await request.granted
        except TimeoutError:
            raise Busy(f"1205: waited too long for {name}", waited=True) from None
        finally:
            if request in lock.queue:
                lock.queue.remove(request)
                self._serve(lock, name)

    def _grant(self, lock: _Lock, owner: object, name: Name, exclusive: bool) -> None:
        lock.holders[owner] = exclusive or lock.holders.get(owner, False)
        self._held.setdefault(owner, {})[name] = None

    def _serve(self, lock: _Lock, name: Name) -> None:
        """Grant what can be granted, in the order of asking."""
        for place, request in enumerate(list(lock.queue)):
            ahead = [each for each in lock.queue if each is not request][:place]
            if any(lock.in_the_way(request.owner, request.exclusive, ahead)):
                break
            lock.queue.remove(request)
            self._grant(lock, request.owner, name, request.exclusive)
            request.granted.set_result(None)
            self._serve(lock, name)
            return

    def _waits_for_itself(self, start: object) -> bool:
        seen: list[object] = []
        todo = list(self._waits_for(start))
        while todo:
            owner = todo.pop()
            if owner is start:
                return True
            if owner not in seen:
                seen.append(owner)
                todo += self._waits_for(owner)
        return False

    def _waits_for(self, owner: object) -> Iterator[object]:
        for lock in self._locks.values():
            for place, request in enumerate(lock.queue):
                if request.owner is owner:
                    yield from lock.in_the_way(owner, request.exclusive, lock.queue[:place])

    def let_go(self, owner: object, name: Name) -> None:
        """Give one lock back."""
        lock = self._locks[name]
        self._held.get(owner, {}).pop(name, None)
        if lock.holders.pop(owner, None) is not None:
            self._serve(lock, name)
        if not lock.holders and not lock.queue:
            del self._locks[name]

    def let_all_go(self, owner: object) -> None:
        """Give every lock of ``owner`` back."""
        for name in list(self._held.pop(owner, {})):
            self.let_go(owner, name)

    def held_by(self, owner: object) -> Iterable[Name]:
        """What ``owner`` has locked."""
        return self._held.get(owner, ())

    def waiters(self) -> int:
        """How many requests wait."""
        return sum(len(lock.queue) for lock in self._locks.values())
