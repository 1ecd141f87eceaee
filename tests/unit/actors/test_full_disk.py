"""A disk that is full: what every member has applied goes, and the stream goes on by itself."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_takeover import INCARNATION, REGION, Server

from meshnode.actors.board import Board, Tail
from meshnode.actors.gardener import Gardener
from meshnode.actors.origin import Origin
from meshnode.bus.file import FileBus
from meshnode.bus.log import LogOptions
from meshnode.bus.port import BusFull
from meshnode.bus.segment import list_segments

SEGMENTS = 5


class Noted(Server):
    """A server that knows a tail."""

    tail = Tail()

    async def query(self, sql: str | bytes) -> Sequence[tuple]:
        found = await super().query(sql)
        if str(sql).startswith("SELECT mesh, region"):
            tail = self.tail
            noted = (tail.position.hex(), tail.seq, "", 0, tail.epoch, "", 0)
            return [("shop", REGION.id, INCARNATION, self.epoch, *noted)]
        return found


async def test_a_claim_that_finds_no_room_does_not_keep_the_bus_from_forgetting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Needed: retention also while the stream is claimed.

    Without it nothing ever goes: the claim waits for room, and room for the claim.
    """
    topic, pwrite = tmp_path / REGION.name, os.pwrite

    def full(fd: int, data: bytes, at: int) -> int:
        """Segments that are many fill the disk; what is there can be written again."""
        if at >= os.fstat(fd).st_size and len(list_segments(topic)) >= SEGMENTS:
            raise OSError(errno.ENOSPC, "injected")
        return pwrite(fd, data, at)

    peer = SimpleNamespace(id=3, name="west")
    view = SimpleNamespace(now=SimpleNamespace(mesh="shop", peers=lambda own: [peer]))
    bus = FileBus(tmp_path, LogOptions(segment_bytes=1000, keep_seconds=0.0))
    writer, board, server = bus.writer(REGION.name), Board(REGION.id), Noted()
    origin = Origin(view, REGION, None, bus, writer, board)
    gardener = Gardener(view, REGION, None, writer, board)
    await origin._take_over(server.claiming())

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(BusFull):
        while True:
            board.tail = server.tail = Tail(await writer.append(bytes(400)), epoch=board.epoch)
    board.noted = board.acknowledged[peer.id] = board.tail.position
    for _ in range(2):
        with pytest.raises(BusFull):
            await origin._take_over(server.claiming())
    assert board.raising
    await gardener.retain()
    await origin._take_over(server.claiming())
    assert not board.raising
    assert len(list_segments(topic)) < SEGMENTS

    await writer.close()
    await gardener.retain()  # Between two claims no writer is open.
    await bus.close()
