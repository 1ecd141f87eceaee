"""Commands against running nodes: what they write is what status, replay, skip and verify read."""

import asyncio
import re
from pathlib import Path

from mesh import Mesh, mesh_of

from meshnode.ops import letters
from meshnode.ops.status import look, look_twice
from meshnode.ops.verdict import Status
from meshnode.ops.verify import verify

SECONDS = 30


async def until(mesh: Mesh, holds, what: str) -> Status:
    """Look until ``holds(status)``."""
    status = await look(mesh.topology)
    try:
        async with asyncio.timeout(SECONDS):
            while not holds(status):
                await asyncio.sleep(0.2)
                status = await look(mesh.topology)
    except TimeoutError as error:
        raise AssertionError(f"never {what}: {status.problems}; {mesh.states()}") from error
    return status


async def test_status_of_running_nodes(servers, tmp_path: Path) -> None:
    async with mesh_of(await servers(2), tmp_path) as mesh:
        await mesh.everywhere(
            "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)"
        )
        await mesh.init()
        mesh.start()
        await until(mesh, lambda status: status.converged, "converged")
        await mesh.sql[0].execute("INSERT INTO app.t VALUES (1, 1), (2, 2)")
        await mesh.settle()
        status = await look_twice(mesh.topology)
        assert status.converged, status.problems
        assert status.warnings == []
        one, two = status.regions
        assert one.counts["published_rows"] == 2
        assert two.counts["applied_rows"] == 2
        assert one.rates["published_rows"] >= 0
        assert {actor.name for actor in one.actors} >= {"tailer", "heart", "applier two"}
        assert all(pair.lag < 5 for pair in status.pairs)
        assert (await verify(mesh.topology)).settled
        await mesh.stop(1)
        status = await until(mesh, lambda status: not status.converged, "not converged")
        assert {problem.region for problem in status.problems} <= {"one", "two"}


async def test_a_parked_row_is_replayed_when_its_cause_is_gone(servers, tmp_path: Path) -> None:
    async with mesh_of(await servers(2), tmp_path) as mesh:
        await mesh.everywhere(
            "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)"
        )
        await mesh.init()
        mesh.start()
        await mesh.sql[1].execute("ALTER TABLE app.t ADD CONSTRAINT positive CHECK (v > 0)")
        await mesh.sql[0].execute("INSERT INTO app.t VALUES (1, 1), (2, -2)")
        status = await until(mesh, lambda status: status.regions[1].letters.open, "parked")
        assert not status.converged
        (letter,) = (await letters.listed(mesh.topology)).found
        assert (letter.region, letter.key, letter.code) == ("two", {"id": 2}, 3819)
        assert letter.image is not None
        assert letter.image["v"] == -2
        failed = await letters.replay(mesh.topology, "two", letter.id)
        assert "positive" in failed.reopened[letter.id]
        await mesh.sql[1].execute("ALTER TABLE app.t DROP CONSTRAINT positive")
        replayed = await letters.replay(mesh.topology, "two")
        assert replayed.closed == [letter.id]
        await mesh.settle()
        assert (await verify(mesh.topology)).settled
        await until(mesh, lambda status: status.converged, "converged")


async def test_a_truncate_is_skipped_made_good_and_verified(servers, tmp_path: Path) -> None:
    async with mesh_of(await servers(2), tmp_path) as mesh:
        await mesh.everywhere(
            "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)"
        )
        await mesh.init()
        mesh.start()
        await mesh.sql[0].execute("INSERT INTO app.t VALUES (1, 1), (2, 2)")
        await mesh.settle()
        await mesh.sql[0].execute("TRUNCATE app.t")
        status = await until(
            mesh, lambda status: any("TRUNCATE" in each.what for each in status.problems), "halted"
        )
        (problem,) = (each for each in status.problems if "TRUNCATE" in each.what)
        assert problem.region == "one"
        named = re.search(r"meshnode skip --region one --tx (\S+)", problem.remedy)
        assert named is not None
        assert await letters.skip(mesh.topology, "one", named[1])
        await mesh.sql[0].execute("INSERT INTO app.t VALUES (3, 3)")
        await mesh.settle()
        status = await until(
            mesh, lambda status: "1 skipped transactions" in str(status.problems), "skipped"
        )
        assert not status.converged
        verdict = await verify(mesh.topology, settle=1)
        assert verdict.tables[0].differing == 2
        await mesh.sql[1].execute("DELETE FROM app.t WHERE id IN (1, 2)")
        await mesh.settle()
        assert (await verify(mesh.topology)).closed == 1
        await until(mesh, lambda status: status.converged, "converged")
