"""How runs are written: what is asked, in which packets, and what the answers must be."""

import pytest

from meshnode import limits
from meshnode.core.change import Table
from meshnode.core.runs import Segment, touched
from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType
from meshnode.core.wire import UPDATE, WRITE
from meshnode.errors import Busy, Replan, RowError
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.lookup import Collation
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.maps import make_table
from meshnode.mysql.session import Answer
from meshnode.mysql.straight import Straight, _ranges

STAMPS = (
    Column(STAMP_TS, FieldType.LONGLONG, unsigned=True, nullable=False),
    Column(STAMP_ORIGIN, FieldType.TINY, unsigned=True, nullable=False),
)
OPENING = [b"BEGIN", b"UPDATE meshnode.applied"]


def table(*kinds: int, unsigned: bool = False) -> Table:
    key = tuple(
        Column(f"k{number}", kind, nullable=False, unsigned=unsigned)
        for number, kind in enumerate(kinds)
    )
    columns = (*key, *STAMPS)
    return make_table(build_table_map(1, "shop", "t", columns, tuple(range(len(key)))))


NUMBERS = table(FieldType.LONG)


def wire(number: int, size: int = 4) -> bytes:
    return number.to_bytes(size, "little", signed=True)


def segment(kind: int, *numbers: int, of: Table = NUMBERS, base: int = 10) -> Segment:
    """Rows with these keys, over ``base`` if they are updates."""
    keys = [wire(number) for number in numbers]
    many = len(numbers)
    return Segment(of, kind, b"images", keys, [(20, 2)] * many, [(base, 3)] * many)


class Server:
    """Answers statements; ``rows`` by a part of their text.  ``packets`` are what was sent."""

    def __init__(self, rows: dict[str, object]) -> None:
        self.rows = rows
        self.packets: list[list[str]] = []
        self.answers: list[Answer] = []

    async def script(self, statements: list[bytes]) -> list[Answer]:
        self.packets.append([statement.decode("latin-1") for statement in statements])
        answers = self.answers = []
        for statement in self.packets[-1]:
            rows = next((rows for part, rows in self.rows.items() if part in statement), ())
            if isinstance(rows, Exception):
                raise rows
            answers.append(Answer(rows, 1))
        return answers


def kinds(packet: list[str]) -> list[str]:
    return [statement.split()[0] for statement in packet]


async def written(server: Server, *segments: Segment) -> list[Answer]:
    lookups = Lookups({63: Collation("binary", "binary", False)})
    straight = Straight(segments, touched(segments), lookups, 1 << 20)
    return await straight.write(server, OPENING)


def at_base(*numbers: int) -> list[tuple]:
    return [(number, 10, 3) for number in numbers]


async def test_new_rows_are_written_unasked_and_their_tombstones_looked_at_in_one_packet():
    server = Server({})
    answers = await written(server, segment(WRITE, *range(100)))
    (packet,) = server.packets
    assert kinds(packet) == ["BEGIN", "UPDATE", "BINLOG", "SELECT"]
    assert "BETWEEN 0 AND 99 LIMIT 1 FOR SHARE NOWAIT" in packet[-1]
    assert "`meshnode`.`t_" in packet[-1]
    assert [answer.found for answer in answers] == [1, 1]


def test_an_image_that_cannot_be_sent_is_found_before_anything_is_said():
    segments = [segment(WRITE, *range(100))]
    lookups = Lookups({63: Collation("binary", "binary", False)})
    with pytest.raises(RowError, match="max_allowed_packet"):
        Straight(segments, touched(segments), lookups, 64)


async def test_known_rows_are_locked_and_compared_before_anything_is_written():
    server = Server({"FOR UPDATE": at_base(*range(-50, 50))})
    answers = await written(server, segment(UPDATE, *range(-50, 50)))
    assert [kinds(packet) for packet in server.packets] == [
        ["BEGIN", "UPDATE", "SELECT"],
        ["BINLOG", "SELECT"],
    ]
    assert "BETWEEN -50 AND 49 LIMIT 100 FOR UPDATE NOWAIT" in server.packets[0][-1]
    assert len(answers) == 2


@pytest.mark.parametrize(
    "found",
    [at_base(*range(99)), [*at_base(*range(99)), (99, 11, 3)], [*at_base(*range(99)), (99, 10, 4)]],
    ids=["missing", "another time", "another origin"],
)
async def test_a_row_that_is_not_at_its_base_is_a_surprise_before_the_write(found):
    server = Server({"FOR UPDATE": found})
    with pytest.raises(Replan):
        await written(server, segment(UPDATE, *range(100)))
    assert "BINLOG" not in kinds(server.packets[-1])


async def test_scattered_keys_are_asked_for_one_by_one(monkeypatch):
    monkeypatch.setattr(limits, "LOCK_KEYS", 60)
    numbers = range(0, 200, 2)
    server = Server({"FOR UPDATE": ()})
    with pytest.raises(Replan):
        await written(server, segment(UPDATE, *numbers))
    locks = server.packets[0][2:]
    assert [lock.count(",") for lock in locks] == [2 + 59, 2 + 39]
    assert "IN (0,2,4" in locks[0] and "IN (120,122" in locks[1]


async def test_a_few_ranges_are_a_statement_each():
    numbers = [*range(100), *range(200, 300)]
    server = Server({"BETWEEN 0": at_base(*range(100)), "BETWEEN 200": at_base(*range(200, 300))})
    await written(server, segment(UPDATE, *numbers))
    assert len(server.packets[0]) == 4
    assert "BETWEEN 200 AND 299 LIMIT 100" in server.packets[0][3]


async def test_a_tombstone_in_the_range_leads_to_the_question_about_just_these_keys():
    server = Server({"LIMIT 1 FOR SHARE": [(1,)]})
    await written(server, segment(WRITE, *range(0, 200, 2)))
    assert kinds(server.packets[1]) == ["SELECT"]
    assert "IN (0,2,4" in server.packets[1][0] and "FOR SHARE NOWAIT" in server.packets[1][0]


async def test_a_tombstone_being_written_in_the_range_does_as_well():
    server = Server({"LIMIT 1 FOR SHARE": Busy("3572")})
    answers = await written(server, segment(WRITE, *range(100)))
    assert len(server.packets) == 2
    assert [answer.found for answer in answers] == [1, 1]


async def test_a_lock_in_the_way_of_the_write_is_not_taken_for_one_of_the_look():
    server = Server({"BINLOG": Busy("1205")})
    with pytest.raises(Busy):
        await written(server, segment(WRITE, *range(100)))
    assert len(server.packets) == 1


@pytest.mark.parametrize(
    ("kind", "tomb", "fine"),
    [
        (UPDATE, (7, 20, 2), True),
        (UPDATE, (7, 20, 3), False),
        (UPDATE, (7, 21, 1), False),
        (WRITE, (7, 5, 1), False),
    ],
)
async def test_a_tombstone_beside_a_row(kind, tomb, fine):
    rows = {"IN (0,1,2": [tomb], "LIMIT 1 FOR SHARE": [(1,)], "FOR UPDATE": at_base(*range(100))}
    server = Server(rows)
    writing = written(server, segment(kind, *range(100)))
    if fine:
        await writing
    else:
        with pytest.raises(Replan):
            await writing


async def test_few_keys_and_keys_of_several_columns_are_asked_for_as_they_are():
    server = Server({})
    await written(server, segment(WRITE, 1, 2, 3))
    assert "IN (1,2,3) FOR SHARE NOWAIT" in server.packets[0][-1]
    pairs = table(FieldType.LONG, FieldType.SHORT)
    keys = [wire(number) + wire(1, 2) for number in range(100)]
    rows = Segment(pairs, UPDATE, b"images", keys, [(20, 2)] * 100, [(10, 3)] * 100)
    server = Server({"FOR UPDATE": [(number, 1, 10, 3) for number in range(100)]})
    await written(server, rows)
    assert "(`k0`,`k1`) IN ((0,1),(1,1)" in server.packets[0][-1]
    assert "IN ((0,1),(1,1)" in server.packets[1][-1]


@pytest.mark.parametrize("kind", [FieldType.TINY, FieldType.SHORT, FieldType.INT24, FieldType.LONG])
@pytest.mark.parametrize("unsigned", [True, False])
def test_the_tokens_of_many_keys_are_those_of_each(kind, unsigned):
    lookup = Lookups({})(table(kind, unsigned=unsigned))
    size = {FieldType.TINY: 1, FieldType.SHORT: 2, FieldType.INT24: 3, FieldType.LONG: 4}[kind]
    keys = [bytes(size), b"\xff" * size, b"\x7f" + b"\x80" * (size - 1)]
    assert list(lookup.tokens(keys)) == [lookup.token(key) for key in keys]


def test_ranges():
    assert _ranges([3]) == [(3, 3)]
    assert _ranges([3, 4, 5]) == [(3, 5)]
    assert _ranges([-1, 0, 2, 4, 5]) == [(-1, 0), (2, 2), (4, 5)]
