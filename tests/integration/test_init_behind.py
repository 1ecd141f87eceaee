"""``init --all`` while a region has yet to apply deletes that the others have collected."""

import asyncio

from mesh import mesh_of
from steps import QUICK, converged, gardening, sees, until, waits

from meshnode.mysql.schema import tombstone_table
from meshnode.ops import install_data, pauses
from meshnode.ops.status import look
from meshnode.ops.verify import verify


async def test_rows_whose_delete_is_collected_and_not_applied_do_not_come_back(
    servers, tmp_path, monkeypatch
) -> None:
    """1. Rows of before, alike everywhere.  2. One applies nothing of two, where they are deleted.

    3. One promises beyond the deletes all the same, so two and three collect the tombstones.
    4. init compares: rows in one, nothing elsewhere.  5. One applies the deletes.
    """
    async with mesh_of(await servers(3), tmp_path, limits=QUICK) as mesh:
        one, two, three = mesh.sql
        await mesh.everywhere(
            "CREATE DATABASE app",
            "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)",
            "INSERT INTO app.t VALUES (1, 1), (2, 2), (3, 3)",
        )
        assert (await mesh.init()).lifted == {}
        mesh.start()
        await mesh.settle()
        await pauses.pause(one, mesh.topology.region("two"))
        await waits(mesh, 0, "applier two", state="paused")
        await two.execute("DELETE FROM app.t WHERE id = 1")
        await two.execute("UPDATE app.t SET id = 4 WHERE id = 2")
        await sees(mesh, 2, "SELECT COUNT(*) FROM app.t WHERE id = 4", 1)
        for at, sql in ((1, two), (2, three)):
            async with gardening(mesh, at) as collect:

                async def collected(sql=sql, collect=collect) -> bool:
                    await collect()
                    return not await sql.rows(f"SELECT 1 FROM {tombstone_table('app', 't')}")

                await until(collected, "the tombstones are collected")

        with monkeypatch.context() as patch:
            patch.setattr(install_data, "DOUBT_ATTEMPTS", 1)
            result = await mesh.init()
        assert result.lifted == {} and not result.complete
        assert "2 rows of one may have been deleted in two" in result.left[0]
        status = await look(mesh.topology)
        assert any("2 keys of app.t were left" in problem.what for problem in status.problems)

        # What is applied while init waits for it is settled by the same run.
        resumed: list[asyncio.Task] = []

        def resume(line: str) -> None:
            if "regions that are behind" in line and not resumed:
                two_goes_on = pauses.resume(one, mesh.topology.region("two"))
                resumed.append(asyncio.create_task(two_goes_on))

        again = await mesh.init(report=resume)
        assert resumed and again.complete and again.lifted == {}
        assert [row[:2] for row in await converged(mesh)] == [(3, 3), (4, 2)]
        assert (await verify(mesh.topology)).settled
        assert (await look(mesh.topology)).converged
