"""The rules by which an applier decides, each shown to be needed: with the rule on, and off."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh import NAMES
from regions import HOUR_US, now_us
from rules import both, drop_triggers, ends, insert_stamped, mender_of, switched, values
from steps import converged, records, run, running, sees, tombstone, until

from meshnode.core.stamp import Stamp
from meshnode.mysql.applying import ApplyingStatements
from meshnode.mysql.schema import TriggerRole, tombstone_table

TOMBSTONES = tombstone_table("app", "t")


@asynccontextmanager
async def two_updates(servers, tmp_path) -> AsyncIterator:
    """A mesh cut in two that has one row with a value of each side, that of ``two`` later."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'base')")
        await mesh.settle()
        mesh.isolate(0)
        await one.execute("UPDATE app.t SET v = 'one' WHERE id = 1")
        await two.execute("UPDATE app.t SET v = 'two' WHERE id = 1")
        yield mesh


@both
async def test_the_later_stamp_wins(servers, tmp_path, rule) -> None:
    """Off: whoever arrives last wins, and the regions exchange their rows."""
    async with two_updates(servers, tmp_path) as mesh:
        with switched(rule, "whoever arrives last wins"):
            mesh.cut()
            await ends(mesh, rule, ["two"], ["two", "one"])


@both
async def test_items_go_verbatim_only_over_their_base(servers, tmp_path, rule) -> None:
    """Off: each side writes over the other's row, and nothing says so."""
    async with two_updates(servers, tmp_path) as mesh:
        with switched(rule, "items go verbatim whatever stands here"):
            mesh.cut()
            if rule == "on":
                assert [row[1] for row in await converged(mesh)] == ["two"]
                assert any(await records(mesh, {"id": 1}))
            else:
                await mesh.settle()
                assert await values(mesh) == ["two", "one"]
                assert await records(mesh, {"id": 1}) == [[], []]


@both
async def test_a_policy_does_not_change_stamps_at_the_receiver(servers, tmp_path, rule) -> None:
    """Off: region one is trusted for five seconds more, by those who read it; it does not know."""
    async with two_updates(servers, tmp_path) as mesh:
        with switched(rule, "a policy biases the stamp at the receiver"):
            mesh.cut()
            await ends(mesh, rule, ["two"], ["two", "one"])


@both
async def test_the_loser_is_recorded(servers, tmp_path, rule) -> None:
    """Off: a write is lost, and nobody will ever know."""
    async with two_updates(servers, tmp_path) as mesh:
        with switched(rule, "conflicts leave no record"):
            mesh.cut()
            assert [row[1] for row in await converged(mesh)] == ["two"]
            lost = [each.image["v"] for log in await records(mesh, {"id": 1}) for each in log]
            assert lost == (["one", "one"] if rule == "on" else [])


@both
async def test_versions_of_one_time_are_told_apart_by_their_region(servers, tmp_path, rule) -> None:
    """Off: each takes the other's row for its own, and they differ for good."""
    async with running(servers, tmp_path) as mesh:
        for sql in mesh.sql:
            await drop_triggers(sql, TriggerRole.BEFORE_INSERT)
        mesh.isolate(0)
        same = now_us() + 60_000_000
        for number, (name, sql) in enumerate(zip(NAMES, mesh.sql), 1):
            await insert_stamped(sql, name, same, number)
        with switched(rule, "stamps without the region"):
            mesh.cut()
            await ends(mesh, rule, ["two"], ["one", "two"])


@both
async def test_an_upsert_must_be_above_the_tombstone(servers, tmp_path, rule) -> None:
    """Off: the plan wants a row that the look after the write forbids, and the stream stands."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'base')")
        await mesh.settle()
        mesh.isolate(0)
        await one.execute("UPDATE app.t SET v = 'one' WHERE id = 1")
        await two.execute("DELETE FROM app.t WHERE id = 1")
        await one.execute("INSERT INTO app.t (id, v) VALUES (2, 'behind')")
        with switched(rule, "an upsert regards the row alone"):
            mesh.cut()
            if rule == "on":
                assert [row[1] for row in await converged(mesh)] == ["behind"]
                assert await tombstone(one, 1) == await tombstone(two, 1) is not None
            else:
                await until(lambda: mesh.count("replans") > 10, "plans made again and again")
                assert await values(mesh, 2) == ["behind", None]


@both
async def test_deletes_come_before_writes(servers, tmp_path, rule) -> None:
    """Off: rows that exchange a unique value are in each other's way, and parked."""
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(40), u INT UNIQUE)"
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES (1, 'x', 1), (8, 'x', 8), (9, 'x', 9)")
        await mesh.settle()
        mesh.isolate(0)
        async with one.transaction():
            await run(
                one,
                "UPDATE app.t SET u = NULL WHERE id = 8",
                "UPDATE app.t SET u = 8 WHERE id = 9",
                "UPDATE app.t SET u = 9 WHERE id = 8",
                # It loses, so that the transaction is worked out key by key.
                "UPDATE app.t SET v = 'one' WHERE id = 1",
            )
        await two.execute("UPDATE app.t SET v = 'two' WHERE id = 1")
        with switched(rule, "writes come before deletes"):
            mesh.cut()
            if rule == "on":
                rows = await converged(mesh)
                assert [row[1:3] for row in rows] == [("two", 1), ("x", 9), ("x", 8)]
            else:
                await mesh.settle()
                assert await two.value("SELECT COUNT(*) FROM meshnode.dead_letter") == 2


@both
async def test_a_tombstone_never_falls(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: an older delete lowers it, and an older row comes in above that."""
    write = ApplyingStatements.write

    async def lowering(self, plan) -> None:
        # What guards the statement, too: it raises only.
        for at in plan.tombstones:
            before = plan.before.get(at)
            if before is not None and before.tomb is not None:
                plan.before[at] = before._replace(tomb=Stamp(1, 0))
        await write(self, plan)

    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'base')")
        await mesh.settle()
        mesh.isolate(0)
        await one.execute("DELETE FROM app.t WHERE id = 1")
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'again')")
        await two.execute("DELETE FROM app.t WHERE id = 1")
        if rule == "off":
            monkeypatch.setattr(ApplyingStatements, "write", lowering)
        with switched(rule, "tombstones fall"):
            mesh.cut()
            await ends(mesh, rule, [], [None, "again"])


@both
async def test_a_delete_that_is_outlived_takes_no_row(servers, tmp_path, rule) -> None:
    """Off: a client's row that waits to be lifted over a tombstone goes with an older delete."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        mesh.isolate(1)
        await two.execute(f"INSERT INTO {TOMBSTONES} VALUES (1, {now_us() + HOUR_US}, 2)")
        async with mender_of(2) as pause:
            await pause.reached()
            await two.execute("INSERT INTO app.t (id, v) VALUES (1, 'waits')")
            async with one.transaction():
                await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'came')")
                await one.execute("DELETE FROM app.t WHERE id = 1")
            await one.execute("INSERT INTO app.t (id, v) VALUES (2, 'other')")
            with switched(rule, "a delete takes a row that waits for its lift"):
                mesh.cut((1, 0))
                await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 2", "other")
            mesh.cut()
            pause.go()
            await ends(mesh, rule, ["waits", "other"], [None, None])
