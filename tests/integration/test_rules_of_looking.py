"""The rules of locks, and of the looks after a write: each with the rule on, and off.

Two transactions meet on one key, in the one moment in which neither can have seen the other.
"""

import asyncio

from regions import HOUR_US, now_us, write_past_triggers
from rules import Between, both, drop_triggers, ends, mender_of, values
from steps import (
    Paused,
    applying,
    converged,
    has_rows,
    insert_and_delete_apart,
    lock_wait,
    records,
    running,
    sees,
    stamp,
    tombstone,
    until,
)

from meshnode.core import look
from meshnode.core.lifting import Judge
from meshnode.mysql import applying as applying_statements
from meshnode.mysql import mending
from meshnode.mysql.mending import MendingStatements
from meshnode.mysql.schema import TriggerRole, tombstone_table

TOMBSTONES = tombstone_table("app", "t")


def nothing(*_: object) -> None:
    """A look that is left out."""


async def a_client_comes_by(mesh, pause: Paused) -> None:
    """While an insert of region one stands still in two, a client inserts and deletes the key."""
    one, two = mesh.sql
    async with pause:
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'one')")
        await pause.reached()
        await two.execute("INSERT INTO app.t (id, v) VALUES (1, 'client')")
        await two.execute("DELETE FROM app.t WHERE id = 1")
        pause.go()
        await mesh.settle()


async def row_is_gone(mesh, rule: str, wrong: list[str | None]) -> None:
    """On: everywhere.  Off: ``wrong`` is there, and in region two beside a newer tombstone."""
    await ends(mesh, rule, [], wrong)
    if rule == "off":
        assert await tombstone(mesh.sql[1], 1) > await stamp(mesh.sql[1], 1)


@both
async def test_rows_are_locked_before_the_decision(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: a client's newer row is written over in the moment between, and nothing says so."""
    if rule == "off":
        for mode in ("FOR_UPDATE", "FOR_UPDATE_NOWAIT"):
            monkeypatch.setattr(applying_statements, mode, "")
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'base')")
        await mesh.settle()
        async with Paused(applying(mesh, 1, 0), "lock", has_rows) as pause:
            await one.execute("UPDATE app.t SET v = 'one' WHERE id = 1")
            await pause.reached()
            mesh.cut((1, 0))
            client = asyncio.create_task(two.execute("UPDATE app.t SET v = 'two' WHERE id = 1"))
            if rule == "on":
                async with await mesh.session(1) as watcher:
                    await lock_wait(watcher)
            else:
                await client
            pause.go()
            await client
        mesh.cut()
        if rule == "on":
            assert [row[1] for row in await converged(mesh)] == ["two"]
        else:
            await mesh.settle()
            assert await values(mesh) == ["two", "one"]
            assert (await records(mesh, {"id": 1}))[1] == []


@both
async def test_the_look_at_tombstones_after_upserts(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: what came in stands beside a newer tombstone, of a client that was there and gone."""
    if rule == "off":
        monkeypatch.setattr(look, "beside_upsert", nothing)
    async with running(servers, tmp_path) as mesh:
        await mesh.settle()
        await a_client_comes_by(mesh, Paused(applying(mesh, 1, 0), "lock", has_rows))
        await row_is_gone(mesh, rule, [None, "one"])


@both
async def test_after_a_surprise_all_tombstones_are_read(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """Off: the next plan is made without what the look has found, and the next, and the next."""
    statements = applying_statements.ApplyingStatements
    lock = statements.lock

    async def not_deep(self, works, deep, wait):
        return await lock(self, works, False, wait)

    if rule == "off":
        monkeypatch.setattr(statements, "lock", not_deep)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        mesh.isolate(0)
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'one')")
        await two.execute("INSERT INTO app.t (id, v) VALUES (1, 'client')")
        await two.execute("DELETE FROM app.t WHERE id = 1")
        mesh.cut()
        if rule == "on":
            assert await converged(mesh) == []
            assert mesh.count("replans") == 1
        else:
            await until(lambda: mesh.count("replans") > 10, "plans made again and again")


@both
async def test_the_look_at_rows_after_tombstones(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: an older row that came in after the decision stays below the tombstone."""
    if rule == "off":
        monkeypatch.setattr(look, "beside_removal", nothing)
    async with running(servers, tmp_path, regions=3) as mesh:
        await mesh.settle()
        await insert_and_delete_apart(mesh)
        async with Paused(applying(mesh, 1, 2), "lock", has_rows) as delete:
            mesh.cut((0, 1))
            await delete.reached()
            mesh.cut()
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "i")
            delete.go()
            await mesh.settle()
        await row_is_gone(mesh, rule, [None, "i", None])


@both
async def test_looks_are_locking_reads(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: an insert and a delete that are both written and not committed do not see each other."""
    if rule == "off":
        monkeypatch.setattr(applying_statements, "FOR_SHARE_NOWAIT", "")
    async with running(servers, tmp_path, regions=3) as mesh:
        await mesh.settle()
        await insert_and_delete_apart(mesh)
        insert, delete = applying(mesh, 1, 0), applying(mesh, 1, 2)
        async with (
            Paused(insert, "lock", has_rows) as insert_locked,
            Paused(delete, "lock", has_rows) as delete_locked,
            Paused(insert, "write", lambda plan: bool(plan.upserts)) as inserted,
            Paused(delete, "write", lambda plan: bool(plan.removals)) as deleted,
        ):
            mesh.cut()
            for step in (insert_locked, delete_locked):
                await step.reached()
            for step in (insert_locked, delete_locked):
                step.go()
            for step in (inserted, deleted):
                await step.reached()
            for step in (inserted, deleted):
                step.go()
            await mesh.settle()
        await row_is_gone(mesh, rule, [None, "i", None])


@both
async def test_the_tailer_looks_at_tombstones_under_a_lock(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """An insert is committed while an applier has a newer tombstone written, not committed.

    Off: a plain read sees no tombstone.  The insert is published below it, and the peers drop a
    row that stays here.
    """
    if rule == "off":
        monkeypatch.setattr(mending, "FOR_SHARE_NOWAIT", "")
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        future = now_us() + HOUR_US
        await mesh.settle()
        async with Paused(applying(mesh, 0, 1), "look", lambda plan: bool(plan.removals)) as pause:
            await two.execute(f"INSERT INTO {TOMBSTONES} VALUES (1, {future}, 2)")
            await pause.reached()
            await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'here')")
            await one.execute("INSERT INTO app.t (id, v) VALUES (2, 'other')")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 2", "other")
            assert await values(mesh) == ["here", None]
            pause.go()
            if rule == "on":
                await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "here")
                assert await stamp(one, 1) == (future + 1, 1)
        await ends(mesh, rule, ["here", "other"], ["here", None])


@both
async def test_only_the_row_that_was_judged_is_lifted(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: whatever stands there.  A row of another region goes round as if it were an own one."""
    judge = Judge.judge

    def of_any_row(self, lift, *found):
        kept, lift.seen = lift.seen, None
        verdict = judge(self, lift, *found)
        lift.seen = kept
        return verdict

    if rule == "off":
        monkeypatch.setattr(Judge, "judge", of_any_row)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await drop_triggers(one, TriggerRole.BEFORE_INSERT)
        async with mender_of(1) as pause:
            await pause.reached()
            await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'unstamped')")
            await two.execute("INSERT INTO app.t (id, v) VALUES (1, 'two')")
            await sees(mesh, 0, "SELECT v FROM app.t WHERE id = 1", "two")
            pause.go()
            assert [row[1] for row in await converged(mesh)] == ["two"]
        assert (await stamp(one, 1))[1] == (2 if rule == "on" else 1)


@both
async def test_write_first_then_look(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: a client comes by between the look and the write."""
    between = Between()
    statements = applying_statements.ApplyingStatements
    write, look_after = statements.write, statements.look

    async def looking_first(self, plan) -> None:
        if plan.upserts and rule == "off":
            await look_after(self, plan)
        if plan.upserts:
            await between.here()
        await write(self, plan)

    async def looking_after(self, plan) -> None:
        if rule == "on" or not plan.upserts:
            await look_after(self, plan)

    monkeypatch.setattr(statements, "write", looking_first)
    monkeypatch.setattr(statements, "look", looking_after)
    async with running(servers, tmp_path) as mesh:
        await mesh.settle()
        await a_client_comes_by(mesh, Paused(between, "here"))
        await row_is_gone(mesh, rule, [None, "one"])


@both
async def test_an_overtaken_lift_leaves_a_record(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: a row that no peer has seen is written over before its lift, and is nowhere."""

    async def no_records(session, rows) -> None:
        pass

    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'base')")
        await mesh.settle()
        if rule == "off":
            monkeypatch.setattr(mending, "write_conflicts", no_records)
        looked = Paused(MendingStatements, "tombstones", lambda self, keys: any(keys.values()))
        async with looked as pause:
            await write_past_triggers(one, "UPDATE app.t SET v = 'unseen' WHERE id = 1")
            await pause.reached()
            await one.execute("UPDATE app.t SET v = 'later' WHERE id = 1")
            pause.go()
            assert [row[1] for row in await converged(mesh)] == ["later"]
        logs = await records(mesh, {"id": 1})
        lost = [(each.kind, each.image["v"]) for log in logs for each in log]
        assert lost == ([("overtaken", "unseen")] if rule == "on" else [])
