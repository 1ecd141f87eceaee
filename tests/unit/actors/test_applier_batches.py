"""What an applier takes into one batch, and that it ends where the stream is refused."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from core_values import number_table

from meshnode.actors.apply_loop import ApplyLoop
from meshnode.actors.batching import next_batch
from meshnode.actors.board import Board
from meshnode.actors.intake import Huge, Intake, Mark, PeerStream, Ready
from meshnode.actors.kernel import Mailbox, State
from meshnode.core.wire import HEARTBEAT, VERSION, Beat, Claim, Frame, Item, Sender, encode
from meshnode.errors import Halt
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.maps import make_table
from meshnode.store.values import Progress

SENDER = Sender("shop", 2, "east")
INCARNATION = 7
AT_FIRST = Progress(INCARNATION, 0, b"", 0, 0, 0, 0, 0, 1)


def intake_of(
    topic: Any, outbox: Mailbox[Ready], board: Board | None = None, state: State | None = None
) -> Intake:
    """An intake that begins at the first record of ``topic``."""
    stream = PeerStream(SENDER, INCARNATION, make_table)
    return Intake(stream, topic, AT_FIRST, outbox, board or Board(1), state or State(""))


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
        await ApplyLoop._try(cast(Any, None), [ready(1, refusal=Halt("a gap"))])


def test_tables_are_the_same_across_frames_whatever_the_flags_of_the_event():
    stream, columns = PeerStream(SENDER, INCARNATION, make_table), number_table().shape.columns
    found = [
        stream.tables(Frame(VERSION, "shop", 2, INCARNATION, 1, "", b"", 0, "", [body], []))
        for flags in (1, 3)
        for body in [build_table_map(flags, "shop", "t", columns, (0,), flags)]
    ]
    assert found[0] == found[1]


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
    intake = intake_of(Records(claim, frame(1, 2), frame(4)), outbox)
    async with asyncio.timeout(5):
        await intake.run()
    steps = outbox.take(1_000_000)
    assert [(each.mark.seq, each.refusal is None) for each in steps[:2]] == [(1, True), (2, True)]
    assert len(steps) == 3
    assert "gap: item 4 follows 2" in steps[2].refusal.what


async def test_a_position_that_is_no_position_is_passed_over():
    body = '{"applied": {"1": [1, 2, "not hex", 4]}}'
    board = Board(1)
    intake = intake_of(None, Mailbox(1), board)
    intake._acknowledged(body)
    assert board.acknowledged == {}
    intake._acknowledged(body.replace("not hex", "0a"))
    assert board.acknowledged == {2: b"\n"}
