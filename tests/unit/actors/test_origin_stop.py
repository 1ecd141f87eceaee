"""What was read before the statement that stops the stream is published all the same."""

import asyncio
from collections.abc import Iterator

import pytest

from meshnode.actors import origin as origins
from meshnode.actors.board import Board
from meshnode.actors.kernel import Mailbox
from meshnode.actors.mender import Draft
from meshnode.actors.origin import Origin
from meshnode.actors.publisher import publish
from meshnode.actors.tailer import tail
from meshnode.actors.watcher import View
from meshnode.core.change import Transaction
from meshnode.core.ledger import Ledger
from meshnode.core.wire import TRANSACTION, Item
from meshnode.errors import Retry, Stopped
from meshnode.mysql.notices import Notices
from meshnode.store.values import Decisions, Joined, Member, Tail
from meshnode.topology import MysqlAddress, Region


class Stream:
    """Packets that are all here already: reading them never waits."""

    def __init__(self, *packets: bytes) -> None:
        self.packets = list(packets)

    async def read(self, most: int) -> list[bytes]:
        packets, self.packets = self.packets[:most], self.packets[most:]
        return packets


class Assembler:
    """Each packet is a transaction; at ``DROP`` there is ``error``."""

    def __init__(self, error: Exception) -> None:
        self.notices = Notices("east", 1)
        self.error = error

    def feed(self, packets: list[bytes]) -> Iterator[Transaction]:
        for packet in packets:
            if packet == b"DROP":
                self.notices.definitions += 1
                raise self.error
            yield Transaction(packet.decode(), 0)


class Mender:
    async def draft(self, batch: list[Transaction]) -> Draft:
        await asyncio.sleep(0)
        items = [Item(0, TRANSACTION, tx.tx_id, 0) for tx in batch]
        return Draft(b"", "", 0, "", [], items)


class Writer:
    def __init__(self) -> None:
        self.frames: list[bytes] = []

    async def append(self, payload: bytes) -> bytes:
        await asyncio.sleep(0)
        self.frames.append(payload)
        return bytes((len(self.frames),))


class Topology:
    class limits:
        frame_target_bytes = 1


@pytest.mark.parametrize(
    "error", [Stopped("east", "a:3", "is DROP TABLE"), ValueError("a defect"), Retry("garbled")]
)
async def test_the_stop_takes_its_place_in_the_stream(error):
    """Also where it is a defect: what was read before it is not cancelled at each new try."""
    board, ledger, writer = Board(1, epoch=1), Ledger("east", 7), Writer()
    origin = Origin.__new__(Origin)
    origin.view, origin.board = View(Topology()), board
    transactions, drafts = Mailbox(1_000), Mailbox(2)
    member = Member("shop", 1, 7, 1, Tail(epoch=1))

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            stream = Stream(b"a:1", b"a:2", b"DROP")
            group.create_task(tail(stream, Assembler(error), transactions, board))
            group.create_task(origin._mend(Mender(), transactions, drafts))
            group.create_task(publish(writer, drafts, ledger, member, board))

    assert caught.value.exceptions == (error,)
    assert board.definitions == 1
    assert ledger.seq == board.tail.seq == 2
    assert b"a:1" in writer.frames[0] and b"a:2" in writer.frames[-1]


class Kept:
    """Counts what is said to the server while nothing can be passed on."""

    def __init__(self) -> None:
        self.said = 0

    async def keep_alive(self) -> None:
        self.said += 1


async def test_a_session_is_kept_while_nothing_may_go_out(monkeypatch):
    """The server would end it, and the region would be claimed anew when the hold ends."""
    monkeypatch.setattr(origins, "ROOM_SECONDS", 0.001)
    origin = Origin.__new__(Origin)
    origin.view, origin.board = View(Topology()), Board(1, epoch=1)
    mender, transactions, drafts = Mender(), Mailbox(1_000), Mailbox(1)
    mender.mending = Kept()
    for name in ("a:1", "a:2"):
        transactions.add(Transaction(name, 0), 1)
    mending = asyncio.create_task(origin._mend(mender, transactions, drafts))
    async with asyncio.timeout(5):
        while mender.mending.said < 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
        published: list[str] = []
        while len(published) < 2:
            await drafts.wait()
            published += [item.tx_id for draft in drafts.take(1) for item in draft.items]
    mending.cancel()
    await asyncio.wait([mending])
    assert published == ["a:1", "a:2"]


class Session:
    """The bookkeeping of a region as an operator leaves it."""

    def __init__(self) -> None:
        self.skipped: list[str] = []

    async def decisions(self) -> Decisions:
        return Decisions([Joined("shop", "orders", "")], list(self.skipped))


async def test_what_stopped_is_not_tried_again_before_an_operator_has_decided():
    """A huge transaction that stops at its end would be published up to there at each try."""
    origin, session = Origin.__new__(Origin), Session()
    origin.region = Region(1, "east", MysqlAddress("localhost", 3306))
    origin.stopped = None
    await origin._stay_stopped(session)

    stop = Stopped("east", "a:3", "is a distributed transaction")
    origin.stopped = (stop, await session.decisions())
    for _ in range(3):
        with pytest.raises(Stopped, match="a:3"):
            await origin._stay_stopped(session)

    session.skipped.append("a:3")
    await origin._stay_stopped(session)
    assert origin.stopped is None
