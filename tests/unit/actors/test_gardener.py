"""What the gardener lets the bus forget: never what a successor would have to read."""

from types import SimpleNamespace

import pytest

from meshnode.actors.board import Board, Tail
from meshnode.actors.gardener import Gardener
from meshnode.actors.heart import Heart
from meshnode.errors import Retry

REGION = SimpleNamespace(id=1, name="one")


class Topic:
    """A writer that only says what it may forget."""

    def __init__(self) -> None:
        self.free: list[bytes | None] = []

    async def retain(self, applied: list[bytes | None], now: float) -> None:
        self.free = list(applied)


class Member:
    """The heart's session with a server that may lose its answer."""

    def __init__(self) -> None:
        self.lost = False

    async def clock(self) -> int:
        return 5_000_000

    async def oldest_open(self, now: int) -> None:
        return None

    async def beat(self, *_: object) -> bool:
        if self.lost:
            raise Retry("2013: lost connection during query")
        return True


async def test_the_bus_keeps_what_is_behind_the_tail_that_was_noted_last() -> None:
    """Peers have applied, and said so, before the heart notes how far the stream is known.

    A process that dies in between leaves its successor a tail whose records are gone.
    """
    peers = [SimpleNamespace(id=2), SimpleNamespace(id=3)]
    view = SimpleNamespace(now=SimpleNamespace(peers=lambda own: peers))
    board, topic, server = Board(1, epoch=1, tail=Tail(b"7")), Topic(), Member()
    gardener = Gardener(view, REGION, None, topic, board)
    heart = Heart(REGION, None, board, lambda: 1.0, str, list)
    board.acknowledged = {2: b"9", 3: b"8"}
    await gardener.retain()
    assert topic.free == [b"9", b"8", None], "nothing was noted yet"
    await heart.beat(server)
    board.tail = Tail(b"9")
    await gardener.retain()
    assert topic.free == [b"9", b"8", b"7"]
    server.lost = True
    with pytest.raises(Retry):
        await heart.beat(server)
    await gardener.retain()
    assert topic.free == [b"9", b"8", b"7"], "nobody knows whether it was committed"
    peers.clear()
    await gardener.retain()
    assert topic.free == [], "without peers nothing is free to go"
