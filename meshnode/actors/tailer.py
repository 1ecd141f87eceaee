"""The tailer: reads the binlog and hands local transactions to the mender."""

import asyncio

from meshnode.actors.board import Board
from meshnode.actors.kernel import Mailbox
from meshnode.core.change import Transaction
from meshnode.errors import Fenced, Halt
from meshnode.mysql.assemble import Assembler
from meshnode.mysql.stream import Stream

PACKETS_BETWEEN_TURNS = 100
"""Packets that are already here are read in one go; after so many the others get a turn."""

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
    turn = 0
    epoch, notices = board.epoch, assembler.notices
    while True:
        packet = await stream.read()
        stop: Halt | None = None
        try:
            assembler.feed(packet)
        except Halt as error:
            stop = error
        finally:
            # Before anything waits, and also of the statement that stops the stream here:
            # the appliers write on, and must look at the table again first.
            if notices.definitions:
                board.definitions += notices.definitions
                notices.definitions = 0
        if assembler.out:
            for transaction in assembler.out:
                await outbox.put(transaction, transaction.size + TRANSACTION_WEIGHT)
            assembler.out.clear()
            if notices.epoch > epoch:
                break
        if stop is not None:
            await outbox.put(stop, 1)
            return
        turn += 1
        if turn >= PACKETS_BETWEEN_TURNS:
            turn = 0
            await asyncio.sleep(0)
            if notices.epoch > epoch:
                break
    raise Fenced(
        f"another process has taken region {notices.region} over "
        f"(epoch {notices.epoch}, this one has {epoch})",
        "run one node for each region",
    )
