"""The rules of applying, each shown to be needed: one script with the rule on, and with it off.

With the rule on a script ends as it should.  With it off (``rule == "off"``, a
patch that takes nothing else away) the same script must end wrong, and the test says how.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from mesh import NAMES
from rules import both, ends, unfenced, values
from steps import (
    Paused,
    applying,
    converged,
    gardening,
    has_rows,
    records,
    run,
    running,
    sees,
    tombstone,
    until,
)

from meshnode.actors import parking
from meshnode.actors.applier import Applier
from meshnode.actors.apply_loop import ApplyLoop
from meshnode.core.plan import Form
from meshnode.errors import Fenced, Retry
from meshnode.mysql import applier_session, session
from meshnode.mysql.applying import ApplyingStatements
from meshnode.mysql.claiming_session import ClaimingSession
from meshnode.mysql.rowvalues import row_values
from meshnode.mysql.schema import tombstone_table
from meshnode.node import Node
from meshnode.store.values import Unable

TOMBSTONES = tombstone_table("app", "t")


@both
async def test_the_position_commits_with_the_data(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: the position is committed first, the node dies before the data: it never comes."""

    async def first(session, *arguments) -> bool:
        found = await fence(session, *arguments)
        await session.query("COMMIT")
        await session.query("BEGIN")
        return found

    fence = applier_session.fence
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        if rule == "off":
            monkeypatch.setattr(applier_session, "fence", first)
        async with Paused(applying(mesh, 1, 0), "lock", has_rows) as pause:
            await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
            await pause.reached()
            await mesh.drop(1)
        monkeypatch.undo()
        mesh.start(1)
        await one.execute("INSERT INTO app.t (id, v) VALUES (2, 'y')")
        if rule == "on":
            assert [row[0] for row in await converged(mesh)] == [1, 2]
        else:
            await mesh.settle()
            assert await two.rows("SELECT id FROM app.t") == [(2,)]


@contextlib.asynccontextmanager
async def zombie_of(mesh, at: int, peer: int) -> AsyncIterator[Applier]:
    """The applier of a process that stands still while another takes its region over."""
    node = Node(mesh.topology, None, NAMES[at])
    board = mesh.nodes[at][0].board
    node.board.epoch, node.board.apply_epoch = board.epoch, board.apply_epoch
    node.board.claim()
    try:
        yield next(each for each in node.actors if each.name == f"applier {NAMES[peer]}")
    finally:
        await node.bus.close()


@both
async def test_the_fence_of_an_apply_transaction(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: it asks for no ``seq`` and no ``epoch``.  A process that comes back writes an old row
    again, over a delete whose tombstone everybody has forgotten.

    The start of the successor kills the sessions it finds; here it finds none, as when the
    other process connects just after.
    """

    async def killing_nobody(session) -> None:
        pass

    def dies(*_) -> None:
        raise asyncio.CancelledError

    def of_the_zombie(loop, batch) -> bool:
        return loop is zombie.loop and any(each.rows for each in batch)

    # The server must not end the session that stands still, however slow this machine is.
    patient = session._PINNED.replace("wait_timeout = 30", "wait_timeout = 300", 1)
    monkeypatch.setattr(session, "_PINNED", patient)
    monkeypatch.setattr(ClaimingSession, "end_others", killing_nobody)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        async with (
            zombie_of(mesh, 1, 0) as zombie,
            Paused(ApplyLoop, "_works", of_the_zombie) as pause,
        ):
            await mesh.stop(1)
            running_zombie = asyncio.create_task(zombie.run())
            await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
            await pause.reached()
            mesh.start(1)
            await sees(mesh, 1, "SELECT COUNT(*) FROM app.t", 1)
            await one.execute("DELETE FROM app.t WHERE id = 1")
            await mesh.settle()

            async with gardening(mesh, 0) as here, gardening(mesh, 1) as there:

                async def forgotten() -> bool:
                    await here()
                    await there()
                    return await tombstone(one, 1) is None and await tombstone(two, 1) is None

                await until(forgotten, "tombstones that are stable")
            if rule == "off":
                monkeypatch.setattr(applier_session, "fence", unfenced)
                # It dies again after that: the delete, which it has read too, stays undone.
                monkeypatch.setattr(zombie.loop, "_done", dies)
            pause.go()
            if rule == "on":
                await asyncio.wait([running_zombie], timeout=20)
                assert isinstance(running_zombie.exception(), Fenced)
                assert await converged(mesh) == []
            else:
                await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "x")
                assert await one.value("SELECT COUNT(*) FROM app.t") == 0
                running_zombie.cancel()
                await asyncio.wait([running_zombie])


@both
async def test_the_fence_asks_for_the_number(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: a COMMIT that came through, and answered with an error, is done again.

    A client has deleted the row meanwhile, and its tombstone is forgotten.
    """

    async def by_epoch(session, first) -> bool:
        ((seq,),) = await session.query(
            f"SELECT seq FROM meshnode.applied WHERE origin = {first.origin} FOR UPDATE"
        )
        return await fence(session, first._replace(seq=seq))

    async def answering_wrong(self, tally) -> None:
        await commit(self, tally)
        if self.region.id == 2 and tally.counts["applied_rows"] and not answered:
            await run(two, "DELETE FROM app.t WHERE id = 1", f"DELETE FROM {TOMBSTONES}")
            answered.append(True)
            raise Retry("the server says that it failed")

    fence, commit = applier_session.fence, ApplyLoop._commit
    answered: list[bool] = []
    if rule == "off":
        monkeypatch.setattr(applier_session, "fence", by_epoch)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        monkeypatch.setattr(ApplyLoop, "_commit", answering_wrong)
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
        await until(lambda: answered, "a COMMIT")
        await ends(mesh, rule, [], [None, "x"])


@both
async def test_what_cannot_stand_is_undone_as_a_whole(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: what the first try took away is not found again by the next, which owes its record."""

    async def left_standing(self, name: str) -> None:
        pass

    if rule == "off":
        monkeypatch.setattr(applier_session.ApplierSession, "back_to", left_standing)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES (1, 'base', 1)")
        await mesh.settle()
        await two.execute("ALTER TABLE app.t ADD CONSTRAINT small CHECK (n < 100)")
        mesh.isolate(0)
        await two.execute("UPDATE app.t SET v = 'lost' WHERE id = 1")
        async with one.transaction():
            await run(
                one, "DELETE FROM app.t WHERE id = 1", "INSERT INTO app.t VALUES (2, 'big', 200)"
            )
        mesh.cut()
        await sees(mesh, 1, "SELECT COUNT(*) FROM meshnode.dead_letter", 1)
        await mesh.settle()
        assert await values(mesh) == [None, None]
        _, found = await records(mesh, {"id": 1})
        assert [each.image["v"] for each in found] == (["lost"] if rule == "on" else [])


@both
async def test_parking_finds_the_row_by_halves(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: the item is parked as a whole, and rows that could stand are missing."""

    async def whole(self, incoming, parked) -> None:
        error = await self._whole(incoming) if incoming else None
        if error is not None:
            parked += (Unable(each, error) for each in incoming)

    if rule == "off":
        monkeypatch.setattr(parking.Parking, "_attempt", whole)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await two.execute("ALTER TABLE app.t ADD CONSTRAINT small CHECK (n < 100)")
        await one.execute("INSERT INTO app.t VALUES (1, 'x', 1), (2, 'x', 200), (3, 'x', 3)")
        await one.execute("INSERT INTO app.t VALUES (50, 'next', 1)")
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 50", "next")
        letters = [
            json.loads(key)["id"]
            for (key,) in await two.rows("SELECT row_key FROM meshnode.dead_letter ORDER BY id")
        ]
        kept = [key for (key,) in await two.rows("SELECT id FROM app.t ORDER BY id")]
        if rule == "on":
            assert (letters, kept) == ([2], [1, 3, 50])
        else:
            assert (letters, kept) == ([1, 2, 3], [50])


@both
async def test_rows_are_written_by_primary_key(servers, tmp_path, monkeypatch, rule) -> None:
    """T13.  Off: ``INSERT ... ON DUPLICATE KEY UPDATE``.  Two keys of one unique value: the
    statement for one of them changes the row of the other, and nobody is told.
    """

    async def upsert(self, plan) -> None:
        for step in plan.steps:
            if step.form is not Form.WRITE:
                await write(self, plan)
                return
            shape = step.table.shape
            names = [f"`{column.name}`" for column in shape.columns]
            for chunk in step.chunks:
                values = row_values(shape, chunk, self.lookups.charsets).values()
                await self.session.query(
                    f"INSERT INTO app.t ({','.join(names)}) VALUES"
                    f" ({','.join(repr(value) for value in values)}) ON DUPLICATE KEY UPDATE"
                    f" {','.join(f'{name} = VALUES({name})' for name in names[1:])}"
                )

    write = ApplyingStatements.write
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, u VARCHAR(10) UNIQUE, v INT)"
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        mesh.isolate(0)
        await one.execute("INSERT INTO app.t VALUES (1, 'same', 1)")
        await two.execute("INSERT INTO app.t VALUES (2, 'same', 2)")
        if rule == "off":
            monkeypatch.setattr(ApplyingStatements, "write", upsert)
        mesh.cut((1, 0))
        if rule == "on":
            await sees(mesh, 1, "SELECT COUNT(*) FROM meshnode.dead_letter", 1)
            assert await two.rows("SELECT * FROM app.t") == [(2, "same", 2)]
        else:
            await sees(mesh, 1, "SELECT v FROM app.t", 1)
            assert await two.rows("SELECT * FROM app.t") == [(2, "same", 1)]
            for record in ("conflict_log", "dead_letter"):
                assert await two.value(f"SELECT COUNT(*) FROM meshnode.{record}") == 0


@both
async def test_an_applier_for_each_peer(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: the streams take turns on one applier.  What one of them waits for, all wait for."""

    class Turn:
        """Goes to the next stream when a batch has gone in."""

        def __init__(self) -> None:
            self.lock = asyncio.Lock()
            self.holder: ApplyLoop | None = None
            self.queue: list[str] = []

        async def take(self, taker: ApplyLoop, *arguments) -> None:
            if self.holder is not taker:
                self.queue.append(taker.peer.name)
                await self.lock.acquire()
                self.queue.remove(taker.peer.name)
                self.holder = taker
            await attempt(taker, *arguments)
            self.holder = None
            self.lock.release()

    attempt, turns = ApplyLoop._try, {name: Turn() for name in NAMES}

    async def in_turn(self, *arguments) -> None:
        await turns[self.region.name].take(self, *arguments)

    async with running(servers, tmp_path, regions=3) as mesh:
        one, two, three = mesh.sql
        await one.execute("INSERT INTO app.t (id) VALUES (1), (2)")
        await mesh.settle()
        if rule == "off":
            monkeypatch.setattr(ApplyLoop, "_try", in_turn)
        async with await mesh.session(1) as client:
            await client.execute("BEGIN")
            await client.execute("UPDATE app.t SET v = 'held' WHERE id = 1")
            await one.execute("UPDATE app.t SET v = 'one' WHERE id = 1")
            await until(lambda: mesh.count("busy"), "an applier that met the lock")
            await three.execute("UPDATE app.t SET v = 'three' WHERE id = 2")
            if rule == "on":
                await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 2", "three")
            else:
                busy = mesh.count("busy")
                await until(
                    lambda: turns["two"].queue == ["three"], "the other stream in the queue"
                )
                await until(lambda: mesh.count("busy") > busy + 2, "some more tries")
                assert await two.value("SELECT v FROM app.t WHERE id = 2") is None
            await client.execute("COMMIT")
        rows = await converged(mesh)
        assert [row[1] for row in rows] == ["one", "three"]
