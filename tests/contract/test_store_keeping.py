"""What every store promises the heart, the gardener and the census (`meshnode/store/port.py`)."""

import pytest
from steps import TRX_LOOK_SECONDS, until
from store_harness import EPOCH, TABLE, Region_, applied, claiming, fence
from store_works import NEW, NEWER, OLD, delete, insert, opened
from virtual.rows import wire_key

from meshnode.core.mend import LateTombstone
from meshnode.core.wire import Item
from meshnode.errors import Busy, Retry, RowError
from meshnode.store.values import Tail, Unable

TOLD = Tail(b"place", 7, "", 33, EPOCH)


async def test_a_beat_goes_with_the_tail(region: Region_) -> None:
    async with region.store.beating() as heart:
        assert await heart.promised() == 0
        assert await heart.beat(EPOCH, TOLD, 500, 44, "{}")
        assert await region.beat() == (1, 500, 44, TOLD)
        assert await heart.promised() == 44
        assert await heart.beat(EPOCH, TOLD, 400, 45, "{}")
        assert (await region.beat())[:3] == (2, 400, 45)


async def test_a_beat_under_another_epoch_writes_nothing(region: Region_) -> None:
    async with region.store.beating() as heart:
        assert await heart.beat(EPOCH, TOLD, 500, 44, "{}")
        assert not await heart.beat(EPOCH - 1, Tail(), 600, 55, "{}")
        await heart.tell(EPOCH - 1, 700, "{}")
        assert await region.beat() == (1, 500, 44, TOLD)


async def test_what_is_only_told_promises_nothing_new(region: Region_) -> None:
    async with region.store.beating() as heart:
        assert await heart.beat(EPOCH, TOLD, 500, 44, "{}")
        await heart.tell(EPOCH, 600, "{}")
        assert await region.beat() == (2, 600, 44, TOLD)


async def test_only_the_transactions_of_clients_are_open(region: Region_) -> None:
    await applied(region, insert(1))
    client = await region.client()
    async with region.store.beating() as heart, region.store.applying("a") as session:
        await opened(region, session)
        before = await heart.clock()
        assert await heart.oldest_open(before) is None
        await client.begin()
        await client.update(1, "client")

        async def began() -> int | None:
            return await heart.oldest_open(await heart.clock())

        # A server may tell what was open a moment ago, and knows whole seconds only.
        found = await until(began, "an open transaction", look=TRX_LOOK_SECONDS)
        assert before - 10_000_000 <= found <= await heart.clock()
        await client.commit()
        await session.rollback()


async def test_stable_tombstones_go_in_chunks(region: Region_) -> None:
    await applied(region, *(insert(key) for key in range(1, 8)))
    await applied(region, *(delete(key, OLD, NEW) for key in range(1, 6)))
    await applied(region, delete(6, OLD, NEWER))
    async with region.store.gardening() as gardener:
        assert list(await gardener.activations()) == [TABLE.digest]
        assert not await gardener.any_stable(TABLE.digest, 0, NEW.ts - 1)
        assert await gardener.any_stable(TABLE.digest, 0, NEW.ts)
        # Those of before the activation are for init to compare.
        assert not await gardener.any_stable(TABLE.digest, NEW.ts, NEW.ts)
        assert await gardener.drop_stable(TABLE.digest, NEW.ts, NEW.ts, 3) == 0
        await gardener.note_limit(NEW.ts)
        gone = [await gardener.drop_stable(TABLE.digest, 0, NEW.ts, 3) for _ in range(3)]
        assert gone == [3, 2, 0]
        assert not await gardener.any_stable(TABLE.digest, 0, NEW.ts)
    assert (await region.standing(6)).tomb == NEWER


async def test_the_gardener_knows_how_far_peers_and_parked_rows_have_come(
    region: Region_,
) -> None:
    async with region.store.applying("a") as session, region.store.gardening() as gardener:
        assert await session.begin(region.format, fence(5))
        rows = [
            Unable(insert(1, NEW).incoming[0], RowError("3819: no", 3819)),
            Unable(insert(2, NEWER).incoming[0], Busy("3572: locked")),
        ]
        await session.park(rows, Item(5, 0, "tx:5", 0), 2, region.format)
        await session.commit()
        assert await gardener.frontiers() == {2: 105, 3: 0}
        begun = await gardener.incarnations()
        assert begun.keys() == {2, 3} and begun[2] > begun[3] == 0
        assert sorted(await gardener.parked()) == [NEW.ts, NEWER.ts]
        await gardener.forget(30, 1000)
        assert len(await gardener.parked()) == 2


async def test_the_census_counts_what_is_not_settled(region: Region_) -> None:
    await applied(region, *(insert(key) for key in (1, 2, 3)))
    await applied(region, delete(3, OLD, NEW))
    async with (
        region.store.applying("a") as session,
        claiming(region) as mender,
        region.store.counting() as census,
    ):
        assert (await census.letters(), await census.waiting()) == ([], 0)
        await mender.hold_late(LateTombstone(TABLE, wire_key(1), NEW))
        await opened(region, session)
        rows = [
            Unable(insert(1, NEWER).incoming[0], RowError("3819: no", 3819)),
            Unable(insert(2, NEW).incoming[0], RowError("3819: no", 3819)),
            Unable(insert(3, NEW).incoming[0], Busy("3572: locked")),
        ]
        await session.park(rows, Item(5, 0, "tx:5", 0), 2, region.format)
        await session.commit()
        await region.skip("tx:9")
        assert await census.waiting() == 1
        assert sorted(await census.letters()) == [
            ("open", "shop.t", 2, NEW.ts),
            ("replay", "shop.t", 1, NEW.ts),
            ("skipped", None, 1, 0),
        ]
        estimates = await census.tombstones()
        assert list(estimates) == ["shop.t"] and estimates["shop.t"] >= 0


async def test_settings_are_told_as_the_server_has_them(region: Region_) -> None:
    async with region.store.counting() as census:
        wanted = ["gtid_mode", "log_bin", "no_such_setting"]
        assert await census.settings(wanted) == {"gtid_mode": "ON", "log_bin": "ON"}


async def test_a_closed_session_answers_nothing(region: Region_) -> None:
    async with region.store.gardening() as gardener, region.store.beating() as heart:
        gardener.close()
        heart.close()
        assert gardener.closed and heart.closed
        for call in (gardener.frontiers(), heart.clock()):
            with pytest.raises(Retry):
                await call
