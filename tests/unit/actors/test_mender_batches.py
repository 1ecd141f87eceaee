"""What one transaction of a batch does to the index of another."""

from meshnode.actors.board import Board
from meshnode.actors.mender import Mender
from meshnode.core.change import RowOp, Table, Transaction
from meshnode.core.mend import Examiner, Fate
from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType
from meshnode.core.stamp import Stamp
from meshnode.core.wire import DELETE, UPDATE, WRITE, Beat, Item
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.gtid import GtidSet
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
    """A database with these tombstones in which every row is locked."""

    def __init__(self, tombstones: dict) -> None:
        self.found = tombstones
        self.asked: dict = {}
        self.lifts: list = []
        self.graves_locked = False

    async def keep_alive(self) -> None:
        """Nothing ends this session."""

    async def tombstones(self, keys: dict) -> tuple[dict, set]:
        self.asked = dict(keys)
        return dict(self.found), set()

    async def bury(self, late: list, fde: bytes) -> list:
        return late if self.graves_locked else []

    async def hold_late(self, late) -> None:
        """It waits in ``meshnode.mend`` then."""

    async def lift(self, lifts: list, fde: bytes, promised) -> None:
        self.lifts += lifts
        for lift in lifts:
            lift.fate = Fate.HELD


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
    assert region.mender.held == {}


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
    assert region.mender.late == {}, "written meanwhile"
