"""The tailer: reads the binlog and hands local transactions to the mender."""

import asyncio

from meshnode.actors.board import Board
from meshnode.actors.kernel import Mailbox
from meshnode.core.change import Transaction
from meshnode.errors import Fenced, Halt
from meshnode.store.port import Assembler, Notices, Stream

PACKETS_AT_ONCE = 100
"""Packets that are already here are taken together; then the other actors get a turn."""

TRANSACTION_WEIGHT = 200
"""Bytes that a transaction counts beside its images."""


async def tail(
    stream: Stream, assembler: Assembler, outbox: Mailbox[Transaction | Halt], board: Board
) -> None:
    """Feed packets to the assembler and its transactions to ``outbox``, for ever.

    What cannot be streamed goes to ``outbox`` too, as the error, and ends the reading: raised
    here, it would cancel what was read before it and is not published yet, at each new try.
    Raises Fenced when the binlog shows that a process with a higher epoch has
    taken the region over.
    """
    epoch, notices = board.epoch, assembler.notices
    while notices.epoch <= epoch:
        packets = await stream.read(PACKETS_AT_ONCE)
        try:
            for transaction in assembler.feed(packets):
                # Before anything waits: the appliers write on, and must look at the table first.
                if notices.definitions:
                    _tell_definitions(notices, board)
                weight = transaction.size + TRANSACTION_WEIGHT
                if outbox.full:
                    await outbox.put(transaction, weight)
                else:
                    outbox.add(transaction, weight)
                if notices.epoch > epoch:
                    break
        except Halt as stop:
            # Also of the statement that stops the stream here.
            _tell_definitions(notices, board)
            await outbox.put(stop, 1)
            return
        _tell_definitions(notices, board)
        await asyncio.sleep(0)
    raise Fenced(
        f"another process has taken region {notices.region} over "
        f"(epoch {notices.epoch}, this one has {epoch})",
        "run one node for each region",
    )


def _tell_definitions(notices: Notices, board: Board) -> None:
    """Pass on that tables may have been defined anew."""
    board.definitions += notices.definitions
    notices.definitions = 0
