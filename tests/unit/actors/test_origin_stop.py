"""What was read before the statement that stops the stream is published all the same."""

import asyncio

import pytest

from meshnode.actors.board import Board
from meshnode.actors.kernel import Mailbox
from meshnode.actors.mender import Draft
from meshnode.actors.origin import Origin
from meshnode.actors.publisher import publish
from meshnode.actors.tailer import tail
from meshnode.actors.takeover import Member
from meshnode.actors.watcher import View
from meshnode.core.change import Transaction
from meshnode.core.ledger import Ledger
from meshnode.core.wire import TRANSACTION, Item
from meshnode.errors import Halt
from meshnode.mysql.notices import Notices


class Stream:
    """Packets that are all here already: reading them never waits."""

    def __init__(self, *packets: bytes) -> None:
        self.packets = list(packets)

    async def read(self) -> bytes:
        return self.packets.pop(0)


class Assembler:
    """Each packet is a transaction; ``DROP`` cannot be streamed."""

    def __init__(self) -> None:
        self.notices = Notices("east", 1)
        self.out: list[Transaction] = []

    def feed(self, packet: bytes) -> None:
        if packet == b"DROP":
            raise Halt("transaction a:3 is DROP TABLE", "skip it")
        self.out.append(Transaction(packet.decode(), 0))


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


async def test_the_stop_takes_its_place_in_the_stream():
    board, ledger, writer = Board(1, epoch=1), Ledger("east", 7), Writer()
    origin = Origin.__new__(Origin)
    origin.view, origin.board = View(Topology()), board
    transactions, drafts = Mailbox(1_000), Mailbox(2)
    member = Member("shop", 1, "", 7, 1, b"", 0, "", 0, 1)

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            stream = Stream(b"a:1", b"a:2", b"DROP")
            group.create_task(tail(stream, Assembler(), transactions, board))
            group.create_task(origin._mend(Mender(), transactions, drafts))
            group.create_task(publish(writer, drafts, ledger, member, board))

    (error,) = caught.value.exceptions
    assert isinstance(error, Halt) and "a:3" in error.what
    assert ledger.seq == board.tail.seq == 2
    assert b"a:1" in writer.frames[0] and b"a:2" in writer.frames[-1]
