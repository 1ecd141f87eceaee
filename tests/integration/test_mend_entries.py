"""What waits in ``meshnode.mend``: never lowered, and only taken out as it was read."""

from collections.abc import Iterator
from contextlib import asynccontextmanager

import pytest
from steps import running, tombstone

from meshnode.accounts import secrets
from meshnode.actors.resolver import mend
from meshnode.core.mend import Fate, LateTombstone, Lift, Reason, Restamped
from meshnode.core.stamp import ZERO, Stamp
from meshnode.errors import Busy
from meshnode.mysql import mend_rows
from meshnode.mysql.mend_rows import key_hash
from meshnode.mysql.resolver_session import ResolverSession
from meshnode.mysql.store import MysqlStore

KEY = (7).to_bytes(4, "little")
HIGH, LOW = Stamp(5_000_000_000_000_000, 1), Stamp(4_000_000_000_000_000, 1)
ENTRY = (
    "REPLACE INTO meshnode.mend (digest, key_hash, row_key, seen_ts, seen_origin, base_ts,"
    " base_origin, base_row, at)"
    " VALUES ('{}', X'{}', X'{}', %s, 1, 0, 0, 0, UTC_TIMESTAMP(6))"
)
ENTRIES = "SELECT seen_ts, seen_origin, base_row FROM meshnode.mend"


@asynccontextmanager
async def stopped_mesh(servers, folder):
    """A mesh whose first node has stopped, and a session of its account."""
    async with running(servers, folder) as mesh:
        await mesh.sql[0].execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
        await mesh.settle()
        format_bytes = mesh.nodes[0][0].board.format
        await mesh.stop(0)
        apply, tail = (secrets(mesh.topology, "one", role) for role in ("apply", "tail"))
        store = MysqlStore(mesh.topology.regions[0], apply, tail, set())
        async with store.resolving(Restamped()) as session:
            yield mesh, session, format_bytes


async def app_t(session: ResolverSession):
    table = await session.tables.named("app", "t")
    assert table is not None
    return table


@pytest.mark.parametrize("order", [(HIGH, LOW), (LOW, HIGH)])
async def test_the_greater_of_two_late_tombstones_stands(servers, tmp_path, order) -> None:
    """A clock stepped back between two deletes of one key that no trigger saw."""
    async with stopped_mesh(servers, tmp_path) as (mesh, session, fde):
        table = await app_t(session)
        late = [LateTombstone(table, KEY, stamp) for stamp in order]
        assert await session.bury(late, fde) == []
        assert await tombstone(mesh.sql[0], 7) == HIGH


@pytest.mark.parametrize("order", [(HIGH, LOW), (LOW, HIGH)])
async def test_a_late_tombstone_that_waits_is_not_lowered(servers, tmp_path, order) -> None:
    async with stopped_mesh(servers, tmp_path) as (mesh, session, fde):
        table = await app_t(session)
        for stamp in order:
            await session.hold_late(LateTombstone(table, KEY, stamp))
        assert await mesh.sql[0].rows(ENTRIES) == [(*HIGH, 2)]
        await mend(session, fde, lambda: 0)
        assert await mesh.sql[0].rows(ENTRIES) == []
        assert await tombstone(mesh.sql[0], 7) == HIGH


async def test_an_entry_replaced_while_it_is_worked_off_stays(
    servers, tmp_path, monkeypatch
) -> None:
    """The row changed, so its entry is void; meanwhile the mender holds the row's new version."""
    async with stopped_mesh(servers, tmp_path) as (mesh, session, fde):
        one, table = mesh.sql[0], await app_t(session)
        key = (1).to_bytes(4, "little")
        entry = ENTRY.format(table.digest, key_hash(key).hex(), key.hex())
        await one.execute(entry, (17,))
        lift = ResolverSession.lift

        async def overtaken_meanwhile(self, lifts, *arguments, **named) -> None:
            await lift(self, lifts, *arguments, **named)
            if lifts:
                await one.execute(entry, (18,))

        monkeypatch.setattr(ResolverSession, "lift", overtaken_meanwhile)
        assert await mend(session, fde, lambda: 0) == (0, 1)
        assert await one.rows(ENTRIES) == [(18, 1, 0)]
        monkeypatch.undo()
        assert await mend(session, fde, lambda: 0) == (0, 1)
        assert await one.rows(ENTRIES) == []


async def test_an_entry_whose_lift_is_found_done_goes(servers, tmp_path) -> None:
    """The row was lifted when nobody had the answer yet, and held back once more."""
    async with stopped_mesh(servers, tmp_path) as (mesh, session, fde):
        one, table = mesh.sql[0], await app_t(session)
        key = (1).to_bytes(4, "little")
        row = Stamp(*(await one.rows("SELECT _mesh_ts, _mesh_origin FROM app.t"))[0])
        seen = Stamp(row.ts - 100, 1)
        lift = Lift(table, key, seen, ZERO, False, Reason.PROMISE, None)
        session.restamped.note(lift, row, committed=True)
        await one.execute(ENTRY.format(table.digest, key_hash(key).hex(), key.hex()), (seen.ts,))
        assert await mend(session, fde, lambda: 0) == (1, 0)
        assert await one.rows(ENTRIES) == []
        assert await one.rows("SELECT * FROM meshnode.conflict_log") == []


async def test_a_lift_that_was_undone_knows_no_more_than_before(
    servers, tmp_path, monkeypatch
) -> None:
    """A lock on another table undid it: when it is tried again the row may be another."""
    async with stopped_mesh(servers, tmp_path) as (_, session, fde):
        table, put = await app_t(session), mend_rows.put

        def undone(lifts, charsets, images=True) -> Iterator[str]:
            if not images:
                raise Busy("a row of another table is locked")
            return put(lifts, charsets, images)

        monkeypatch.setattr(mend_rows, "put", undone)
        key = (1).to_bytes(4, "little")
        lift = Lift(table, key, None, ZERO, False, Reason.PARTIAL, None)
        await session.lift([lift], fde, lambda: 0)
        assert (lift.fate, lift.seen) == (Fate.HELD, None)
        assert await session.held() == {}


async def test_a_lift_goes_above_all_that_the_row_has_replaced(servers, tmp_path) -> None:
    """Its base is an older row, and what that one had replaced has not been written yet."""
    async with stopped_mesh(servers, tmp_path) as (mesh, session, fde):
        one, table = mesh.sql[0], await app_t(session)
        stamps = "SELECT _mesh_ts, _mesh_origin FROM app.t"
        row = Stamp(*(await one.rows(stamps))[0])
        key = (1).to_bytes(4, "little")
        lift = Lift(table, key, row, ZERO, False, Reason.REPLACED, None, above=HIGH)
        await session.lift([lift], fde, lambda: 0)
        assert await one.rows(stamps) == [(HIGH.ts + 1, 1)]
