"""What every store promises the mender (see `meshnode/store/port.py`)."""

from store_harness import OWN, TABLE, Region_, applied
from store_works import NEW, NEWER, OLD, at, delete, insert
from virtual.rows import ZERO, Stamp, image, wire_key

from meshnode.core.mend import Fate, LateTombstone, Lift, Reason

PROMISED = 5_000


def lift(key: int, seen: Stamp, base: Stamp = ZERO, reason: Reason = Reason.PROMISE) -> Lift:
    shown = image(key, seen, "in")
    return Lift(TABLE, wire_key(key), seen, base, False, reason, (shown, 0, len(shown)))


def promised() -> int:
    return PROMISED


async def test_tombstones_are_looked_at_under_locks(region: Region_) -> None:
    await applied(region, insert(1), insert(2), insert(3))
    await applied(region, delete(1, OLD, NEW), delete(2, OLD, NEW))
    client = await region.client()
    async with region.mending() as mender:
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
    async with region.mending() as mender:
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
    async with region.mending() as mender:
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
    async with region.mending() as mender:
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
    async with region.mending() as mender:
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
    async with region.mending() as mender:
        assert await mender.bury([late], region.format) == [late]
        await mender.hold_late(late)
        assert await mender.held() == {}, "it waits for the resolver, and is no lift"
        await client.rollback()
        assert await mender.bury([late], region.format) == []


async def test_a_table_is_known_by_its_digest(region: Region_) -> None:
    async with region.mending() as mender:
        table = await mender.table(TABLE.digest)
        assert table is not None
        assert (table.schema, table.name, table.digest) == ("shop", "t", TABLE.digest)
        assert await mender.table("0" * 16) is None
        await mender.keep_alive()
