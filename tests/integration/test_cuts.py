"""Links that break, peers that are away, and neighbours that must not notice."""

import pytest
from mesh import Mesh
from steps import converged, gardening, running, sees, tombstone, until, waits


@pytest.mark.kafka_essential
async def test_cuts_heal_by_themselves(servers, tmp_path) -> None:
    """Symmetric and one-way: nobody restarts anything, nothing is lost."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        restarts = [
            actor.state.restarts for node, _ in mesh.nodes.values() for actor in node.actors
        ]
        mesh.cut((0, 1))
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'one')")
        await two.execute("INSERT INTO app.t (id, v) VALUES (2, 'two')")
        # One way only: the second is heard, the first is not.
        await sees(mesh, 0, "SELECT v FROM app.t WHERE id = 2", "two")
        assert await two.value("SELECT COUNT(*) FROM app.t") == 1
        mesh.cut((0, 1), (1, 0))
        for key in range(10, 60):
            await one.execute("INSERT INTO app.t (id, v) VALUES (%s, 'one')", (key,))
            await two.execute(
                "INSERT INTO app.t (id, v) VALUES (%s, 'two') ON DUPLICATE KEY UPDATE n = n + 1",
                (key + 25,),
            )
        mesh.cut((1, 0))
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "one")
        mesh.cut()
        rows = await converged(mesh)
        assert len(rows) == 2 + 75
        assert mesh.count("lifts") == mesh.count("parked") == 0
        assert restarts == [
            actor.state.restarts for node, _ in mesh.nodes.values() for actor in node.actors
        ]


async def test_a_peer_that_comes_back_after_a_long_absence(servers, tmp_path) -> None:
    """Tombstones of its time wait for it, so its old rows do not come back.

    Needed: GC by stability.  With GC by age the delete is forgotten, and the update
    that the absent region makes brings its row back in one region and not in the other.
    """
    async with running(servers, tmp_path, regions=3) as mesh:
        one, two, three = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x'), (2, 'x'), (3, 'x')")
        await mesh.settle()
        await mesh.stop(2)
        # A client of the absent region goes on writing: before the others in time.
        await three.execute("UPDATE app.t SET v = 'while away' WHERE id = 1")
        await one.execute("DELETE FROM app.t WHERE id IN (1, 2)")
        for number in range(200):
            await one.execute("UPDATE app.t SET n = n + 1 WHERE id = 3")
            await two.execute(
                "INSERT INTO app.t (id, v) VALUES (%s, 'y') ON DUPLICATE KEY UPDATE n = n + 1",
                (100 + number % 20,),
            )
        await mesh.settle(regions=(0, 1))
        for at in range(2):
            async with gardening(mesh, at) as collect:
                await collect()
            assert await tombstone(mesh.sql[at], 1) is not None
        mesh.start(2)
        rows = await converged(mesh)
        assert [row[0] for row in rows] == [3, *range(100, 120)]
        assert rows[0][2] == 200
        assert mesh.count("parked") == 0


def restarts(mesh: Mesh, *places: int) -> int:
    """How often actors of these regions had to start again."""
    return sum(actor.state.restarts for at in places for actor in mesh.nodes[at][0].actors)


async def test_one_broken_peer_slows_nobody(servers, tmp_path) -> None:
    """The third region cannot take the stream of the first; everything else goes on as ever.

    Needed: an applier for each peer with its own connection and mailbox.
    """
    async with running(servers, tmp_path, regions=3) as mesh:
        one, two, three = mesh.sql
        await mesh.settle()
        await three.execute("ALTER TABLE app.t MODIFY COLUMN v VARCHAR(5)")
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'wide')")
        await waits(mesh, 2, "applier one", "app.t")
        before = restarts(mesh, 0, 1)
        for key in range(10, 40):
            await one.execute("INSERT INTO app.t (id, v) VALUES (%s, 'x')", (key,))
            await sees(mesh, 1, f"SELECT COUNT(*) FROM app.t WHERE id = {key}", 1)
        assert await three.value("SELECT COUNT(*) FROM app.t") == 0, "the peer is not broken"
        assert restarts(mesh, 0, 1) == before
        # What has nothing to do with the table goes on between the broken two as well.
        await sees(mesh, 0, "SELECT COUNT(*) FROM meshnode.applied WHERE seq > 0", 2)
        heard = await one.value("SELECT heard_us FROM meshnode.applied WHERE origin = 3")

        async def later() -> bool:
            return heard < await one.value("SELECT heard_us FROM meshnode.applied WHERE origin = 3")

        await until(later, "the first still hears the third")
        await three.execute("ALTER TABLE app.t MODIFY COLUMN v VARCHAR(40)")
        assert len(await converged(mesh)) == 31
        assert await two.value("SELECT COUNT(*) FROM app.t") == 31
