"""The tailer: reads the binlog and hands local transactions to the mender.

Theory of operation.  The tailer only pumps: the store's `Assembler` makes transactions of packets
and leaves out what the mesh itself applied.  It reads ahead of the mender as far as the mailbox
has room by bytes, and gives the other actors a turn after each handful of packets, for it
shares one thread with them.  An error takes its place in the queue like a transaction,
so that all that was logged before it is published first.

Two things it learns on the way cannot wait for their turn.  A definition that may have changed is
told to the board at once: the appliers must look at the table before they write to it again.
A higher epoch ends the reading: what follows in the binlog is the successor's to publish.
"""

import asyncio

from meshnode.actors.board import Board
from meshnode.actors.kernel import Mailbox
from meshnode.core.change import Transaction
from meshnode.errors import Fenced
from meshnode.store.logged import Assembler, Notices, Stream

PACKETS_AT_ONCE = 100
"""Packets that are already here are taken together; then the other actors get a turn."""

TRANSACTION_WEIGHT = 200
"""Bytes that a transaction counts beside its images."""


async def tail(
    stream: Stream, assembler: Assembler, outbox: Mailbox[Transaction | Exception], board: Board
) -> None:
    """Feed packets to the assembler and its transactions to ``outbox``, for ever.

    What cannot be streamed goes to ``outbox`` too, as the error, and ends the reading: raised
    here, it would cancel what was read before it and is not published yet, at each new try.
    A defect that the packets bring out is no exception.
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
        except Exception as stop:
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
