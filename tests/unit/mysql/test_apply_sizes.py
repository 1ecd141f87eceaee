"""What is sent to the server stays within what it takes, and in the form of the table at hand."""

from base64 import b64decode

import pytest

from meshnode.core.change import Table
from meshnode.core.plan import Form, Plan, Step
from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType
from meshnode.core.stamp import Stamp
from meshnode.errors import Halt
from meshnode.mysql.apply import TombstoneMap, map_event, statements
from meshnode.mysql.applying import ApplyingStatements
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.maps import make_table
from meshnode.mysql.records import INSERT_CHARACTERS, INSERT_ROWS, portions
from meshnode.mysql.session import RowError, Session

STAMPS = (
    Column(STAMP_TS, FieldType.LONGLONG, unsigned=True, nullable=False, visible=False),
    Column(STAMP_ORIGIN, FieldType.TINY, unsigned=True, nullable=False, visible=False),
)


def table(name: str, key: FieldType = FieldType.LONG, columns: int = 0) -> Table:
    rest = tuple(Column(f"{'c' * 40}{place}", FieldType.TINY) for place in range(columns))
    columns_ = (Column("id", key, nullable=False), *rest, *STAMPS)
    return make_table(build_table_map(1, "shop", name, columns_, (0,)))


@pytest.mark.parametrize("packet", [100_000, 1_000_000])
def test_table_maps_count_when_statements_are_filled(packet: int):
    wide = [table("a", columns=400), table("b", columns=400)]
    steps = [Step(wide[number % 2], Form.DELETE_BY_KEY, [(bytes(4), b"")]) for number in range(200)]
    sent = list(statements(steps, packet))
    assert len(map_event(wide[0].map_body, 1)) * len(steps) > packet
    assert max(map(len, sent)) + 32 < packet
    assert len(sent) > 1


def test_two_groups_that_fit_alone_are_not_sent_as_one_that_does_not():
    blob = [Step(table("t"), Form.WRITE, [bytes(700_000)]) for _ in range(2)]
    assert [len(sent) + 32 < 1_000_000 for sent in statements(blob, 1_000_000)] == [True, True]
    with pytest.raises(RowError) as caught:
        list(statements([Step(table("t"), Form.WRITE, [bytes(800_000)])], 1_000_000))
    assert caught.value.code == 1153


def test_records_go_in_portions_by_number_and_by_size():
    assert list(portions([])) == []
    assert [len(part) for part in portions(["x"] * (INSERT_ROWS + 1))] == [INSERT_ROWS, 1]
    half = "x" * (INSERT_CHARACTERS // 2)
    assert [len(part) for part in portions([half] * 5)] == [2, 2, 1]
    assert list(portions(["x" * (INSERT_CHARACTERS + 1), "y"]))[1] == ["y"]


class Server:
    """Takes statements and finds nothing."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self._result = self
        self.rows = ()
        self.connected = True

    async def query(self, sql: bytes) -> int:
        self.sent.append(sql)
        return 0

    def close(self) -> None:
        self.connected = False


async def test_a_statement_that_the_server_would_not_take_is_not_sent():
    server = Server()
    session = Session(server, "east")
    session.max_packet = 1000
    await session.query("x" * 968)
    with pytest.raises(Halt, match="max_allowed_packet"):
        await session.query("x" * 969)
    assert [len(sql) for sql in server.sent] == [968]
    assert not session.closed


async def test_tombstones_have_the_form_of_the_table_that_is_written():
    """The key's type was widened while the applier ran: the table's digest is still the same."""
    server = Server()
    session = Session(server, "east")
    session.max_packet = 1_000_000
    applying = ApplyingStatements(session, Lookups({}))
    narrow, wide = table("t", FieldType.LONG), table("t", FieldType.LONGLONG)
    assert narrow.digest == wide.digest
    for form, size in ((narrow, 4), (wide, 8)):
        key = (7).to_bytes(size, "little")
        plan = Plan(tombstones={(form, key): Stamp(9, 2)}, keys={(form, key): key})
        await applying.write(plan)
        sent = b64decode(server.sent[-1][len(b"BINLOG '") : -1])
        assert map_event(TombstoneMap(form.shape).body, 1) in sent
