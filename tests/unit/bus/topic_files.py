"""Helpers of the file bus's tests: topics made and broken by hand."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from meshnode.bus.file import FileBus
from meshnode.bus.log import LogOptions, TopicLog
from meshnode.bus.port import Position
from meshnode.bus.segment import list_segments, load_mark, segment_path

SOON = 60.0
"""Seconds after which a test has failed that waits for something certain."""

REGION = "osaka"


def open_log(topic: Path, options: LogOptions | None = None) -> TopicLog:
    """Open the topic for writing, in this thread."""
    log = TopicLog(topic, options or LogOptions())
    log.try_lock()
    try:
        log.open()
    except BaseException:
        log.close()
        raise
    return log


def append(topic: Path, *payloads: bytes, options: LogOptions | None = None) -> list[Position]:
    """Append each record on its own and close; return the position after each."""
    log = open_log(topic, options)
    try:
        return [log.append([payload])[0] for payload in payloads]
    finally:
        log.close()


def append_unacknowledged(topic: Path, payloads: Sequence[bytes]) -> None:
    """Append so that the writer dies between writing the frames and moving the mark."""
    mark = (topic / "end").read_bytes()
    append(topic, *payloads)
    (topic / "end").write_bytes(mark)


def reboot(topic: Path) -> None:
    """Make the end mark one of an earlier boot of the machine."""
    mark = load_mark(topic / "end")
    assert mark is not None
    (topic / "end").write_bytes(mark._replace(boot=b"another boot....").encode())


def newest_segment(topic: Path) -> Path:
    return segment_path(topic, list_segments(topic)[-1])


def flip(path: Path, at: int) -> None:
    """Invert one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


async def read_all(topic: Path) -> list[bytes]:
    """Read what a reader may see of the topic now."""
    bus = FileBus(topic.parent)
    reader = bus.reader(topic.name)
    try:
        position, end = await reader.begin(), await reader.end()
        found: list[bytes] = []
        while position != end:
            records = await asyncio.wait_for(reader.read(position, 1 << 20), SOON)
            found += [record.payload for record in records]
            position = records[-1].after
        return found
    finally:
        await reader.close()
        await bus.close()
