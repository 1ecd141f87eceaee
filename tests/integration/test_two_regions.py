"""Two regions: what is written in one is in the other."""

import pytest
from mesh import mesh_of


@pytest.mark.kafka_essential
async def test_rows_written_in_either_region_reach_the_other(servers, tmp_path) -> None:
    async with mesh_of(await servers(2), tmp_path) as mesh:
        await mesh.everywhere(
            "CREATE DATABASE app",
            "CREATE TABLE app.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(20), d DATETIME(6))",
        )
        await mesh.init()
        mesh.start()
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES (1, 'a', NOW(6)), (3, 'b', NOW(6))")
        await two.execute("INSERT INTO app.t VALUES (2, 'c', NOW(6))")
        await mesh.settle()
        assert len(await mesh.same("app.t")) == 3

        await one.execute("UPDATE app.t SET v = 'x' WHERE id = 2")
        await two.execute("DELETE FROM app.t WHERE id = 1")
        await two.execute("UPDATE app.t SET id = 9 WHERE id = 3")
        await mesh.settle()
        assert [row[:2] for row in await mesh.same("app.t")] == [(2, "x"), (9, "b")]
        assert mesh.count("lifts") == mesh.count("conflicts") == 0
