"""The publisher: counts items, appends frames, and remembers where the topic ends.

Theory of operation.  Here a draft of the mender becomes a frame, and its items get their numbers:
one count for the region's stream, without gaps, kept in a ledger that was folded from the
topic at the takeover.  The topic is the only checkpoint of what was published, so
nothing is written elsewhere; an `append` that fails leaves open whether the frame is there, and
the origin starts again, reads the topic's end and counts on from what it finds.  One
frame is under way at a time.  The tail on the board, which the heart stores as a
shortcut to that end, moves only with whole transactions: it is never in the middle of parts.
"""

from meshnode import limits
from meshnode.actors.board import Board, Tail
from meshnode.actors.kernel import Mailbox
from meshnode.actors.mender import Draft
from meshnode.actors.takeover import append
from meshnode.bus.port import BusWriter
from meshnode.core.ledger import Ledger
from meshnode.core.wire import VERSION, Frame, encode
from meshnode.errors import Stopped
from meshnode.faultpoints import fault
from meshnode.store.values import Member


async def publish(
    writer: BusWriter,
    inbox: Mailbox[Draft | Exception],
    ledger: Ledger,
    member: Member,
    board: Board,
) -> None:
    """Append a frame for each draft, for ever; ``ledger`` says where the count stands.

    A draft without items is not appended: its resume position travels with the
    next one, at the latest with the next heartbeat.  An error in place of a draft
    is raised: all that was read before it is published.
    """
    while True:
        await inbox.wait()
        for draft in inbox.take(1):
            if isinstance(draft, Exception):
                raise draft
            if not draft.items:
                continue
            await board.hold.passed()
            beat_us = board.published_us
            for item in draft.items:
                ledger.seq += 1
                item.seq = ledger.seq
                if item.beat is not None:
                    ledger.promised = max(ledger.promised, item.beat.frontier)
                    beat_us = item.beat.wall_us
            observed = board.observer.publishing(draft)
            frame = Frame(
                VERSION, member.mesh, member.region, member.incarnation, board.epoch,
                draft.server, draft.format, draft.promised, draft.resume, draft.tables,
                draft.items,
            )  # fmt: skip
            payload = encode(frame)
            if len(payload) > limits.FRAME_MAX_BYTES:
                raise too_large(draft, ledger.name, len(payload))
            fault("publisher.append")
            position = await append(writer, payload)
            fault("publisher.appended")
            board.observer.published(observed, len(payload))
            board.counts["published_frames"] += 1
            board.counts["published_bytes"] += len(payload)
            board.published_us = beat_us
            newest = draft.items[-1]
            if newest.last:
                board.tail = Tail(
                    position, ledger.seq, draft.resume, ledger.promised, frame.epoch,
                    newest.tx_id, newest.commit_us,
                )  # fmt: skip


def too_large(draft: Draft, region: str, size: int) -> Stopped:
    """The refusal of a frame that no reader would take; one row is larger than a part."""
    largest = max(draft.items, key=lambda item: sum(len(op.rows) for op in item.ops))
    return Stopped(
        region,
        largest.tx_id,
        f"holds a row whose images make a frame of {size} bytes; "
        f"the bus takes {limits.FRAME_MAX_BYTES}",
    )
