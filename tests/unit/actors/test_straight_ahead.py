"""The statements of the next batch are made while the server writes this one."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from meshnode.actors.intake import Ready
from meshnode.actors.straight import LEAST_ROWS, StraightWay
from meshnode.core.change import Table
from meshnode.core.runs import Segment
from meshnode.core.shape import Column, FieldType
from meshnode.core.wire import WRITE
from meshnode.errors import RowError
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.maps import make_table
from meshnode.store.values import Mark

TABLE: Table = make_table(
    build_table_map(1, "shop", "t", (Column("id", FieldType.LONG, nullable=False),), (0,))
)


def run_of(first: int) -> Ready:
    """New rows from ``first`` on."""
    keys = [number.to_bytes(4, "little") for number in range(first, first + LEAST_ROWS)]
    many = len(keys)
    segment = Segment(TABLE, WRITE, b"images", keys, [(20, 2)] * many, [(0, 0)] * many)
    mark = Mark(first, "", b"", 1, 0, 0, 0)
    return Ready(mark, b"format", rows=many, segments=[segment], used=[TABLE])


class Store:
    """A session that takes everything; ``made``: the first keys of what was prepared.

    ``during``: how many of these while a write was under way.
    """

    closed = False

    def __init__(self) -> None:
        self.made: list[int] = []
        self.during: list[int] = []
        self.undone = 0
        self.fails = self.refuses = False

    def prepare(self, segments, tables) -> object:
        if self.refuses:
            raise RowError("an image too large", 1153)
        self.made.append(int.from_bytes(segments[0].keys[0], "little"))
        return object()

    async def straight(self, prepared, opening) -> bool:
        before = len(self.made)
        await asyncio.sleep(0)
        self.during.append(len(self.made) - before)
        if self.fails:
            raise RowError("a row cannot stand", 1062)
        return True

    async def commit(self) -> None:
        pass

    async def rollback(self) -> None:
        self.undone += 1


def way_over(store: Store) -> StraightWay:
    async def require(tables) -> None:
        pass

    writer = SimpleNamespace(
        session=store,
        fitting=SimpleNamespace(require=require, wide=set()),
        progress=MagicMock(),
        board=MagicMock(counts={"detours": 0}),
        fence=MagicMock(),
    )
    return StraightWay(cast(Any, writer))


async def test_the_following_batch_is_prepared_once_and_then_used():
    way = way_over(store := Store())
    batches = [[run_of(number * 1000)] for number in range(3)]
    assert await way.take(batches[0], lambda: batches[1])
    # The same steps, in another list: that is how the applier comes back with them.
    assert await way.take(list(batches[1]), lambda: batches[2])
    assert await way.take(batches[2], list)
    assert store.made == [0, 1000, 2000]
    assert store.during == [1, 1, 0]


@pytest.mark.parametrize("other", [2000, 1000])
async def test_what_was_prepared_for_other_steps_is_not_used(other):
    way = way_over(store := Store())
    assert await way.take([run_of(0)], lambda: [run_of(1000)])
    assert await way.take([run_of(other)], list)
    assert store.made == [0, 1000, other]


async def test_nothing_prepared_outlives_a_detour():
    way = way_over(store := Store())
    store.fails = True
    following = [run_of(1000)]
    assert not await way.take([run_of(0)], lambda: following)
    assert store.undone == 1
    assert not await way.take(following, list)
    store.fails = False
    assert await way.take([run_of(0)], list)
    assert store.made == [0, 1000, 0]


async def test_an_image_that_cannot_be_sent_is_left_to_the_long_way():
    way = way_over(store := Store())
    store.refuses = True
    assert not await way.take([run_of(0)], list)
    assert store.during == []
