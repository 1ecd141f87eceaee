"""The guard of the settings: what it says, and when the publisher may go on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace

import pytest

from meshnode.actors.board import Board
from meshnode.actors.kernel import Mailbox, Supervisor
from meshnode.actors.mender import Draft
from meshnode.actors.publisher import publish
from meshnode.actors.settings import SettingsGuard
from meshnode.core.ledger import Ledger
from meshnode.core.settings import SETTINGS
from meshnode.core.wire import TRANSACTION, Item
from meshnode.errors import Retry

RIGHT = {setting.variable: setting.value for setting in SETTINGS}
SECONDS = 20.0


class Server:
    """A server with ``settings``, or one that is away."""

    server = "one (db:3306)"

    def __init__(self) -> None:
        self.values = dict(RIGHT)
        self.away = False
        self.looks = 0

    async def settings(self, names: Sequence[str]) -> dict[str, str]:
        self.looks += 1
        if self.away:
            raise Retry("the server is away")
        return {name: self.values[name] for name in names}

    @contextlib.asynccontextmanager
    async def counting(self) -> AsyncIterator["Server"]:
        yield self


class Topic:
    """A writer that remembers what was appended."""

    def __init__(self) -> None:
        self.records: list[bytes] = []

    async def append(self, payload: bytes) -> bytes:
        self.records.append(payload)
        return b"position"


def guard(server: Server, lab: bool = False) -> SettingsGuard:
    board = Board(1)
    board.claim()
    return SettingsGuard(server, board, lab)


async def until(holds) -> None:
    async with asyncio.timeout(SECONDS):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that only give others their turn."""
    for name in ("meshnode.actors.settings.ROUND_SECONDS", "meshnode.actors.kernel.HALT_PAUSE"):
        monkeypatch.setattr(name, 0.0)


@contextlib.asynccontextmanager
async def supervised(actor: SettingsGuard) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(lambda seconds: asyncio.sleep(0))
    task = asyncio.create_task(supervisor.run([actor]))
    try:
        yield supervisor
    finally:
        supervisor.stop()
        await task


async def test_nothing_passes_before_the_first_look():
    server = Server()
    actor = guard(server)
    assert actor.board.hold.closed and not actor.board.hold.reason
    await actor.look(server)
    assert not actor.board.hold.closed
    assert actor.state.state == "running"


@pytest.mark.parametrize("name", ["sync_binlog", "innodb_flush_log_at_trx_commit"])
async def test_missing_durability_halts_and_holds(name: str):
    server = Server()
    actor = guard(server)
    await actor.look(server)
    server.values[name] = "0"
    await actor.look(server)
    assert actor.state.state == "halted"
    assert f"{name} is '0'" in actor.state.reason
    assert "nothing is published" in actor.state.reason
    assert f"SET PERSIST {name} = 1" in actor.state.remedy
    assert actor.board.hold.closed and name in actor.board.hold.reason


async def test_another_wrong_setting_halts_and_holds_nothing():
    server = Server()
    actor = guard(server)
    server.values["binlog_row_image"] = "MINIMAL"
    await actor.look(server)
    assert actor.state.state == "halted"
    assert "binlog_row_image is 'MINIMAL'" in actor.state.reason
    assert "nothing is published" not in actor.state.reason
    assert not actor.board.hold.closed


async def test_another_wrong_setting_hides_no_missing_durability(quick):
    """It must not keep the guard from looking again at once."""
    server = Server()
    actor = guard(server)
    server.values["binlog_row_image"] = "MINIMAL"
    async with supervised(actor):
        await until(lambda: actor.state.state == "halted")
        looks = server.looks
        server.values["sync_binlog"] = "0"
        await until(lambda: actor.board.hold.closed)
        assert server.looks <= looks + 2 and actor.state.restarts == 0
        assert "nothing is published" in actor.state.reason


async def test_a_lab_goes_on_without_durability_and_logs_it_once(caplog):
    server = Server()
    actor = guard(server, lab=True)
    server.values["sync_binlog"] = "0"
    for _ in range(3):
        await actor.look(server)
    assert not actor.board.hold.closed
    assert [record.message for record in caplog.records if "sync_binlog" in record.message] == [
        "allowed in a lab only: one (db:3306): sync_binlog is '0': a power cut takes back what "
        "peers have applied"
    ]


async def test_it_ends_with_a_beat_that_was_begun_after_the_settings_were_right():
    """What was committed before them becomes durable with the next commit, not by itself."""
    server = Server()
    actor = guard(server)
    board = actor.board
    server.values["sync_binlog"] = "0"
    await actor.look(server)
    server.values["sync_binlog"] = "1"
    # The beat that comes next was perhaps under way before.
    for beat in (0, 0, 1, 1):
        board.beat_us = beat
        await actor.look(server)
        assert board.hold.closed and actor.state.state != "running"
    board.beat_us = 2
    await actor.look(server)
    assert not board.hold.closed and not board.hold.reason
    assert actor.state.state == "running"


async def test_settings_that_are_wrong_again_by_then_keep_the_hold():
    server = Server()
    actor = guard(server)
    board = actor.board
    for beat, value in enumerate("0110"):
        board.beat_us, server.values["sync_binlog"] = beat, value
        await actor.look(server)
        assert board.hold.closed
    server.values["sync_binlog"] = "1"
    for beat in (4, 5):
        board.beat_us = beat
        await actor.look(server)
        assert board.hold.closed, "beats of before count again"


async def test_it_goes_on_by_itself_when_mended(quick):
    server = Server()
    actor = guard(server)
    server.values["sync_binlog"] = "0"
    async with supervised(actor):
        await until(lambda: actor.state.state == "halted")
        server.values["sync_binlog"] = "1"

        def beaten() -> bool:
            actor.board.beat_us += 1
            return actor.state.state == "running"

        await until(beaten)
        assert not actor.board.hold.closed


async def test_without_a_session_nobody_knows(quick):
    server = Server()
    actor = guard(server)
    async with supervised(actor):
        await until(lambda: actor.state.state == "running")
        server.away = True
        await until(lambda: actor.state.state == "retrying")
        assert actor.board.hold.closed
        server.away = False
        await until(lambda: not actor.board.hold.closed)


async def test_beats_of_before_a_lost_session_do_not_count():
    server = Server()
    actor = guard(server)
    board = actor.board
    server.values["sync_binlog"] = "0"
    await actor.look(server)
    server.values["sync_binlog"] = "1"
    for beat in (0, 1):
        board.beat_us = beat
        await actor.look(server)
    server.away = True
    with pytest.raises(Retry):
        await actor.run()
    server.away = False
    board.beat_us = 2
    await actor.look(server)
    assert board.hold.closed, "the settings may have been wrong meanwhile"


async def test_a_hold_that_is_closed_again_at_once_lets_nobody_pass():
    hold = Board(1).hold
    hold.close()
    passing = asyncio.create_task(hold.passed())
    await asyncio.sleep(0)
    hold.open()
    hold.close()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not passing.done()
    hold.open()
    await passing


async def test_the_publisher_appends_nothing_while_it_is_closed():
    board, topic = Board(1), Topic()
    inbox: Mailbox[Draft | Exception] = Mailbox(2)
    item = Item(0, TRANSACTION, "uuid:1", 1)
    inbox.add(Draft(b"f", "9.7.4", 0, "uuid:1", [], [item]), 1)
    member = SimpleNamespace(mesh="m", region=1, incarnation=7)
    board.hold.close("sync_binlog is '0'")
    publishing = asyncio.create_task(publish(topic, inbox, Ledger("one", 7), member, board))
    await until(lambda: not len(inbox))
    for _ in range(20):
        await asyncio.sleep(0)
    assert topic.records == []
    board.hold.open()
    await until(lambda: topic.records)
    publishing.cancel()
    await asyncio.wait([publishing])
