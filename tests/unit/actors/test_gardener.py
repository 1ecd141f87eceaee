"""What the gardener lets the bus forget: never what a successor would have to read."""

from types import SimpleNamespace

import pytest

from meshnode.actors.board import Board, Tail
from meshnode.actors.gardener import Gardener
from meshnode.actors.heart import Heart
from meshnode.bus.port import Retained, TopicRewritten
from meshnode.errors import Busy, Retry

REGION = SimpleNamespace(id=1, name="one")


class Topic:
    """A writer that only says what it may forget."""

    def __init__(self) -> None:
        self.free: list[bytes | None] = []
        self.floor: bytes | None = None
        self.retained = Retained(0, 0, 0)

    async def retain(
        self, applied: list[bytes | None], floor: bytes | None, now: float
    ) -> Retained:
        if b"former" in applied:
            raise TopicRewritten("the topic is another one now", "put the old topic back")
        self.free, self.floor = list(applied), floor
        return self.retained


class Bookkeeping:
    """The gardener's session with a server that has no tombstones."""

    def __init__(self, incarnations: dict[int, int]) -> None:
        self.found = incarnations

    async def incarnations(self) -> dict[int, int]:
        return dict(self.found)

    async def frontiers(self) -> dict[int, int]:
        return {}

    async def forget(self, days: float, rows: int) -> None:
        return None


def beside(*peers: int) -> tuple[Gardener, Board, Topic]:
    """The gardener of region one and what it works with; all that these peers have is noted."""
    members = [SimpleNamespace(id=peer, name=f"region{peer}") for peer in peers]
    now = SimpleNamespace(peers=lambda own: members, limits=SimpleNamespace(keep_closed_days=30))
    board, topic = Board(1, epoch=1, tail=Tail(b"9"), noted=b"9"), Topic()
    return Gardener(SimpleNamespace(now=now), REGION, None, topic, board), board, topic


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
    assert (topic.free, topic.floor) == ([b"9", b"8"], None), "nothing was noted yet"
    await heart.beat(server)
    board.tail = Tail(b"9")
    await gardener.retain()
    assert (topic.free, topic.floor) == ([b"9", b"8"], b"7")
    server.lost = True
    with pytest.raises(Retry):
        await heart.beat(server)
    await gardener.retain()
    assert topic.floor == b"7", "nobody knows whether it was committed"
    peers.clear()
    await gardener.retain()
    assert topic.free == [], "without peers nothing is free to go"


async def test_a_place_in_the_topic_of_before_frees_nothing_and_stops_nothing() -> None:
    """This region was seeded again: heartbeats of before tell how far its former stream was read.

    It reads them while it catches up, which may take hours.
    """
    gardener, board, topic = beside(2, 3)
    board.acknowledged = {2: b"8", 3: b"former"}
    await gardener.retain()
    assert (topic.free, topic.floor) == ([None], b"9")
    board.acknowledged[3] = b"7"
    await gardener.retain()
    assert topic.free == [b"8", b"7"]


async def test_what_a_peer_said_before_it_was_seeded_again_frees_nothing() -> None:
    """It reads on from where its seed was, which may be behind what it had read in its former life.

    Not only until its new stream is begun here: what it said last is of before until it says more.
    """
    gardener, board, topic = beside(2, 3)
    session = Bookkeeping({2: 20, 3: 30})
    await gardener.round(session)
    board.acknowledged = {2: b"8", 3: b"7"}
    await gardener.round(session)
    assert topic.free == [b"8", b"7"]
    session.found[3] = 0
    await gardener.round(session)
    assert topic.free == [b"8", None]
    board.acknowledged[3] = b"7"
    session.found[3] = 31
    await gardener.round(session)
    assert topic.free == [b"8", None], "it was begun anew between two rounds"
    board.acknowledged[3] = b"6"
    await gardener.round(session)
    assert topic.free == [b"8", b"6"]


async def test_what_a_peer_has_lost_is_told_with_its_remedy_and_counted(caplog) -> None:
    gardener, board, topic = beside(2, 3)
    board.acknowledged = {2: b"8", 3: b"1"}
    await gardener.retain()
    topic.retained = Retained(100, 50, 0)
    await gardener.retain()
    assert not caplog.records and not board.counts["retention_lost_bytes"]
    topic.retained = Retained(100, 50, 40, (1,))
    await gardener.retain()
    await gardener.retain()
    assert board.counts["retention_lost_bytes"] == 80
    told = caplog.records[0].getMessage()
    assert "the topic of region one" in told and "40 bytes" in told and "max_bytes" in told
    assert "region3" in told and "region2" not in told and "must be re-seeded" in told


async def test_a_loss_is_told_too_where_nobody_knows_who_was_behind(caplog) -> None:
    gardener, board, topic = beside(2)
    board.acknowledged = {2: b"former"}
    topic.retained = Retained(100, 50, 50, (0,))
    await gardener.retain()
    assert "some region had not said" in caplog.text


class Held(Bookkeeping):
    """One of two tables with tombstones is locked by a client; so are the old records."""

    def __init__(self) -> None:
        super().__init__({2: 7})
        self.dropped: list[str] = []
        self.locked = True

    async def frontiers(self) -> dict[int, int]:
        return {2: 100}

    async def parked(self) -> list[int]:
        return []

    async def activations(self) -> dict[str, int]:
        return {"held": 0, "free": 0}

    async def any_stable(self, digest: str, since: int, limit: int) -> bool:
        return True

    async def note_limit(self, limit: int) -> None:
        """It is noted."""

    async def drop_stable(self, digest: str, since: int, limit: int, rows: int) -> int:
        if digest == "held" and self.locked:
            raise Busy("1205: Lock wait timeout exceeded")
        self.dropped.append(digest)
        return 0

    async def forget(self, days: float, rows: int) -> None:
        if self.locked:
            raise Busy("1205: Lock wait timeout exceeded")


async def test_a_client_that_holds_a_tombstone_holds_up_nothing_else() -> None:
    """Its transaction may be open for hours; the bus must forget all the while."""
    gardener, board, topic = beside(2)
    board.tail, board.acknowledged[2] = Tail(b"9", frontier=100), b"5"
    gardener.begun = {2: 7}
    session = Held()
    await gardener.round(session)
    assert session.dropped == ["free"]
    assert topic.free == [b"5"]
    assert gardener.state.state == "running"
    assert "Lock wait timeout" in gardener.state.reason
    session.locked = False
    await gardener.round(session)
    assert gardener.state.reason == ""
