"""What every store promises the mender (see `meshnode/store/port.py`)."""

from meanwhile import after_next_look
from store_harness import OWN, TABLE, Region_, applied, claiming, resolving
from store_works import NEW, NEWER, OLD, at, delete, insert, lift
from virtual.rows import ZERO, Stamp, wire_key

from meshnode.actors.resolver import mend
from meshnode.core.mend import Fate, LateTombstone, Lift, Reason

PROMISED = 5_000


def promised() -> int:
    return PROMISED


async def test_tombstones_are_looked_at_under_locks(region: Region_) -> None:
    await applied(region, insert(1), insert(2), insert(3))
    await applied(region, delete(1, OLD, NEW), delete(2, OLD, NEW))
    client = await region.client()
    async with claiming(region) as mender:
        wanted = {TABLE: [wire_key(key) for key in (1, 2, 3)]}
        assert await mender.tombstones(wanted) == ({at(1): NEW, at(2): NEW}, set())
        await client.begin()
        await client.insert(2, "client")
        await client.delete(2)
        assert await mender.tombstones(wanted) == ({at(1): NEW}, {at(2)})
        await client.rollback()


async def test_a_lifted_row_is_above_all_that_it_must_clear(region: Region_) -> None:
    await applied(region, insert(1), insert(2), insert(3))
    await applied(region, delete(2, OLD, NEWER))
    await applied(region, insert(2, Stamp(4000, 2)))
    async with claiming(region) as mender:
        lifts = [lift(1, OLD), lift(2, Stamp(4000, 2), NEWER, Reason.TOMBSTONE)]
        await mender.lift(lifts, region.format, promised)
        assert [each.fate for each in lifts] == [Fate.LIFTED, Fate.LIFTED]
    for key in (1, 2):
        found = await region.standing(key)
        assert found.value == "in" and found.row is not None
        assert found.row.origin == OWN and found.row.ts > PROMISED
    assert await region.conflicts() == []
    assert (await region.standing(3)).row == OLD


async def test_what_changed_meanwhile_is_overtaken_and_recorded(region: Region_) -> None:
    await applied(region, insert(1, NEW))
    async with claiming(region) as mender:
        lifts = [lift(1, OLD), lift(9, OLD), lift(1, OLD, reason=Reason.TOMBSTONE)]
        await mender.lift(lifts, region.format, promised)
        assert {each.fate for each in lifts} == {Fate.OVERTAKEN}
    assert sorted(await region.conflicts()) == [
        (1, "overtaken", NEW, OLD), (9, "overtaken", ZERO, OLD),
    ]  # fmt: skip
    assert (await region.standing(1)).row == NEW


async def test_a_locked_row_is_held_back_with_what_it_replaced(region: Region_) -> None:
    await applied(region, insert(1), insert(2))
    client = await region.client()
    await client.begin()
    await client.update(1, "client")
    async with claiming(region) as mender:
        assert await mender.held() == {}
        lifts = [lift(1, OLD, Stamp(77, 3)), lift(2, OLD)]
        await mender.lift(lifts, region.format, promised)
        assert [each.fate for each in lifts] == [Fate.HELD, Fate.LIFTED]
        ((marker, note),) = (await mender.held()).items()
        assert marker == (TABLE.digest, wire_key(1))
        assert (note.seen, note.base, note.base_row) == (OLD, Stamp(77, 3), False)
        await client.rollback()
        again = lift(1, OLD, Stamp(77, 3))
        await mender.lift([again], region.format, promised, hold=False)
        assert again.fate is Fate.LIFTED
        assert await mender.held() == {}


async def test_a_late_tombstone_takes_only_rows_of_others_below_it(region: Region_) -> None:
    await applied(region, insert(1), insert(2, NEWER))
    client = await region.client()
    await client.insert(3, "own")
    late = [LateTombstone(TABLE, wire_key(key), Stamp(2500, OWN)) for key in (1, 2, 3, 4)]
    async with claiming(region) as mender:
        assert await mender.bury(late, region.format) == []
        assert await mender.bury(late, region.format) == [], "it can be repeated"
    found = [await region.standing(key) for key in (1, 2, 3, 4)]
    assert [each.tomb for each in found] == [Stamp(2500, OWN)] * 4
    assert [each.value for each in found] == [None, "in", "own", None]
    assert await region.conflicts() == [(1, "late delete", Stamp(2500, OWN), OLD)]


async def test_a_locked_late_tombstone_is_given_back(region: Region_) -> None:
    await applied(region, insert(1))
    client = await region.client()
    await client.begin()
    await client.delete(1)
    late = LateTombstone(TABLE, wire_key(1), Stamp(2500, OWN))
    async with claiming(region) as mender:
        assert await mender.bury([late], region.format) == [late]
        await mender.hold_late(late)
        assert await mender.held() == {}, "it waits for the resolver, and is no lift"
        await client.rollback()
        assert await mender.bury([late], region.format) == []


async def test_a_tombstone_that_a_client_writes_meanwhile_is_no_error(region: Region_) -> None:
    """A client's delete between the mender's look, that found no tombstone, and its write."""
    await applied(region, insert(1))
    client = await region.client()
    late = LateTombstone(TABLE, wire_key(1), Stamp(2500, OWN))
    async with claiming(region) as mender:
        with after_next_look(region, lambda: client.delete(1)):
            assert await mender.bury([late], region.format) == []
    found = await region.standing(1)
    assert found.row is None and found.tomb is not None
    assert found.tomb > late.stamp, "that of the delete"


async def test_a_table_is_known_by_its_digest(region: Region_) -> None:
    async with claiming(region) as mender:
        table = await mender.table(TABLE.digest)
        assert table is not None
        assert (table.schema, table.name, table.digest) == ("shop", "t", TABLE.digest)
        assert await mender.table("0" * 16) is None
        await mender.keep_alive()


async def held_back(region: Region_, mender, client, *lifts: Lift) -> None:
    """Let ``lifts`` of key 1 meet the lock of ``client``, whose transaction ends then."""
    await client.begin()
    await client.update(1, "locked")
    await mender.lift(lifts, region.format, promised)
    assert {each.fate for each in lifts} == {Fate.HELD}
    await client.rollback()


async def written_over(region: Region_, client) -> Stamp:
    """The stamp that a client's write over key 1 gets."""
    await client.update(1, "later")
    stamp = (await region.standing(1)).row
    assert stamp is not None
    return stamp


async def test_a_held_row_gives_way_to_a_later_version_with_a_record(region: Region_) -> None:
    """Nobody else has seen it, and nobody will: neither stream nor ``mend`` has it any more."""
    await applied(region, insert(1))
    client = await region.client()
    async with claiming(region) as mender:
        await held_back(region, mender, client, lift(1, OLD))
        await held_back(region, mender, client, lift(1, OLD))
        assert await region.conflicts() == [], "judged again it is the same"
        later = await written_over(region, client)
        await held_back(region, mender, client, lift(1, later))
        assert await region.conflicts() == [(1, "overtaken", later, OLD)]
        again = lift(1, later)
        await mender.lift([again], region.format, promised, hold=False)
        assert again.fate is Fate.LIFTED
        assert await mender.held() == {}
    assert len(await region.conflicts()) == 1


async def test_of_two_versions_held_at_once_the_earlier_is_recorded(region: Region_) -> None:
    await applied(region, insert(1))
    client = await region.client()
    later = await written_over(region, client)
    async with claiming(region) as mender:
        await held_back(region, mender, client, lift(1, OLD), lift(1, later))
        assert await region.conflicts() == [(1, "overtaken", later, OLD)]
        ((_, note),) = (await mender.held()).items()
        assert note.seen == later


async def test_a_held_row_whose_successor_is_lifted_is_recorded(region: Region_) -> None:
    await applied(region, insert(1))
    client = await region.client()
    async with claiming(region) as mender:
        await held_back(region, mender, client, lift(1, OLD))
        later = await written_over(region, client)
        await mender.lift([lift(1, later)], region.format, promised)
        assert await mender.held() == {}
        assert await region.conflicts() == [(1, "overtaken", later, OLD)]
        late = lift(1, OLD)
        await mender.lift([late], region.format, promised, hold=False)
        assert late.fate is None, "it was settled while the resolver had it in hand"
    assert len(await region.conflicts()) == 1


async def test_an_overtaken_row_leaves_mend_with_its_record(region: Region_) -> None:
    await applied(region, insert(1))
    client = await region.client()
    async with claiming(region) as mender:
        await held_back(region, mender, client, lift(1, OLD))
        later = await written_over(region, client)
        overtaken = lift(1, OLD)
        await mender.lift([overtaken], region.format, promised, hold=False)
        assert overtaken.fate is Fate.OVERTAKEN
        assert await mender.held() == {}
    assert await region.conflicts() == [(1, "overtaken", later, OLD)]


async def test_a_row_that_the_stream_has_shown_is_never_recorded_as_overtaken(
    region: Region_,
) -> None:
    """It waits only to be lifted over a late tombstone; there is no image of it."""
    await applied(region, insert(1))
    client = await region.client()
    async with claiming(region) as mender:
        await held_back(region, mender, client, over_tombstone(OLD, NEW))
        later = await written_over(region, client)
        await mender.lift([lift(1, later)], region.format, promised)
        assert await mender.held() == {}
    assert await region.conflicts() == []


def over_tombstone(seen: Stamp, tombstone: Stamp) -> Lift:
    """A lift of key 1 over a late tombstone, as the resolver finds it: it knows no image."""
    return Lift(TABLE, wire_key(1), seen, tombstone, False, Reason.TOMBSTONE, None)


async def test_a_held_row_found_changed_below_a_late_tombstone_keeps_its_record(
    region: Region_,
) -> None:
    """The tombstone waited, too; what is lifted over it cannot say what has been lost."""
    await applied(region, insert(1))
    client = await region.client()
    async with claiming(region) as mender:
        await held_back(region, mender, client, lift(1, OLD))
        later = await written_over(region, client)
        below = over_tombstone(OLD, NEW)
        await mender.lift([below], region.format, promised)
        assert below.fate is Fate.OVERTAKEN
        assert [note.seen for note in (await mender.held()).values()] == [OLD]
    async with resolving(region) as resolver:
        assert await mend(resolver, region.format, promised) == (0, 1)
        assert await resolver.waiting(10) == []
    assert await region.conflicts() == [(1, "overtaken", later, OLD)]


async def test_a_held_row_found_locked_below_a_late_tombstone_keeps_its_image(
    region: Region_,
) -> None:
    await applied(region, insert(1))
    client = await region.client()
    async with claiming(region) as mender:
        await held_back(region, mender, client, lift(1, OLD))
        await held_back(region, mender, client, over_tombstone(OLD, NEW))
        ((_, note),) = (await mender.held()).items()
        assert (note.seen, note.base, note.base_row) == (OLD, NEW, False)
        later = await written_over(region, client)
    async with resolving(region) as resolver:
        assert await mend(resolver, region.format, promised) == (0, 1)
        assert await resolver.waiting(10) == []
    assert await region.conflicts() == [(1, "overtaken", later, OLD)]


async def test_what_is_overtaken_for_certain_is_settled_beside_a_lock(region: Region_) -> None:
    await applied(region, insert(1))
    client = await region.client()
    async with claiming(region) as mender:
        await held_back(region, mender, client, lift(1, OLD))
        await client.begin()
        await client.update(1, "locked")
        shown = over_tombstone(OLD, NEWER)
        lifts = {lift(1, OLD): NEW, lift(2, OLD): NEWER, shown: NEW}
        await mender.overtake(lifts)
        assert {each.fate for each in lifts} == {Fate.OVERTAKEN}
        assert await mender.held() == {}
        await client.rollback()
    assert sorted(await region.conflicts()) == [
        (1, "overtaken", NEW, OLD), (2, "overtaken", NEWER, OLD),
    ]  # fmt: skip


async def test_an_entry_of_another_version_stays_when_one_is_overtaken(region: Region_) -> None:
    await applied(region, insert(1))
    client = await region.client()
    async with claiming(region) as mender:
        await held_back(region, mender, client, lift(1, NEW))
        await mender.overtake({lift(1, OLD): NEW})
        assert [note.seen for note in (await mender.held()).values()] == [NEW]
        await mender.overtake({})
    assert await region.conflicts() == [(1, "overtaken", NEW, OLD)]


async def test_a_row_that_was_lifted_to_what_came_over_it_is_no_loss(region: Region_) -> None:
    """The frame that would have said so was not acknowledged: it is judged once more."""
    await applied(region, insert(1))
    async with claiming(region) as mender:
        await mender.lift([lift(1, OLD)], region.format, promised)
        stamp = (await region.standing(1)).row
        assert stamp is not None
        again = lift(1, OLD)
        await mender.overtake({again: stamp})
        assert again.fate is Fate.LIFTED
    assert await region.conflicts() == []


async def test_a_row_that_was_never_stamped_is_told_from_one_that_nobody_saw(
    region: Region_,
) -> None:
    await applied(region, insert(1))
    client = await region.client()
    async with claiming(region) as mender:
        await held_back(region, mender, client, lift(1, ZERO))
        ((_, note),) = (await mender.held()).items()
        assert note.seen == ZERO
    async with resolving(region) as resolver:
        assert await mend(resolver, region.format, promised) == (0, 1)
        assert (await region.standing(1)).row == OLD, "the row of another region is not ours"
        assert await region.conflicts() == [(1, "overtaken", OLD, ZERO)]

    async with claiming(region) as mender:
        unseen = Lift(TABLE, wire_key(1), None, ZERO, False, Reason.PARTIAL, None)
        await held_back(region, mender, client, unseen)
        assert await mender.held() == {}, "nobody can say what was written over it"
    async with resolving(region) as resolver:
        assert await mend(resolver, region.format, promised) == (1, 0)


async def test_late_tombstones_that_wait_are_told_with_the_greatest_stamp(region: Region_) -> None:
    async with claiming(region) as mender:
        assert await mender.late() == {}
        for ts in (2500, 3500, 1500):
            await mender.hold_late(LateTombstone(TABLE, wire_key(1), Stamp(ts, OWN)))
        assert await mender.late() == {(TABLE.digest, wire_key(1)): Stamp(3500, OWN)}
