"""A script: how many packets it takes, and what is known when one of its statements fails."""

from types import SimpleNamespace

import pytest
from asyncmy import errors as driver

from meshnode.errors import Busy
from meshnode.mysql.session import PACKET_MARGIN, Answer, Session


class Connection:
    """Answers each statement with its own text, in order, up to the first error."""

    connected = True

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self._waiting: list[bytes] = []
        self._result: SimpleNamespace | None = None

    async def query(self, sql: bytes) -> int:
        assert not self._waiting, "answers of the packet before were left unread"
        self.packets.append(sql)
        self._waiting = sql.split(b";")
        return await self.next_result()

    async def next_result(self) -> int:
        statement = self._waiting.pop(0)
        if statement == b"locked":
            self._waiting.clear()
            raise driver.OperationalError(3572, "NOWAIT is set")
        self._result = SimpleNamespace(rows=((statement,),))
        return len(statement)


def session(max_packet: int = 0) -> tuple[Session, Connection]:
    connection = Connection()
    found = Session(connection, "one")
    found.max_packet = max_packet
    return found, connection


async def test_one_packet_and_the_answers_in_order():
    found, connection = session()
    answers = await found.script([b"a", b"bb", b"ccc"])
    assert connection.packets == [b"a;bb;ccc"]
    assert answers == [Answer(((text,),), len(text)) for text in (b"a", b"bb", b"ccc")]
    assert await found.script([]) == []


async def test_as_many_in_a_packet_as_the_server_takes():
    found, connection = session(PACKET_MARGIN + 8)
    await found.script([b"aaa", b"bbb", b"c", b"ddddddd"])
    assert connection.packets == [b"aaa;bbb", b"c", b"ddddddd"]


async def test_an_error_stops_what_stands_behind_it_and_the_answers_before_it_are_kept():
    found, connection = session()
    with pytest.raises(Busy):
        await found.script([b"a", b"b", b"locked", b"d"])
    assert [answer.rows for answer in found.answers] == [((b"a",),), ((b"b",),)]
    assert await found.query(b"next") == ((b"next",),)
    assert connection.packets == [b"a;b;locked;d", b"next"]
