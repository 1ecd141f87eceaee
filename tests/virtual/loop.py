"""An event loop in virtual time, whose every choice comes from a seed.

Theory of operation.  Nobody waits: when nothing is ready the clock jumps to the next timer,
and when there is no timer either the loop raises :class:`Stuck`, because then nothing can
ever happen again.  Of the task steps that are ready the seed says which one comes first;
plain callbacks keep their place, as asyncio promises.  There are no sockets and no
threads: whoever asks for one gets an error.

A *process* is everything that one :meth:`VirtualLoop.spawn` has started, directly or not: the
tasks inherit its mark with their context.  It can be cancelled like any task, at
whichever await it stands, or **killed**: from then on no step of it runs, not even a ``finally``,
as after SIGKILL.  ``adversary`` is asked before each step of a process, so that a
schedule may end processes at any await.

It leans on three private names of :class:`asyncio.BaseEventLoop` (``_ready``, ``_scheduled``,
``_selector``); ``test_loop.py`` would notice if they changed.
"""

import asyncio
import contextvars
import random
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")


class Stuck(AssertionError):
    """Nothing is ready and nothing is scheduled: whoever waits will wait for ever."""


class NoRealWorld(RuntimeError):
    """Something asked for a socket or a thread."""


class Process:
    """What :meth:`VirtualLoop.spawn` has started; ``task`` is its first task."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.killed = False
        self.task: asyncio.Task
        # Kept: a task of a dead process that the collector found would unwind at its moment.
        self.tasks: list[asyncio.Task] = []
        self.frozen: list[asyncio.Handle] = []

    def kill(self) -> None:
        """No step of it runs any more."""
        self.killed = True


_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)

Adversary = Callable[[Process, asyncio.Task], None]


def process_of_this_step() -> Process | None:
    """The process whose step is running; None for what stands outside of all."""
    return _process.get()


def outside() -> contextvars.Context:
    """A context for tasks that belong to no process: a server goes on when its client dies."""
    return contextvars.Context()


def _task_of(handle: asyncio.Handle) -> asyncio.Task | None:
    """The task that ``handle`` is a step of."""
    owner = getattr(handle._callback, "__self__", None)
    return owner if isinstance(owner, asyncio.Task) else None


class _Ready(deque):
    """What is ready to run; the seed says which of the first task steps comes next.

    Steps are counted in the order in which their tasks were made: a task group cancels
    its tasks in the order of their addresses.
    """

    def __init__(self, loop: "VirtualLoop") -> None:
        super().__init__()
        self._loop = loop

    def popleft(self) -> asyncio.Handle:
        steps: list[tuple[int, asyncio.Handle]] = []
        for handle in self:
            task = _task_of(handle)
            if task is None:
                break
            steps.append((self._loop.made[task], handle))
        if len(steps) < 2:
            return self._loop.admitted(super().popleft())
        steps.sort()
        chosen = steps[self._loop.random.randrange(len(steps))][1]
        self.remove(chosen)
        return self._loop.admitted(chosen)


class VirtualLoop(asyncio.BaseEventLoop):
    """``seed`` gives the order of steps; ``now`` is the time at the start, in seconds."""

    def __init__(self, seed: int | str, now: float = 1_000.0) -> None:
        super().__init__()
        self.random = random.Random(f"loop {seed}")
        self.steps = 0
        self.adversary: Adversary | None = None
        self.processes: list[Process] = []
        self._now = now
        # A timer is due within so much: the real clock's nanoseconds would be lost in a float.
        self._clock_resolution = 1e-6
        self._ready = _Ready(self)
        self._selector = self
        self.set_exception_handler(self._noted)
        self.failures: list[dict[str, Any]] = []
        self.made: weakref.WeakKeyDictionary[asyncio.Task, int] = weakref.WeakKeyDictionary()
        self._tasks_made = 0
        self._nothing = asyncio.Handle(print, (), self, contextvars.Context())
        self._nothing.cancel()

    def _noted(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error that nobody took: kept for :meth:`run` to raise."""
        self.failures.append(context)

    # Time

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list:
        """In the place of a selector: let the time of the next timer come at once."""
        if timeout is None:
            waiting = [task.get_name() for task in asyncio.all_tasks(self)]
            raise Stuck(f"nothing is ready and nothing is scheduled; waiting: {waiting}")
        if timeout > 0:
            self._now = max(self._now, self._scheduled[0]._when)
        return []

    def _process_events(self, event_list: list) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody has to be woken."""

    # Processes

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> Process:
        """Start ``work`` as a process of its own."""
        process = Process(name)
        context = contextvars.Context()
        context.run(_process.set, process)
        process.task = self.create_task(work, name=name, context=context)
        self.processes.append(process)
        return process

    def create_task(self, work: Coroutine, **named: Any) -> asyncio.Task:
        task = super().create_task(work, **named)
        self._tasks_made += 1
        self.made[task] = self._tasks_made
        context = named.get("context")
        process = _process.get() if context is None else context.get(_process)
        if process is not None:
            process.tasks.append(task)
        return task

    def admitted(self, handle: asyncio.Handle) -> asyncio.Handle:
        """``handle``, or nothing to be done if it is of a process that was killed."""
        self.steps += 1
        process = handle._context.get(_process) if handle._context is not None else None
        if process is None or handle.cancelled():
            return handle
        task = _task_of(handle)
        if task is not None and not process.killed and self.adversary is not None:
            self.adversary(process, task)
        if process.killed:
            process.frozen.append(handle)
            return self._nothing
        return handle

    # Running

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run ``work`` to its end, then everything else to its cancelled end."""
        asyncio.set_event_loop(self)
        try:
            return self.run_until_complete(work)
        finally:
            self._finish()
            asyncio.set_event_loop(None)
            self.close()

    def _finish(self) -> None:
        """Let what is left unwind: also what was killed, which harms nobody any more."""
        self.adversary = None
        for process in self.processes:
            process.killed = False
            self._ready.extend(process.frozen)
        # Servers last: a process that unwinds may still say something to them.
        self._end(task for process in self.processes for task in process.tasks)
        self._end(asyncio.all_tasks(self))
        self.run_until_complete(self.shutdown_asyncgens())

    def _end(self, tasks: Iterable[asyncio.Task]) -> None:
        ending = sorted((task for task in tasks if not task.done()), key=self.made.__getitem__)
        for task in ending:
            task.cancel()
        if ending:
            self.run_until_complete(asyncio.gather(*ending, return_exceptions=True))

    # The real world

    def run_in_executor(self, executor: object, function: Callable, *arguments: object) -> Any:
        raise NoRealWorld(f"a thread for {function!r}")

    async def getaddrinfo(self, *_: object, **__: object) -> Any:
        raise NoRealWorld("a name to be resolved")

    async def sock_connect(self, sock: object, address: object) -> None:
        raise NoRealWorld(f"a connection with {address}")

    async def create_server(self, *_: object, **__: object) -> Any:
        raise NoRealWorld("a socket that listens")

    async def create_unix_connection(self, *_: object, **__: object) -> Any:
        raise NoRealWorld("a socket")
