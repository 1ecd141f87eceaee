"""Waiting for a file to change."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshnode.bus.watch import FileWatcher

LONG = 600.0
"""Seconds that a wait may take: a test that gets there has not been woken."""

SOON = 60.0


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "end"
    made.write_bytes(b"0")
    return made


@pytest.fixture
async def watcher() -> AsyncIterator[FileWatcher]:
    made = FileWatcher()
    yield made
    made.close()


async def test_a_change_wakes_everybody_who_waits_for_this_file(
    watcher: FileWatcher, path: Path
) -> None:
    other = path.with_name("other")
    other.write_bytes(b"0")
    waiters = [watcher.arm(path, LONG) for _ in range(3)]
    elsewhere = watcher.arm(other, LONG)
    put(path, b"1")
    await asyncio.wait_for(asyncio.gather(*waiters), SOON)
    assert not elsewhere.done()
    elsewhere.cancel()


async def test_a_change_after_arming_is_not_missed(watcher: FileWatcher, path: Path) -> None:
    for number in range(50):
        waiter = watcher.arm(path, LONG)
        put(path, b"%d" % number)
        await asyncio.sleep(0)
        await asyncio.wait_for(waiter, SOON)


async def test_a_wait_ends_by_itself(watcher: FileWatcher, path: Path) -> None:
    await asyncio.wait_for(watcher.arm(path, 0.01), SOON)


async def test_a_file_that_is_replaced_wakes_and_can_be_waited_for_again(
    watcher: FileWatcher, path: Path
) -> None:
    waiter = watcher.arm(path, LONG)
    os.unlink(path)
    await asyncio.wait_for(waiter, SOON)
    await asyncio.wait_for(watcher.arm(path, LONG), SOON)  # it is not there: it looks again soon
    put(path, b"new")
    waiter = watcher.arm(path, LONG)
    put(path, b"newer")
    await asyncio.wait_for(waiter, SOON)


async def test_cancelled_waits_leave_nothing_behind(watcher: FileWatcher, path: Path) -> None:
    waiters = [watcher.arm(path, LONG) for _ in range(100)]
    for waiter in waiters:
        waiter.cancel()
    await asyncio.sleep(0)
    assert watcher._waiters == {}


async def test_close_wakes_and_may_be_repeated(watcher: FileWatcher, path: Path) -> None:
    waiter = watcher.arm(path, LONG)
    watcher.close()
    watcher.close()
    await asyncio.wait_for(waiter, SOON)


async def test_without_inotify_a_wait_is_short(
    watcher: FileWatcher, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoInstances:
        def __init__(self, *_: object, **__: object) -> None:
            raise OSError(errno.EMFILE, "injected")

    monkeypatch.setattr("ctypes.CDLL", NoInstances)
    await asyncio.wait_for(watcher.arm(path, LONG), SOON)
    assert watcher._fd < 0
