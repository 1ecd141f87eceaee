"""The rules of deletes that no trigger saw: each with the rule on, and off.

The first region loses its trigger for deletes.  Where its base row has a stamp of an hour ahead,
the late tombstone is above whatever else is written.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh import Mesh
from regions import HOUR_US, now_us
from rules import (
    Between,
    both,
    drop_triggers,
    ends,
    held_by_a_client,
    insert_stamped,
    mender_of,
    switched,
)
from steps import Paused, converged, run, running, sees, until

from meshnode.core import mend as core_mend
from meshnode.core.stamp import Stamp, late_tombstone
from meshnode.mysql.mending import MendingStatements
from meshnode.mysql.schema import TriggerRole

INSERT = "INSERT INTO app.t (id, v) VALUES (1, '{}')"
DELETE = "DELETE FROM app.t WHERE id = 1"


@asynccontextmanager
async def unlooked(servers, tmp_path) -> AsyncIterator[tuple[Mesh, Paused]]:
    """The first region's mender stands still; a row was inserted and deleted without a trigger."""
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        await drop_triggers(one, TriggerRole.BEFORE_INSERT, TriggerRole.AFTER_DELETE)
        async with mender_of(1) as pause:
            await pause.reached()
            await insert_stamped(one, "base", now_us() + HOUR_US, 1)
            await one.execute(DELETE)
            yield mesh, pause


@both
async def test_a_late_tombstone_takes_what_it_beats(servers, tmp_path, rule) -> None:
    """Off: an older row of another region, come in after the delete, stays in this one alone."""
    async with unlooked(servers, tmp_path) as (mesh, pause):
        await mesh.sql[1].execute(INSERT.format("two"))
        await sees(mesh, 0, "SELECT v FROM app.t WHERE id = 1", "two")
        with switched(rule, "a late tombstone leaves what it beats"):
            pause.go()
            await ends(mesh, rule, [], ["two", None])


@both
async def test_an_unstamped_row_is_newer_than_a_late_tombstone(servers, tmp_path, rule) -> None:
    """Off: a row that a client wrote after the delete goes with it."""
    async with unlooked(servers, tmp_path) as (mesh, pause):
        await mesh.sql[0].execute(INSERT.format("again"))
        with switched(rule, "a late tombstone takes an unstamped row"):
            pause.go()
            await ends(mesh, rule, ["again"], [None, None])


@both
async def test_an_own_row_is_newer_than_a_late_tombstone(servers, tmp_path, rule) -> None:
    """Off: the same, with a stamp that lies below the late tombstone."""
    async with unlooked(servers, tmp_path) as (mesh, pause):
        await insert_stamped(mesh.sql[0], "again", now_us(), 1)
        with switched(rule, "a late tombstone takes an own row"):
            pause.go()
            await ends(mesh, rule, ["again"], [None, None])


@both
async def test_a_late_tombstone_is_written_before_the_look(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """Off: an older row comes in between the look, which finds none, and the tombstone."""
    between = Between()
    write, bury = MendingStatements._raise, MendingStatements._bury

    async def writing(self, *group) -> bool:
        found = await write(self, *group)
        await between.here()
        return found

    async def looking_first(self, late) -> None:
        put_off: list[tuple] = []

        async def later(*group) -> bool:
            put_off.append(group)
            return True

        self._raise = later
        await bury(self, late)
        await between.here()
        for group in put_off:
            await write(self, *group)

    async with unlooked(servers, tmp_path) as (mesh, pause):
        if rule == "on":
            monkeypatch.setattr(MendingStatements, "_raise", writing)
        else:
            monkeypatch.setattr(MendingStatements, "_bury", looking_first)
        async with Paused(between, "here") as burying:
            pause.go()
            await burying.reached()
            await mesh.sql[1].execute(INSERT.format("two"))
            if rule == "on":
                await until(lambda: mesh.nodes[0][0].board.counts["busy"], "a lock that was met")
            else:
                await sees(mesh, 0, "SELECT v FROM app.t WHERE id = 1", "two")
        await ends(mesh, rule, [], ["two", None])


@both
async def test_a_late_tombstone_is_dated_by_what_went(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: by the clock when it is written.  It beats a row that is newer than the delete."""

    def by_clock(before: Stamp, own: int) -> Stamp:
        return max(late_tombstone(before, own), Stamp(now_us(), own))

    if rule == "off":
        monkeypatch.setattr(core_mend, "late_tombstone", by_clock)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute(INSERT.format("base"))
        await mesh.settle()
        await drop_triggers(one, TriggerRole.AFTER_DELETE)
        mesh.isolate(0)
        async with mender_of(1) as pause:
            await pause.reached()
            await one.execute(DELETE)
            await two.execute("UPDATE app.t SET v = 'newer' WHERE id = 1")
        mesh.cut()
        await ends(mesh, rule, ["newer"], [None, None])


async def a_delete_before_a_lifted_insert(servers, tmp_path, rule, mutant, *roles) -> None:
    """A transaction deletes and inserts again, without a stamp; then that row is deleted, too.

    ``roles`` are the triggers that are missing when the transaction comes.  The last delete
    is that of a row without a stamp, so its own tombstone is below everything.
    """
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        await drop_triggers(one, TriggerRole.BEFORE_INSERT)
        await insert_stamped(one, "base", now_us() + HOUR_US, 1)
        await mesh.settle()
        async with mender_of(1) as pause:
            await pause.reached()
            await drop_triggers(one, *roles)
            async with one.transaction():
                await run(one, DELETE, INSERT.format("again"))
            if not roles:
                await drop_triggers(one, TriggerRole.AFTER_DELETE)
            await one.execute(DELETE)
            with switched(rule, mutant):
                pause.go()
                await ends(mesh, rule, [], [None, "base"])


@both
async def test_a_delete_before_a_lifted_insert_gets_one(servers, tmp_path, rule) -> None:
    """Off: the peers are never told that the row has gone."""
    mutant = "a delete hidden by a lifted insert has no tombstone"
    await a_delete_before_a_lifted_insert(servers, tmp_path, rule, mutant, TriggerRole.AFTER_DELETE)


@both
async def test_the_net_effect_hides_no_tombstone(servers, tmp_path, rule) -> None:
    """Off: the same, of a delete whose tombstone the trigger wrote."""
    mutant = "the net effect hides a tombstone"
    await a_delete_before_a_lifted_insert(servers, tmp_path, rule, mutant)


@asynccontextmanager
async def waiting(servers, tmp_path) -> AsyncIterator[tuple[Mesh, Paused]]:
    """A late tombstone that met a lock waits for the resolver, who stands still."""
    async with held_by_a_client(servers, tmp_path, base=True) as (mesh, client, resolver):
        one, _ = mesh.sql
        await one.execute(DELETE)
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.t", 0)
        await client.execute("COMMIT")
        assert await one.value("SELECT COUNT(*) FROM meshnode.mend") == 1
        yield mesh, resolver


@both
async def test_a_late_tombstone_that_waits_counts(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: a row that is written meanwhile is gone at the peer, there at home."""

    async def none_below(self, late) -> list:
        return []

    if rule == "off":
        monkeypatch.setattr(MendingStatements, "rows_below", none_below)
    async with waiting(servers, tmp_path) as (mesh, resolver):
        one, _ = mesh.sql
        with switched(rule, "a late tombstone that waits counts for nothing"):
            await insert_stamped(one, "again", now_us(), 1)
            await one.execute("INSERT INTO app.t (id, v) VALUES (2, 'other')")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 2", "other")
            resolver.go()
            await ends(mesh, rule, ["again", "other"], ["again", None])


@both
async def test_a_lift_is_above_a_late_tombstone_that_waits(servers, tmp_path, rule) -> None:
    """Off: the lifted row is below it again, and lifted again, as long as that waits."""
    async with waiting(servers, tmp_path) as (mesh, resolver):
        with switched(rule, "lifted above the base alone"):
            await insert_stamped(mesh.sql[0], "again", now_us(), 1)
            if rule == "on":
                await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "again")
                assert mesh.count("lifts") == 1
            else:
                await until(lambda: mesh.count("lifts") > 5, "lifts of one row")
        resolver.go()
        assert [row[1] for row in await converged(mesh)] == ["again"]
