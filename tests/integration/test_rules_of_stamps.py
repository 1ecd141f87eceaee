"""Rules of versions and keys, each shown to be needed: one script with the rule on, and off.

With the rule on a script ends as it should.  With it off (``rule == "off"``, a
patch that takes nothing else away) the same script must end wrong, and the test says how.
"""

from regions import HOUR_US
from rules import both, ends, mender_of
from steps import converged, run, running, sees, stamp, tombstone, topic, waits

from meshnode.core.wire import REMOVE, UPSERT, Frame
from meshnode.mysql import schema
from meshnode.mysql.lookup import Lookup
from meshnode.mysql.schema import tombstone_table

NOW = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)"
TOMBSTONES = tombstone_table("app", "t")


@both
async def test_keys_are_folded_by_weights(servers, tmp_path, monkeypatch, rule) -> None:
    """T22.  Off: two spellings are two keys.  The tombstone that stands at the key is found for
    one of them only, and the stream of the region halts for good on a second one.
    """
    learn = Lookup.learn

    def by_bytes(self, table, key, weights) -> None:
        learn(self, table, key, weights)
        table.folds[key] = key

    if rule == "off":
        monkeypatch.setattr(Lookup, "learn", by_bytes)
    table = "CREATE TABLE app.t (id VARCHAR(20) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, v INT)"
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        future = await two.value(NOW) + HOUR_US
        await two.execute("INSERT INTO app.t VALUES ('x', 1)")
        await two.execute(f"INSERT INTO {TOMBSTONES} VALUES ('a', {future}, 2)")
        await mesh.settle()
        assert await tombstone(one, "a") == (future, 2)
        # All in one batch of the tailer.
        await mesh.stop(0)
        await run(
            one,
            "INSERT INTO app.t VALUES ('a', 1)",
            "UPDATE app.t SET id = 'A' WHERE id = 'a'",
            "UPDATE app.t SET id = 'a' WHERE id = 'a'",
        )
        mesh.start(0)
        if rule == "on":
            assert [row[0] for row in await converged(mesh)] == ["a", "x"]
            assert await stamp(one, "a") > (future, 2)
        else:
            await waits(mesh, 0, "tailer", "1062", "Duplicate entry 'a'")
            assert await two.rows("SELECT id FROM app.t") == [("x",)]


@both
async def test_a_write_is_above_what_it_replaced(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: triggers take the clock alone.  A row from a region whose clock is ahead is then
    replaced by a lower stamp; the tailer has to lift it, its transaction is torn, and the peers
    lose the row until the lift arrives.
    """
    if rule == "off":
        # ``GREATEST(clock, 0)``
        monkeypatch.setattr(schema, "_AFTER_OLD", "0")
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        name = schema.trigger_name(schema.TriggerRole.BEFORE_INSERT, "app", "t")
        await two.execute(f"DROP TRIGGER app.{name}")
        future = await two.value(NOW) + HOUR_US
        await two.execute(
            "INSERT INTO app.t (id, v, _mesh_ts, _mesh_origin)"
            f" VALUES (1, 'ahead', {future}, 2), (2, 'now', {future - HOUR_US}, 2)"
        )
        await sees(mesh, 0, "SELECT COUNT(*) FROM app.t", 2)
        lifts = mesh.count("lifts")
        async with one.transaction():
            await one.execute("UPDATE app.t SET v = 'later' WHERE id IN (1, 2)")
        committed = await stamp(one, 1)
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.t WHERE v = 'later'", 2)
        rows = await converged(mesh)
        assert [row[1] for row in rows] == ["later", "later"]
        first = next(
            item
            for record in await topic(mesh, 0)
            if isinstance(record, Frame)
            for item in record.items
            if item.entries
        )
        outcomes = {int.from_bytes(each.key, "little"): each.outcome for each in first.entries}
        if rule == "on":
            assert committed == (future + 1, 1)
            assert outcomes == {1: UPSERT, 2: UPSERT}
            assert mesh.count("lifts") == lifts
        else:
            assert committed < (future, 2)
            assert outcomes == {1: REMOVE, 2: UPSERT}
            assert mesh.count("lifts") == lifts + 1


@both
async def test_a_trigger_never_lowers_a_tombstone(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: a row that waits to be lifted over a tombstone is deleted, and takes that down with it.

    What is inserted then is above it here, and below what the peer has.
    """
    write = schema._write_tombstone

    def lowering(*arguments) -> str:
        raised = "`_mesh_ts` = GREATEST(`_mesh_ts`, _mesh_stamp)"
        statement = write(*arguments)
        assert raised in statement
        return statement.replace(raised, "`_mesh_ts` = _mesh_stamp")

    if rule == "off":
        monkeypatch.setattr(schema, "_write_tombstone", lowering)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        future = await two.value(NOW) + HOUR_US
        await two.execute(f"INSERT INTO {TOMBSTONES} VALUES (1, {future}, 2)")
        await mesh.settle()
        async with mender_of(1) as pause:
            await pause.reached()
            await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
            await one.execute("DELETE FROM app.t WHERE id = 1")
        await mesh.settle()
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'again')")
        await ends(mesh, rule, ["again"], ["again", None])
