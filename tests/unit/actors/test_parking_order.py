"""Which rows of an item are parked: only those that cannot stand, whatever the halves met."""

import pytest

from meshnode.actors import parking
from meshnode.actors.tally import Tally
from meshnode.core.check import Incoming
from meshnode.core.plan import Plan, Work
from meshnode.core.wire import REMOVE, TRANSACTION, UPSERT, Entry, Item
from meshnode.errors import RowError


class Database:
    """One table ``key -> unique value`` with savepoints; a value 'poison' is never taken."""

    def __init__(self, rows: dict[bytes, str]) -> None:
        self.rows = rows
        self.saved: dict[str, dict[bytes, str]] = {}
        self.session = self

    async def save(self, name: str) -> None:
        self.saved[name] = dict(self.rows)

    async def back_to(self, name: str) -> None:
        self.rows = dict(self.saved[name])

    async def write(
        self, works: list[Work], *, deep: bool, wait: bool, split: bool, avoided: None
    ) -> Plan:
        assert deep and split, "nothing is known of how these rows stand to each other"
        (work,) = works
        for each in work.incoming:
            self.rows.pop(each.at[1], None)
        for each in work.incoming:
            if each.entry.outcome == UPSERT:
                if each.image == "poison":
                    raise RowError("cannot stand", 3819)
                if each.image in self.rows.values():
                    raise RowError("duplicate", 1062)
                self.rows[each.at[1]] = each.image
        return Plan()


def upsert(key: bytes, value: str) -> Incoming:
    return Incoming((None, key), Entry(0, key, UPSERT, 9, 2, 1, 2, True), value)


def standing(text: str) -> dict[bytes, str]:
    return {each[:1].encode(): each[1:] for each in text.split()}


def upserts(text: str) -> list[Incoming]:
    return [upsert(key, value) for key, value in standing(text).items()]


def remove(key: bytes) -> Incoming:
    return Incoming((None, key), Entry(0, key, REMOVE, 9, 2, 1, 2, True), None)


@pytest.mark.parametrize(
    ("rows", "incoming", "parked", "left"),
    [
        (  # two rows swap their values beside one that cannot stand
            {b"a": "1", b"b": "2"},
            [upsert(b"a", "2"), upsert(b"p", "poison"), upsert(b"q", "3"), upsert(b"b", "1")],
            [b"p"],
            {b"a": "2", b"b": "1", b"q": "3"},
        ),
        (  # a value is freed by a delete in the other half
            {b"b": "2"},
            [upsert(b"a", "2"), upsert(b"p", "poison"), upsert(b"q", "3"), remove(b"b")],
            [b"p"],
            {b"a": "2", b"q": "3"},
        ),
        (  # a value that a row beside the item holds stays taken
            {b"x": "2"},
            [upsert(b"a", "2"), upsert(b"b", "3")],
            [b"a"],
            {b"x": "2", b"b": "3"},
        ),
        (  # two rows swap their values beside one whose value is taken
            {b"a": "1", b"b": "2", b"x": "9"},
            [upsert(b"a", "2"), upsert(b"p", "9"), upsert(b"b", "1")],
            [b"p"],
            {b"a": "2", b"b": "1", b"x": "9"},
        ),
        (  # three pass theirs round
            {b"a": "1", b"b": "2", b"c": "3", b"x": "9"},
            [upsert(b"a", "2"), upsert(b"b", "3"), upsert(b"c", "1"), upsert(b"p", "9")],
            [b"p"],
            {b"a": "2", b"b": "3", b"c": "1", b"x": "9"},
        ),
        (  # a swap and a round, beside three that cannot stand
            standing("a1 b2 c3 d4 e5 x9 y8 f7"),
            [*upserts("p9 a2 c4 q8 d5 e3 b1"), upsert(b"f", "poison"), upsert(b"g", "7")],
            [b"p", b"q", b"f", b"g"],
            standing("a2 b1 c4 d5 e3 x9 y8 f7"),
        ),
    ],
)
async def test_only_what_cannot_stand_is_parked(rows, incoming, parked, left):
    database = Database(rows)
    work = Work(Item(1, TRANSACTION, "a:1", 0), [], incoming)
    found = await parking.Parking(database, work, Tally(), None).unable()
    assert {each.at[1] for each, _ in found} == set(parked) and len(found) == len(parked)
    assert database.rows == left
