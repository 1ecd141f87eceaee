"""The rules of reading a stream whose owner changes: each with the rule on, and off.

A ghost is what a dead process still had on the wire: an insert of a row that was deleted
meanwhile, and whose tombstone everybody has forgotten.  If it counted, the row would be back.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from late_frames import append, died_sending, lockable_mesh
from mesh import Mesh
from rules import both, switched, values
from steps import Paused, converged, run, running, sees, topic, waits
from test_huge import COUNT, PARTS, RECURSION, ROWS, TABLE, fill, holds_a_part, watched

from meshnode.actors import origin, publisher, takeover
from meshnode.actors.intake import Intake
from meshnode.core.wire import VERSION, Claim, Frame, Record, encode
from meshnode.mysql.assemble import Assembler
from meshnode.mysql.schema import tombstone_table


@dataclass
class Ghost:
    """``frame`` was published under ``epoch``; ``seq`` is now the last item of its stream."""

    mesh: Mesh
    frame: Frame
    epoch: int
    seq: int

    def again(self, epoch: int, seq: int) -> Frame:
        """The insert of the row, under another epoch and number."""
        item = msgspec.structs.replace(self.frame.items[0], seq=seq)
        return msgspec.structs.replace(self.frame, epoch=epoch, items=[item])

    def claim(self, epoch: int) -> Claim:
        frame = self.frame
        return Claim(VERSION, frame.mesh, frame.region, frame.incarnation, epoch)


@asynccontextmanager
async def ghost_of(servers, tmp_path) -> AsyncIterator[Ghost]:
    """A mesh whose first region has had two processes, and has none now."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'ghost')")
        await mesh.settle()
        frames = [record for record in await topic(mesh, 0) if isinstance(record, Frame)]
        (frame,) = (each for each in frames if any(item.entries for item in each.items))
        frame.items = [item for item in frame.items if item.entries]
        await mesh.stop(0)
        mesh.start(0)
        await two.execute("DELETE FROM app.t WHERE id = 1")
        await mesh.settle()
        await mesh.everywhere(f"DELETE FROM {tombstone_table('app', 't')}")
        await mesh.settle()
        last = mesh.nodes[0][0].board
        epoch = last.epoch
        assert epoch > frame.epoch
        found = [record for record in await topic(mesh, 0) if isinstance(record, Frame)]
        await mesh.stop(0)
        yield Ghost(mesh, frame, epoch, found[-1].items[-1].seq)


@both
async def test_frames_below_the_highest_claim_are_void(servers, tmp_path, rule) -> None:
    async with ghost_of(servers, tmp_path) as ghost:
        mesh = ghost.mesh
        with switched(rule, "frames of a dead process count"):
            await append(mesh, ghost.again(ghost.frame.epoch, ghost.seq + 1))
            mesh.start(0)
            await mesh.settle()
            assert await values(mesh) == [None, None if rule == "on" else "ghost"]


@both
async def test_the_highest_claim_counts(servers, tmp_path, rule) -> None:
    """Off: the last one, which is that of a process that was slow to say so."""
    async with ghost_of(servers, tmp_path) as ghost:
        mesh, dead = ghost.mesh, ghost.frame.epoch
        with switched(rule, "the last claim counts"):
            await append(mesh, ghost.claim(dead), ghost.again(dead, ghost.seq + 1))
            mesh.start(0)
            await mesh.settle()
            assert await values(mesh) == [None, None if rule == "on" else "ghost"]


@both
async def test_each_process_claims_the_stream(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: all records have the first epoch, and what a dead process had on the wire counts."""
    read_own_end = origin.read_own_end

    def unsigned(record: Record) -> bytes:
        record.epoch = 1
        return encode(record)

    async def content(reader, member, sender, end):
        ledger, position = await read_own_end(reader, member, sender, end)
        ledger.epoch = member.epoch
        return ledger, position

    if rule == "off":
        monkeypatch.setattr(takeover, "encode", unsigned)
        monkeypatch.setattr(publisher, "encode", unsigned)
        monkeypatch.setattr(origin, "read_own_end", content)
    async with lockable_mesh(servers, tmp_path) as mesh:
        async with died_sending(mesh) as wire:
            mesh.start(0)
            wire.lands_behind_claim(mesh.nodes[0][0].writer)
        assert await values(mesh, 2) == ["next", "next" if rule == "on" else None]


@both
async def test_a_gap_is_refused(servers, tmp_path, rule) -> None:
    """Off: whatever stood in the gap is lost, and nobody knows."""
    async with ghost_of(servers, tmp_path) as ghost:
        mesh = ghost.mesh
        with switched(rule, "a gap is passed over"):
            await append(mesh, ghost.again(ghost.epoch, ghost.seq + 2))
            if rule == "on":
                await waits(mesh, 1, "applier one", "has a gap", f"{ghost.seq + 2} follows")
            else:
                await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "ghost")


@asynccontextmanager
async def died_in_the_middle(servers, tmp_path) -> AsyncIterator[Mesh]:
    """The first region's node has died when it had published a part of a huge transaction."""
    async with running(servers, tmp_path, TABLE, limits=PARTS) as mesh:
        one, _ = mesh.sql
        await run(one, RECURSION)
        await mesh.settle()
        async with Paused(mesh.nodes[0][0].writer, "append", holds_a_part(mesh)) as pause:
            await one.execute(fill())
            await pause.reached()
            await mesh.drop(0)
        yield mesh


@both
async def test_a_claim_voids_the_parts_before_it(servers, tmp_path, rule) -> None:
    """Off: the first part of the second telling is out of order, and its readers stand."""
    async with died_in_the_middle(servers, tmp_path) as mesh:
        with switched(rule, "a claim leaves parts standing"):
            mesh.start(0)
            if rule == "on":
                await sees(mesh, 1, COUNT, ROWS, 60)
                assert len(await converged(mesh)) == ROWS
            else:
                await waits(mesh, 1, "applier one", "has part 0 of", "is due")


@both
async def test_the_position_moves_with_the_last_part(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: it moves with each part, and a transaction that was cut off is never told again."""
    emit = Assembler._emit

    def with_each_part(self, tx, last=False) -> None:
        emit(self, tx, last)
        if not last:
            tx.passed = [self._gtid]

    if rule == "off":
        monkeypatch.setattr(Assembler, "_emit", with_each_part)
    async with died_in_the_middle(servers, tmp_path) as mesh:
        mesh.start(0)
        if rule == "on":
            await sees(mesh, 1, COUNT, ROWS, 60)
            assert len(await converged(mesh)) == ROWS
        else:
            await mesh.settle()
            assert await mesh.sql[1].value(COUNT) == 0


@both
async def test_parts_are_applied_when_the_last_is_there(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """Off: readers see a half transaction."""

    async def as_they_come(self, item, mark, page) -> None:
        ready = self._ready(item, page.tables, mark, page.format)
        await self.outbox.put(ready, ready.size)

    if rule == "off":
        monkeypatch.setattr(Intake, "_part", as_they_come)
    async with running(servers, tmp_path, TABLE, limits=PARTS) as mesh:
        one, _ = mesh.sql
        await run(one, RECURSION)
        await mesh.settle()
        async with watched(mesh, 1) as watch:
            await one.execute(fill())
            await sees(mesh, 1, COUNT, ROWS, 60)
        assert (watch.seen <= {0, ROWS}) is (rule == "on"), watch.seen
