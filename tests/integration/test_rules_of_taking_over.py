"""The rules by which a process goes on where another has ended: each with the rule on, and off."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from late_frames import (
    INSERT,
    OnTheWire,
    all_judged,
    append,
    died_sending,
    has_entries,
    heart,
    judged_otherwise,
    lockable_mesh,
    of_one,
)
from mesh import Mesh
from regions import now_us
from rules import both, drop_triggers, insert_stamped, values
from steps import Paused, converged, running, sees, topic, waits
from test_rules_of_claims import ghost_of

from meshnode.actors import origin
from meshnode.actors.board import Tail
from meshnode.actors.mender import Mender
from meshnode.actors.origin import Origin
from meshnode.core.ledger import Ledger
from meshnode.core.mend import Examined, Fate
from meshnode.core.wire import Frame
from meshnode.errors import Fenced, Retry
from meshnode.mysql.claiming_session import ClaimingSession
from meshnode.mysql.heart_session import HeartSession
from meshnode.mysql.schema import TriggerRole
from meshnode.node import Node


async def stand_twice(mesh: Mesh) -> list[str]:
    """Transactions with rows that the first region's topic has twice, in frames that count."""
    counts: Counter[str] = Counter()
    epoch = 0
    for record in await topic(mesh, 0):
        epoch = max(epoch, record.epoch)
        if isinstance(record, Frame) and record.epoch == epoch:
            counts.update(item.tx_id for item in record.items if item.entries)
    return [tx_id for tx_id, count in counts.items() if count > 1]


@both
async def test_the_end_of_the_own_topic_counts(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: a checkpoint does, which is older.  What was published behind it is published again."""
    take_over = Origin._take_over

    async def by_checkpoint(self, session):
        member, ledger = await take_over(self, session)
        ledger.resume = member.tail.gtids
        return member, ledger

    async with running(servers, tmp_path) as mesh:
        await mesh.settle()
        async with Paused(heart(mesh), "beat") as pause:
            await pause.reached()
            await mesh.sql[0].execute(INSERT.format(1, "x"))
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "x")
            await mesh.drop(0)
        if rule == "off":
            monkeypatch.setattr(Origin, "_take_over", by_checkpoint)
        mesh.start(0)
        await mesh.settle()
        assert bool(await stand_twice(mesh)) is (rule == "off")


@both
async def test_the_last_item_that_counts_is_the_last(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: the numbers go on behind those of a void frame, and the readers find a gap."""
    last: dict[int, Frame] = {}
    take, read_own_end = Ledger.take, origin.read_own_end

    def noting(self, record):
        if isinstance(record, Frame):
            last[id(self)] = record
        return take(self, record)

    async def trusting(*arguments):
        ledger, position = await read_own_end(*arguments)
        ledger.seq, ledger.resume = last[id(ledger)].items[-1].seq, last[id(ledger)].resume
        return ledger, position

    async with ghost_of(servers, tmp_path) as ghost:
        mesh = ghost.mesh
        await append(mesh, ghost.again(ghost.frame.epoch, ghost.seq + 5))
        if rule == "off":
            monkeypatch.setattr(Ledger, "take", noting)
            monkeypatch.setattr(origin, "read_own_end", trusting)
        mesh.start(0)
        if rule == "on":
            await converged(mesh)
        else:
            await waits(mesh, 1, "applier one", "has a gap")


@both
async def test_the_topic_is_read_to_the_own_claim(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: a frame that lands before the claim is not seen.  Its numbers are given once more, and
    what gets them now is passed over by those who have read the frame.
    """
    read_own_end = origin.read_own_end

    async def to_the_former_end(reader, member, sender, _):
        ledger, position = await read_own_end(reader, member, sender, before)
        ledger.epoch = member.epoch
        return ledger, position

    async with lockable_mesh(servers, tmp_path) as mesh:
        board = mesh.nodes[0][0].board
        async with died_sending(mesh) as wire:
            before = board.tail.position
            if rule == "off":
                monkeypatch.setattr(origin, "read_own_end", to_the_former_end)
            async with Paused(ClaimingSession, "raise_epoch") as claim:
                mesh.start(0)
                await claim.reached()
                await append(mesh, await wire.frame())
        assert await values(mesh, 2) == ["next", "next" if rule == "on" else None]


@both
async def test_an_epoch_is_claimed_once(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: a claim without an answer is made again, and does not void what was on its way."""
    raise_epoch = Origin._raise_epoch

    async def again(self, session) -> int:
        epoch = (await session.member()).epoch
        return epoch if epoch == self.board.epoch else await raise_epoch(self, session)

    async with lockable_mesh(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        wire = OnTheWire(mesh)
        wire.lands_behind_claim(mesh.nodes[0][0].writer)
        async with Paused(heart(mesh), "beat") as silent, await mesh.session(0) as client:
            await silent.reached()
            await one.execute(INSERT.format(1, "x"))
            await wire.frame()
            await judged_otherwise(mesh, client)
            if rule == "off":
                monkeypatch.setattr(Origin, "_raise_epoch", again)
            wire.fail()
            await all_judged(mesh)
            await client.execute("COMMIT")
        await mesh.settle()
        assert await values(mesh, 2) == ["next", "next" if rule == "on" else None]


@asynccontextmanager
async def standing_before_its_claim(
    mesh: Mesh,
) -> AsyncIterator[tuple[Node, asyncio.Task[None], asyncio.Event]]:
    """A node of the first region that has raised the epoch, its task, and what lets it go on."""
    mesh.start(0)
    node, task = mesh.nodes.pop(0)
    raised, goes = asyncio.Event(), asyncio.Event()
    open_writer = node.writer.open

    async def standing(timeout: float) -> bytes:
        if goes.is_set():
            return await open_writer(timeout)
        raised.set()
        await goes.wait()
        raise Retry("the bus does not answer")

    node.writer.open = standing
    try:
        await asyncio.wait_for(raised.wait(), 20)
        yield node, task, goes
    finally:
        task.cancel()
        await asyncio.wait([task])


@both
async def test_an_epoch_of_another_process_does_not_serve(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """Off: a process that stood still before its claim claims the epoch of one that came and went,
    and does not void what that one has on its way.
    """
    raise_epoch = Origin._raise_epoch

    async def any_epoch(self, session) -> int:
        if self.unclaimed:
            # For its appliers, too: these would find the other epoch, and end the process.
            self.board.apply_epoch = 0
            return (await session.member()).epoch
        return await raise_epoch(self, session)

    async with lockable_mesh(servers, tmp_path) as mesh:
        await mesh.stop(0)
        if rule == "off":
            monkeypatch.setattr(Origin, "_raise_epoch", any_epoch)
        async with standing_before_its_claim(mesh) as (slow, task, goes):
            mesh.start(0)
            await mesh.settle()
            async with died_sending(mesh) as wire:
                goes.set()
                if rule == "on":
                    with pytest.raises(Fenced):
                        await asyncio.wait_for(asyncio.shield(task), 20)
                    mesh.start(0)
                else:
                    mesh.nodes[0] = slow, task
                wire.lands_behind_claim(mesh.nodes[0][0].writer)
            assert await values(mesh, 2) == ["next", "next" if rule == "on" else None]


@both
async def test_a_dead_process_does_not_move_the_tail(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: the next one begins behind a void frame, with the numbers of the dead process."""

    async def careless(self, epoch, *arguments) -> bool:
        epoch = int(await self.session.value("SELECT epoch FROM meshnode.member"))
        return await beat(self, epoch, *arguments)

    beat = HeartSession.beat
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        await mesh.settle()
        wire, dead = OnTheWire(mesh), heart(mesh)
        await one.execute(INSERT.format(1, "x"))
        frame = await wire.frame()
        await mesh.drop(0)
        mesh.start(0)
        await one.execute(INSERT.format(2, "next"))
        await mesh.settle()
        await mesh.stop(0)

        # It comes to itself: its frame lands, and its heart beats once more.
        position = await append(mesh, frame)
        item = frame.items[-1]
        dead.board.tail = Tail(
            position, item.seq, frame.resume, frame.promised, frame.epoch, item.tx_id,
            item.commit_us,
        )  # fmt: skip
        if rule == "off":
            monkeypatch.setattr(HeartSession, "beat", careless)
        async with dead.store.beating() as session:
            try:
                await dead.beat(session)
            except Fenced:
                assert rule == "on"
            else:
                assert rule == "off"
        monkeypatch.undo()

        mesh.start(0)
        await mesh.settle()
        assert bool(await stand_twice(mesh)) is (rule == "off")


@both
async def test_mending_is_committed_before_the_append(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: the stream has passed a row that was to be lifted, and nobody comes back to it."""

    due: list[tuple[Mender, list[Examined], bytes]] = []
    mend = Mender._mend

    async def later(self, examined, fde) -> None:
        due.append((self, examined, fde))
        for each in examined:
            for lift in each.lifts.values():
                lift.fate = Fate.LIFTED

    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        await drop_triggers(one, TriggerRole.BEFORE_INSERT)
        await mesh.settle()
        writer = mesh.nodes[0][0].writer
        async with Paused(
            writer, "append", lambda payload: has_entries(of_one(mesh, payload))
        ) as pause:
            append_only = writer.append

            async def append_and_mend(payload: bytes) -> bytes:
                position = await append_only(payload)
                while due:
                    await mend(*due.pop(0))
                return position

            if rule == "off":
                monkeypatch.setattr(Mender, "_mend", later)
                writer.append = append_and_mend
            async with one.transaction():
                await insert_stamped(one, "stamped", now_us(), 1)
                await one.execute(INSERT.format(2, "to be lifted"))
            await pause.reached()
            await mesh.drop(0)
        monkeypatch.undo()
        mesh.start(0)
        await mesh.settle()
        assert await values(mesh) == ["stamped", "stamped"]
        assert await values(mesh, 2) == ["to be lifted", "to be lifted" if rule == "on" else None]
