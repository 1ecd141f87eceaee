"""A bus that fails for a while: what was read before is still applied, and the reason is seen."""

import asyncio
from types import SimpleNamespace

from meshnode.actors import intake as intake_module
from meshnode.actors.board import Board
from meshnode.actors.intake import Intake, Ready, TableCache
from meshnode.actors.kernel import Mailbox, State
from meshnode.core.ledger import Ledger
from meshnode.core.wire import HEARTBEAT, VERSION, Beat, Claim, Frame, Item, Sender, encode
from meshnode.errors import Retry

SENDER = Sender("shop", 2, "east")
INCARNATION = 7


class Topic:
    """A reader that gives each of ``answers`` in turn and then nothing; the positions asked."""

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []

    async def read(self, position: bytes, size: int) -> list:
        self.asked.append(position)
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        after = bytes((len(self.asked),))
        return [SimpleNamespace(payload=answer, start=position, after=after)]


def frame(seq: int) -> bytes:
    beat = Item(seq, HEARTBEAT, "", 0, beat=Beat(seq, 5, 4, ""))
    return encode(Frame(VERSION, "shop", 2, INCARNATION, 1, "9.7.0", b"", 0, "", [], [beat]))


CLAIM = encode(Claim(VERSION, "shop", 2, INCARNATION, 1))


async def test_a_reader_that_fails_is_asked_again_where_it_stood(monkeypatch):
    """Raised out of the intake it would cancel the batch that the applier is in the middle of."""
    shown: list[tuple[str, str]] = []
    state = State("applier east")

    async def pause(seconds: float) -> None:
        shown.append((state.state, state.reason))

    monkeypatch.setattr(intake_module, "pause", pause)
    topic = Topic(CLAIM, frame(1), Retry("gone"), Retry("still gone"), frame(2))
    outbox: Mailbox[Ready] = Mailbox(100_000)
    state.set("running")
    intake = Intake(
        topic, SENDER, Ledger("east", INCARNATION), b"", TableCache(), outbox, Board(1), state
    )
    task = asyncio.create_task(intake.run())
    async with asyncio.timeout(20):
        while len(outbox) < 2:
            assert not task.done(), task.exception()
            await asyncio.sleep(0)
    task.cancel()
    assert [each.mark.seq for each in outbox.take(100_000)] == [1, 2]
    assert topic.asked == [b"", b"\1", b"\2", b"\2", b"\2", b"\5"]
    assert shown == [
        ("retrying", "the stream of east cannot be read: gone"),
        ("retrying", "the stream of east cannot be read: still gone"),
    ]
    assert (state.state, state.reason) == ("running", "")
