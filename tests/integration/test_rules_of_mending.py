"""The rules of what is published, and what is lifted first: each with the rule on, and off."""

from regions import HOUR_US, now_us, write_past_triggers
from rules import both, drop_triggers, ends, insert_stamped, lock, mender_of, switched, values
from steps import converged, records, run, running, sees, stamp, tombstone, until, waits

from meshnode.mysql.mending import MendingStatements
from meshnode.mysql.schema import TriggerRole, tombstone_table

TOMBSTONES = tombstone_table("app", "t")


@both
async def test_the_tombstone_of_an_insert_is_looked_at(servers, tmp_path, rule) -> None:
    """Off: an insert below a tombstone from a clock ahead is gone at the peer, there at home."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        future = now_us() + HOUR_US
        await two.execute(f"INSERT INTO {TOMBSTONES} VALUES (1, {future}, 2)")
        await mesh.settle()
        with switched(rule, "the tailer ignores tombstones"):
            await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'here')")
            if rule == "on":
                assert await converged(mesh) == [(1, "here", 0, future + 1, 1)]
            else:
                await mesh.settle()
                assert await values(mesh) == ["here", None]


@both
async def test_the_tombstone_of_the_own_transaction_counts(servers, tmp_path, rule) -> None:
    """Off: a row stands beside a newer tombstone here, and the peers have no such tombstone."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await drop_triggers(one, TriggerRole.BEFORE_INSERT)
        future = now_us() + HOUR_US
        await insert_stamped(one, "base", future, 1)
        await mesh.settle()
        with switched(rule, "a tombstone of the own transaction does not count"):
            async with one.transaction():
                # Its tombstone is one above the row, and the row that follows below that.
                await one.execute("DELETE FROM app.t WHERE id = 1")
                await insert_stamped(one, "again", future + 1, 1)
            if rule == "on":
                assert [row[1] for row in await converged(mesh)] == ["again"]
                assert await stamp(one, 1) > await tombstone(one, 1)
                assert mesh.count("lifts") == 1
            else:
                await mesh.settle()
                assert await values(mesh) == ["again", "again"]
                assert await tombstone(one, 1) == await stamp(one, 1)
                assert await tombstone(two, 1) is None


@both
async def test_a_stamp_that_did_not_rise_is_lifted(servers, tmp_path, rule) -> None:
    """Off: what is below its own former version loses to that at the peer."""
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        await drop_triggers(one, TriggerRole.BEFORE_INSERT, TriggerRole.BEFORE_UPDATE)
        await insert_stamped(one, "base", now_us() + HOUR_US, 1)
        await mesh.settle()
        with switched(rule, "a stamp that did not rise is published"):
            await one.execute("UPDATE app.t SET v = 'lower', _mesh_ts = _mesh_ts - 1")
            await ends(mesh, rule, ["lower"], ["lower", "base"])


@both
async def test_a_stamp_that_stayed_is_lifted(servers, tmp_path, rule) -> None:
    """Off: the peer takes the row for the one that it has."""
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        await drop_triggers(one, TriggerRole.BEFORE_INSERT, TriggerRole.BEFORE_UPDATE)
        await insert_stamped(one, "base", now_us() + HOUR_US, 1)
        await mesh.settle()
        with switched(rule, "lifted when below but not when equal"):
            await one.execute("UPDATE app.t SET v = 'same stamp'")
            await ends(mesh, rule, ["same stamp"], ["same stamp", "base"])


async def promise_an_hour(mesh) -> int:
    """What a clock leaves that steps back by an hour: a published promise far ahead."""
    board = mesh.nodes[0][0].board
    board.promised = now_us() + HOUR_US
    await until(lambda: board.tail.frontier == board.promised, "a published promise")
    return board.promised


@both
async def test_nothing_is_published_below_the_promise(servers, tmp_path, rule) -> None:
    """Off: a row comes of which the peers were told that it would not; tombstones went by that."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        promised = await promise_an_hour(mesh)
        with switched(rule, "the promise is not enforced"):
            await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "x")
            late = (await stamp(two, 1))[0] <= promised
            assert late is (rule == "off")


async def a_row_below_the_promise(servers, tmp_path, rule: str, mutant: str) -> None:
    """Off: the lifted row is below the promise again, and lifted again, for ever."""
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        promised = await promise_an_hour(mesh)
        board = mesh.nodes[0][0].board
        with switched(rule, mutant):
            # One may have been under way with what it had worked out before.
            for _ in range(2):
                beat = board.beat_us
                await until(lambda: board.beat_us > beat, "a beat")  # noqa: B023
            await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
            if rule == "on":
                await converged(mesh)
                assert mesh.count("lifts") == 1
                assert board.promised == promised
            else:
                await until(lambda: mesh.count("lifts") > 5, "lifts of one row")
                assert await values(mesh) == ["x", None]


@both
async def test_a_lift_regards_the_promise(servers, tmp_path, rule) -> None:
    await a_row_below_the_promise(servers, tmp_path, rule, "lifted without regard to the promise")


@both
async def test_a_promise_never_falls(servers, tmp_path, rule) -> None:
    """Off: the node forgets, when the clock has stepped back, what its stream has promised."""
    await a_row_below_the_promise(servers, tmp_path, rule, "the frontier falls")


@both
async def test_a_lift_is_above_what_was_replaced(servers, tmp_path, rule) -> None:
    """Off: it takes the clock, as a trigger would; below a tombstone from ahead that is nothing."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await two.execute(f"INSERT INTO {TOMBSTONES} VALUES (1, {now_us() + HOUR_US}, 2)")
        await mesh.settle()
        with switched(rule, "lifted through the trigger"):
            await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
            if rule == "on":
                await converged(mesh)
                assert mesh.count("lifts") == 1
            else:
                await until(lambda: mesh.count("lifts") > 5, "lifts of one row")
                assert await values(mesh) == ["x", None]


@both
async def test_foreign_stamps_are_not_published(servers, tmp_path, rule) -> None:
    """Off: a row goes round under the name of a region that never wrote it."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await drop_triggers(two, TriggerRole.BEFORE_INSERT)
        with switched(rule, "foreign and missing stamps are published"):
            await insert_stamped(two, "forged", now_us() + HOUR_US, 1)
            await sees(mesh, 0, "SELECT v FROM app.t WHERE id = 1", "forged")
            assert (await stamp(one, 1))[1] == (2 if rule == "on" else 1)


@both
async def test_partial_images_are_not_published(servers, tmp_path, rule) -> None:
    """Off: the peer is told of a row that the item does not hold, and its stream stands."""
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        await one.execute("INSERT INTO app.t VALUES (1, 'base', 1)")
        await mesh.settle()
        with switched(rule, "partial images are published"):
            async with await mesh.session(0) as client:
                await run(
                    client,
                    "SET SESSION binlog_row_image = MINIMAL",
                    "UPDATE app.t SET v = 'partial' WHERE id = 1",
                )
            if rule == "on":
                assert [row[1:3] for row in await converged(mesh)] == [("partial", 1)]
            else:
                await waits(mesh, 1, "applier one", "the images hold no image of that key")


@both
async def test_a_delete_that_no_trigger_saw_is_published(servers, tmp_path, rule) -> None:
    """Off: the row stays at the peers."""
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
        await mesh.settle()
        await drop_triggers(one, TriggerRole.AFTER_DELETE)
        with switched(rule, "late tombstones are left out"):
            await one.execute("DELETE FROM app.t WHERE id = 1")
            await ends(mesh, rule, [], [None, "x"])


async def an_insert_beside_a_lock(servers, tmp_path, rule: str) -> None:
    """A client holds the tombstone, from ahead, of a key that is inserted meanwhile."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await two.execute(f"INSERT INTO {TOMBSTONES} VALUES (1, {now_us() + HOUR_US}, 2)")
        await mesh.settle()
        async with await mesh.session(0) as client:
            await lock(client)
            await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'here'), (2, 'other')")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 2", "other")
            await client.execute("COMMIT")
        await ends(mesh, rule, ["here", "other"], ["here", None])


@both
async def test_a_tombstone_that_is_locked_counts(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: what could not be looked at is published; it stands below a tombstone at the peer."""

    async def trusting(self, keys):
        found, _ = await tombstones(self, keys)
        return found, set()

    tombstones = MendingStatements.tombstones
    if rule == "off":
        monkeypatch.setattr(MendingStatements, "tombstones", trusting)
    await an_insert_beside_a_lock(servers, tmp_path, rule)


@both
async def test_what_is_held_back_is_noted(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: when the lock is gone nobody remembers the row, which no peer has seen."""

    async def forgetful(self, lifts) -> None:
        pass

    if rule == "off":
        monkeypatch.setattr(MendingStatements, "_hold", forgetful)
    await an_insert_beside_a_lock(servers, tmp_path, rule)


@both
async def test_a_late_tombstone_counts_for_what_follows(servers, tmp_path, rule) -> None:
    """Off: a row written after a delete that no trigger saw is gone at the peer, there at home."""
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        await drop_triggers(one, TriggerRole.BEFORE_INSERT, TriggerRole.AFTER_DELETE)
        future = now_us() + HOUR_US
        await insert_stamped(one, "base", future, 1)
        await mesh.settle()
        # Both in one batch of the tailer.
        await mesh.stop(0)
        await one.execute("DELETE FROM app.t WHERE id = 1")
        await insert_stamped(one, "again", future, 1)
        with switched(rule, "late tombstones do not count for what follows"):
            mesh.start(0)
            await ends(mesh, rule, ["again"], ["again", None])


@both
async def test_a_changed_key_is_a_delete_too(servers, tmp_path, rule) -> None:
    """Off: the peers keep the row under its old key."""
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
        await mesh.settle()
        with switched(rule, "a key change is a write of the new key alone"):
            await one.execute("UPDATE app.t SET id = 2 WHERE id = 1")
            await mesh.settle()
            assert await values(mesh, 2) == ["x", "x"]
            assert await values(mesh, 1) == [None, None if rule == "on" else "x"]


@both
async def test_a_base_is_a_version_that_was_shown(servers, tmp_path, rule) -> None:
    """Off: the peer cannot know that the writer had seen the peer's row, and records a conflict."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await two.execute("INSERT INTO app.t (id, v) VALUES (1, 'base')")
        await mesh.settle()
        async with mender_of(1) as pause:
            await pause.reached()
            # A foreign stamp: it would be lifted, but the next version is there before that.
            await write_past_triggers(
                one, "UPDATE app.t SET v = 'unseen', _mesh_ts = _mesh_ts + 1 WHERE id = 1"
            )
            await one.execute("UPDATE app.t SET v = 'next' WHERE id = 1")
            with switched(rule, "versions never shown are named as bases"):
                pause.go()
                assert [row[1] for row in await converged(mesh)] == ["next"]
        _, found = await records(mesh, {"id": 1})
        assert [each.image["v"] for each in found] == ([] if rule == "on" else ["base"])
