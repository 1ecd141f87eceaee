"""What every store promises an applier (see `meshnode/store/port.py`)."""

import asyncio

import pytest
from store_harness import EPOCH, INCARNATION, TABLE, Region_, Standing, applied, carry_out, fence
from store_works import NEW, NEWER, OLD, PEER, at, delete, insert, opened, plan_of, update
from virtual.rows import ZERO, Stamp, transaction_of, updated, work_of

from meshnode.core.resolve import Local
from meshnode.errors import Busy, Replan, Retry, RowError
from meshnode.store.values import Progress

# The position and its fence


async def test_a_position_is_there_with_its_transaction_and_not_before(region: Region_) -> None:
    async with region.store.applying("a") as session, region.store.applying("b") as other:
        assert await session.progress(9) is None
        assert await session.begin(region.format, fence(5))
        before = await other.progress(PEER)
        assert before is not None and before.seq == 0
        await session.commit()
        after = await other.progress(PEER)
        assert after == Progress(INCARNATION, 5, b"place", 1, 105, 205, 305, 5, EPOCH)
        assert await session.begin(region.format, fence(6, old=5))
        await session.rollback()
        assert await other.progress(PEER) == after


@pytest.mark.parametrize(
    "wrong", [fence(2, old=1), fence(1, epoch=EPOCH - 1), fence(1, origin=9)], ids=str
)
async def test_a_fence_that_does_not_hold_says_so(region: Region_, wrong) -> None:
    async with region.store.applying("a") as session:
        assert not await session.begin(region.format, wrong)
        await session.rollback()
        assert await session.begin(region.format, fence())
        await session.rollback()


async def test_a_successor_s_epoch_fences(region: Region_) -> None:
    async with region.store.applying("a") as session:
        await region.replace_epoch(EPOCH + 1)
        assert not await session.begin(region.format, fence())
        stored = await session.progress(PEER)
        assert stored is not None and stored.epoch == EPOCH + 1


async def test_the_frontier_of_a_position_never_falls(region: Region_) -> None:
    async with region.store.applying("a") as session:
        assert await session.begin(region.format, fence(5))
        await session.commit()
        first = fence(6, old=5)
        lower = first._replace(mark=first.mark._replace(frontier=1, commit_us=1))
        assert await session.begin(region.format, lower)
        await session.commit()
        stored = await session.progress(PEER)
        assert stored is not None
        assert (stored.seq, stored.frontier, stored.commit_us) == (6, 105, 305)


async def test_a_stream_is_applied_by_one_transaction_at_a_time(region: Region_) -> None:
    """The second one waits for the first, and then it is fenced."""
    async with region.store.applying("a") as first, region.store.applying("b") as second:
        assert await first.begin(region.format, fence())
        waiting = asyncio.create_task(second.begin(region.format, fence()))
        while not await region.waiters():
            assert not waiting.done()
        await first.commit()
        assert not await waiting


# Rows


async def test_rows_are_written_changed_and_removed(region: Region_) -> None:
    await applied(region, insert(1), insert(2), insert(3))
    await applied(region, update(1, OLD, NEW), delete(2, OLD, NEW))
    assert await region.standing(1) == Standing("up", NEW, None)
    assert await region.standing(2) == Standing(None, None, NEW)
    assert await region.standing(3) == Standing("in", OLD, None)
    await applied(region, insert(2, NEWER, "again"))
    assert await region.standing(2) == Standing("again", NEWER, NEW)
    await applied(region, delete(2, NEWER, Stamp(4000, PEER)))
    assert await region.standing(2) == Standing(None, None, Stamp(4000, PEER))


async def test_a_key_that_changes_moves_its_row(region: Region_) -> None:
    await applied(region, insert(1))
    tx = transaction_of(updated(TABLE, ((1, OLD, "in"), (7, NEW, "moved"))), tombs=((1, NEW),))
    await applied(region, work_of(tx, own=PEER))
    assert await region.standing(1) == Standing(None, None, NEW)
    assert await region.standing(7) == Standing("moved", NEW, None)


async def test_what_is_rolled_back_leaves_nothing(region: Region_) -> None:
    await applied(region, insert(1))
    async with region.store.applying("a") as session:
        await opened(region, session)
        await carry_out(session, [update(1, OLD, NEW), insert(2)])
        await session.rollback()
    assert await region.standing(1) == Standing("in", OLD, None)
    assert await region.standing(2) == Standing(None, None, None)


async def test_a_mark_undoes_what_came_after_it(region: Region_) -> None:
    async with region.store.applying("a") as session:
        await opened(region, session)
        await session.write(plan_of(insert(1)))
        await session.save("one")
        await session.write(plan_of(insert(2)))
        await session.save("two")
        await session.write(plan_of(insert(3)))
        await session.back_to("one")
        await session.write(plan_of(insert(2, NEW)))
        await session.back_to("one")
        await session.commit()
    assert [(await region.standing(key)).value for key in (1, 2, 3)] == ["in", None, None]


async def test_a_lost_update_keeps_the_row_and_leaves_a_record(region: Region_) -> None:
    await applied(region, insert(1, Stamp(5000, 3), "theirs"), origin=3)
    await applied(region, update(1, OLD, NEW))
    assert (await region.standing(1)).value == "theirs"
    assert await region.conflicts() == [(1, "update/update", Stamp(5000, 3), NEW)]


# What a plan did not see


async def test_a_row_that_is_there_already_cannot_be_written(region: Region_) -> None:
    await applied(region, insert(1))
    async with region.store.applying("a") as session:
        await opened(region, session)
        with pytest.raises(RowError) as caught:
            await session.write(plan_of(insert(1, NEW)))
        assert caught.value.duplicate
        await session.rollback()
    assert (await region.standing(1)).row == OLD


async def test_a_row_that_is_gone_cannot_be_changed_or_removed(region: Region_) -> None:
    state = {at(1): Local(OLD, None)}
    async with region.store.applying("a") as session:
        for work in (update(1, OLD, NEW), delete(1, OLD, NEW)):
            await opened(region, session)
            with pytest.raises(Replan):
                await session.write(plan_of(work, state=state))
            await session.rollback()


async def test_a_tombstone_that_appeared_meanwhile_is_a_surprise(region: Region_) -> None:
    await applied(region, insert(1))
    await applied(region, delete(1, OLD, NEW))
    async with region.store.applying("a") as session:
        await opened(region, session)
        with pytest.raises(Replan):
            await session.write(plan_of(delete(1, ZERO, NEWER)))
        await session.rollback()


async def test_the_look_finds_a_newer_tombstone_and_a_row_below(region: Region_) -> None:
    await applied(region, insert(1), insert(2))
    await applied(region, delete(1, OLD, NEW))
    async with region.store.applying("a") as session:
        await opened(region, session)
        unseen = plan_of(insert(1, Stamp(1500, PEER)))
        await session.write(unseen)
        with pytest.raises(Replan):
            await session.look(unseen)
        await session.rollback()
        await opened(region, session)
        blind = plan_of(delete(2, ZERO, NEWER))
        await session.write(blind)
        with pytest.raises(Replan):
            await session.look(blind)
        await session.rollback()


async def test_the_look_tolerates_an_older_tombstone_and_a_newer_row(region: Region_) -> None:
    await applied(region, insert(1), insert(2, Stamp(9000, PEER)))
    await applied(region, delete(1, OLD, NEW))
    async with region.store.applying("a") as session:
        await opened(region, session)
        plan = plan_of(insert(1, NEWER), delete(2, ZERO, NEW))
        await session.write(plan)
        await session.look(plan)
        await session.commit()
    assert await region.standing(1) == Standing("in", NEWER, NEW)
    assert await region.standing(2) == Standing("in", Stamp(9000, PEER), NEW)


# Locks


async def test_a_locked_row_is_not_waited_for_and_an_absent_one_not_locked(
    region: Region_,
) -> None:
    await applied(region, insert(1))
    async with region.store.applying("a") as first, region.store.applying("b") as second:
        await opened(region, first)
        await opened(region, second, origin=3)
        assert await first.lock([update(1, OLD, NEW), insert(2)], False, False) == {
            at(1): Local(OLD, None)
        }
        assert await second.lock([insert(2)], True, False) == {}
        with pytest.raises(Busy):
            await second.lock([update(1, OLD, NEW)], False, False)
        await first.rollback()
        assert at(1) in await second.lock([update(1, OLD, NEW)], False, False)
        await second.rollback()


async def test_a_look_meets_what_is_written_and_not_committed(region: Region_) -> None:
    async with region.store.applying("a") as first, region.store.applying("b") as second:
        await opened(region, first)
        await opened(region, second, origin=3)
        await first.write(plan_of(delete(1, ZERO, NEWER)))
        plan = plan_of(insert(1, Stamp(1000, 3)))
        await second.write(plan)
        with pytest.raises(Busy):
            await second.look(plan)
        await second.rollback()
        await first.commit()
        assert await region.standing(1) == Standing(None, None, NEWER)


async def test_a_patient_lock_waits_for_a_client(region: Region_) -> None:
    await applied(region, insert(1))
    client = await region.client()
    await client.begin()
    await client.update(1, "client")
    async with region.store.applying("a") as session:
        await opened(region, session)
        waiting = asyncio.create_task(session.lock([update(1, OLD, NEW)], False, True))
        while not await region.waiters():
            assert not waiting.done()
        await client.commit()
        found = (await waiting)[at(1)].row
        assert found is not None and found.origin == 1 and found > NEW
        await session.rollback()


async def test_patience_ends(region: Region_) -> None:
    await applied(region, insert(1))
    client = await region.client()
    await client.begin()
    await client.update(1, "client")
    async with region.store.applying("a") as session:
        await opened(region, session)
        with pytest.raises(Busy):
            await session.lock([update(1, OLD, NEW)], False, True)
        await session.rollback()
    await client.commit()


async def test_a_cancelled_call_closes_its_session_and_gives_its_locks_back(
    region: Region_,
) -> None:
    await applied(region, insert(1), insert(2))
    client = await region.client()
    await client.begin()
    await client.update(1, "client")
    async with region.store.applying("a") as session, region.store.applying("b") as other:
        await opened(region, session)
        await session.lock([update(2, OLD, NEW)], False, False)
        waiting = asyncio.create_task(session.lock([update(1, OLD, NEW)], False, True))
        while not await region.waiters():
            assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert session.closed
        with pytest.raises(Retry):
            await session.progress(PEER)
        await session.rollback()
        await client.commit()
        # The server lets go in its own time.
        async with asyncio.timeout(20):
            while True:
                await opened(region, other)
                try:
                    await other.lock([update(2, OLD, NEW)], False, False)
                    break
                except Busy:
                    await other.rollback()
        await other.rollback()
