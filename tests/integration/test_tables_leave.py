"""``docs/OPERATING.md``, 'Taking a table out', step by step on running nodes."""

import msgspec
import pytest
from mesh import NAMES, Mesh, mesh_of
from steps import converged, running, sees, until, waits

from meshnode.errors import Refused, Retry
from meshnode.mysql.schema import tombstone_table
from meshnode.ops import letters, retirement
from meshnode.ops.status import look
from meshnode.ops.verify import verify

T = "CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(20) UNIQUE)"
U = "CREATE TABLE app.u (id INT PRIMARY KEY, v VARCHAR(20))"


def exclude(mesh: Mesh, *tables: str) -> None:
    """What every node does with a file that it may follow at once."""
    replicate = msgspec.structs.replace(mesh.topology.replicate, exclude=tables)
    mesh.topology = msgspec.structs.replace(mesh.topology, replicate=replicate)
    for node, _ in mesh.nodes.values():
        node.view.now = mesh.topology


async def until_converged(mesh: Mesh) -> None:
    async def holds() -> bool:
        return (await look(mesh.topology)).converged

    await until(holds, "status says converged")


async def made(mesh: Mesh, table: str) -> list[str]:
    return [(await sql.row(f"SHOW CREATE TABLE {table}"))[1] for sql in mesh.sql]


async def parked(mesh: Mesh) -> None:
    """A row of ``app.t`` that two cannot take, for its unique value is taken there."""
    one, two = mesh.sql
    mesh.isolate(0)
    await two.execute("INSERT INTO app.t VALUES (2, 'x')")
    await one.execute("INSERT INTO app.t VALUES (1, 'x')")
    mesh.cut()
    await mesh.settle()
    for sql in mesh.sql:
        assert await sql.value("SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'open'")


async def test_a_table_leaves_the_mesh_and_is_as_before(servers, tmp_path) -> None:
    async with running(servers, tmp_path, T, U) as mesh:
        one, two = mesh.sql
        with_stamps = await made(mesh, "app.t")
        await parked(mesh)
        await one.execute(
            "INSERT INTO meshnode.unsettled SELECT digest, schema_name, table_name, 3,"
            " UTC_TIMESTAMP(6) FROM meshnode.tables WHERE table_name = 't'"
        )
        # 1. Its writers are away, and everything is applied.
        await mesh.settle()
        # 2. The files exclude it.
        exclude(mesh, "app.t")
        status = await look(mesh.topology)
        assert any(
            "1 tables are replicated that the topology does not name: app.t" in warning.what
            and "init --all --retire" in warning.remedy
            for warning in status.warnings
        )
        # Who writes all the same is stopped at once.
        await one.execute("INSERT INTO app.t VALUES (3, 'late')")
        await waits(mesh, 1, "applier one", "which the topology does not replicate", "Taking a")
        exclude(mesh)
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.t WHERE id = 3", 1)
        exclude(mesh, "app.t")
        # 3. init takes everything out.
        assert (await mesh.init()).complete
        assert await made(mesh, "app.t") == with_stamps
        with pytest.raises(Refused, match="all regions"):
            await mesh.init(regions=["one"], retire=True)
        dry = await mesh.init(retire=True, dry_run=True)
        assert await made(mesh, "app.t") == with_stamps
        done = await mesh.init(retire=True)
        assert done.complete and done.statements == dry.statements
        assert done.tables == ("app.u",)
        bare = await made(mesh, "app.t")
        assert all("_mesh_" not in text for text in bare)
        for sql in mesh.sql:
            assert not await sql.rows("SHOW TRIGGERS FROM app LIKE 't'")
            assert not await sql.rows(
                "SHOW TABLES FROM meshnode LIKE %s",
                (tombstone_table("app", "t").split("`")[3],),
            )
            assert await sql.rows("SELECT state, note FROM meshnode.dead_letter") == [
                ("closed", "its table was taken out of the mesh")
            ]
        assert not (await mesh.init(retire=True)).statements
        # It is everybody's own now, and nothing of it stops a stream.
        await one.execute("INSERT INTO app.t VALUES (4, 'mine')")
        await one.execute("ALTER TABLE app.t DROP COLUMN v")
        await two.execute("DROP TABLE app.t")
        await one.execute("INSERT INTO app.u VALUES (1, 'go on')")
        await two.execute("INSERT INTO app.u VALUES (2, 'go on')")
        assert [row[0] for row in await converged(mesh, "app.u")] == [1, 2]
        await until_converged(mesh)
        assert not (await look(mesh.topology)).warnings
        assert (await verify(mesh.topology)).settled


async def test_a_table_that_was_dropped_before_leaves_the_same_way(servers, tmp_path) -> None:
    """Nothing needs to be skipped: what is not replicated stops no stream."""
    async with running(servers, tmp_path, T, U) as mesh:
        one, two = mesh.sql
        await parked(mesh)
        await mesh.everywhere("DROP TABLE app.t")
        state = await waits(mesh, 0, "tailer", "DROP TABLE")
        await waits(mesh, 1, "tailer", "DROP TABLE")
        # One was skipped, as the remedy says: verify tells how to go on.
        await letters.skip(mesh.topology, "one", state.remedy.rsplit(" ", 1)[-1], force=True)
        gone = {each.name: each.problem for each in (await verify(mesh.topology)).tables}
        assert "'Taking a table out'" in gone["app.t"]
        exclude(mesh, "app.t")
        assert (await mesh.init(retire=True)).complete
        await one.execute("INSERT INTO app.u VALUES (1, 'go on')")
        await two.execute("INSERT INTO app.u VALUES (2, 'go on')")
        assert [row[0] for row in await converged(mesh, "app.u")] == [1, 2]
        assert (await verify(mesh.topology)).closed == 1
        await until_converged(mesh)
        # The name is free: a table that comes later is taken in anew.
        exclude(mesh)
        await mesh.everywhere(T)
        assert (await mesh.init()).complete
        await one.execute("INSERT INTO app.t VALUES (1, 'new')")
        await converged(mesh)


@pytest.mark.parametrize("done", range(2))
async def test_what_is_broken_off_goes_on(servers, tmp_path, monkeypatch, done: int) -> None:
    """After ``done`` of two regions; the table is not in meshnode.tables any more."""
    async with running(servers, tmp_path, T, U) as mesh:
        await mesh.stop()
        await mesh.sql[1].execute("DROP TABLE app.t")
        removal, calls = retirement._removal, []

        async def breaks(*arguments):
            calls.append(arguments)
            if len(calls) > done:
                raise Retry("connection lost")
            return await removal(*arguments)

        exclude(mesh, "app.t")
        with monkeypatch.context() as patch:
            patch.setattr(retirement, "_removal", breaks)
            with pytest.raises(Retry):
                await mesh.init(retire=True)
        await mesh.init(retire=True)
        for sql in mesh.sql:
            assert not await sql.rows("SHOW TRIGGERS FROM app LIKE 't'")
            assert len(await sql.rows("SHOW TABLES FROM meshnode LIKE 't\\_%'")) == 1
        assert "_mesh_" not in (await mesh.sql[0].row("SHOW CREATE TABLE app.t"))[1]


async def test_a_renamed_table_leaves_without_a_moment_in_which_deletes_fail(
    servers, tmp_path
) -> None:
    """Its triggers went with it, and write tombstones under its former name until they are gone."""
    async with running(servers, tmp_path, T, U) as mesh:
        rows = ", ".join(f"({key}, NULL)" for key in range(50))
        await mesh.sql[0].execute(f"INSERT INTO app.t VALUES {rows}")
        await mesh.settle()
        await mesh.stop()
        await mesh.everywhere("RENAME TABLE app.t TO app.t_old")
        exclude(mesh, "app.t", "app.t_old")

        def delete(line: str) -> None:
            """A client, between any two statements of ``init`` in its region."""
            region = line.partition(": ")[0]
            if region in NAMES:
                with mesh.servers[NAMES.index(region)].connect() as connection:
                    connection.cursor().execute("DELETE FROM app.t_old ORDER BY id LIMIT 1")

        dry = await mesh.init(retire=True, dry_run=True)
        done = await mesh.init(retire=True, report=delete)
        assert done.complete and done.statements == dry.statements
        for sql in mesh.sql:
            await sql.execute("DELETE FROM app.t_old WHERE id = 40")
            assert not await sql.rows("SHOW TRIGGERS FROM app LIKE 't_old'")
            assert len(await sql.rows("SHOW TABLES FROM meshnode LIKE 't\\_%'")) == 1
        assert all("_mesh_" not in text for text in await made(mesh, "app.t_old"))
        assert not (await mesh.init(retire=True)).statements


async def test_only_columns_that_the_mesh_has_made_go_from_a_renamed_table(
    servers, tmp_path
) -> None:
    """And none from a table that the topology names: it is replicated, or will be."""
    async with mesh_of(await servers(1), tmp_path, "app.*") as mesh:
        (one,) = mesh.sql
        await mesh.everywhere("CREATE DATABASE app", T, U)
        await mesh.init()
        await one.execute("INSERT INTO app.t VALUES (1, 'a')")
        stamps = "SELECT _mesh_ts, _mesh_origin FROM app.t_old"
        await one.execute("RENAME TABLE app.t TO app.t_old, app.u TO app.u_old")
        await one.execute("ALTER TABLE app.u_old MODIFY _mesh_ts BIGINT NOT NULL DEFAULT 7")
        exclude(mesh, "app.t", "app.u", "app.u_old")
        before = await one.rows(stamps)
        await mesh.init(retire=True)
        assert await one.rows(stamps) == before
        text = (await one.row("SHOW CREATE TABLE app.u_old"))[1]
        assert "_mesh_ts" in text and "_mesh_origin" in text
        assert not await one.rows("SHOW TRIGGERS FROM app LIKE 'u_old'")
