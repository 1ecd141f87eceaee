"""What a conflict leaves behind: images of every form, and how sure the record is."""

import json

from steps import applier, applying, converged, records, run, running, sees, stamp

from meshnode import limits
from meshnode.limits import KIB
from meshnode.mysql.images import local_images
from meshnode.mysql.lookup import read_collations
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.session import connect
from meshnode.topology import Limits

PARTS = Limits(
    heartbeat_seconds=0.2, part_bytes=64 * KIB, frame_target_bytes=64 * KIB, batch_bytes=64 * KIB
)
DEEPEST = 100
"""As deep as MySQL lets a JSON document be."""


async def test_a_document_as_deep_as_can_be_in_a_row_that_loses(servers, tmp_path) -> None:
    """The record holds its text.  Nested into the record it would be too deep, and the row that
    wins would be parked.
    """
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, v JSON)"
    deep = "[" * DEEPEST + "]" * DEEPEST
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES (1, '{}')")
        await mesh.settle()
        mesh.isolate(0)
        await two.execute("UPDATE app.t SET v = %s WHERE id = 1", (deep,))
        await one.execute("UPDATE app.t SET v = '{\"won\": 1}' WHERE id = 1")
        mesh.cut()
        rows = await converged(mesh)
        assert [json.loads(row[1]) for row in rows] == [{"won": 1}]
        assert mesh.count("parked") == 0
        # One form, as the row that stood and as the row that came in.
        lost = [each.image["v"] for log in await records(mesh, {"id": 1}) for each in log]
        assert lost == [deep, deep]
        assert mesh.count("conflicts") == 2


async def base_comes_last(mesh, *writes: str) -> list:
    """Region two gets what region one wrote over a version of region three, and then that version.

    ``writes`` are the statements of region one, in one transaction; key 1 is among them.
    The records about key 1 in region two.
    """
    one, two, three = mesh.sql
    await mesh.settle()
    mesh.cut((2, 1))
    await three.execute("UPDATE app.t SET v = 'three' WHERE id = 1")
    await sees(mesh, 0, "SELECT v FROM app.t WHERE id = 1", "three")
    async with one.transaction():
        await run(one, *writes)
    await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "one")
    mesh.cut()
    await mesh.settle()
    assert await stamp(two, 1) == await stamp(one, 1)
    return (await records(mesh, {"id": 1}))[1]


async def test_what_a_huge_transaction_wrote_over_is_known(servers, tmp_path) -> None:
    """A version that arrives after the one that was written over it owes no record."""
    async with running(servers, tmp_path, regions=3, limits=PARTS) as mesh:
        one = mesh.sql[0]
        await one.execute("SET SESSION cte_max_recursion_depth = 3001")
        await one.execute(
            "INSERT INTO app.t (id, v) WITH RECURSIVE s (n) AS"
            " (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 3000) SELECT n, 'x' FROM s"
        )
        assert await base_comes_last(mesh, "UPDATE app.t SET v = 'one'") == []


async def test_what_an_item_with_a_parked_row_wrote_over_is_known(servers, tmp_path) -> None:
    async with running(servers, tmp_path, regions=3) as mesh:
        one, two, _ = mesh.sql
        await two.execute("ALTER TABLE app.t ADD CONSTRAINT small CHECK (n < 100)")
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x'), (2, 'x')")
        await mesh.settle()
        assert (
            await base_comes_last(
                mesh,
                "UPDATE app.t SET v = 'one' WHERE id = 1",
                "UPDATE app.t SET n = 200 WHERE id = 2",
            )
            == []
        )
        assert mesh.count("parked") == 1


async def test_images_are_read_in_portions(servers, tmp_path, monkeypatch) -> None:
    """More rows in conflict than one statement names: each has the image of its own row."""
    monkeypatch.setattr(limits, "LOCK_KEYS", 7)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        values = ",".join(f"({key}, 'before')" for key in range(1, 31))
        await one.execute(f"INSERT INTO app.t (id, v) VALUES {values}")
        await mesh.settle()
        mesh.isolate(0)
        await two.execute("UPDATE app.t SET v = CONCAT('two ', id)")
        await one.execute("UPDATE app.t SET v = CONCAT('one ', id)")
        mesh.cut()
        await converged(mesh)
        for key in range(1, 31):
            for log in await records(mesh, {"id": key}):
                assert [lost.image["v"] for lost in log] == [f"two {key}"]

        # The statement itself: repeated keys, keys without a row, and every portion.
        node, _ = mesh.nodes[1]
        table = next(iter(applying(mesh, 1, 0).lookups._lookups))
        session = await connect(node.region, applier(mesh, 1, 0).store.login, "test")
        try:
            lookup = Lookups(await read_collations(session))(table)
            keys = [key.to_bytes(4, "little") for key in (*range(1, 40), 3, 4)]
            images = await local_images(session, lookup, keys, table)
        finally:
            session.close()
        assert sorted(images) == sorted(key.to_bytes(4, "little") for key in range(1, 31))
        assert {json.loads(image)["v"] for image in images.values()} == {
            f"one {key}" for key in range(1, 31)
        }
