"""The bus in memory under the contract suite: another process is another bus on the same topics."""

import asyncio
import hashlib
import os
import random
import sys
from pathlib import Path

from bus_harness import Harness

from meshnode.bus.port import ORIGIN, Bus, BusWriter, Position
from meshnode.errors import Fenced
from meshnode.limits import MIB

sys.path.append(str(Path(__file__).parents[1]))

from virtual.bus import MemoryBus, Topic, Topics

REGION = "osaka"


class MemoryHarness(Harness):
    """Topics of one test."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.topics = Topics(random.Random(1))

    def bus(self, segment_bytes: int = 64 * MIB) -> Bus:
        return MemoryBus(self.topics)

    async def copy_topic(self) -> Topic:
        return self.topics.topics[REGION].copy()

    async def put_back(self, copy: Topic) -> None:
        self.topics.topics[REGION] = copy
        self.topics.changed()

    async def delete_topic(self) -> None:
        del self.topics.topics[REGION]
        self.topics.changed()

    async def forget(self, writer: BusWriter, position: Position) -> None:
        assert (await writer.retain([position], position, now=4e9)).dropped_bytes > 0

    async def start_child(self, call: str) -> "Neighbour":
        neighbour = Neighbour(MemoryBus(self.topics), call)
        await neighbour.ready.wait()
        return neighbour


class Neighbour:
    """A task that does what a child process of the other harnesses does."""

    def __init__(self, bus: MemoryBus, call: str) -> None:
        self.bus = bus
        self.pid = os.getpid()
        self.ready = asyncio.Event()
        self._told = asyncio.Event()
        name, argument = call.rstrip(")").split("(")
        work = self._hold() if name == "hold" else self._digest(int(argument))
        self._task = asyncio.create_task(work)

    async def communicate(self, said: bytes = b"") -> tuple[bytes, None]:
        self._told.set()
        return await self._task, None

    async def _hold(self) -> bytes:
        writer = self.bus.writer(REGION)
        await writer.open(20)
        await writer.append(b"from the child")
        self.ready.set()
        await self._told.wait()
        answers = b""
        for _ in range(2):
            try:
                await writer.append(b"too late")
                answers += b"appended\n"
            except Fenced:
                answers += b"fenced\n"
        return answers

    async def _digest(self, count: int) -> bytes:
        reader, position, digest = self.bus.reader(REGION), ORIGIN, hashlib.sha256()
        self.ready.set()
        while count:
            for record in await reader.read(position, MIB):
                digest.update(record.payload)
                position, count = record.after, count - 1
        return digest.hexdigest().encode()
