"""What every store promises of the straight way, of rows that are set aside, and of tables."""

import pytest
from store_harness import TABLE, Region_, Standing, applied, fence
from store_works import NEW, NEWER, OLD, PEER, delete, insert, opened, update
from virtual.rows import Stamp

from meshnode.core.plan import Work
from meshnode.core.runs import prove, touched
from meshnode.core.shape import Equal, compare
from meshnode.core.wire import Item
from meshnode.errors import Busy, Replan, RowError
from meshnode.store.port import Applying
from meshnode.store.values import Unable


async def straight(session: Applying, region: Region_, *works: Work, first=None) -> bool:
    segments = prove([work.item for work in works], [TABLE])
    assert segments is not None
    tables = touched(segments)
    assert tables is not None
    prepared = session.prepare(segments, tables)
    return await session.straight(prepared, None if first is None else (region.format, first))


async def test_runs_go_straight_in_one_transaction_with_their_position(region: Region_) -> None:
    await applied(region, insert(1), insert(2))
    async with region.store.applying("a") as session:
        works = [update(1, OLD, NEW), insert(3), insert(4), update(2, OLD, NEW)]
        assert await straight(session, region, *works, first=fence(7, old=1))
        assert (await region.standing(3)).value is None
        await session.commit()
        stored = await session.progress(PEER)
        assert stored is not None and stored.seq == 7
        assert not await straight(session, region, insert(5), first=fence(9, old=1))
        await session.rollback()
    found = [(await region.standing(key)).value for key in (1, 2, 3, 4, 5)]
    assert found == ["up", "up", "in", "in", None]


async def test_nothing_goes_straight_over_what_the_runs_did_not_see(region: Region_) -> None:
    await applied(region, insert(1), insert(2), insert(3))
    await applied(region, delete(3, OLD, NEW))
    async with region.store.applying("a") as session:
        await opened(region, session)
        for work, error in (
            (update(1, Stamp(999, PEER), NEW), Replan),
            (update(9, OLD, NEW), Replan),
            (insert(3, NEWER), Replan),
            (insert(2, NEW), RowError),
        ):
            await session.save("part")
            with pytest.raises(error):
                await straight(session, region, work)
            await session.back_to("part")
        await session.commit()
    assert await region.standing(3) == Standing(None, None, NEW)


async def test_rows_that_cannot_stand_are_kept_with_their_cause(region: Region_) -> None:
    unable = [
        Unable(insert(1).incoming[0], RowError("3819: no", 3819)),
        Unable(insert(2).incoming[0], Busy("3572: locked")),
    ]
    async with region.store.applying("a") as session:
        await opened(region, session)
        await session.park(unable, Item(3, 0, "tx:3", 0), PEER, region.format)
        await session.rollback()
        assert await region.letters() == []
        await opened(region, session)
        await session.park(unable, Item(3, 0, "tx:3", 0), PEER, region.format)
        await session.commit()
    assert await region.letters() == [(1, 3819), (2, 0)]


async def test_a_table_is_known_as_it_stands_here(region: Region_) -> None:
    async with region.store.applying("a") as session:
        local = await session.definition(TABLE)
        assert local.replicated and local.shape is not None
        assert compare(TABLE.shape, local.shape) == Equal()
        assert len(local.literal) == len(local.shape.columns)
        assert await session.pauses() == {}
