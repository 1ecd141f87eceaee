"""Which letters a round of replays leaves for the next one, and which for an operator."""

from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace
from store_harness import EPOCH, OWN, Region_, Standing, applied, resolving
from store_works import NEW, NEWER, OLD, insert, opened, update
from virtual.rows import number_of

from meshnode.actors import replay as replays
from meshnode.actors.avoided import Avoided
from meshnode.actors.board import Board
from meshnode.actors.replay import Replay
from meshnode.core.change import Table
from meshnode.core.plan import Plan, Work
from meshnode.core.shape import FieldType, Shape
from meshnode.core.wire import Item
from meshnode.errors import DUPLICATE, Busy, Halt, MeshError, RowError
from meshnode.store.port import Resolving
from meshnode.store.values import Letter, Unable

REFUSED, LOCKED = RowError("3819: a constraint", 3819), Busy("3572: locked")
EVERYTHING, NOTHING = (
    SimpleNamespace(now=SimpleNamespace(matches=lambda schema, table, found=found: found))
    for found in (True, False)
)


async def set_aside(region: Region_, *rows: tuple[Work, MeshError], origin: int = 2) -> None:
    """Put rows into ``dead_letter`` as item 5 of ``origin``."""
    async with region.store.applying("a") as session:
        await opened(region, session, origin)
        unable = [Unable(work.incoming[0], error) for work, error in rows]
        await session.park(unable, Item(5, 0, "tx:5", 0), origin, region.format)
        await session.commit()


def replay_of(resolver: Resolving, view: Any = EVERYTHING) -> Replay:
    return Replay(resolver, Board(OWN, apply_epoch=EPOCH), view)


async def test_what_was_only_locked_waits_until_its_table_may_be_written(region: Region_) -> None:
    """Nobody is told to look after such a letter: it must not be left to an operator."""
    await set_aside(region, (insert(1), LOCKED), (insert(2), REFUSED))
    await region.ask_for_replays()
    async with resolving(region) as resolver:
        for _ in range(2):
            assert await replay_of(resolver, NOTHING).replay() == 0
            (_, one, why), (_, two, same) = await region.states()
            assert (one, two) == ("replay", "open")
            assert why == same and "does not replicate" in why
        assert await replay_of(resolver).replay() == 1
    assert await region.states() == [(1, "closed", "replayed"), (2, "open", why)]
    assert await region.standing(1) == Standing("in", OLD, None)


async def test_a_halt_of_the_server_is_no_word_on_the_row(
    region: Region_, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a table is altered its columns are not those of the table map."""
    await applied(region, insert(1), insert(2))
    await set_aside(region, (update(1, OLD, NEW), LOCKED), (update(2, OLD, NEW), REFUSED))
    await region.ask_for_replays()
    async with resolving(region) as resolver:

        async def halts(plan: object) -> None:
            raise Halt("1105: the columns differ", "wait")

        with monkeypatch.context() as patched:
            patched.setattr(resolver, "write", halts)
            assert await replay_of(resolver).replay() == 0
        why = "1105: the columns differ; remedy: wait"
        assert await region.states() == [(1, "replay", why), (2, "open", why)]
        assert (await region.standing(1)).row == OLD
        assert await replay_of(resolver).replay() == 1
    assert (await region.standing(1)).row == NEW


async def test_a_row_is_replayed_into_a_table_with_more_columns(region: Region_) -> None:
    """As an applier writes it: its table will never again be as it was then."""
    await applied(region, insert(1))
    await set_aside(region, (update(1, OLD, NEW), LOCKED), (insert(2), REFUSED))
    await region.ask_for_replays()
    await region.widen()
    try:
        async with resolving(region) as resolver:
            assert await replay_of(resolver).replay() == 2
    finally:
        await region.narrow()
    assert await region.standing(1) == Standing("up", NEW, None)
    assert await region.standing(2) == Standing("in", OLD, None)


async def test_what_waits_is_closed_when_its_key_has_gone_on(region: Region_) -> None:
    """Also a letter that was only locked, where something else is in its way by now."""
    await set_aside(region, *((insert(key, NEW), LOCKED) for key in (1, 2, 3)))
    await applied(region, *(insert(key, NEWER) for key in (1, 2, 3)))
    async with resolving(region) as resolver:
        one, two, _ = await resolver.to_replay(10, 0)
        await resolver.refused(one, "a unique value is taken")
        await resolver.postponed(two, "its table is not here")
        assert await replay_of(resolver).close_overtaken() == 2
        states = [state for _, state, _ in await region.states()]
        assert states == ["closed", "closed", "replay"], "the third one's turn will come"


async def test_a_table_that_is_locked_costs_a_look_for_overtaken_ones_one_wait(
    region: Region_, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held-back keys wait meanwhile.  The next look begins with another letter."""
    await set_aside(region, *((insert(key, NEW), REFUSED) for key in (1, 2, 3)))
    await applied(region, *(insert(key, NEWER) for key in (1, 2, 3)))
    async with resolving(region) as resolver:
        letters = replay_of(resolver)
        looked: list[int] = []

        async def waits(table: Table, key: bytes) -> None:
            looked.append(number_of(key))
            raise Busy("1205: waited too long", waited=True)

        with monkeypatch.context() as patched:
            patched.setattr(resolver, "version", waits)
            assert [await letters.close_overtaken() for _ in range(2)] == [0, 0]
        assert looked == [1, 2]
        assert [await letters.close_overtaken() for _ in range(2)] == [1, 2]


async def test_a_letter_whose_key_was_changed_is_left_with_a_note(
    region: Region_, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version under the same bytes may be another row's."""
    await set_aside(region, *((insert(key, NEW), REFUSED) for key in (1, 2)))
    await applied(region, insert(1, NEWER))
    why = "does not close by itself while the key of shop.t is another than it was"
    async with resolving(region) as resolver:
        shape = await resolver.shape(insert(1).incoming[0].at[0])
        assert shape is not None
        key, *others = shape.columns
        changed = replace(shape, columns=(replace(key, type=FieldType.YEAR), *others))

        async def another(table: Table) -> Shape:
            return changed

        with monkeypatch.context() as patched:
            patched.setattr(resolver, "shape", another)
            assert await replay_of(resolver).close_overtaken() == 0
        assert await region.states() == [(1, "open", why), (2, "open", why)]
        assert await replay_of(resolver).close_overtaken() == 1
    assert [state for _, state, _ in await region.states()] == ["closed", "open"]


async def test_a_key_that_changes_under_the_look_closes_no_letter(
    region: Region_, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the table and that at the row it was altered: the row is another."""
    await set_aside(region, (insert(1, NEW), REFUSED))
    await applied(region, insert(1, NEWER))
    async with resolving(region) as resolver:
        right = await resolver.shape(insert(1).incoming[0].at[0])
        assert right is not None
        key, *others = right.columns
        shapes = [right, replace(right, columns=(replace(key, type=FieldType.YEAR), *others))]

        async def altered(table: Table) -> Shape:
            return shapes.pop(0)

        with monkeypatch.context() as patched:
            patched.setattr(resolver, "shape", altered)
            assert await replay_of(resolver).close_overtaken() == 0
        assert await region.states() == [(1, "open", "")]


async def test_a_note_takes_the_place_of_no_other(region: Region_) -> None:
    """An operator's letter keeps the reason why its replay failed."""
    await set_aside(region, (insert(1), REFUSED), (insert(2), REFUSED))
    await region.ask_for_replays()
    async with resolving(region) as resolver:
        one, two = await resolver.to_replay(10, 0)
        await resolver.refused(one, "a unique value is taken")
        await resolver.refused(two, "")
        for letter in (one, two):
            await resolver.postponed(letter, "its key was changed")
    assert await region.states() == [
        (1, "open", "a unique value is taken"), (2, "open", "its key was changed"),
    ]  # fmt: skip


async def test_a_long_apply_costs_a_round_one_wait(
    region: Region_, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each letter of that origin would wait as long, and held-back keys meanwhile for all."""
    await set_aside(region, *((insert(key), LOCKED) for key in (1, 2, 3)))
    await set_aside(region, (insert(4), LOCKED), origin=3)
    async with region.store.applying("long") as applier, resolving(region) as resolver:
        await opened(region, applier)
        begun: list[int] = []
        begin = resolver.begin_replay

        async def counted(letter: Letter, epoch: int) -> bool:
            begun.append(letter.origin)
            return await begin(letter, epoch)

        monkeypatch.setattr(resolver, "begin_replay", counted)
        letters = replay_of(resolver)
        assert await letters.replay() == 1
        assert begun == [2, 3]
        states = [(key, "replay", "") for key in (1, 2, 3)]
        assert await region.states() == [*states, (4, "closed", "replayed")]
        await applier.rollback()
        assert await letters.replay() == 3


async def test_a_lock_that_shows_by_waiting_is_waited_for_once(
    region: Region_, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The applier waits meanwhile for `applied`, and held-back keys for their turn.

    Each time that it is waited for again another letter does it: its own lock may be gone.
    """
    await applied(region, insert(3))
    await set_aside(region, (insert(1), LOCKED), (update(3, OLD, NEW), LOCKED))
    await set_aside(region, (insert(2), LOCKED), origin=3)
    waited: list[int] = []
    async with resolving(region) as resolver:
        write = resolver.write

        async def waits(plan: Plan) -> None:
            keys = [number_of(at[1]) for at in plan.upserts]
            if keys != [3]:
                waited.append(keys[-1])
                raise Busy("1205: waited too long", waited=True)
            await write(plan)

        letters = replay_of(resolver)
        with monkeypatch.context() as patched:
            patched.setattr(resolver, "write", waits)
            assert [await letters.replay() for _ in range(3)] == [0, 1, 0]
            assert len(waited) == 1
            letters.avoided = Avoided()
            assert await letters.replay() == 0
            assert len(waited) == 2 and waited[1] == 2
        letters.avoided = Avoided()
        assert await letters.replay() == 2
    assert [state for _, state, _ in await region.states()] == ["closed"] * 3


async def test_letters_that_stay_locked_do_not_keep_the_others_waiting(
    region: Region_, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "LETTERS_A_ROUND", 2)
    await applied(region, *(insert(key) for key in (1, 2, 3)))
    await set_aside(region, *((update(key, OLD, NEW), LOCKED) for key in (1, 2, 3)))
    client = await region.client()
    await client.begin()
    for key in (1, 2):
        await client.update(key, "client")
    async with resolving(region) as resolver:
        letters = replay_of(resolver)
        assert [await letters.replay() for _ in range(2)] == [0, 1]
        await client.rollback()
        assert await letters.replay() == 2
    assert [state for _, state, _ in await region.states()] == ["closed"] * 3


DUPLICATES = RowError("1062: a unique value is taken", DUPLICATE)


def only_together(resolver: Resolving, monkeypatch: pytest.MonkeyPatch, *keys: int) -> None:
    """From now on a replay that writes one of ``keys`` must write all of them."""
    write = resolver.write

    async def writing(plan: Plan) -> None:
        written = {number_of(at[1]) for at in plan.upserts} & set(keys)
        if written and written != set(keys):
            raise DUPLICATES
        await write(plan)

    monkeypatch.setattr(resolver, "write", writing)


async def test_a_try_of_what_an_operator_has_says_nothing(
    region: Region_, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made again and again: a try in vain, or of what is overtaken, leaves no trace."""
    await set_aside(region, *((insert(key), DUPLICATES) for key in (1, 2, 4)), (insert(5), REFUSED))
    await applied(region, insert(4, NEWER))
    states = [(1, "open", ""), (2, "open", ""), (4, "open", ""), (5, "open", "")]
    async with resolving(region) as resolver:
        letters = replay_of(resolver)
        there = await resolver.taken(9, 0)
        assert [each.entry and number_of(each.entry.key) for each in there] == [1, 2, 4]
        assert await resolver.taken(1, there[0].number) == there[1:2]
        with monkeypatch.context() as patched:
            only_together(resolver, patched, 1, 9)
            assert await letters.again(there[:1]) == 0
            assert await letters.again(there[2:]) == 0
            assert await region.states() == states
        assert await letters.again(there[:2]) == 2
    states[:2] = [(1, "closed", "replayed"), (2, "closed", "replayed")]
    assert await region.states() == states


async def test_letters_of_one_item_go_in_together(
    region: Region_, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Needed where rows exchange unique values: by itself each is in the other's way."""
    await applied(region, *map(insert, (1, 2, 3, 4)))
    await set_aside(
        region,
        (update(1, OLD, NEW), LOCKED),
        (update(2, OLD, NEW), DUPLICATES),
        (update(3, OLD, NEW), REFUSED),
    )
    async with resolving(region) as resolver:
        only_together(resolver, monkeypatch, 1, 2)
        assert await replay_of(resolver).replay() == 2
    assert await region.states() == [(1, "closed", "replayed"), (2, "closed", "replayed"),
                                     (3, "open", "")]  # fmt: skip
    assert (await region.standing(1)).row == (await region.standing(2)).row == NEW


async def test_letters_that_do_not_go_in_together_go_alone(
    region: Region_, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an operator has to look after keeps nobody else waiting, and stays his."""
    await set_aside(region, (insert(1), LOCKED), (insert(2), DUPLICATES), (insert(3), LOCKED))
    async with resolving(region) as resolver:
        only_together(resolver, monkeypatch, 2, 9)
        assert await replay_of(resolver).replay() == 2
    assert await region.states() == [(1, "closed", "replayed"), (2, "open", ""),
                                     (3, "closed", "replayed")]  # fmt: skip


async def test_a_letter_waits_for_the_locked_ones_of_its_item(
    region: Region_, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may need nothing but their unique values: nobody is told to look after it."""
    await applied(region, insert(1), insert(2))
    await set_aside(region, (update(1, OLD, NEW), LOCKED), (update(2, OLD, NEW), LOCKED))
    client = await region.client()
    await client.begin()
    await client.update(1, "client")
    async with resolving(region) as resolver:
        only_together(resolver, monkeypatch, 1, 2)
        assert await replay_of(resolver).replay() == 0
        assert await region.states() == [(1, "replay", ""), (2, "replay", str(DUPLICATES))]
        await client.rollback()
        assert await replay_of(resolver).replay() == 2
    assert (await region.standing(2)).row == NEW


async def test_letters_of_two_items_do_not_go_together(
    region: Region_, monkeypatch: pytest.MonkeyPatch
) -> None:
    await set_aside(region, (insert(1), LOCKED))
    await set_aside(region, (insert(2), LOCKED), origin=3)
    async with resolving(region) as resolver:
        only_together(resolver, monkeypatch, 1, 2)
        assert await replay_of(resolver).replay() == 0
    assert [state for _, state, _ in await region.states()] == ["open", "open"]
