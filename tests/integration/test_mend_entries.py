"""What waits in ``meshnode.mend``: never lowered, and only taken out as it was read."""

from contextlib import asynccontextmanager

import pytest
from steps import running, tombstone

from meshnode.accounts import secrets
from meshnode.actors.sessions import session_of
from meshnode.core.mend import LateTombstone, Lift, Reason, Restamped
from meshnode.core.plan import Ancestry
from meshnode.core.stamp import ZERO, Stamp
from meshnode.mysql.leftovers import Leftovers
from meshnode.mysql.lookup import read_collations
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.mending import Mending, key_hash

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
        board = mesh.nodes[0][0].board
        format_bytes = board.format
        await mesh.stop(0)
        login = secrets(mesh.topology, "one", "apply")
        async with session_of(mesh.topology.regions[0], login, "test", board) as session:
            lookups = Lookups(await read_collations(session))
            leftovers = Leftovers(session, 1, lookups, Ancestry(10, 1), Restamped(), 1 << 24)
            yield mesh, leftovers, format_bytes


async def app_t(leftovers: Leftovers):
    table = await leftovers.tables.named("app", "t")
    assert table is not None
    return table


@pytest.mark.parametrize("order", [(HIGH, LOW), (LOW, HIGH)])
async def test_the_greater_of_two_late_tombstones_stands(servers, tmp_path, order) -> None:
    """A clock stepped back between two deletes of one key that no trigger saw."""
    async with stopped_mesh(servers, tmp_path) as (mesh, leftovers, fde):
        table = await app_t(leftovers)
        late = [LateTombstone(table, KEY, stamp) for stamp in order]
        assert await leftovers.mending.bury(late, fde) == []
        assert await tombstone(mesh.sql[0], 7) == HIGH


@pytest.mark.parametrize("order", [(HIGH, LOW), (LOW, HIGH)])
async def test_a_late_tombstone_that_waits_is_not_lowered(servers, tmp_path, order) -> None:
    async with stopped_mesh(servers, tmp_path) as (mesh, leftovers, fde):
        table = await app_t(leftovers)
        for stamp in order:
            await leftovers.mending.hold_late(LateTombstone(table, KEY, stamp))
        assert await mesh.sql[0].rows(ENTRIES) == [(*HIGH, 2)]
        await leftovers.mend(fde, lambda: 0)
        assert await mesh.sql[0].rows(ENTRIES) == []
        assert await tombstone(mesh.sql[0], 7) == HIGH


async def test_an_entry_replaced_while_it_is_worked_off_stays(
    servers, tmp_path, monkeypatch
) -> None:
    """The row changed, so its entry is void; meanwhile the mender holds the row's new version."""
    async with stopped_mesh(servers, tmp_path) as (mesh, leftovers, fde):
        one, table = mesh.sql[0], await app_t(leftovers)
        key = (1).to_bytes(4, "little")
        entry = ENTRY.format(table.digest, key_hash(key).hex(), key.hex())
        await one.execute(entry, (17,))
        lift = Mending.lift

        async def overtaken_meanwhile(self, lifts, *arguments, **named) -> None:
            await lift(self, lifts, *arguments, **named)
            if lifts:
                await one.execute(entry, (18,))

        monkeypatch.setattr(Mending, "lift", overtaken_meanwhile)
        assert await leftovers.mend(fde, lambda: 0) == (0, 1)
        assert await one.rows(ENTRIES) == [(18, 1, 0)]
        monkeypatch.undo()
        assert await leftovers.mend(fde, lambda: 0) == (0, 1)
        assert await one.rows(ENTRIES) == []


async def test_an_entry_whose_lift_is_found_done_goes(servers, tmp_path) -> None:
    """The row was lifted when nobody had the answer yet, and held back once more."""
    async with stopped_mesh(servers, tmp_path) as (mesh, leftovers, fde):
        one, table = mesh.sql[0], await app_t(leftovers)
        key = (1).to_bytes(4, "little")
        row = Stamp(*(await one.rows("SELECT _mesh_ts, _mesh_origin FROM app.t"))[0])
        seen = Stamp(row.ts - 100, 1)
        lift = Lift(table, key, seen, ZERO, False, Reason.PROMISE, None)
        leftovers.mending.restamped.note(lift, row, committed=True)
        await one.execute(ENTRY.format(table.digest, key_hash(key).hex(), key.hex()), (seen.ts,))
        assert await leftovers.mend(fde, lambda: 0) == (1, 0)
        assert await one.rows(ENTRIES) == []
        assert await one.rows("SELECT * FROM meshnode.conflict_log") == []


async def test_a_lift_goes_above_all_that_the_row_has_replaced(servers, tmp_path) -> None:
    """Its base is an older row, and what that one had replaced has not been written yet."""
    async with stopped_mesh(servers, tmp_path) as (mesh, leftovers, fde):
        one, table = mesh.sql[0], await app_t(leftovers)
        stamps = "SELECT _mesh_ts, _mesh_origin FROM app.t"
        row = Stamp(*(await one.rows(stamps))[0])
        key = (1).to_bytes(4, "little")
        lift = Lift(table, key, row, ZERO, False, Reason.REPLACED, None, above=HIGH)
        await leftovers.mending.lift([lift], fde, lambda: 0)
        assert await one.rows(stamps) == [(HIGH.ts + 1, 1)]
