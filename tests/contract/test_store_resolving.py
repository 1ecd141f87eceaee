"""What every store promises the resolver, and what the resolver makes of it."""

from types import SimpleNamespace

import pytest
from store_harness import (
    EPOCH,
    OWN,
    TABLE,
    Real,
    Region_,
    Standing,
    applied,
    claiming,
    resolving,
)
from store_works import NEW, NEWER, OLD, delete, insert, lift, opened, update
from virtual.rows import ZERO, Stamp, number_table, wire_key

from meshnode.actors.board import Board
from meshnode.actors.replay import Replay
from meshnode.actors.resolver import mend
from meshnode.core.mend import Fate, LateTombstone, Lift, Reason
from meshnode.core.plan import Work
from meshnode.core.shape import Equal, compare
from meshnode.core.wire import Item
from meshnode.errors import Busy, MeshError, RowError
from meshnode.store.port import Resolving
from meshnode.store.values import Unable

REFUSED, LOCKED = RowError("3819: a constraint", 3819), Busy("3572: locked")
EVERYTHING = SimpleNamespace(now=SimpleNamespace(matches=lambda schema, table: True))


def promised() -> int:
    return 5_000


async def hold(region: Region_, key: int, seen: Stamp, base: Stamp = ZERO) -> None:
    """Have the mender meet a lock at ``key``, which is in ``mend`` then."""
    client = await region.client()
    await client.begin()
    await client.update(key, "client")
    async with claiming(region) as mender:
        held = lift(key, seen, base)
        await mender.lift([held], region.format, promised)
        assert held.fate is Fate.HELD
    await client.rollback()


# Held-back keys


async def test_what_waits_is_told_as_it_was_held_back(region: Region_) -> None:
    await applied(region, insert(1))
    await hold(region, 1, OLD, Stamp(77, 3))
    async with claiming(region) as mender:
        await mender.hold_late(LateTombstone(TABLE, wire_key(2), Stamp(2500, OWN)))
    async with resolving(region) as resolver:
        assert len(await resolver.waiting(1)) == 1
        works = [each.work for each in await resolver.waiting(10)]
        (held,) = (work for work in works if isinstance(work, Lift))
        (late,) = (work for work in works if isinstance(work, LateTombstone))
        assert (held.table.digest, held.key) == (TABLE.digest, wire_key(1))
        assert (held.seen, held.base, held.base_row) == (OLD, Stamp(77, 3), False)
        assert (late.table.digest, late.key, late.stamp) == (
            TABLE.digest, wire_key(2), Stamp(2500, OWN),
        )  # fmt: skip


async def test_an_entry_is_forgotten_only_as_it_was_read(region: Region_) -> None:
    await applied(region, insert(1))
    await hold(region, 1, OLD)
    async with resolving(region) as resolver:
        read = await resolver.waiting(10)
        await hold(region, 1, NEW)
        await resolver.forget(read)
        (again,) = await resolver.waiting(10)
        assert isinstance(again.work, Lift) and again.work.seen == NEW
        await resolver.forget([again])
        assert await resolver.waiting(10) == []
        await resolver.forget([])


async def test_rows_below_a_late_tombstone_are_lifts_over_it(region: Region_) -> None:
    await applied(region, insert(1), insert(2, NEWER))
    client = await region.client()
    late = [LateTombstone(TABLE, wire_key(key), NEW) for key in (1, 2, 3)]
    async with resolving(region) as resolver:
        (below,) = await resolver.rows_below(late)
        assert (below.key, below.seen, below.base) == (wire_key(1), OLD, NEW)
        assert (below.base_row, below.reason) == (False, Reason.TOMBSTONE)
        await client.begin()
        await client.update(1, "client")
        with pytest.raises(Busy):
            await resolver.rows_below(late)
        await client.rollback()


async def test_a_round_lifts_what_is_free_and_leaves_what_is_locked(region: Region_) -> None:
    await applied(region, *(insert(key) for key in (1, 2, 3)))
    for key in (1, 2, 3):
        await hold(region, key, OLD)
    await applied(region, update(3, OLD, NEW))
    client = await region.client()
    await client.begin()
    await client.update(1, "client")
    async with resolving(region) as resolver:
        assert await mend(resolver, region.format, promised) == (1, 1)
        found = (await region.standing(2)).row
        assert found is not None and found.origin == OWN and found.ts > promised()
        (left,) = await resolver.waiting(10)
        assert isinstance(left.work, Lift) and left.work.key == wire_key(1)
        await client.rollback()
        assert await mend(resolver, region.format, promised) == (1, 0)
        assert await resolver.waiting(10) == []
        assert await mend(resolver, region.format, promised) == (0, 0)
    assert await region.conflicts() == [(3, "overtaken", NEW, OLD)]


async def test_a_round_buries_late_tombstones_and_lifts_own_rows_over_them(
    region: Region_,
) -> None:
    client = await region.client()
    await applied(region, insert(1))
    await client.insert(2, "own")
    own = (await region.standing(2)).row
    assert own is not None
    high = Stamp(own.ts + 1_000, OWN)
    async with claiming(region) as mender, resolving(region) as resolver:
        for key in (1, 2):
            await mender.hold_late(LateTombstone(TABLE, wire_key(key), high))
        await client.begin()
        await client.update(2, "open")
        assert await mend(resolver, region.format, promised) == (0, 0)
        (left,) = await resolver.waiting(10)
        assert left.work is not None and left.work.key == wire_key(2), "its row is locked"
        await client.rollback()
        assert await mend(resolver, region.format, promised) == (1, 0)
        assert await resolver.waiting(10) == []
    assert await region.standing(1) == Standing(None, None, high)
    found = await region.standing(2)
    assert found.value == "own" and found.tomb == high and found.row is not None
    assert found.row > high


# Dead letters


async def set_aside(region: Region_, *rows: tuple[Work, MeshError]) -> None:
    """Put rows into ``dead_letter`` as item 5 of region 2."""
    async with region.store.applying("a") as session:
        await opened(region, session)
        unable = [Unable(work.incoming[0], error) for work, error in rows]
        await session.park(unable, Item(5, 0, "tx:5", 0), 2, region.format)
        await session.commit()


def replay_of(resolver: Resolving, epoch: int = EPOCH) -> Replay:
    return Replay(resolver, Board(OWN, apply_epoch=epoch), EVERYTHING)


async def test_letters_are_told_by_what_they_wait_for(region: Region_) -> None:
    works = [insert(1), insert(2), delete(3, ZERO, NEW)]
    await set_aside(region, *zip(works, (REFUSED, LOCKED, REFUSED)))
    async with resolving(region) as resolver:
        (two,) = await resolver.to_replay(10, 0)
        assert await resolver.to_replay(10, two.number) == []
        one, three = await resolver.parked(10, 0)
        assert await resolver.parked(1, 0) == [one]
        assert [each.number for each in await resolver.parked(10, one.number)] == [three.number]
        assert one.number < two.number < three.number
        for letter, work in zip((one, two, three), works):
            incoming = work.incoming[0]
            image = incoming.image.bytes() if incoming.image else None
            assert (letter.origin, letter.seq, letter.tx_id) == (2, 5, "tx:5")
            assert letter.table is not None and letter.table.digest == TABLE.digest
            assert (letter.entry, letter.image) == (incoming.entry, image)
            assert (letter.format, letter.flaw) == (region.format, "")
        assert (one.code, two.code, three.code) == (REFUSED.code, 0, REFUSED.code)


async def test_a_decision_holds_only_where_none_was_made_meanwhile(region: Region_) -> None:
    await set_aside(region, (insert(1), REFUSED), (insert(2), LOCKED))
    async with resolving(region) as resolver:
        (one,), (two,) = await resolver.parked(10, 0), await resolver.to_replay(10, 0)
        await resolver.refused(one, "no")
        await resolver.overtaken(two)
        assert await region.states() == [(1, "open", ""), (2, "replay", "")]
        await resolver.postponed(two, "later")
        assert await region.states() == [(1, "open", ""), (2, "replay", "later")]
        await resolver.refused(two, "no")
        await resolver.overtaken(one)
        for letter in (one, two):
            await resolver.postponed(letter, "too late")
    closed = "overtaken by a later version"
    assert await region.states() == [(1, "closed", closed), (2, "open", "no")]


async def test_a_replay_applies_the_row_and_closes_its_letter_or_does_neither(
    region: Region_,
) -> None:
    await set_aside(region, (insert(1), LOCKED))
    async with resolving(region) as resolver:
        (letter,) = await resolver.to_replay(10, 0)
        assert await resolver.begin_replay(letter, EPOCH)
        await resolver.replayed(letter)
        await resolver.rollback()
        assert not await resolver.begin_replay(letter, EPOCH - 1)
        await resolver.rollback()
        assert await region.states() == [(1, "replay", "")]
        assert await replay_of(resolver).replay() == 1
    assert await region.states() == [(1, "closed", "replayed")]
    assert await region.standing(1) == Standing("in", OLD, None)
    async with region.store.applying("a") as session:
        stored = await session.progress(2)
        assert stored is not None and stored.seq == 1, "the position stays"


async def test_a_replay_is_decided_by_what_stands_there_now(region: Region_) -> None:
    await set_aside(region, (insert(1), LOCKED), (delete(2, OLD, NEW), LOCKED))
    await applied(region, insert(1, Stamp(5000, 3), "theirs"), insert(2), origin=3)
    async with resolving(region) as resolver:
        assert await replay_of(resolver).replay() == 2
    assert (await region.standing(1)).value == "theirs"
    assert await region.standing(2) == Standing(None, None, NEW)


async def test_a_replay_waits_for_a_lock_and_for_its_epoch(region: Region_) -> None:
    await applied(region, insert(1))
    await set_aside(region, (update(1, OLD, NEW), LOCKED))
    client = await region.client()
    await client.begin()
    await client.update(1, "client")
    async with resolving(region) as resolver:
        assert await replay_of(resolver).replay() == 0
        assert await region.states() == [(1, "replay", "")]
        await client.rollback()
        assert await replay_of(resolver, EPOCH + 1).replay() == 0
        assert await region.states() == [(1, "replay", "")]
        assert (await region.standing(1)).row == OLD
        assert await replay_of(resolver).replay() == 1
    assert (await region.standing(1)).row == NEW


async def test_a_replay_is_not_published(region: Region_) -> None:
    await set_aside(region, (insert(1), LOCKED))
    client = await region.client()
    async with claiming(region) as origin, resolving(region) as resolver:
        after = (await origin.history()).executed
        assert await replay_of(resolver).replay() == 1
        await client.insert(2, "own")
        log = await origin.open_log(after, None, [("shop", "t")], (), lambda: 1 << 20)
        found: list = []
        try:
            while not found:
                found += log.assembler.feed(await log.stream.read(100))
        finally:
            log.stream.close()
        assert [op.wire_keys() for tx in found for op in tx.ops] == [[wire_key(2)]]


async def test_a_letter_is_closed_when_its_key_has_gone_on(region: Region_) -> None:
    await set_aside(
        region, (insert(1, NEW), REFUSED), (insert(2, NEW), REFUSED), (insert(3, NEW), REFUSED)
    )
    await applied(region, insert(1, NEWER), insert(2, OLD))
    await applied(region, delete(3, ZERO, NEW))
    client = await region.client()
    await client.begin()
    await client.update(1, "client")
    async with resolving(region) as resolver:
        letters = replay_of(resolver)
        assert await letters.close_overtaken() == 1, "the first one is locked"
        await client.rollback()
        assert await letters.close_overtaken() == 1
    assert [state for _, state, _ in await region.states()] == ["closed", "open", "closed"]


async def test_the_version_of_a_key_is_the_greater_of_row_and_tombstone(region: Region_) -> None:
    await applied(region, insert(1), insert(2))
    await applied(region, delete(2, OLD, NEW))
    client = await region.client()
    async with resolving(region) as resolver:
        versions = [await resolver.version(TABLE, wire_key(key)) for key in (1, 2, 3)]
        assert versions == [OLD, NEW, ZERO]
        await client.begin()
        await client.update(1, "client")
        assert await resolver.version(TABLE, wire_key(1)) is None
        await client.rollback()


async def test_a_table_is_told_as_it_stands_here(region: Region_) -> None:
    async with resolving(region) as resolver:
        shape = await resolver.shape(TABLE)
        assert shape is not None and isinstance(compare(TABLE.shape, shape), Equal)
        assert await resolver.shape(number_table("elsewhere")) is None
        assert await resolver.definitions() == await resolver.definitions()


async def test_a_letter_that_cannot_be_read_is_left_to_an_operator(region: Region_) -> None:
    """Only a real server keeps letters as bytes."""
    if not isinstance(region, Real):
        return
    await set_aside(region, (insert(1), LOCKED), (insert(2), REFUSED))
    await region.sql.execute("UPDATE meshnode.dead_letter SET body = 'damaged'")
    async with resolving(region) as resolver:
        letters = replay_of(resolver)
        assert await letters.replay() == 0
        assert await letters.close_overtaken() == 0
    (_, state, note), (_, other, _) = await region.states()
    assert state == other == "open" and note
