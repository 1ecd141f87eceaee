"""Actors: named tasks that are restarted, with their state and its reason in view.

An actor's ``run`` does its work until it is cancelled or raises.  What it raises
says what happens next: ``Retry`` restarts it after a short, growing pause;
``Halt`` keeps it halted, with the reason shown, and tries again at leisure, so
that it goes on by itself once an operator has removed the cause; ``Fatal``
ends the whole node.  Anything else is a defect: it is shown with its place and
handled like ``Retry``, because stopping would help nobody.

A mailbox is bounded by weight (bytes, rows): a slow consumer slows its producer
and nothing else.
"""

import asyncio
import logging
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from meshnode.errors import Fatal, Fenced, Halt, MeshError, Refused, Retry, RowError

log = logging.getLogger("meshnode")

Content = TypeVar("Content")

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 5.0
HALT_PAUSE = 2.0
SETTLED_AFTER = 10.0
"""An actor that ran this long (seconds) starts again with the first pause."""
ASK_AGAIN_SECONDS = 10.0
"""More than it takes to clean up: what is asked again in the middle of that leaves it undone."""


class Mailbox(Generic[Content]):
    """A queue between two actors, bounded by the total weight of what waits.

    One entry always goes in, however heavy, so nothing can be too large to pass.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.weight = 0
        self._entries: deque[tuple[Content, int]] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        return self.weight >= self.capacity

    async def put(self, content: Content, weight: int) -> None:
        """Wait for room, then leave ``content``."""
        while self.weight >= self.capacity:
            self._room.clear()
            await self._room.wait()
        self.add(content, weight)

    def add(self, content: Content, weight: int) -> None:
        """Leave ``content`` whether there is room or not: for who has asked (``full``)."""
        self._entries.append((content, weight))
        self.weight += weight
        self._changed.set()

    async def wait(self) -> None:
        """Wait until something is there."""
        while not self._entries:
            self._changed.clear()
            await self._changed.wait()

    async def gather(self, weight: int) -> None:
        """Give the producer turns while it has more at hand, up to ``weight``."""
        before = -1
        while before < self.weight < weight:
            before = self.weight
            await asyncio.sleep(0)

    def take(self, weight: int) -> list[Content]:
        """What waits, oldest first, up to ``weight`` (at least one entry if any)."""
        taken: list[Content] = []
        total = 0
        while self._entries and (not taken or total + self._entries[0][1] <= weight):
            content, size = self._entries.popleft()
            taken.append(content)
            total += size
        self.weight -= total
        if self.weight < self.capacity:
            self._room.set()
        return taken

    def peek(self) -> Content | None:
        """The oldest entry, left where it is."""
        return self._entries[0][0] if self._entries else None


@dataclass
class State:
    """What is to be seen of an actor; ``since`` in seconds since 1970.

    ``former`` is the state before this one.  ``halt`` is why the actor halted last, and since when,
    though it tries again and again.
    """

    name: str
    state: str = "starting"
    reason: str = ""
    remedy: str = ""
    since: float = field(default_factory=time.time)
    restarts: int = 0
    former: str = ""
    halt: tuple[str, float] = ("", 0.0)

    def set(self, state: str, reason: str = "", remedy: str = "") -> None:
        """Note a change; the time stays when nothing changed."""
        if (state, reason) != (self.state, self.reason):
            self.since = time.time()
        if state != self.state:
            self.former = self.state
        self.state, self.reason, self.remedy = state, reason, remedy

    def halted(self, reason: str, remedy: str, again: bool) -> bool:
        """Note a halt; whether it is a new one.  ``again``: the actor has only just been started.

        A halt that a new try meets again began with the first try.
        """
        self.set("halted", reason, remedy)
        new = not again or self.halt[0] != reason
        if new:
            self.halt = reason, self.since
        self.since = self.halt[1]
        return new


class Actor:
    """A named piece of work; ``run`` returns only when it is done for good."""

    def __init__(self, name: str) -> None:
        self.state = State(name)

    @property
    def name(self) -> str:
        return self.state.name

    async def run(self) -> None:
        """Work until cancelled."""
        raise NotImplementedError

    def running(self) -> None:
        """To be called when the actor is past its start: it now does its work."""
        self.state.set("running")


class Supervisor:
    """Runs actors until :meth:`stop` or until one of them meets a fatal error."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.actors: dict[str, Actor] = {}
        self.verdict: MeshError | None = None
        self._sleep = sleep
        self._stop = asyncio.Event()
        self._ending = False

    def stop(self, why: MeshError | None = None) -> None:
        """Ask all actors to end; ``why`` is raised by :meth:`run`."""
        self.verdict = self.verdict or why
        self._stop.set()

    async def run(self, actors: Iterable[Actor]) -> None:
        """Supervise ``actors``; returns when stopped, raises when a node must not go on."""
        for actor in actors:
            self.actors[actor.name] = actor
        tasks = [
            asyncio.create_task(self._supervise(actor), name=actor.name)
            for actor in self.actors.values()
        ]
        try:
            await self._stop.wait()
        finally:
            self._ending = True
            await end(tasks)
        if self.verdict is not None:
            raise self.verdict

    async def _supervise(self, actor: Actor) -> None:
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                await actor.run()
            except asyncio.CancelledError:
                actor.state.set("stopped")
                raise
            except BaseException as error:
                if self._ending:
                    # What fails on its way out may raise the failure alone.
                    actor.state.set("stopped")
                    raise asyncio.CancelledError from error
                if isinstance(error, Fatal):
                    name = "fenced" if isinstance(error, Fenced) else "failed"
                    actor.state.set(name, error.what, error.remedy)
                    self.stop(error)
                    return
                settled = time.monotonic() - began > SETTLED_AFTER
                wait = self._note(actor.state, error, settled)
            else:
                actor.state.set("finished")
                return
            if settled:
                pause = FIRST_PAUSE
            actor.state.restarts += 1
            await self._sleep(max(wait, pause))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _note(self, state: State, error: BaseException, settled: bool) -> float:
        """Show ``error``; the least pause before the next try."""
        if isinstance(error, Halt | Refused | RowError):
            if state.halted(error.what, error.remedy, again=not settled):
                log.error("%s halted: %s", state.name, error)
            return HALT_PAUSE
        if isinstance(error, Retry):
            log.info("%s retries: %s", state.name, error)
            state.set("retrying", error.what, error.remedy)
            return 0.0
        place = traceback.extract_tb(error.__traceback__)[-1]
        log.error("%s failed: %r", state.name, error, exc_info=error)
        reason = f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"
        state.set("failed", reason, "this is a defect: please report it with the log")
        return 0.0


async def within(seconds: float, work: Awaitable[object]) -> bool:
    """Whether ``work`` is done within ``seconds``; after that it is cancelled."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return False
    return True


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Run ``works`` side by side; when one raises, end the others and raise its error.

    Where several fail, a fatal error goes before the first one.
    """
    tasks = [asyncio.create_task(work) for work in works]
    first: set[asyncio.Task[None]] = set()
    try:
        first, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        await end(tasks)
        tasks.sort(key=lambda task: task not in first)
        errors = [
            error
            for task in tasks
            if not task.cancelled() and (error := task.exception()) is not None
        ]
    if errors:
        raise next((each for each in errors if isinstance(each, Fatal)), errors[0])


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel ``tasks`` and wait until all of them have ended, also when cancelled meanwhile.

    They are asked again and again.  ``asyncio.wait_for``, which drivers use, loses a cancellation
    that comes when what it waits for has just been done (Python before 3.12).
    """
    cancelled: asyncio.CancelledError | None = None
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending, timeout=ASK_AGAIN_SECONDS)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
