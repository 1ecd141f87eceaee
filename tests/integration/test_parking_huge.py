"""Rows of a transaction in parts that can never apply: parked like those of any other."""

from steps import converged, running, sees

from meshnode.limits import KIB
from meshnode.topology import Limits

ROWS = 6_000
PARTS = Limits(
    heartbeat_seconds=0.2, part_bytes=64 * KIB, frame_target_bytes=64 * KIB, batch_bytes=64 * KIB
)
OPEN = "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'open'"
CLOSED = "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'closed'"
POISON = (7, 8, 3_000, 5_999)


def fill(rows: int = ROWS) -> str:
    """One transaction that inserts the keys 1 to ``rows``, those of ``POISON`` with 200."""
    poison = ",".join(map(str, POISON))
    return (
        "INSERT INTO app.t (id, v, n) WITH RECURSIVE s (n) AS"
        f" (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows})"
        f" SELECT n, REPEAT('x', 40), IF(n IN ({poison}), 200, 1) FROM s"
    )


async def test_rows_of_a_huge_transaction_that_break_a_check(servers, tmp_path) -> None:
    """Each is parked alone, in several parts; all else is there at one moment, and a replay works.

    Needed: the savepoint at each part.  Without parking there the stream halts until somebody
    has removed the cause.
    """
    async with running(servers, tmp_path, limits=PARTS) as mesh:
        one, two = mesh.sql
        await one.execute(f"SET SESSION cte_max_recursion_depth = {ROWS + 1}")
        await two.execute("ALTER TABLE app.t ADD CONSTRAINT small CHECK (n < 100)")
        await mesh.settle()
        await one.execute(fill())
        await one.execute("INSERT INTO app.t (id, v) VALUES (9000, 'behind')")
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 9000", "behind")
        assert await two.value("SELECT COUNT(*) FROM app.t") == ROWS - len(POISON) + 1
        letters = await two.rows(
            "SELECT JSON_EXTRACT(row_key, '$.id') + 0, code, JSON_EXTRACT(image, '$.n') + 0,"
            " origin, tx_id FROM meshnode.dead_letter WHERE state = 'open' ORDER BY 1"
        )
        assert [letter[:4] for letter in letters] == [(key, 3819, 200, 1) for key in POISON]
        assert len({letter[4] for letter in letters}) == 1
        assert mesh.count("parked") == len(POISON)
        node = mesh.nodes[1][0]
        assert node.board.counts["applied_rows"] == ROWS - len(POISON) + 1
        await two.execute("ALTER TABLE app.t DROP CHECK small")
        await two.execute("UPDATE meshnode.dead_letter SET state = 'replay'")
        await sees(mesh, 1, CLOSED, len(POISON))
        assert len(await converged(mesh)) == ROWS + 1
        assert mesh.count("lifts") == mesh.count("conflicts") == 0


async def test_a_unique_value_that_a_row_here_holds(servers, tmp_path) -> None:
    """A later part of the same transaction writes the parked key again: its letter closes.

    The value is given up later in the transaction, and each part counts as it stands.
    """
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, u INT UNIQUE, v VARCHAR(60))"
    async with running(servers, tmp_path, table, limits=PARTS) as mesh:
        one, two = mesh.sql
        await one.execute(f"SET SESSION cte_max_recursion_depth = {ROWS + 1}")
        await mesh.settle()
        mesh.isolate(0)
        await two.execute("INSERT INTO app.t VALUES (100000, 5, 'here'), (100001, 3000, 'here')")
        async with one.transaction():
            await one.execute(
                "INSERT INTO app.t (id, u, v) WITH RECURSIVE s (n) AS"
                f" (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {ROWS})"
                " SELECT n, n, REPEAT('x', 40) FROM s"
            )
            await one.execute("UPDATE app.t SET u = 200000 WHERE id = 5")
        mesh.cut()
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.t", ROWS + 1, 60)
        assert await two.value("SELECT u FROM app.t WHERE id = 5") == 200000
        await sees(mesh, 1, CLOSED, 1)
        assert await two.value(OPEN) == 1
        # Region one has given 5 up, and parks the other row of region two.
        await sees(mesh, 0, OPEN, 1)
        assert mesh.count("parked") == 3
        await one.execute("UPDATE app.t SET u = 300000 WHERE id = 3000")
        for sql in mesh.sql:
            await sql.execute("UPDATE meshnode.dead_letter SET state = 'replay' WHERE state='open'")

        await sees(mesh, 0, CLOSED, 1)
        await sees(mesh, 1, CLOSED, 2)
        assert len(await converged(mesh)) == ROWS + 2


async def test_values_that_change_places_in_a_part_that_loses_a_row(servers, tmp_path) -> None:
    """The part is worked out as delete-all, write-all: nothing is parked.

    A net effect for each key would meet the value that the other row still holds.
    """
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, u VARCHAR(10) UNIQUE, v VARCHAR(60))"
    async with running(servers, tmp_path, table, limits=PARTS) as mesh:
        one, two = mesh.sql
        await one.execute(f"SET SESSION cte_max_recursion_depth = {ROWS + 1}")
        await one.execute("INSERT INTO app.t VALUES (-3, 'other', 0), (-2, 'p', 0), (-1, 'q', 0)")
        await mesh.settle()
        mesh.isolate(0)
        async with one.transaction():
            await one.execute(
                "INSERT INTO app.t (id, v) WITH RECURSIVE s (n) AS"
                f" (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {ROWS})"
                " SELECT n, REPEAT('x', 40) FROM s"
            )
            await one.execute("UPDATE app.t SET u = 'tmp' WHERE id = -2")
            await one.execute("UPDATE app.t SET u = 'p' WHERE id = -1")
            await one.execute("UPDATE app.t SET u = 'q' WHERE id = -2")
            await one.execute("UPDATE app.t SET v = 'one' WHERE id = -3")
        await two.execute("UPDATE app.t SET v = 'two' WHERE id = -3")
        mesh.cut()
        await sees(mesh, 1, "SELECT COUNT(*) FROM app.t", ROWS + 3, 60)
        rows = await converged(mesh)
        assert [row[:2] for row in rows[:3]] == [(-3, "other"), (-2, "q"), (-1, "p")]
        assert rows[0][2] == "two"
        assert mesh.count("parked") == 0
