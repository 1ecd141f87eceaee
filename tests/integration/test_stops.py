"""What cannot be streamed stops the tailer with its name and the way on; ``skip`` is that way."""

import pytest
from steps import converged, run, running, sees, waits

STOPS = {
    "TRUNCATE": ("TRUNCATE TABLE app.t",),
    "DROP": ("DROP TABLE app.t",),
    "RENAME": ("RENAME TABLE app.t TO app.gone",),
    "ALTER": ("ALTER TABLE app.t DROP COLUMN n",),
    "logged as a statement": (
        "SET SESSION binlog_format = STATEMENT, transaction_isolation = 'REPEATABLE-READ'",
        "UPDATE app.t SET v = 'statement'",
    ),
    "XA": (
        "XA START 'x'",
        "UPDATE app.t SET v = 'xa'",
        "XA END 'x'",
        "XA PREPARE 'x'",
        "XA COMMIT 'x'",
    ),
}


@pytest.mark.parametrize("word", STOPS)
async def test_the_tailer_stops_before_what_it_cannot_stream(servers, tmp_path, word) -> None:
    """Halted with the transaction's name and the remedy; writes after it wait, then go on.

    Needed: judging statements.  Without it peers keep rows that are gone here.
    """
    second = "CREATE TABLE app.u (id INT PRIMARY KEY)"
    plain = "CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(20), n INT)"
    async with running(servers, tmp_path, plain, second) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES (1, 'x', 1)")
        await mesh.settle()
        async with await mesh.session(0) as client:
            await run(client, *STOPS[word])
        await one.execute("INSERT INTO app.u VALUES (1)")
        state = await waits(mesh, 0, "tailer", word)
        tx_id = state.remedy.rsplit(" ", 1)[-1]
        assert tx_id.startswith(await one.value("SELECT @@server_uuid"))
        assert f"meshnode skip --region one --tx {tx_id}" in state.remedy
        assert await two.value("SELECT COUNT(*) FROM app.u") == 0
        # The other direction does not care.
        await two.execute("INSERT INTO app.u VALUES (2)")
        await sees(mesh, 0, "SELECT COUNT(*) FROM app.u WHERE id = 2", 1)

        await skip(one, tx_id)
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.u WHERE id = 1", 1)
        assert await two.rows("SELECT v FROM app.t") == [("x",)]
        await converged(mesh, "app.u")


async def skip(sql, tx_id: str) -> None:
    """What ``meshnode skip`` writes."""
    await sql.execute(
        "INSERT INTO meshnode.dead_letter (at, origin, seq, tx_id, ts, stamp_origin, code, cause,"
        " body, state) SELECT UTC_TIMESTAMP(6), region, 0, %s, 0, region, 0,"
        " 'left out by an operator', '', 'skipped' FROM meshnode.member",
        (tx_id,),
    )


async def test_a_skipped_transaction_of_rows_is_published_in_no_part(servers, tmp_path) -> None:
    """Nothing of it goes out, and the region is not converged until somebody has looked."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
        await mesh.settle()
        await mesh.stop(0)
        await run(one, "SET gtid_next = 'AUTOMATIC'", "BEGIN")
        await run(
            one,
            "INSERT INTO app.t (id, v) VALUES (2, 'left out')",
            "DELETE FROM app.t WHERE id = 1",
            "COMMIT",
        )
        number = int((await one.value("SELECT @@GLOBAL.gtid_executed")).rsplit("-", 1)[-1])
        tx_id = f"{await one.value('SELECT @@server_uuid')}:{number}"
        await skip(one, tx_id)
        mesh.start(0)
        await one.execute("INSERT INTO app.t (id, v) VALUES (3, 'goes on')")
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 3", "goes on")
        assert [row[0] for row in await two.rows("SELECT id FROM app.t")] == [1, 3]
        assert await one.value("SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'skipped'")


async def test_harmless_statements_stop_nothing(servers, tmp_path) -> None:
    """Other tables, indexes, accounts, comments, temporary tables: the stream goes on."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await run(
            one,
            "CREATE TABLE app.scratch (id INT)",
            "TRUNCATE TABLE app.scratch",
            "DROP TABLE app.scratch",
            "CREATE INDEX by_v ON app.t (v)",
            "DROP INDEX by_v ON app.t",
            "ANALYZE TABLE app.t",
            "OPTIMIZE TABLE app.t",
            "CREATE USER harmless IDENTIFIED BY 'x'",
            "CREATE TEMPORARY TABLE app.temporary (id INT)",
            "DROP TEMPORARY TABLE app.temporary",
            "CREATE VIEW app.seen AS SELECT id FROM app.t",
            "DROP VIEW app.seen",
            "ALTER TABLE app.t COMMENT 'truncate table app.t; drop table app.t'",
            "INSERT INTO app.t (id, v) VALUES (1, 'goes on')",
        )
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "goes on")
        assert await two.value("SELECT COUNT(*) FROM app.t") == 1
        await converged(mesh)


async def test_metadata_switched_off_for_a_while_stops_nothing_of_the_mesh(
    servers, tmp_path
) -> None:
    """Heartbeats and tombstones are logged without column names then; no client's row is.

    Needed: own_shape.  Without it each such heartbeat must be skipped by hand.
    """
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x'), (2, 'y')")
        await one.execute("DELETE FROM app.t WHERE id = 1")
        await mesh.settle()
        (tombstones,) = await one.rows("SELECT digest FROM meshnode.tables WHERE table_name = 't'")
        beat = "SELECT beat FROM meshnode.heartbeat"
        now = await one.value(beat)
        await one.execute("SET GLOBAL binlog_row_metadata = MINIMAL")
        # As the gardener does when nobody needs it any more.
        assert await one.execute(f"DELETE FROM meshnode.`t_{tombstones[0]}`") == 1
        await sees(mesh, 0, f"SELECT beat > {now} + 1 FROM meshnode.heartbeat", 1)
        await one.execute("SET GLOBAL binlog_row_metadata = FULL")
        await one.execute("UPDATE app.t SET v = 'z' WHERE id = 2")
        await mesh.settle()
        assert [row[:2] for row in await mesh.same("app.t")] == [(2, "z")]
