"""Frames of the first region that are late: sent, without an answer, and not in the topic yet."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh import NAMES, Mesh
from rules import lock, lockable
from steps import Paused, actor_of, running, sees

from meshnode.actors.heart import Heart
from meshnode.bus.port import BusWriter, Position
from meshnode.core.wire import Claim, Frame, Record, Sender, decode, encode
from meshnode.errors import Retry
from meshnode.node import Node

INSERT = "INSERT INTO app.t (id, v) VALUES ({}, '{}')"


def of_one(mesh: Mesh, payload: bytes) -> Record:
    """A record of the first region's topic."""
    return decode(payload, Sender(mesh.topology.mesh, 1, "one"))


def has_entries(record: Record) -> bool:
    return isinstance(record, Frame) and any(item.entries for item in record.items)


def heart(mesh: Mesh) -> Heart:
    """The first region's."""
    return actor_of(mesh, 0, "heart")


class OnTheWire:
    """A frame with rows whose append gets no answer: it lands in the topic later, or never.

    The first region's node sends it.  When it has, it waits until it is ended, or until ``fail``.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.payload = b""
        self._sent, self._fails = asyncio.Event(), asyncio.Event()
        writer = mesh.nodes[0][0].writer
        append = writer.append

        async def unanswered(payload: bytes) -> bytes:
            if self.payload or not has_entries(of_one(mesh, payload)):
                return await append(payload)
            self.payload = payload
            self._sent.set()
            await self._fails.wait()
            raise Retry("no answer")

        writer.append = unanswered

    async def frame(self) -> Frame:
        """The frame, as soon as it is sent."""
        await asyncio.wait_for(self._sent.wait(), 20)
        return of_one(self.mesh, self.payload)

    def fail(self) -> None:
        self._fails.set()

    def lands_behind_claim(self, writer: BusWriter) -> None:
        """Let it land right behind the next claim that goes through ``writer``."""
        append = writer.append

        async def and_the_frame(payload: bytes) -> bytes:
            position = await append(payload)
            if isinstance(of_one(self.mesh, payload), Claim):
                writer.append = append
                await append(self.payload)
            return position

        writer.append = and_the_frame


async def judged_otherwise(mesh: Mesh, client) -> None:
    """Whoever looks at key 1 from now on finds it locked, and holds it back; key 2 follows.

    The heart must be silent: with no beat between them, key 2 gets the number under which key 1
    was sent.
    """
    await lock(client)
    await mesh.sql[0].execute(INSERT.format(2, "next"))


async def all_judged(mesh: Mesh) -> None:
    """Wait until all that was written so far is published, or held back."""
    await mesh.sql[0].execute(INSERT.format(3, "last"))
    await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 3", "last")


@asynccontextmanager
async def lockable_mesh(servers, tmp_path) -> AsyncIterator[Mesh]:
    """A running mesh in which a client can hold key 1 before it is there."""
    async with running(servers, tmp_path) as mesh:
        await lockable(mesh.sql[0])
        await mesh.settle()
        yield mesh


@asynccontextmanager
async def died_sending(mesh: Mesh) -> AsyncIterator[OnTheWire]:
    """The first region's node has died with a frame about key 1 on the wire.

    Inside the context another one is to be started, to which key 1 is locked.  At its end that
    has judged all that is written, the lock is gone, and the mesh has settled.
    """
    wire = OnTheWire(mesh)
    async with Paused(heart(mesh), "beat") as silent:
        await silent.reached()
        await mesh.sql[0].execute(INSERT.format(1, "x"))
        await wire.frame()
        await mesh.drop(0)
    async with await mesh.session(0) as client:
        await judged_otherwise(mesh, client)
        yield wire
        await all_judged(mesh)
        await client.execute("COMMIT")
    await mesh.settle()


async def append(mesh: Mesh, *records: Record) -> Position:
    """Append to the topic of the first region, whose node is stopped; the position behind it."""
    node = Node(mesh.topology, None, NAMES[0])
    writer = node.bus.writer(NAMES[0])
    await writer.open(10.0)
    positions = await writer.append_many([encode(record) for record in records])
    await writer.close()
    await node.bus.close()
    return positions[-1]
