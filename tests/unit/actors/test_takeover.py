"""Taking a stream over: what a successor reads from the tail that was noted, and who may claim."""

import re
from collections.abc import Sequence
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from meshnode.actors.board import Board, Tail
from meshnode.actors.heart import Heart
from meshnode.actors.origin import Origin
from meshnode.actors.takeover import check_position, raise_epoch, read_own_end
from meshnode.bus.port import ORIGIN
from meshnode.core.gtid import GtidSet
from meshnode.core.mend import Restamped
from meshnode.core.wire import PART, TRANSACTION, VERSION, Claim, Frame, Item, Sender, encode
from meshnode.errors import Busy, Fenced, MeshError, Retry
from meshnode.mysql.claiming_session import ClaimingSession
from meshnode.mysql.heart_session import HeartSession
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.session import Session
from meshnode.store.values import History, Member

SENDER = Sender("shop", 2, "east")
INCARNATION = 7


def claim(epoch: int) -> bytes:
    return encode(Claim(VERSION, "shop", 2, INCARNATION, epoch))


def frame(epoch: int, resume: str, *items: Item) -> bytes:
    return encode(
        Frame(VERSION, "shop", 2, INCARNATION, epoch, "9.7.0", b"", 0, resume, [], list(items))
    )


def tx(seq: int) -> Item:
    return Item(seq, TRANSACTION, f"a:{seq}", 0)


def position(number: int) -> bytes:
    """Behind the first ``number`` records."""
    return bytes((number,)) if number else ORIGIN


HISTORIES = [
    ("", "", None),
    ("a:8#3:7#5", "", None),
    ("a:8#3", "", "lost commits"),
    ("a:8#3:7#5", "a:1-9", "purged"),
]


@pytest.mark.parametrize(("owned", "purged", "said"), HISTORIES)
def test_what_a_server_has_not_committed_yet_is_not_lost(owned, purged, said) -> None:
    """It sends transactions to those who read its log before they are in ``gtid_executed``."""
    executed = of_one("a:1-8" if not owned else "a:1-6")
    history = History(executed, of_one(purged), of_one(owned))
    with pytest.raises(MeshError, match=said) if said else nullcontext():
        check_position("MySQL of east", history, GtidSet(of_one("a:1-8")), "east")


def of_one(text: str) -> str:
    """GTIDs of a server named ``a``."""
    return text.replace("a:", "3e11fa47-71ca-11e1-9e33-c80aa9429562:")


class Record:
    def __init__(self, payload: bytes, after: bytes) -> None:
        self.payload = payload
        self.after = after


class Reader:
    """Reads a topic that is a list of payloads, one record at a time."""

    def __init__(self, *payloads: bytes) -> None:
        self.payloads = payloads

    async def read(self, at: bytes, size: int) -> list[Record]:
        number = at[0] if at else 0
        return [Record(self.payloads[number], position(number + 1))]


REGION = SimpleNamespace(id=2, name="east")


class Server(Session):
    """The member row, and the answers that are lost on the way."""

    closed = False

    def __init__(self, epoch: int = 0) -> None:
        super().__init__(None, "east (db:3306)")
        self.epoch = self.written = epoch
        self.applied = self.applying = 0
        self.found = 1
        self.lose_commit = False
        self.refuses = ""
        self.said: list[str] = []

    async def query(self, sql: str | bytes) -> Sequence[tuple]:
        text = sql.decode() if isinstance(sql, bytes) else sql
        self.said.append(text)
        if self.refuses and text.startswith(self.refuses):
            self.refuses = ""
            raise Busy("1205: lock wait timeout exceeded")
        if text.startswith("UPDATE meshnode.member SET epoch"):
            self.written = self.epoch + 1
        elif text.startswith("UPDATE meshnode.applied SET epoch"):
            self.applying = self.written
        elif text == "COMMIT":
            self.epoch, self.applied = self.written, self.applying
            if self.lose_commit:
                self.lose_commit = False
                raise Retry("lost connection during query")
        elif text.startswith("SELECT CAST(UNIX_TIMESTAMP"):
            return [(5_000_000,)]
        elif text.startswith("SELECT mesh, region"):
            return [("shop", 2, INCARNATION, self.epoch, "", 0, "", 0, 0, "", 0)]
        return ()

    def claiming(self) -> ClaimingSession:
        """A session of the origin."""
        return ClaimingSession(self, REGION, "apply", None, Lookups({}), Restamped())

    async def value(self, sql: str) -> object:
        return self.applied if "MAX(epoch)" in sql else self.written

    async def rollback(self) -> None:
        self.written, self.applying = self.epoch, self.applied


def noted(server: Server) -> dict[str, str]:
    """The columns of the tail that the heart wrote last."""
    sql = next(sql for sql in reversed(server.said) if "tail_position" in sql)
    return dict(re.findall(r"(tail_\w+|epoch) = ([^,\s]+)", sql))


async def test_a_beat_while_the_stream_is_claimed_anew_tells_the_tail_under_its_own_epoch():
    server = Server()
    board = Board(2, epoch=2, tail=Tail(position(2), 9, "a:1-9", 0, epoch=1))
    await Heart(REGION, None, board, lambda: 1.0, str, list).beat(HeartSession(server, 2, set()))

    written = noted(server)
    assert (written["tail_epoch"], written["tail_seq"], written["epoch"]) == ("1", "9", "2")


async def test_frames_between_the_tail_and_the_next_claim_count_for_a_successor():
    """The tail noted stands before a frame that ends in a part; then two claims followed.

    Read as void, seq 10 would be given to another item, and every peer drops it.
    """
    part = Item(11, PART, "a:11", 0, 0, False)
    topic = Reader(
        claim(1), frame(1, "a:1-9", tx(9)), frame(1, "a:1-10", tx(10), part), claim(2), claim(3)
    )
    member = Member("shop", 2, INCARNATION, 3, Tail(position(2), 9, "a:1-9", 0, 1))

    ledger, end = await read_own_end(topic, member, SENDER, position(5))

    assert (ledger.seq, ledger.resume, ledger.epoch) == (11, "a:1-10", 3)
    assert (ledger.open_parts, end) == (0, position(5))


async def test_a_process_raises_the_epoch_over_its_own_as_often_as_it_must():
    server, ours = Server(4), set()

    assert [await raise_epoch(server.claiming(), 1, ours) for _ in range(3)] == [5, 6, 7]


@pytest.mark.parametrize("committed", [True, False])
async def test_a_lost_commit_answer_does_not_fence_the_process_itself(committed):
    server, ours = Server(4), set()
    server.lose_commit = True
    with pytest.raises(Retry):
        await raise_epoch(server.claiming(), 1, ours)
    if not committed:
        server.epoch = server.written = 4

    assert await raise_epoch(server.claiming(), 1, ours) == (6 if committed else 5)


async def test_a_commit_that_never_arrived_leaves_its_number_to_a_successor():
    """The process asked for 6 in vain, and its successor, which was given 6, is not fenced."""
    server, first, second = Server(4), set(), set()
    await raise_epoch(server.claiming(), 0, first)
    server.lose_commit = True
    with pytest.raises(Retry):
        await raise_epoch(server.claiming(), 5, first)
    server.epoch = server.written = 5
    assert await raise_epoch(server.claiming(), 0, second) == 6

    with pytest.raises(Fenced, match="another process"):
        await raise_epoch(server.claiming(), 5, first)
    assert server.epoch == 6
    assert await raise_epoch(server.claiming(), 6, second) == 7


async def test_what_was_certainly_rolled_back_is_not_taken_for_the_own():
    """A row that is locked for too long, or a KILL: the successor sets the same number.

    The process has made its node anew, with another topology, and claims as at its start.
    """
    server, first, second = Server(4), set(), set()
    await raise_epoch(server.claiming(), 0, first)
    server.refuses = "UPDATE meshnode.applied"
    with pytest.raises(Busy):
        await raise_epoch(server.claiming(), 0, first)
    assert await raise_epoch(server.claiming(), 0, second) == 6

    with pytest.raises(Fenced, match="another process"):
        await raise_epoch(server.claiming(), 0, first)
    assert server.epoch == 6, "the successor is not fenced"


async def test_a_first_try_that_was_rolled_back_claims_nothing():
    """The predecessor's origin may start again in between: it is to be fenced all the same."""
    server, predecessor, successor = Server(4), set(), set()
    await raise_epoch(server.claiming(), 0, predecessor)
    server.refuses = "UPDATE meshnode.applied"
    with pytest.raises(Retry):
        await raise_epoch(server.claiming(), 0, successor)
    assert await raise_epoch(server.claiming(), 5, predecessor) == 6
    assert await raise_epoch(server.claiming(), 0, successor) == 7


async def test_a_process_does_not_raise_the_epoch_over_its_successor():
    """The successor's start kills the first one's sessions, so the first one starts again too."""
    server, first, second = Server(4), set(), set()
    await raise_epoch(server.claiming(), 0, first)
    await raise_epoch(server.claiming(), 0, second)

    with pytest.raises(Fenced, match="another process"):
        await raise_epoch(server.claiming(), 5, first)
    assert server.epoch == 6, "nothing of it was committed"
    assert await raise_epoch(server.claiming(), 6, second) == 7


class Away:
    """A bus that cannot be reached, or that takes a claim and loses its answer."""

    def __init__(self) -> None:
        self.opened = self.appended = 0
        self.reached = False

    async def open(self, timeout: float) -> bytes:
        self.opened += 1
        if not self.reached:
            raise Retry("Kafka at k:1 cannot be used")
        return ORIGIN

    async def append(self, payload: bytes) -> bytes:
        self.appended += 1
        raise Retry("no answer")

    async def close(self) -> None:
        pass


def origin_of(bus: Away) -> Origin:
    view = SimpleNamespace(now=SimpleNamespace(mesh="shop"))
    return Origin(view, REGION, None, None, bus, Board(2))


async def claims(origin: Origin, server: Server, times: int = 1) -> list[int]:
    """Try to take the stream over; the epochs after each try."""
    epochs = []
    for _ in range(times):
        with pytest.raises(Retry):
            await origin._take_over(server.claiming())
        epochs.append(server.epoch)
    return epochs


async def test_while_the_bus_is_away_the_epoch_is_raised_once():
    """The first try fences the predecessor; a claim follows when the bus can be reached."""
    server, bus = Server(4), Away()
    origin = origin_of(bus)

    assert await claims(origin, server, 3) == [5, 5, 5]
    assert (bus.opened, bus.appended) == (3, 0)
    assert sum("information_schema.processlist" in sql for sql in server.said) == 1
    # Heart and appliers know the epoch, and that it is not claimed.
    assert (origin.board.epoch, origin.board.raising) == (5, True)

    bus.reached = True
    assert await claims(origin, server, 2) == [5, 6], "the claim of 5 may have landed"
    assert bus.appended == 2
    # The process's own appliers go on as they are, and are not waited for.
    assert (origin.board.epoch, origin.board.apply_epoch) == (6, 5)
    assert [sql for sql in server.said if "UPDATE meshnode.applied" in sql] == [
        "UPDATE meshnode.applied SET epoch = 5"
    ]


class ShutsOut(Away):
    """A bus that another process has opened last."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = True

    async def append(self, payload: bytes) -> bytes:
        self.appended += 1
        raise Fenced("another process writes the topic now")


async def test_who_is_shut_out_at_the_bus_asks_mysql_whose_the_region_is():
    server, bus = Server(4), ShutsOut()
    origin = origin_of(bus)

    assert await claims(origin, server, 2) == [5, 6], "it is its own, and claimed again"

    await raise_epoch(server.claiming(), 0, set())
    with pytest.raises(Fenced, match="another process has raised the epoch to 7"):
        await origin._take_over(server.claiming())
    assert (server.epoch, bus.appended) == (7, 2)


async def test_a_process_that_is_superseded_while_the_bus_opens_does_not_claim():
    server, bus = Server(4), Away()
    origin = origin_of(bus)

    async def slowly(timeout: float) -> bytes:
        await raise_epoch(server.claiming(), 0, set())
        return ORIGIN

    bus.open = slowly
    assert await claims(origin, server) == [6]
    with pytest.raises(Fenced, match="another process has raised the epoch to 6"):
        await origin._take_over(server.claiming())
    assert bus.appended == 0


async def test_an_epoch_that_somebody_else_has_raised_does_not_serve_again():
    server, bus = Server(4), Away()
    origin = origin_of(bus)
    await claims(origin, server)
    await raise_epoch(server.claiming(), 0, set())

    with pytest.raises(Fenced, match="another process"):
        await origin._take_over(server.claiming())
    assert (server.epoch, bus.appended) == (6, 0)
