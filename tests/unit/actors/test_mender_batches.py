"""What one transaction of a batch does to the index of another."""

import pytest

from meshnode.actors.board import Board
from meshnode.actors.mender import Mender
from meshnode.core.change import Mended, RowOp, Table, Transaction
from meshnode.core.gtid import GtidSet
from meshnode.core.mend import Examiner, Fate
from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType
from meshnode.core.stamp import ZERO, Stamp
from meshnode.core.wire import DELETE, UPDATE, WRITE, Beat, Item
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.maps import make_table

OWN = 1
SOURCE = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
COLUMNS = (
    Column("id", FieldType.LONGLONG, nullable=False),
    Column(STAMP_TS, FieldType.LONGLONG, unsigned=True, nullable=False, visible=False),
    Column(STAMP_ORIGIN, FieldType.TINY, unsigned=True, nullable=False, visible=False),
)


def wire_key(key: int) -> bytes:
    return key.to_bytes(8, "little")


def image(key: int, ts: int) -> bytes:
    return b"\0" + wire_key(key) + ts.to_bytes(8, "little") + bytes((OWN,))


class Mending:
    """A database with these tombstones in which every row is locked, or what ``fate`` says."""

    def __init__(self, tombstones: dict) -> None:
        self.found = tombstones
        self.asked: dict = {}
        self.lifts: list = []
        self.judged: list = []
        self.looked_up: list = []
        self.learnt: list = []
        self.graves_locked = False
        self.fate = Fate.HELD
        self.waits: dict = {}
        self.waits_late: dict = {}
        self.table_of_words: Table | None = None

    async def held(self) -> dict:
        return self.waits

    async def late(self) -> dict:
        return self.waits_late

    async def table(self, digest: str) -> Table | None:
        self.looked_up.append(digest)
        return self.table_of_words

    async def learn(self, keys: list) -> None:
        """Case does not count."""
        self.learnt.append(len(keys))
        for table, key in keys:
            table.folds[key] = key.lower()

    async def keep_alive(self) -> None:
        """Nothing ends this session."""

    async def tombstones(self, keys: dict) -> tuple[dict, set]:
        self.asked = dict(keys)
        return dict(self.found), set()

    async def bury(self, late: list, fde: bytes) -> list:
        return late if self.graves_locked else []

    async def hold_late(self, late) -> None:
        """It waits in ``meshnode.mend`` then."""

    async def overtake(self, lifts: dict) -> None:
        self.judged += lifts
        for lift in lifts:
            lift.fate = Fate.OVERTAKEN

    async def lift(self, lifts: list, fde: bytes, promised) -> None:
        self.lifts += lifts
        self.judged += lifts
        for lift in lifts:
            lift.fate = self.fate


class Region:
    """A mender over such a database, and transactions for it."""

    def __init__(self, promised: int = 0, tombstones: dict[int, int] | None = None) -> None:
        self.table = make_table(build_table_map(1, "shop", "t", COLUMNS, (0,)))
        found = {(self.table, wire_key(k)): Stamp(ts, 2) for k, ts in (tombstones or {}).items()}
        self.mending = Mending(found)
        self.board = Board(OWN)
        known: dict[str, Table] = {self.table.digest: self.table}
        examiner = Examiner(OWN, promised)
        self.mender = Mender(self.mending, examiner, self.board, known, GtidSet())
        self.number = 0

    def transaction(self, kind: int = WRITE, rows: bytes = b"", **fields) -> Transaction:
        self.number += 1
        tx = Transaction(f"{SOURCE}:{self.number}", 0, passed=[(SOURCE, self.number)], **fields)
        if rows:
            scan = self.table.scan_pairs if kind == UPDATE else self.table.scan_rows
            found = scan(rows, 0, len(rows))
            tx.ops.append(RowOp(self.table, kind, rows, found))
            tx.rows = len(found)
        return tx

    async def items(self, *batch: Transaction) -> list[Item]:
        draft = await self.mender.draft(list(batch))
        assert draft.resume == f"{SOURCE}:1-{self.number}".replace(":1-1", ":1")
        return draft.items


def bases(item: Item) -> list[tuple[int, bool]]:
    return [(entry.base_ts, entry.base_row) for entry in item.entries]


async def test_ordinary_transactions_are_published_as_they_are():
    region = Region(promised=5)
    insert = region.transaction(WRITE, image(1, 10) + image(2, 11))
    update = region.transaction(UPDATE, image(1, 10) + image(1, 20))
    first, second = await region.items(insert, update)

    assert (bases(first), bases(second)) == ([(0, False)] * 2, [(10, True)])
    assert first.exact and second.exact
    assert region.mending.asked == {region.table: [wire_key(1), wire_key(2), wire_key(1)]}
    assert region.board.counts["published_transactions"] == 2
    assert region.board.counts["published_rows"] == 3


async def test_a_write_over_a_row_that_is_held_back_has_replaced_what_that_one_replaced():
    """Peers never saw the row that is held: an update of it must not count on it."""
    region = Region(promised=15)
    held = region.transaction(WRITE, image(1, 10))
    over = region.transaction(UPDATE, image(1, 10) + image(1, 20))
    (item,) = await region.items(held, over)

    assert item.tx_id.endswith(":2")
    assert bases(item) == [(0, False)] and not item.exact
    assert region.mender.held.rows == {}


async def test_a_heartbeat_binds_what_comes_behind_it():
    region = Region()
    before = region.transaction(WRITE, image(1, 10))
    beat = region.transaction(beat=Beat(1, 100, 10, ""))
    behind = region.transaction(WRITE, image(2, 10))
    found = await region.items(before, beat, behind)

    assert [item.tx_id[-1] for item in found] == ["1", "2"]
    assert region.board.counts["held"] == 1


async def test_a_tombstone_is_the_base_of_what_was_written_over_it():
    region = Region(tombstones={1: 9, 2: 30})
    above = region.transaction(WRITE, image(1, 10))
    below = region.transaction(WRITE, image(2, 20))
    (item,) = await region.items(above, below)

    assert bases(item) == [(9, False)]
    assert region.board.counts["held"] == 1


async def test_what_is_written_over_a_delete_whose_tombstone_waits_is_lifted_above_it():
    """The stream has shown the delete, so nothing at or below it may follow."""
    region = Region()
    region.mending.graves_locked = True
    (item,) = await region.items(region.transaction(DELETE, image(1, 50)))
    assert [entry.stamp for entry in item.entries] == [Stamp(51, OWN)]
    assert await region.items(region.transaction(WRITE, image(1, 20))) == []
    assert [lift.above for lift in region.mending.lifts] == [Stamp(51, OWN)]

    region.mending.found = {(region.table, wire_key(1)): Stamp(51, OWN)}
    await region.items(region.transaction(WRITE, image(1, 60)))
    assert region.mender.held.late == {}, "written meanwhile"


async def test_a_tombstone_that_waits_counts_after_a_restart():
    region = Region()
    region.mending.waits_late = {(region.table.digest, wire_key(1)): Stamp(51, OWN)}
    await region.mender.load()
    assert await region.items(region.transaction(WRITE, image(1, 20))) == []
    assert [lift.above for lift in region.mending.lifts] == [Stamp(51, OWN)]


async def test_what_waits_counts_after_a_restart_however_its_key_is_spelled():
    region = Region()
    word = Column("word", FieldType.VARCHAR, meta=28, nullable=False, collation=255)
    words = make_table(build_table_map(2, "shop", "w", (word, *COLUMNS[1:]), (0,)))
    region.table = region.mending.table_of_words = words
    region.mender.known[words.digest] = words
    region.mending.waits_late = {(words.digest, b"\x01A"): Stamp(51, OWN)}
    await region.mender.load()
    insert = b"\0\x01a" + image(1, 20)[9:]
    assert await region.items(region.transaction(WRITE, insert)) == []
    assert [lift.above for lift in region.mending.lifts] == [Stamp(51, OWN)]


async def test_what_waits_is_taken_over_with_one_look_a_table():
    region = Region()
    word = Column("word", FieldType.VARCHAR, meta=28, nullable=False, collation=255)
    words = make_table(build_table_map(2, "shop", "w", (word, *COLUMNS[1:]), (0,)))
    region.mending.table_of_words = words
    keys = [bytes((1, letter)) for letter in b"abcA"]
    region.mending.waits_late = {
        (words.digest, key): Stamp(60 - place, OWN) for place, key in enumerate(keys)
    }
    region.mending.waits = {(words.digest, key): Mended(Stamp(5, OWN), ZERO, False) for key in keys}
    await region.mender.load()
    assert (region.mending.looked_up, region.mending.learnt) == ([words.digest], [4])
    late = region.mender.held.late
    assert late[words.digest, b"\x01a"] == Stamp(60, OWN) and len(late) == 3


async def test_a_row_that_waits_has_nothing_to_do_with_what_came_before_it():
    """Its frame was not acknowledged, so the stream is read again from a touch before it on."""
    region = Region()
    note = Mended(Stamp(10, OWN), Stamp(5, OWN), True)
    region.mending.waits = {(region.table.digest, wire_key(1)): note}
    await region.mender.load()
    good = region.transaction(UPDATE, image(1, 4) + image(1, 5))
    beat = region.transaction(beat=Beat(1, 100, 10, ""))
    held = region.transaction(UPDATE, image(1, 5) + image(1, 10))
    over = region.transaction(UPDATE, image(1, 10) + image(1, 20))
    published = [item for item in await region.items(good, beat, held, over) if item.entries]
    assert [bases(item) for item in published] == [[(4, True)], [(5, True)]]
    assert region.board.counts["held"] == 1 and region.mender.held.rows == {}


async def test_a_hot_row_is_looked_at_once_a_batch():
    """A client that holds it makes each look wait; those written over have nothing to look for."""
    region = Region(promised=100)
    batch = [region.transaction(UPDATE, image(1, ts) + image(1, ts + 1)) for ts in range(10, 60)]
    assert await region.items(*batch) == []
    assert [lift.seen.ts for lift in region.mending.lifts] == [60]
    assert {lift.base.ts for lift in region.mending.judged} == {10}
    assert region.board.counts["overtaken"] == 49 and region.board.counts["held"] == 1


async def test_a_row_that_is_held_back_has_replaced_the_delete_of_its_own_transaction():
    """A REPLACE under a clock that stepped back: peers have got the delete, not the row before."""
    region = Region()
    replace = region.transaction(DELETE, image(1, 50))
    insert = region.transaction(WRITE, image(1, 20)).ops
    replace.ops += insert
    region.number = 1
    (item,) = await region.items(replace)
    assert [(entry.ts, entry.base_ts, entry.base_row) for entry in item.entries] == [(51, 50, True)]
    (lifted,) = region.mending.lifts
    assert (lifted.base, lifted.base_row) == (Stamp(51, OWN), False)

    over = region.transaction(UPDATE, image(1, 20) + image(1, 70))
    (item,) = await region.items(over)
    assert bases(item) == [(51, False)] and not item.exact


async def test_a_delete_of_a_held_row_below_what_that_one_replaced_has_replaced_nothing():
    """Peers have the newer delete already; this one changes nothing."""
    region = Region()
    replace = region.transaction(DELETE, image(1, 50))
    replace.ops += region.transaction(WRITE, image(1, 20)).ops
    region.number = 1
    await region.items(replace)
    (item,) = await region.items(region.transaction(DELETE, image(1, 20)))
    assert [(entry.ts, entry.base_ts, entry.base_row) for entry in item.entries] == [(21, 0, False)]
    assert not item.exact


async def test_a_note_about_a_row_that_others_have_deleted_is_no_base():
    region = Region(promised=15)
    assert await region.items(region.transaction(UPDATE, image(1, 5) + image(1, 10))) == []
    region.mending.found = {(region.table, wire_key(1)): Stamp(20, 2)}
    (item,) = await region.items(region.transaction(WRITE, image(1, 30)))
    assert bases(item) == [(20, False)] and item.exact
    assert region.mender.held.rows == {}


@pytest.mark.parametrize("together", [True, False])
async def test_a_lift_over_a_row_that_is_held_back_has_replaced_what_that_one_replaced(together):
    region = Region(promised=15)
    first = region.transaction(UPDATE, image(1, 5) + image(1, 10))
    if not together:
        assert await region.items(first) == []
    second = region.transaction(UPDATE, image(1, 10) + image(1, 12))
    assert await region.items(*((first, second) if together else (second,))) == []
    assert [(lift.seen.ts, lift.base.ts) for lift in region.mending.judged] == [(10, 5), (12, 5)]

    (item,) = await region.items(region.transaction(UPDATE, image(1, 12) + image(1, 20)))
    assert bases(item) == [(5, True)]


async def test_a_write_over_an_overtaken_row_has_replaced_what_that_one_replaced():
    """It has a record and is not published: for peers, what it had replaced stands."""
    region = Region(promised=15)
    region.mending.fate = Fate.OVERTAKEN
    overtaken = region.transaction(UPDATE, image(1, 5) + image(1, 10))
    over = region.transaction(UPDATE, image(1, 10) + image(1, 20))
    (item,) = await region.items(overtaken, over)
    assert bases(item) == [(5, True)] and item.exact


async def test_what_touches_nothing_that_is_held_back_stays_ordinary():
    region = Region(promised=15)
    await region.items(region.transaction(WRITE, image(1, 10)))
    other = region.transaction(WRITE, image(2, 20))
    (item,) = await region.items(other)
    assert bases(item) == [(0, False)] and item.exact
    assert list(region.mender.held.rows) == [(region.table.digest, wire_key(1))]
