"""The writer when the disk is slow, full or broken."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from topic_files import REGION, SOON, append, flip, newest_segment, open_log, read_all

from meshnode.bus.file import FileBus
from meshnode.bus.log import LogOptions
from meshnode.bus.port import ORIGIN, BusBroken, BusFull, Corrupt
from meshnode.bus.segment import list_segments
from meshnode.errors import Halt, Refused
from meshnode.limits import FRAME_MAX_BYTES


class Disk:
    """An fsync that can be made to wait or to fail, and counts."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: OSError | None = None
        self.may_go = threading.Event()
        self.may_go.set()
        self.asked = threading.Event()

    def sync(self, fd: int) -> None:
        self.calls += 1
        self.asked.set()
        if not self.may_go.wait(SOON):
            raise AssertionError("nobody let the disk go on")
        if self.error is not None:
            raise self.error
        os.fdatasync(fd)

    def stop(self) -> None:
        self.asked.clear()
        self.may_go.clear()


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def bus(tmp_path: Path, disk: Disk) -> AsyncIterator[FileBus]:
    made = FileBus(tmp_path, LogOptions(sync=disk.sync))
    yield made
    await made.close()


async def test_nothing_is_readable_before_its_fsync(bus: FileBus, disk: Disk) -> None:
    writer, reader = bus.writer(REGION), bus.reader(REGION)
    begin = await writer.open(SOON)
    disk.stop()
    appending = asyncio.create_task(writer.append(b"a"))
    reading = asyncio.create_task(reader.read(ORIGIN, 1000))
    # The loop goes on while the thread waits for the disk.
    assert await asyncio.to_thread(disk.asked.wait, SOON)
    done, _ = await asyncio.wait({appending, reading}, timeout=0.1)
    assert not done
    assert await reader.end() == begin
    disk.may_go.set()
    end = await asyncio.wait_for(appending, SOON)
    (record,) = await asyncio.wait_for(reading, SOON)
    assert record.after == end == await reader.end()
    await writer.close()


async def test_appends_that_wait_together_share_an_fsync(bus: FileBus, disk: Disk) -> None:
    writer = bus.writer(REGION)
    await writer.open(SOON)
    disk.stop()
    first = asyncio.create_task(writer.append(b"first"))
    assert await asyncio.to_thread(disk.asked.wait, SOON)
    before = disk.calls
    rest = [asyncio.create_task(writer.append(b"%d" % number)) for number in range(100)]
    await asyncio.sleep(0)
    disk.may_go.set()
    await asyncio.gather(first, *rest)
    assert disk.calls == before + 1
    await writer.close()


async def test_after_a_failed_fsync_no_append_succeeds(
    bus: FileBus, disk: Disk, tmp_path: Path
) -> None:
    writer = bus.writer(REGION)
    await writer.open(SOON)
    await writer.append(b"durable")
    disk.stop()
    appends = [asyncio.create_task(writer.append(b"first"))]
    assert await asyncio.to_thread(disk.asked.wait, SOON)
    appends += [asyncio.create_task(writer.append(b"behind")) for _ in range(3)]
    await asyncio.sleep(0)
    disk.error = OSError(errno.EIO, "injected")
    disk.may_go.set()
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert [type(result) for result in results] == [BusBroken] * 4
    disk.error = None
    with pytest.raises(BusBroken, match="injected"):
        await writer.append(b"later")
    assert await read_all(tmp_path / REGION) == [b"durable"]
    # A new writer keeps the frame that was whole, durable now; those behind were never written.
    await writer.open(SOON)
    await writer.append(b"anew")
    await writer.close()
    assert await read_all(tmp_path / REGION) == [b"durable", b"first", b"anew"]


@pytest.mark.parametrize("step", ["sync", "write"])
def test_the_log_itself_takes_no_append_after_a_failed_one(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "injected")

    log = open_log(tmp_path / REGION, LogOptions(sync=disk.sync))
    if step == "sync":
        disk.error = OSError(errno.EIO, "injected")
    else:
        monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(BusBroken, match="injected"):
        log.append([b"first"])
    disk.error = None
    monkeypatch.undo()
    with pytest.raises(BusBroken, match="injected"):
        log.append([b"second"])
    log.close()


async def test_a_full_disk_shows_nothing_and_can_be_mended(
    bus: FileBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = bus.writer(REGION)
    await writer.open(SOON)
    await writer.append(b"before")
    pwrite = os.pwrite

    def full(fd: int, data: memoryview, at: int) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "injected")
        return pwrite(fd, data[: len(data) // 2], at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(BusFull, match="injected"):
        await writer.append(b"does not fit" * 100)
    monkeypatch.undo()
    with pytest.raises(BusFull):
        await writer.append(b"would follow a hole")
    await writer.open(SOON)
    await writer.append(b"after")
    await writer.close()
    assert await read_all(tmp_path / REGION) == [b"before", b"after"]


async def test_on_a_full_disk_a_failed_log_forgets_and_a_new_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that opening writes may need room: retention would wait for what it has to make."""
    topic, pwrite = tmp_path / REGION, os.pwrite
    options = LogOptions(segment_bytes=1000, keep_seconds=0.0)
    ends = append(topic, *[bytes(400)] * 20, options=options)

    def full(fd: int, data: bytes, at: int) -> int:
        if at >= os.fstat(fd).st_size and len(list_segments(topic)) > 1:
            raise OSError(errno.ENOSPC, "injected")
        return pwrite(fd, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    log = open_log(topic, options)
    for _ in range(2):
        with pytest.raises(BusFull, match="injected"):
            log.append([b"a claim"])
    assert log.retain([ends[-1]], ends[-1], now=4e9).dropped_bytes > 0
    with pytest.raises(BusFull, match="injected"):
        log.append([b"a claim"])
    log.close()
    append(topic, b"a claim", options=options)
    assert (await read_all(topic))[-1] == b"a claim"


async def test_a_failed_open_gives_the_lock_back(bus: FileBus, tmp_path: Path) -> None:
    append(tmp_path / REGION, b"a")
    segment = newest_segment(tmp_path / REGION)
    flip(segment, segment.stat().st_size - 1)
    writer = bus.writer(REGION)
    with pytest.raises(Corrupt):
        await writer.open(0.0)
    flip(segment, segment.stat().st_size - 1)
    await writer.open(SOON)
    await writer.close()


async def test_a_cancelled_open_gives_the_lock_back(bus: FileBus, disk: Disk) -> None:
    writer = bus.writer(REGION)
    disk.stop()
    opening = asyncio.create_task(writer.open(SOON))
    assert await asyncio.to_thread(disk.asked.wait, SOON)
    opening.cancel()
    await asyncio.wait({opening})
    disk.may_go.set()
    await bus.writer(REGION).open(SOON)


async def test_close_finishes_the_appends_under_way(
    bus: FileBus, disk: Disk, tmp_path: Path
) -> None:
    writer = bus.writer(REGION)
    await writer.open(SOON)
    disk.stop()
    appends = [asyncio.create_task(writer.append(name)) for name in (b"a", b"b")]
    assert await asyncio.to_thread(disk.asked.wait, SOON)
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    disk.may_go.set()
    await asyncio.gather(closing, *appends)
    assert await read_all(tmp_path / REGION) == [b"a", b"b"]
    with pytest.raises(RuntimeError):
        await writer.append(b"closed")


async def test_a_record_over_the_limit_halts_and_breaks_nothing(bus: FileBus) -> None:
    writer = bus.writer(REGION)
    await writer.open(SOON)

    class Huge(bytes):
        def __len__(self) -> int:
            return FRAME_MAX_BYTES + 1

    with pytest.raises(Halt, match=rf"{REGION}: a record of .*{FRAME_MAX_BYTES} bytes") as halted:
        await writer.append(Huge())
    assert halted.value.remedy
    await writer.append(b"fits")
    await writer.close()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "a\0b"])
async def test_a_region_name_never_leaves_the_directory(bus: FileBus, name: str) -> None:
    with pytest.raises(Refused):
        bus.writer(name)
    with pytest.raises(Refused):
        bus.reader(name)


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    bus = FileBus(tmp_path / "file")
    with pytest.raises(BusBroken, match=str(tmp_path / "file")):
        await bus.writer(REGION).open(0.0)
    await bus.close()
