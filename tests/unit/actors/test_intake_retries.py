"""A bus that fails for a while: what was read before is still applied, and the reason is seen."""

import asyncio
from types import SimpleNamespace

from test_applier_batches import INCARNATION, intake_of

from meshnode.actors import intake as intake_module
from meshnode.actors.intake import Ready
from meshnode.actors.kernel import Mailbox, State
from meshnode.core.wire import HEARTBEAT, VERSION, Beat, Claim, Frame, Item, encode
from meshnode.errors import Retry


class Topic:
    """A reader that gives each of ``answers`` in turn and then nothing.

    ``asked``: the positions; ``shown``: what ``state`` says when it is asked.
    """

    def __init__(self, state: State, *answers: bytes | Exception) -> None:
        self.state = state
        self.answers = list(answers)
        self.asked: list[bytes] = []
        self.shown: list[tuple[str, str]] = []

    async def read(self, position: bytes, size: int) -> list:
        self.asked.append(position)
        self.shown.append((self.state.state, self.state.reason))
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
    monkeypatch.setattr(intake_module, "FIRST_PAUSE", 0.0)
    state = State("applier east")
    topic = Topic(state, CLAIM, frame(1), Retry("gone"), Retry("still gone"), frame(2))
    outbox: Mailbox[Ready] = Mailbox(100_000)
    state.set("running")
    task = asyncio.create_task(intake_of(topic, outbox, state=state).run())
    async with asyncio.timeout(20):
        while len(topic.asked) < 6:
            assert not task.done(), task.exception()
            await asyncio.sleep(0)
    task.cancel()
    assert [each.mark.seq for each in outbox.take(100_000)] == [1, 2]
    assert topic.asked == [b"", b"\1", b"\2", b"\2", b"\2", b"\5"]
    assert topic.shown == [
        *[("running", "")] * 3,
        ("retrying", "the stream of east cannot be read: gone"),
        ("retrying", "the stream of east cannot be read: still gone"),
        ("running", ""),
    ]
