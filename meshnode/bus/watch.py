"""Wakes a reader when a file changes, without looking at it all the time.

Readers sit in other processes than the writer, and an idle mesh has a reader
for every pair of regions, so polling costs either processor time or latency.
The kernel tells instead: one inotify instance per process, one watch per end
mark, one callback in the event loop. A waiter first arms, then looks at the
file, then waits: so no change is missed.

A wait also ends after ``at_most`` seconds, which is when a waiter looks whether
the path still leads to the same file. Where the kernel has no inotify instance
left, a wait ends after `POLL_SECONDS`: correct, only dearer.
"""

import asyncio
import ctypes
import os
import struct
from pathlib import Path

POLL_SECONDS = 0.005

_IN_MODIFY = 0x2
_EVENT = struct.Struct("iIII")
_READ_BYTES = 16 * 1024


class FileWatcher:
    """Waits for changes of files, in one event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._libc: ctypes.CDLL | None = None
        self._fd = -1
        self._waiters: dict[int, set[asyncio.Future[None]]] = {}

    def arm(self, path: Path, at_most: float) -> asyncio.Future[None]:
        """Return a future that is done at the next change of ``path``, or after ``at_most`` s.

        Cancel it when it is not needed any more.
        """
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            self._start(loop)
        waiter: asyncio.Future[None] = loop.create_future()
        watch = self._watch(path)
        if watch < 0:
            at_most = min(at_most, POLL_SECONDS)
        else:
            self._waiters.setdefault(watch, set()).add(waiter)
        timer = loop.call_later(at_most, _wake, waiter)

        def disarm(_: asyncio.Future[None]) -> None:
            timer.cancel()
            waiters = self._waiters.get(watch, set())
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(watch, None)

        waiter.add_done_callback(disarm)
        return waiter

    def close(self) -> None:
        """Wake everybody and give the inotify instance back; repeatable."""
        if self._fd >= 0:
            assert self._loop is not None
            if not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            os.close(self._fd)
        self._fd = -1
        self._loop = None
        for waiters in self._waiters.values():
            for waiter in list(waiters):
                _wake(waiter)
        self._waiters.clear()

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, AttributeError):
            self._fd = -1
        if self._fd >= 0:
            loop.add_reader(self._fd, self._on_events)

    def _watch(self, path: Path) -> int:
        """Watch the file that ``path`` leads to now; repeatable; -1 if that is not possible."""
        if self._fd < 0 or self._libc is None:
            return -1
        # The end of a file is always told, whatever is asked for.
        return self._libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_MODIFY)

    def _on_events(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, _mask, _cookie, name_length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + name_length
            # -1 says that events were dropped: anybody's may be among them.
            for key in list(self._waiters) if watch < 0 else [watch]:
                for waiter in list(self._waiters.get(key, ())):
                    _wake(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
