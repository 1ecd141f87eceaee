"""What an apply transaction wrote over is known before its COMMIT is sent.

Its locks are free as soon as the server has committed, and the applier of another stream may plan
on the new version before the answer is here.  If it holds a version that this one was written
over, which came over a slower link, nobody owes it a record.
"""

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from core_values import OWN, PEER, THIRD, at, number_table, transaction, update, work_of

from meshnode.actors.apply_loop import ApplyLoop
from meshnode.actors.board import Board
from meshnode.actors.intake import Ready
from meshnode.actors.kernel import State
from meshnode.actors.replay import Replay
from meshnode.actors.straight import LEAST_ROWS, StraightWay
from meshnode.actors.writing import PeerWriter
from meshnode.core.plan import Work, make_plan
from meshnode.core.resolve import Local
from meshnode.core.runs import Segment
from meshnode.core.stamp import Stamp
from meshnode.core.wire import UPDATE
from meshnode.store.values import Letter, Mark, Progress

T = number_table()
K = at(T, 1)
STOOD, NEW = Stamp(10, THIRD), Stamp(20, PEER)


def work() -> Work:
    """Row 1, which ``PEER`` wrote over the version of a third region."""
    return work_of(transaction(update(T, ((1, STOOD), (1, NEW)))), own=PEER)


class Store:
    """A session with row 1 as it was; ``seen`` is what others can know while a COMMIT is sent."""

    closed = False

    def __init__(self, board: Board) -> None:
        self.board = board
        self.seen: tuple[Stamp, ...] | None = None
        self.lost = False

    async def begin(self, format_bytes, fence) -> bool:
        return True

    async def begin_replay(self, letter, epoch) -> bool:
        return True

    async def lock(self, works, deep, wait) -> dict:
        return {K: Local(STOOD, None)}

    async def straight(self, prepared, opening) -> bool:
        return True

    def prepare(self, segments, tables) -> object:
        return object()

    async def beside(self, items, most) -> list[Letter]:
        return []

    async def to_replay(self, most, after) -> list[Letter]:
        (incoming,) = work().incoming
        return [Letter(1, PEER, 1, "a:1", 0, T, incoming.entry, incoming.image.bytes())]

    async def commit(self) -> None:
        self.seen = self.board.ancestry.of(K, NEW)
        await asyncio.sleep(0)

    async def _nothing(self, *what) -> None:
        pass

    standing = write = look = record = replayed = rollback = refused = postponed = _nothing


class Fits:
    """Every table is here, with the same columns."""

    wide: frozenset = frozenset()

    async def require(self, tables) -> None:
        pass


def writer_over(store: Store) -> PeerWriter:
    region, peer = SimpleNamespace(id=OWN, name="own"), SimpleNamespace(id=PEER, name="east")
    stored = Progress(7, 0, b"", 0, 0, 0, 0, 0, 1)
    parts: list[Any] = [region, peer, store, Fits(), store.board, stored]
    return PeerWriter(*parts)


def ready(**more) -> Ready:
    return Ready(Mark(1, "", b"", 1, 0, 0, 0), b"format", **more)


async def long_way(store: Store) -> None:
    one = work()
    step = ready(item=one.item, scanned=one.scanned, incoming=one.incoming, rows=1)
    view = SimpleNamespace(now=SimpleNamespace(limits=SimpleNamespace(batch_bytes=1, batch_rows=1)))
    parts: list[Any] = [view, None, MagicMock(), writer_over(store), State("")]
    await ApplyLoop(*parts)._try([step])


async def straight_way(store: Store) -> None:
    keys = [at(T, number)[1] for number in range(1, LEAST_ROWS + 1)]
    many = len(keys)
    run = Segment(T, UPDATE, b"images", keys, [tuple(NEW)] * many, [tuple(STOOD)] * many)
    assert await StraightWay(writer_over(store)).take([ready(segments=[run], rows=many)], list)


async def a_replay(store: Store) -> None:
    replay = Replay(cast(Any, store), store.board, MagicMock())
    assert await replay.replay() == 1


@pytest.mark.parametrize("way", [long_way, straight_way, a_replay])
async def test_what_was_written_over_is_known_while_the_commit_is_on_its_way(way, monkeypatch):
    monkeypatch.setattr("meshnode.actors.replay.Fitting", lambda *parts: Fits())
    store = Store(Board(OWN))
    await way(store)
    assert store.seen == (STOOD,)


def test_a_batch_that_is_rolled_back_and_comes_again_leaves_a_record_of_its_last_version():
    """Two versions of one peer lose to a third region's: the later one has seen the first."""
    ancestry = Board(OWN).ancestry
    first, last = Stamp(20, PEER), Stamp(21, PEER)
    stood = {K: Local(Stamp(30, THIRD), None)}
    works = [
        work_of(transaction(update(T, ((1, Stamp(10, PEER)), (1, first)))), own=PEER),
        work_of(transaction(update(T, ((1, first), (1, last)))), own=PEER),
    ]
    losers = [each.conflict.loser for each in make_plan(works, stood, ancestry).records]
    assert losers == [first, last]
    # What a COMMIT that failed has left behind.
    ancestry.note(K, first, Stamp(10, PEER))
    ancestry.note(K, last, first)
    assert last in [each.conflict.loser for each in make_plan(works, stood, ancestry).records]
