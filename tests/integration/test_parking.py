"""Rows that can never apply: parked loudly one by one, the rest of their transaction applies."""

import json
import re

from steps import converged, gardening, run, running, sees, until, waits

from meshnode import limits
from meshnode.actors import avoided
from meshnode.mysql import session
from meshnode.mysql.schema import tombstone_table


async def letters(mesh, at: int, state: str = "open") -> list[tuple]:
    """Key, code, origin and image of the letters in ``state``."""
    rows = await mesh.sql[at].rows(
        "SELECT row_key, code, origin, image, tx_id FROM meshnode.dead_letter"
        " WHERE state = %s ORDER BY id",
        (state,),
    )
    return [(json.loads(key)["id"], code, origin, json.loads(image or "null"), tx)
            for key, code, origin, image, tx in rows]  # fmt: skip


async def replay(mesh, at: int) -> None:
    await mesh.sql[at].execute(
        "UPDATE meshnode.dead_letter SET state = 'replay' WHERE state = 'open'"
    )


async def test_a_row_that_breaks_a_check_is_parked_alone(servers, tmp_path) -> None:
    """T18: the rest of the item applies, the position moves, and the region is not converged.

    Needed: bisecting with savepoints; otherwise the stream stands still, or rows
    that could apply are parked too.
    """
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await two.execute("ALTER TABLE app.t ADD CONSTRAINT small CHECK (n < 100)")
        values = ",".join(f"({key}, 'x', {200 if key in (5, 11) else key})" for key in range(20))
        await one.execute(f"INSERT INTO app.t VALUES {values}")
        await one.execute("INSERT INTO app.t VALUES (50, 'next', 1)")
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 50", "next")
        assert await two.value("SELECT COUNT(*) FROM app.t") == 19
        found = await letters(mesh, 1)
        assert [(key, code, origin) for key, code, origin, *_ in found] == [
            (5, 3819, 1), (11, 3819, 1),
        ]  # fmt: skip
        assert found[0][3]["n"] == 200
        assert found[0][4].startswith(await one.value("SELECT @@server_uuid"))
        assert mesh.count("parked") == 2

        # A replay in vain leaves them open, with the reason.
        await replay(mesh, 1)

        async def noted() -> bool:
            notes = await two.rows("SELECT note FROM meshnode.dead_letter WHERE state = 'open'")
            return len(notes) == 2 and all("3819" in note for (note,) in notes)

        await until(noted, "letters open again with a note")
        await two.execute("ALTER TABLE app.t DROP CHECK small")
        await replay(mesh, 1)
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.t", 21)
        await sees(mesh, 1, "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'closed'", 2)
        assert len(await converged(mesh)) == 21
        # A replay is no local transaction: it is not published back.
        assert await one.value("SELECT COUNT(*) FROM meshnode.conflict_log") == 0


async def test_an_idle_client_stops_no_stream(servers, tmp_path, monkeypatch) -> None:
    """Rows that it holds are set aside after a while, and applied by themselves when it ends.

    Needed: setting aside.  Without it nothing of the peer goes in behind the row for hours.
    """
    monkeypatch.setattr(limits, "LOCKED_SECONDS", 1.0)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x'), (2, 'x'), (3, 'x')")
        await mesh.settle()
        async with await mesh.session(1) as client:
            await run(
                client,
                "BEGIN",
                "UPDATE app.t SET v = 'mine' WHERE id = 1",
                "DELETE FROM app.t WHERE id = 2",
            )
            await one.execute("UPDATE app.t SET v = 'one' WHERE id <= 3")
            # The rest of the transaction, and what comes behind it.
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 3", "one")
            await one.execute("INSERT INTO app.t (id, v) VALUES (4, 'behind')")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 4", "behind")
            assert [key for key, *_ in await letters(mesh, 1, "replay")] == [1, 2]
            assert mesh.count("set_aside") == 2
            # A second write to a row that is set aside is set aside at once.
            await one.execute("UPDATE app.t SET v = 'two' WHERE id = 1")
            await sees(mesh, 1, "SELECT COUNT(*) FROM meshnode.dead_letter", 3)
            await client.execute("ROLLBACK")
        closed = "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'closed'"
        await sees(mesh, 1, closed, 3)
        rows = await converged(mesh)
        assert [row[:2] for row in rows] == [(1, "two"), (2, "one"), (3, "one"), (4, "behind")]
        assert await two.value("SELECT COUNT(*) FROM meshnode.conflict_log") == 0


async def test_an_idle_client_that_holds_a_gap_stops_no_stream(
    servers, tmp_path, monkeypatch
) -> None:
    """A gap lock keeps new rows out, and nothing tells of it but waiting: few waits are enough.

    Needed: that new rows of the table are set aside untried after that.  Without it the applier
    waits for each of them, with `applied` and everything that it wrote locked.
    """
    monkeypatch.setattr(limits, "LOCKED_SECONDS", 0.5)
    monkeypatch.setattr(avoided, "AVOIDED_SECONDS", 3.0)
    monkeypatch.setattr(
        session, "_PINNED", re.sub(r"(innodb_lock_wait_timeout =) \d+", r"\1 1", session._PINNED)
    )
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x'), (2, 'x'), (3, 'x')")
        await mesh.settle()
        async with await mesh.session(1) as client:
            await run(
                client,
                "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                "BEGIN",
                "SELECT * FROM app.t WHERE id > 3 FOR UPDATE",
            )
            values = ",".join(f"({key}, 'new')" for key in range(4, 204))
            await one.execute(f"INSERT INTO app.t (id, v) VALUES {values}")
            await one.execute("UPDATE app.t SET v = 'behind' WHERE id = 1")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "behind")
            assert await two.value("SELECT COUNT(*) FROM app.t") == 3
            assert mesh.count("set_aside") == 200
            await client.execute("ROLLBACK")
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.t", 203)
        assert len(await converged(mesh)) == 203
        assert await two.value("SELECT COUNT(*) FROM meshnode.conflict_log") == 0


async def test_rows_set_aside_lose_against_what_their_holder_commits(
    servers, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(limits, "LOCKED_SECONDS", 0.5)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
        await mesh.settle()
        async with await mesh.session(1) as client:
            await run(client, "BEGIN", "UPDATE app.t SET v = 'first' WHERE id = 1")
            await one.execute("UPDATE app.t SET v = 'one' WHERE id = 1")
            await sees(mesh, 1, "SELECT COUNT(*) FROM meshnode.dead_letter", 1)
            await run(client, "UPDATE app.t SET v = 'last' WHERE id = 1", "COMMIT")
        await sees(mesh, 1, "SELECT state FROM meshnode.dead_letter", "closed")
        rows = await converged(mesh)
        assert [row[:2] for row in rows] == [(1, "last")]
        lost = await two.rows("SELECT JSON_VALUE(loser_image, '$.v') FROM meshnode.conflict_log")
        assert lost == [("one",)]


async def test_a_parked_row_that_is_overtaken_closes_by_itself(servers, tmp_path) -> None:
    """Its key has reached a later version, so the parked one can do nothing any more.

    Needed: the look for overtaken letters; an old replay must not win either.
    """
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await two.execute("ALTER TABLE app.t ADD CONSTRAINT small CHECK (n < 100)")
        await one.execute("INSERT INTO app.t VALUES (1, 'big', 200), (2, 'big', 200), (3, 'x', 1)")
        await sees(mesh, 1, "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'open'", 2)
        await one.execute("UPDATE app.t SET n = 7 WHERE id = 1")
        await one.execute("DELETE FROM app.t WHERE id = 2")
        rows = await converged(mesh)
        assert [row[:3] for row in rows] == [(1, "big", 7), (3, "x", 1)]
        await sees(mesh, 1, "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'closed'", 2)
        await run(two, "ALTER TABLE app.t DROP CHECK small")
        await two.execute("UPDATE meshnode.dead_letter SET state = 'replay'")
        await sees(mesh, 1, "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'closed'", 2)
        rows = await converged(mesh)
        assert [row[:3] for row in rows] == [(1, "big", 7), (3, "x", 1)]


async def test_two_rows_with_one_unique_value_are_parked(servers, tmp_path) -> None:
    """T13, T14: nobody else's row is touched; each region keeps its own and parks the other.

    Needed: writing by primary key only; ON DUPLICATE KEY UPDATE would change another row.
    """
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, u VARCHAR(10) UNIQUE, v INT)"
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES (10, 'p', 0), (11, 'q', 0)")
        await mesh.settle()
        mesh.isolate(0)
        await one.execute("INSERT INTO app.t VALUES (1, 'same', 1)")
        async with two.transaction():
            await two.execute("INSERT INTO app.t VALUES (2, 'same', 2)")
            await two.execute("INSERT INTO app.t VALUES (3, 'other', 2)")
        mesh.cut()
        await mesh.settle()
        assert [row[0] for row in await one.rows("SELECT id FROM app.t ORDER BY 1")] == [
            1,
            3,
            10,
            11,
        ]
        assert [row[0] for row in await two.rows("SELECT id FROM app.t ORDER BY 1")] == [
            2,
            3,
            10,
            11,
        ]
        assert [(key, code) for key, code, *_ in await letters(mesh, 0)] == [(2, 1062)]
        assert [(key, code) for key, code, *_ in await letters(mesh, 1)] == [(1, 1062)]
        # Values that change places in one transaction go through, in the order of the source.
        async with one.transaction():
            await one.execute("UPDATE app.t SET u = 'tmp' WHERE id = 10")
            await one.execute("UPDATE app.t SET u = 'p' WHERE id = 11")
            await one.execute("UPDATE app.t SET u = 'q' WHERE id = 10")
        await sees(mesh, 1, "SELECT u FROM app.t WHERE id = 10", "q")
        # And where the outcomes must be worked out, because one of its rows lost.
        mesh.isolate(0)
        async with one.transaction():
            await one.execute("UPDATE app.t SET u = 'tmp' WHERE id = 10")
            await one.execute("UPDATE app.t SET u = 'q' WHERE id = 11")
            await one.execute("UPDATE app.t SET u = 'p' WHERE id = 10")
            await one.execute("UPDATE app.t SET v = 1 WHERE id = 3")
        await two.execute("UPDATE app.t SET v = 9 WHERE id = 3")
        mesh.cut()
        await mesh.settle()
        for sql in mesh.sql:
            assert await sql.rows("SELECT * FROM app.t WHERE id IN (3, 10, 11) ORDER BY 1") == [
                (3, "other", 9), (10, "p", 0), (11, "q", 0),
            ]  # fmt: skip
        # The way out: one row gives the value up, and the parked ones close.
        await one.execute("UPDATE app.t SET u = 'mine' WHERE id = 1")
        await replay(mesh, 0)
        await sees(mesh, 1, "SELECT u FROM app.t WHERE id = 1", "mine")
        await sees(mesh, 0, "SELECT u FROM app.t WHERE id = 2", "same")
        assert len(await converged(mesh)) == 5
        for at in range(2):
            await until(lambda at=at: closed(mesh, at), "all letters closed")


async def test_a_swap_beside_a_value_that_is_taken_goes_in(servers, tmp_path) -> None:
    """Needed: trying parts.  Together they fail because of one, alone because of each other."""
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, u VARCHAR(10) UNIQUE)"
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
        await mesh.settle()
        mesh.isolate(0)
        await two.execute("INSERT INTO app.t VALUES (9, 'taken')")
        async with one.transaction():
            await one.execute("UPDATE app.t SET u = 'tmp' WHERE id = 1")
            await one.execute("UPDATE app.t SET u = 'taken' WHERE id = 3")
            await one.execute("UPDATE app.t SET u = 'a' WHERE id = 2")
            await one.execute("UPDATE app.t SET u = 'b' WHERE id = 1")
        mesh.cut()
        await mesh.settle()
        assert await two.rows("SELECT id, u FROM app.t ORDER BY id") == [
            (1, "b"), (2, "a"), (3, "c"), (9, "taken"),
        ]  # fmt: skip
        assert [(key, code) for key, code, *_ in await letters(mesh, 1)] == [(3, 1062)]
        assert [(key, code) for key, code, *_ in await letters(mesh, 0)] == [(9, 1062)]
        await two.execute("UPDATE app.t SET u = 'other' WHERE id = 9")
        await replay(mesh, 1)
        await sees(mesh, 1, "SELECT u FROM app.t WHERE id = 3", "taken")
        await sees(mesh, 0, "SELECT u FROM app.t WHERE id = 9", "other")
        assert len(await converged(mesh)) == 4


async def closed(mesh, at: int) -> bool:
    return await mesh.sql[at].value(
        "SELECT COUNT(*) = 0 FROM meshnode.dead_letter WHERE state <> 'closed'"
    )


async def test_a_parked_row_holds_tombstones_of_its_time(servers, tmp_path) -> None:
    """A tombstone newer than a parked row must outlive it, or a replay brings the row back.

    Needed: the parked rows in the limit of tombstone GC.
    """
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await two.execute("ALTER TABLE app.t ADD CONSTRAINT small CHECK (n < 100)")
        await one.execute("INSERT INTO app.t VALUES (2, 'big', 200), (1, 'x', 1)")
        await sees(mesh, 1, "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'open'", 1)
        await one.execute("DELETE FROM app.t WHERE id = 1")
        await mesh.settle()
        name = tombstone_table("app", "t")
        async with gardening(mesh, 0) as here, gardening(mesh, 1) as there:

            async def dropped() -> bool:
                await here()
                return await one.value(f"SELECT COUNT(*) FROM {name}") == 0

            await until(dropped, "the tombstone is stable where nothing is parked")
            await there()
            assert await two.value(f"SELECT COUNT(*) FROM {name}") == 1
            await two.execute("UPDATE meshnode.dead_letter SET state = 'closed'")
            await there()
            assert await two.value(f"SELECT COUNT(*) FROM {name}") == 0


ARRAYS = "CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(40), j JSON, k TEXT)"

INDEXES = (
    "ALTER TABLE app.t ADD KEY a ((CAST(j->'$.a' AS UNSIGNED ARRAY))),"
    " ADD KEY b ((CAST(j->'$.b' AS CHAR(3) ARRAY))),"
    " ADD KEY c ((CAST(k->'$.c' AS CHAR(20)))),"
    " ADD KEY d ((JSON_VALUE(j, '$.d' RETURNING UNSIGNED ERROR ON EMPTY)))"
)

UNFIT = {
    1: (3903, '{"a": ["x"], "d": 1}'),
    2: (3752, '{"a": [-1], "d": 1}'),
    3: (1235, '{"a": {"x": 1}, "d": 1}'),
    4: (3908, '{"a": [[1], 2], "d": 1}'),
    5: (3905, f'{{"a": {list(range(70_000))}, "d": 1}}'),
    6: (3907, '{"b": ["xxxx"], "d": 1}'),
    7: (3966, "{}"),
}
"""What MySQL says of a document that one of the indexes cannot take, by the row's key."""


async def test_rows_that_an_index_of_values_cannot_take_are_parked(servers, tmp_path) -> None:
    """Needed: their numbers.  Without them the stream stands, as if it would go on by itself."""
    async with running(servers, tmp_path, ARRAYS) as mesh:
        one, two = mesh.sql
        await two.execute(INDEXES)
        async with one.transaction():
            for key, (_, document) in UNFIT.items():
                await one.execute("INSERT INTO app.t VALUES (%s, 'x', %s, '{}')", (key, document))
            await one.execute("INSERT INTO app.t VALUES (8, 'x', '{\"d\": 1}', 'no json')")
            await one.execute("INSERT INTO app.t VALUES (9, 'fits', '{\"d\": 1}', '{}')")
        await sees(mesh, 1, "SELECT v FROM app.t", "fits")
        found = {key: code for key, code, *_ in await letters(mesh, 1)}
        assert found == {key: code for key, (code, _) in UNFIT.items()} | {8: 3141}
        await two.execute("ALTER TABLE app.t DROP KEY a, DROP KEY b, DROP KEY c, DROP KEY d")
        await replay(mesh, 1)
        await sees(mesh, 1, "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'closed'", 8)
        await one.execute("DELETE FROM app.t WHERE id = 5")  # too long to be sorted
        assert len(await converged(mesh)) == 8


async def test_a_number_that_is_not_known_is_shown_as_a_halt(
    servers, tmp_path, monkeypatch
) -> None:
    """Whatever a row's index says of it: the stream waits with that as its reason."""
    monkeypatch.setattr(session, "_ROW", session._ROW - {3903})
    async with running(servers, tmp_path, ARRAYS) as mesh:
        one, two = mesh.sql
        await two.execute(INDEXES)
        await one.execute("INSERT INTO app.t VALUES (1, 'x', %s, '{}')", (UNFIT[1][1],))
        await waits(mesh, 1, "applier one", "3903 Invalid JSON value", "row")
        assert await letters(mesh, 1) == []
        await two.execute("ALTER TABLE app.t DROP KEY a")
        await sees(mesh, 1, "SELECT v FROM app.t", "x")
        await waits(mesh, 1, "applier one", state="running")
        await converged(mesh)


async def test_rows_that_exchange_unique_values_beside_a_lock(
    servers, tmp_path, monkeypatch
) -> None:
    """One of them is locked: both are set aside, and go in together when it is free.

    Needed: letters of one item together.  By themselves each is in the other's way, for good.
    """
    monkeypatch.setattr(limits, "LOCKED_SECONDS", 0.5)
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, u INT UNIQUE, v VARCHAR(10))"
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES (1, 1, 'x'), (2, 2, 'x'), (3, 3, 'x')")
        await mesh.settle()
        async with await mesh.session(1) as client:
            await run(client, "BEGIN", "UPDATE app.t SET v = 'held' WHERE id = 1")
            async with one.transaction():
                await run(
                    one,
                    "UPDATE app.t SET u = NULL WHERE id = 1",
                    "UPDATE app.t SET u = 1 WHERE id = 2",
                    "UPDATE app.t SET u = 2 WHERE id = 1",
                    # Takes a value over, and nobody takes its own.
                    "DELETE FROM app.t WHERE id = 3",
                    "INSERT INTO app.t VALUES (4, 3, 'y')",
                )
            await sees(mesh, 1, "SELECT u FROM app.t WHERE id = 4", 3)
            assert [(key, code) for key, code, *_ in await letters(mesh, 1, "open")] == [(2, 1062)]
            assert [(key, code) for key, code, *_ in await letters(mesh, 1, "replay")] == [(1, 0)]
            await client.execute("ROLLBACK")
        closed = "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'closed'"
        await sees(mesh, 1, closed, 2)
        rows = await converged(mesh)
        assert [row[:3] for row in rows] == [(1, 2, "x"), (2, 1, "x"), (4, 3, "y")]
        assert await two.value("SELECT COUNT(*) FROM meshnode.conflict_log") == 0
