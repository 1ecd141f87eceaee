"""The buses under the contract suite, and what its tests share.

A bus joins by adding a harness to `conftest.HARNESSES`.  Records are written and
read by other processes too, so a harness also gives the Python expression that
makes its bus.  What happens to a topic behind the bus's back differs from bus to
bus, so the harness does it: copying its files, putting them back, deleting it,
forgetting its oldest records.
"""

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

from meshnode.bus.file import FileBus
from meshnode.bus.log import LogOptions
from meshnode.bus.port import Bus, BusReader, BusWriter, Position, Record
from meshnode.lab.wan import Wan, WanBus
from meshnode.limits import MIB

REGION = "osaka"
SOON = 60.0
"""Seconds after which a test has failed that waits for something certain."""


class Harness:
    """The file bus in a directory of its own."""

    expression = "FileBus(Path({directory!r}))"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: list[Bus] = []

    def bus(self, segment_bytes: int = 64 * MIB) -> Bus:
        """A bus of one process, forgetting in steps of ``segment_bytes`` if it cuts segments."""
        made = self.wrapped(
            FileBus(self.directory, LogOptions(segment_bytes=segment_bytes, keep_seconds=0.0))
        )
        self.made.append(made)
        return made

    def wrapped(self, bus: Bus) -> Bus:
        return bus

    async def copy_topic(self) -> Path:
        """Take a copy of the topic as it is now, as a backup would."""
        return Path(shutil.copytree(self.directory / REGION, self.directory / "backup"))

    async def put_back(self, copy: Path) -> None:
        await self.delete_topic()
        shutil.move(copy, self.directory / REGION)

    async def delete_topic(self) -> None:
        shutil.rmtree(self.directory / REGION)

    async def forget(self, writer: BusWriter, position: Position) -> None:
        """Let the topic forget what lies before ``position``, or most of it."""
        done = await writer.retain([position], position, now=4e9)
        assert done.dropped_bytes > 0
        assert done.lost_bytes == 0

    def source(self) -> str:
        return self.expression.format(directory=str(self.directory))

    async def start_child(self, call: str) -> Any:
        """Run a coroutine of `CHILD` in another process; return when it is ready."""
        program = CHILD.format(source=self.source(), call=call)
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdin=pipe, stdout=pipe
        )
        assert child.stdout is not None
        ready = await asyncio.wait_for(child.stdout.readline(), SOON)
        assert ready in (b"holds\n", b"reads\n")
        return child


class WanHarness(Harness):
    """The file bus behind a network without latency."""

    expression = "WanBus(FileBus(Path({directory!r})), 'dublin', Wan())"

    def wrapped(self, bus: Bus) -> Bus:
        return WanBus(bus, "dublin", Wan())


async def read_until(reader: BusReader, position: Position, end: Position) -> list[Record]:
    """Read everything from ``position`` to ``end``."""
    found: list[Record] = []
    while position != end:
        found += await asyncio.wait_for(reader.read(position, MIB), SOON)
        position = found[-1].after
    return found


def payloads(records: list[Record]) -> list[bytes]:
    return [record.payload for record in records]


CHILD = """
import asyncio, hashlib, sys
from pathlib import Path
from meshnode.bus.file import FileBus
from meshnode.bus.kafka import Cluster, KafkaBus, TopicSettings
from meshnode.bus.port import ORIGIN
from meshnode.errors import Fenced
from meshnode.lab.wan import Wan, WanBus

async def hold():
    writer = bus.writer("osaka")
    await writer.open(20)
    await writer.append(b"from the child")
    print("holds", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for _ in range(2):
        try:
            await writer.append(b"too late")
            print("appended", flush=True)
        except Fenced:
            print("fenced", flush=True)
    await writer.close()

async def digest(count):
    reader, position, digest = bus.reader("osaka"), ORIGIN, hashlib.sha256()
    print("reads", flush=True)
    while count:
        for record in await reader.read(position, 1 << 20):
            digest.update(record.payload)
            position, count = record.after, count - 1
    print(digest.hexdigest(), flush=True)
    await reader.close()

async def main():
    global bus
    bus = {source}
    await {call}
    await bus.close()

asyncio.run(main())
"""
