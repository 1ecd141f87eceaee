"""Locks that show only by waiting: few waits, however many rows would meet them."""

import pytest

from meshnode.actors import avoided as module
from meshnode.actors.avoided import AVOIDED_SECONDS, SUSPECTED_SECONDS, Avoided, NotTried
from meshnode.actors.parking import WAITS, Parking
from meshnode.actors.tally import Tally
from meshnode.core.check import Incoming
from meshnode.core.plan import Plan, Work
from meshnode.core.resolve import Local
from meshnode.core.stamp import Stamp
from meshnode.core.wire import TRANSACTION, UPSERT, Entry, Item
from meshnode.errors import Busy


class Table:
    def __init__(self, digest: str) -> None:
        self.digest = self.title = digest


T, U = Table("t"), Table("u")


class Writer:
    """Rows below ``standing`` stand here already; writes of ``locked`` ones wait in vain."""

    def __init__(self, standing: int, locked: range, table: bool = False) -> None:
        self.standing = standing
        self.locked = locked
        self.table = table
        self.waits = 0
        self.written: set[int] = set()
        self.session = self

    async def save(self, name: str) -> None:
        """Nothing is written but by a call that succeeds."""

    async def back_to(self, name: str) -> None:
        """Likewise."""

    async def write(self, works, *, deep, wait, split, avoided: Avoided) -> Plan:
        assert not wait
        keys = [each.at[1] for each in works[0].incoming]
        if self.table:
            self.wait_for(keys)
        plan = plan_of(works[0].incoming, self.standing)
        avoided.plan(plan)
        self.wait_for(keys)
        self.written.update(keys)
        return plan

    def wait_for(self, keys: list[int]) -> None:
        if any(key in self.locked for key in keys):
            self.waits += 1
            raise Busy("1205", waited=True)


def plan_of(rows: list[Incoming], standing: int) -> Plan:
    before = {each.at: Local(Stamp(1, 1), None) for each in rows if each.at[1] < standing}
    return Plan(upserts={each.at: each for each in rows}, before=before)


def rows(keys: range, table: Table = T) -> list[Incoming]:
    return [Incoming((table, key), Entry(0, b"", UPSERT, 9, 2, 1, 2, True), None) for key in keys]


async def aside(writer: Writer, incoming: list[Incoming], avoided: Avoided) -> list[int]:
    work = Work(Item(1, TRANSACTION, "a:1", 0), [], incoming)
    found = await Parking(writer, work, Tally(), avoided).unable()
    assert all(isinstance(error, Busy) for _, error in found)
    return [each.at[1] for each, _ in found]


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(module, "time", type("Clock", (), {"monotonic": lambda: now[0]}))
    return now


@pytest.mark.parametrize("count", [20, 2000])
async def test_new_rows_in_a_gap_are_waited_for_a_few_times(count, clock) -> None:
    """Rows that stand here go in even so."""
    writer = Writer(10, range(10, count))
    assert set(await aside(writer, rows(range(count)), Avoided())) == set(range(10, count))
    assert writer.written == set(range(10))
    assert writer.waits == WAITS


@pytest.mark.parametrize("count", [20, 2000])
async def test_rows_of_a_locked_table_are_waited_for_a_few_times(count, clock) -> None:
    writer = Writer(10, range(count), table=True)
    mixed = rows(range(count)) + rows(range(count, count + 5), U)
    found = await aside(writer, mixed, Avoided())
    assert set(range(count)) <= set(found)
    assert writer.waits <= WAITS + 2


async def test_one_row_of_few_that_is_locked_is_found(clock) -> None:
    writer = Writer(0, range(1, 2))
    assert await aside(writer, rows(range(4)), Avoided()) == [1, 2, 3]
    assert writer.written == {0} and writer.waits == WAITS


async def test_the_next_items_do_not_wait_until_it_is_time(clock) -> None:
    avoided = Avoided()
    writer = Writer(0, range(100))
    assert await aside(writer, rows(range(1)), avoided) == [0]
    assert avoided.suspects([U, T]) and not avoided.suspects([U])
    for key in range(1, 50):
        assert await aside(writer, rows(range(key, key + 1)), avoided) == [key]
    assert writer.waits == 1
    clock[0] += AVOIDED_SECONDS
    assert await aside(writer, rows(range(50, 51)), avoided) == [50]
    assert writer.waits == 2


async def test_a_new_row_that_goes_in_ends_the_suspicion(clock) -> None:
    avoided = Avoided()
    await aside(Writer(0, range(1)), rows(range(1)), avoided)
    clock[0] += AVOIDED_SECONDS
    await aside(Writer(9, range(0)), rows(range(1)), avoided)
    assert avoided, "a row that stood there says nothing of new ones"
    await aside(Writer(0, range(0)), rows(range(1)), avoided)
    assert not avoided


def test_a_suspicion_does_not_last(clock) -> None:
    avoided = Avoided()
    avoided.waited([T])
    clock[0] += AVOIDED_SECONDS + SUSPECTED_SECONDS
    assert not avoided.suspects([T]) and not avoided


def test_a_table_in_which_everything_waits_is_left_alone(clock) -> None:
    avoided = Avoided()
    avoided.waited([T])
    avoided.rows(rows(range(1)))
    avoided.waited([T])
    with pytest.raises(NotTried) as raised:
        avoided.rows(rows(range(2)) + rows(range(1), U))
    assert raised.value.keys == {(T, 0), (T, 1)}
    clock[0] += AVOIDED_SECONDS
    avoided.rows(rows(range(1)))
