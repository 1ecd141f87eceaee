"""Time and turns: one heap of events, integer microseconds, no event loop.

A process is a generator.  It yields how many microseconds it wants to sleep, or
``None`` to sleep until somebody wakes it; a sleep with a limit can be cut short in the
same way.  Two events of one microsecond come in the order in which they were made, so
a schedule depends on its seed alone.
"""

from collections.abc import Callable, Generator
from heapq import heappop, heappush

Steps = Generator[int | None, None, object]
"""What a process is made of; it is sent nothing."""


class Process:
    """A generator with its next turn; ``turn`` makes every earlier appointment void.

    While it is ``frozen`` its turns pass it by; ``due``: one has, and comes when it thaws.
    """

    __slots__ = ("alive", "due", "frozen", "name", "next", "steps", "turn")

    def __init__(self, name: str, steps: Steps) -> None:
        self.name = name
        self.steps = steps
        self.next = steps.__next__
        self.turn = 0
        self.alive = True
        self.frozen = self.due = False


class Clockwork:
    """The heap, and the time of the world in microseconds (``now``)."""

    def __init__(self, start: int) -> None:
        self.now = start
        self.events = 0
        self.current: Process | None = None
        self.watch: Callable[[], None] | None = None
        self._heap: list[tuple[int, int, Process, int]] = []
        self._made = 0

    def spawn(self, name: str, steps: Steps, delay: int = 0) -> Process:
        """A new process, whose first turn comes after ``delay``."""
        process = Process(name, steps)
        self._appoint(process, self.now + delay)
        return process

    def wake(self, process: Process) -> None:
        """Give a sleeping process its turn now; void if it is dead or running."""
        if process.alive and process is not self.current:
            self._appoint(process, self.now)

    def thaw(self, process: Process) -> None:
        """Let a frozen process go on; the turn that it missed is now."""
        process.frozen = False
        if process.due:
            process.due = False
            self.wake(process)

    def kill(self, process: Process) -> None:
        """End a process where it stands; it must not be the running one."""
        if process.alive:
            process.alive = False
            process.turn += 1
            process.steps.close()

    def run(self, until: int, most: int) -> bool:
        """Run what is due up to ``until``, at most ``most`` events; whether that was enough."""
        heap, watch = self._heap, self.watch
        for _ in range(most):
            if not heap or heap[0][0] > until:
                self.now = max(self.now, until)
                return True
            when, _, process, turn = heappop(heap)
            if process.turn != turn:
                continue
            self.now = when
            if process.frozen:
                process.due = True
                continue
            self.events += 1
            process.turn = turn = turn + 1
            self.current = process
            try:
                delay = process.next()
            except StopIteration:
                process.alive = False
                self.current = None
                continue
            self.current = None
            if delay is not None:
                self._made = made = self._made + 1
                heappush(heap, (when + delay, made, process, turn))
            if watch is not None:
                watch()
        return False

    @property
    def idle(self) -> bool:
        """Whether nobody has an appointment."""
        heap = self._heap
        while heap and heap[0][2].turn != heap[0][3]:
            heappop(heap)
        return not heap

    def _appoint(self, process: Process, when: int) -> None:
        self._made += 1
        heappush(self._heap, (when, self._made, process, process.turn))
