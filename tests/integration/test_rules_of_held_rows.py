"""The rules of rows that wait for a lock before they are lifted: each with the rule on, and off.

A client of the first region holds the tombstone of key 1, so whatever is written there is held
back.  Nobody else has seen such a version: when it is gone, only its record says that it was.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import pytest
from mesh import Mesh
from rules import both, held_by_a_client, mender_of, of_region
from steps import Paused, converged, records, run, sees, stamp, until

from meshnode.core.lifting import owes_a_record
from meshnode.core.mend import Lift
from meshnode.mysql import mend_rows
from meshnode.mysql.control import Control
from meshnode.mysql.mending import MendingStatements
from meshnode.mysql.resolver_session import ResolverSession
from tests.sim.mutants import everywhere

ROW = "SELECT v FROM app.t WHERE id = 1"


@asynccontextmanager
async def held(
    servers, tmp_path, *, buried: bool = False
) -> AsyncIterator[tuple[Mesh, Control, Paused]]:
    """A mesh, the client, and the first region's resolver, who stands still.

    The row 'first', which no trigger has stamped, waits.  ``buried``: a delete came before it
    that no trigger saw, of a row with a stamp ahead; its late tombstone waits, too.
    """
    async with held_by_a_client(servers, tmp_path, base=buried) as (mesh, client, resolver):
        one, _ = mesh.sql
        if buried:
            await one.execute("DELETE FROM app.t WHERE id = 1")
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'first')")
        await until(lambda: mesh.count("held") == 1, "a row that is held back")
        yield mesh, client, resolver


async def lost(mesh: Mesh) -> list[str | None]:
    """What the records of the first region say of versions that nobody has seen."""
    found, _ = await records(mesh, {"id": 1})
    return [each.image and each.image["v"] for each in found if each.kind == "overtaken"]


@both
async def test_a_version_that_gives_way_has_a_record(servers, tmp_path, rule) -> None:
    """Off: the next version takes its place, and nothing says that it was there."""
    async with held(servers, tmp_path) as (mesh, client, resolver):
        off = everywhere(owes_a_record, lambda _: lambda *_: False)
        with off if rule == "off" else nullcontext():
            await mesh.sql[0].execute("UPDATE app.t SET v = 'second' WHERE id = 1")
            await until(lambda: mesh.count("held") == 2, "another version that is held back")
            await client.execute("COMMIT")
            resolver.go()
            assert [row[1] for row in await converged(mesh)] == ["second"]
        assert await lost(mesh) == (["first"] if rule == "on" else [])


@both
async def test_no_stamp_is_a_stamp(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: a row that was seen without one counts as not seen, and whatever stands is lifted."""
    if rule == "off":
        monkeypatch.setattr(mend_rows, "UNSTAMPED", 0)
    async with held(servers, tmp_path) as (mesh, client, resolver):
        one, two = mesh.sql
        await client.execute("COMMIT")
        await two.execute("INSERT INTO app.t (id, v) VALUES (1, 'two')")
        await sees(mesh, 0, ROW, "two")
        resolver.go()
        assert [row[1] for row in await converged(mesh)] == ["two"]
        assert (await stamp(one, 1))[1] == (2 if rule == "on" else 1)


@both
async def test_who_cannot_record_a_version_does_not_settle_it(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """A late tombstone is written, and the row below it has changed before it can be lifted.

    Off: this takes out what waits of that row, and has no image for the record.
    """
    if rule == "off":
        monkeypatch.setattr("meshnode.core.lifting.may_settle", lambda *_: True)
    async with held(servers, tmp_path, buried=True) as (mesh, client, resolver):
        mender = mender_of(1)
        below = Paused(ResolverSession, "rows_below", of_region(1))
        async with mender, below:
            await mender.reached()
            await client.execute("COMMIT")
            resolver.go()
            await below.reached()
            await mesh.sql[0].execute("UPDATE app.t SET v = 'later' WHERE id = 1")
            below.go()
            await sees(mesh, 0, "SELECT COUNT(*) FROM meshnode.mend", 0)
        assert [row[1] for row in await converged(mesh)] == ["later"]
        assert await lost(mesh) == (["first"] if rule == "on" else [])


@both
async def test_who_knows_no_image_leaves_the_one_that_waits(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """A late tombstone is written, and the row below it is locked when it should be lifted.

    Off: that it waits now for this, too, is noted in the place of its image.
    """
    hold = MendingStatements._hold

    async def wiping(self, lifts) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Lift, "is_bare", False)
            await hold(self, lifts)

    if rule == "off":
        monkeypatch.setattr(MendingStatements, "_hold", wiping)
    async with held(servers, tmp_path, buried=True) as (mesh, client, resolver):
        mender = mender_of(1)
        below = Paused(ResolverSession, "rows_below", of_region(1))
        next_round = Paused(ResolverSession, "definitions", of_region(1))
        async with mender, below:
            await mender.reached()
            await client.execute("COMMIT")
            resolver.go()
            await below.reached()
            await run(client, "BEGIN", "UPDATE app.t SET v = 'later' WHERE id = 1")
            async with next_round:
                below.go()
                await next_round.reached()
                await client.execute("COMMIT")
            await sees(mesh, 0, "SELECT COUNT(*) FROM meshnode.mend", 0)
        assert [row[1] for row in await converged(mesh)] == ["later"]
        assert ("first" in await lost(mesh)) is (rule == "on")
