"""What an applier takes into one batch, and that it ends where the stream is refused."""

import asyncio
from types import SimpleNamespace

import pytest

from meshnode.actors.applier import Applier
from meshnode.actors.batching import next_batch
from meshnode.actors.board import Board
from meshnode.actors.effort import Effort
from meshnode.actors.intake import Huge, Intake, Mark, Ready, TableCache
from meshnode.actors.kernel import Mailbox, State
from meshnode.core.ledger import Ledger
from meshnode.core.wire import HEARTBEAT, VERSION, Beat, Claim, Frame, Item, Sender, encode
from meshnode.errors import Halt

SENDER = Sender("shop", 2, "east")
INCARNATION = 7


def applier() -> Applier:
    found = Applier.__new__(Applier)
    found.view = SimpleNamespace(now=SimpleNamespace(limits=SimpleNamespace(batch_rows=100)))
    return found


def ready(seq: int, **more) -> Ready:
    return Ready(Mark(seq, "", b"", 1, 0, 0, 0), **more)


def cut(*steps: Ready) -> list[int]:
    return [each.mark.seq for each in next_batch(steps, 1_000_000, 100)]


def test_a_batch_holds_one_format_also_behind_a_step_without_one():
    assert cut(ready(1), ready(2, format=b"a"), ready(3, format=b"a"), ready(4, format=b"b")) == [
        1,
        2,
        3,
    ]


def test_a_huge_transaction_and_a_refusal_stand_alone():
    huge = Huge(b"", 1, 2, 3, "a:2")
    assert cut(ready(1), ready(3, huge=huge)) == [1]
    assert cut(ready(3, huge=huge), ready(4)) == [3]
    assert cut(ready(1), ready(2, refusal=Halt("no"))) == [1]


async def test_a_refusal_is_raised_when_its_turn_comes():
    with pytest.raises(Halt, match="a gap"):
        await applier()._try([ready(1, refusal=Halt("a gap"))], Effort())


class Records:
    """A topic of one read, after which nothing comes."""

    def __init__(self, *payloads: bytes) -> None:
        self.records = [
            SimpleNamespace(payload=payload, start=bytes((place,)), after=bytes((place + 1,)))
            for place, payload in enumerate(payloads)
        ]

    async def read(self, position: bytes, size: int) -> list:
        found, self.records = self.records, []
        return found or await asyncio.Event().wait()


def frame(*seqs: int) -> bytes:
    items = [Item(seq, HEARTBEAT, "", 0, beat=Beat(seq, 5, 4, "")) for seq in seqs]
    return encode(
        Frame(VERSION, "shop", 2, INCARNATION, 1, "9.7.0", b"", 0, "", [], items),
    )


async def test_what_came_before_a_gap_is_handed_on_before_the_gap_is():
    claim = encode(Claim(VERSION, "shop", 2, INCARNATION, 1))
    outbox: Mailbox[Ready] = Mailbox(1000)
    ledger = Ledger("east", INCARNATION)
    topic = Records(claim, frame(1, 2), frame(4))
    intake = Intake(topic, SENDER, ledger, b"", TableCache(), outbox, Board(1), State(""))
    async with asyncio.timeout(5):
        await intake.run()
    steps = outbox.take(1_000_000)
    assert [(each.mark.seq, each.refusal is None) for each in steps[:2]] == [(1, True), (2, True)]
    assert len(steps) == 3
    assert "gap: item 4 follows 2" in steps[2].refusal.what


async def test_a_position_that_is_no_position_is_passed_over():
    body = '{"applied": {"1": [1, 2, "not hex", 4]}}'
    board = Board(1)
    intake = Intake(
        None, SENDER, Ledger("east", 7), b"", TableCache(), Mailbox(1), board, State("")
    )
    intake._acknowledged(body)
    assert board.acknowledged == {}
    intake._acknowledged(body.replace("not hex", "0a"))
    assert board.acknowledged == {2: b"\n"}
