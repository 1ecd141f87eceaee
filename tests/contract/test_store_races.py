"""The races of two transactions on one key: the store in memory ends them as MySQL does.

Each scenario is run in orders of its steps.  In memory that is every order there is, and whatever
both commit, no row may stand beside a newer tombstone (T12); with the look left out some order
must end so, else the test could not see it.  A sample of the orders runs on a real server,
too: the outcomes of both transactions and what stands at the end must be the same on both.
"""

import itertools
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import pytest
from races import Script, apply_script, client_script, run
from store_harness import Memory, Region_, applied, real_region
from store_works import delete, insert, update
from virtual.rows import Stamp

from meshnode.lab.servers import Server

FUTURE = 2**62
BASE, OLD, NEW = Stamp(1000, 2), Stamp(2000, 2), Stamp(3000, 3)
"""Below whatever a client writes; above it are stamps from the future."""

SAMPLE = 14


class Meeting(NamedTuple):
    """Two transactions on ``key``: their steps' numbers, what stands before, and how to begin."""

    steps: tuple[int, int]
    before: Callable[[int], list]
    scripts: Callable[["Room", int, bool], Awaitable[list[Script]]]


class Room(NamedTuple):
    """A region and the sessions of those who meet there."""

    region: Region_
    first: Any
    second: Any
    client: Any


def appliers(one: Callable, two: Callable, before: Callable = lambda key: []) -> Meeting:
    """The appliers of regions 2 and 3."""

    async def scripts(room: Room, key: int, looks: bool) -> list[Script]:
        return [
            await apply_script(room.region, room.first, 2, one(key), looks),
            await apply_script(room.region, room.second, 3, two(key), looks),
        ]

    return Meeting((5, 5), before, scripts)


def with_client(work: Callable, *statements: str, before: Callable = lambda key: []) -> Meeting:
    """An applier and a client."""

    async def scripts(room: Room, key: int, looks: bool) -> list[Script]:
        said = [(statement, key) for statement in statements]
        return [
            await apply_script(room.region, room.first, 2, work(key), looks),
            client_script(room.client, *said),
        ]

    return Meeting((5, 2 + len(statements)), before, scripts)


def a_row(key: int) -> list:
    return [insert(key, BASE)]


MEETINGS = {
    "an insert and a newer delete": appliers(
        lambda key: insert(key, OLD), lambda key: delete(key, BASE, NEW)
    ),
    "an insert and an older delete": appliers(
        lambda key: insert(key, Stamp(4000, 2)), lambda key: delete(key, BASE, NEW)
    ),
    "two inserts": appliers(lambda key: insert(key, OLD), lambda key: insert(key, NEW)),
    "two deletes": appliers(
        lambda key: delete(key, BASE, OLD), lambda key: delete(key, BASE, NEW), before=a_row
    ),
    "an update and a newer delete": appliers(
        lambda key: update(key, BASE, OLD), lambda key: delete(key, BASE, NEW), before=a_row
    ),
    "an update and an older delete": appliers(
        lambda key: update(key, BASE, Stamp(4000, 2)),
        lambda key: delete(key, BASE, NEW),
        before=a_row,
    ),
    "an insert, and a client's insert and delete": with_client(
        lambda key: insert(key, OLD), "insert", "delete"
    ),
    "an insert from the future, and a client's insert": with_client(
        lambda key: insert(key, Stamp(FUTURE, 2)), "insert"
    ),
    "a delete, and a client's update": with_client(
        lambda key: delete(key, BASE, OLD), "update", before=a_row
    ),
    "an update, and a client's delete": with_client(
        lambda key: update(key, BASE, OLD), "delete", before=a_row
    ),
    "a delete from the future, and a client's delete and insert": with_client(
        lambda key: delete(key, BASE, Stamp(FUTURE, 2)), "delete", "insert", before=a_row
    ),
}


def orders(steps: tuple[int, int]) -> Iterator[tuple[int, ...]]:
    """Every order of two transactions' steps."""
    length = sum(steps)
    for places in itertools.combinations(range(length), steps[1]):
        yield tuple(int(place in places) for place in range(length))


async def room_of(region: Region_, stack: AsyncExitStack) -> Room:
    first = await stack.enter_async_context(region.store.applying("first"))
    second = await stack.enter_async_context(region.store.applying("second"))
    return Room(region, first, second, await region.client())


async def ended(
    room: Room, meeting: Meeting, key: int, order: Sequence[int], looks: bool = True
) -> tuple:
    """How one order ends: the outcomes, and what stands, as far as clocks do not decide it."""
    before = meeting.before(key)
    if before:
        await applied(room.region, *before)
    outcomes = await run(room.region, await meeting.scripts(room, key, looks), order)
    value, row, tomb = await room.region.standing(key)
    beside = row is not None and tomb is not None and row < tomb
    return outcomes, value, row and row.origin, tomb and tomb.origin, beside


def by_a_client(found: tuple) -> bool:
    """A client's row below a tombstone is no fault of the appliers': the tailer lifts it."""
    return found[2] == 1


@pytest.mark.parametrize("name", MEETINGS)
async def test_no_order_leaves_a_row_beside_a_newer_tombstone(name: str) -> None:
    meeting = MEETINGS[name]
    seen: set[str] = set()
    async with AsyncExitStack() as stack:
        room = await room_of(Memory(), stack)
        for key, order in enumerate(orders(meeting.steps), 1):
            found = await ended(room, meeting, key, order)
            seen.update(found[0])
            assert not found[-1] or by_a_client(found), (order, found)
    assert "committed" in seen and len(seen) > 1, "some order is undisturbed, and some is not"


@pytest.mark.parametrize(
    "name", ["an insert and a newer delete", "an insert, and a client's insert and delete"]
)
async def test_without_the_look_some_order_does(name: str) -> None:
    meeting = MEETINGS[name]
    async with AsyncExitStack() as stack:
        room = await room_of(Memory(), stack)
        found = [
            await ended(room, meeting, key, order, looks=False)
            for key, order in enumerate(orders(meeting.steps), 1)
        ]
    assert any(each[-1] and not by_a_client(each) for each in found)


@pytest.mark.parametrize("name", MEETINGS)
async def test_both_stores_end_an_order_alike(name: str, store_server: Server) -> None:
    meeting = MEETINGS[name]
    chosen = list(orders(meeting.steps))
    random.Random(name).shuffle(chosen)
    real = await real_region(store_server)
    try:
        async with AsyncExitStack() as stack:
            there = await room_of(real, stack)
            here = await room_of(Memory(), stack)
            for key, order in enumerate(chosen[:SAMPLE], 1):
                expected = await ended(there, meeting, key, order)
                assert await ended(here, meeting, key, order) == expected, order
    finally:
        await real.close()
