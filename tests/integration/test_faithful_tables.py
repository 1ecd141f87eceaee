"""Every kind of table: odd names, many columns, large rows, hidden columns, partitions."""

from faithful import lent_mesh, same_images, transaction, undisturbed
from steps import run

from meshnode.mysql.schema import quoted, quoted_table

ODD = "od`d. schémä"
LONGEST = "ta`b.le ü漢" + "x" * 54
# MySQL makes no trigger over a name with a backquote and a letter beyond ASCII, so no such key.
COLUMNS = ("k`e.y %s", "v'a`l\"u✓e%s", " la`st" + "y" * 57, "`", "_mesh_", "select")
NAMED = [(ODD, LONGEST), ("app", LONGEST), (ODD, "t"), ("app", "T"), ("app", "t")]

BLOB_BYTES = 20 * 1024 * 1024


async def test_names_of_64_characters_with_odd_ones(server_pool, tmp_path) -> None:
    """Names go into literals, statements, digests and topologies: each quotes them its own way."""
    assert len(LONGEST) == 64
    create = [f"CREATE DATABASE {quoted(schema)}" for schema in (ODD, "app")]
    for schema, table in NAMED:
        first, *others = map(quoted, COLUMNS)
        create.append(
            f"CREATE TABLE {quoted_table(schema, table)} ({first} VARCHAR(9) PRIMARY KEY, "
            + ", ".join(f"{name} INT" for name in others)
            + ")"
        )
    for role, needed in (("apply", "SELECT, INSERT, UPDATE, DELETE"), ("tail", "SELECT")):
        create.append(f"GRANT {needed} ON {quoted(ODD)}.* TO mesh_{role}")
    async with lent_mesh(server_pool, tmp_path, create, f"{quoted(ODD)}.*", "app.*") as mesh:
        one, two = mesh.sql
        key, value = quoted(COLUMNS[0]), quoted(COLUMNS[1])
        for name in (quoted_table(*table) for table in NAMED):
            await one.execute(f"INSERT INTO {name} ({key}) VALUES ('a'), ('b'), ('c'), ('d')")
        await undisturbed(mesh)
        mesh.isolate(0)
        for name in (quoted_table(*table) for table in NAMED):
            for sql in mesh.sql:
                await sql.execute(f"UPDATE {name} SET {value} = CONNECTION_ID() WHERE {key} = 'a'")
            await two.execute(f"UPDATE {name} SET {key} = 'e' WHERE {key} = 'b'")
        mesh.cut()
        for name in (quoted_table(*table) for table in NAMED):
            async with await mesh.session(1) as client:
                await client.execute(f"DELETE FROM {name} WHERE {key} = 'c'")
        await undisturbed(mesh)
        records = await one.rows("SELECT schema_name, table_name FROM meshnode.conflict_log")
        assert set(records) == set(NAMED)
        found = await same_images(mesh, *NAMED)
        assert all(len(images) == 3 for images in found.values())


SHAPED = {
    "wide": "(id INT, "
    + ", ".join(f"c{at} {('INT', 'VARCHAR(9)', 'BIT(3)')[at % 3]}" for at in range(300))
    + ", PRIMARY KEY (id))",
    "made": "(a INT PRIMARY KEY, inv INT INVISIBLE DEFAULT 5, gv INT AS (a + 1) VIRTUAL,"
    " gs VARCHAR(30) AS (CONCAT('<', b, '>')) STORED, b VARCHAR(10), j JSON,"
    " gi INT AS (a + 7) VIRTUAL INVISIBLE, jn INT AS (j->'$.n') VIRTUAL, KEY (jn), KEY (gv),"
    " KEY ((a * 2)), KEY arr ((CAST(j->'$.l' AS UNSIGNED ARRAY))),"
    " at DATETIME(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))",
    "keyed": "(a INT, g INT AS (a DIV 10) STORED, v INT, PRIMARY KEY (g, a))",
    "hashed": "(a INT, b DATE, v VARCHAR(9), PRIMARY KEY (a, b))"
    " PARTITION BY HASH (a) PARTITIONS 5",
    "ranged": "(a INT PRIMARY KEY, v VARCHAR(9)) PARTITION BY RANGE (a) (PARTITION low VALUES LESS"
    " THAN (10), PARTITION high VALUES LESS THAN MAXVALUE)",
    "packed": "(a INT PRIMARY KEY, v TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4",
    "redundant": "(a INT PRIMARY KEY, v TEXT) ROW_FORMAT=REDUNDANT",
    "checked": "(a INT PRIMARY KEY, v INT CHECK (v > 0), w INT DEFAULT (a * 3))",
    "lone": "(a INT PRIMARY KEY)",
    "hidden": "(a INT INVISIBLE PRIMARY KEY AUTO_INCREMENT, v INT)",
}

WRITES = (
    "INSERT INTO app.wide (id) VALUES (1), (2)",
    "UPDATE app.wide SET c0 = 1, c150 = 2, c299 = 5, c1 = 'x' WHERE id = 1",
    "INSERT INTO app.made (a, b, j) VALUES (1, 'x', '{\"n\": 4, \"l\": [1, 2]}'), (2, NULL, NULL)",
    "INSERT INTO app.made (a, inv, j) VALUES (3, 9, '{\"l\": []}')",
    "UPDATE app.made SET b = 'y', inv = 6, j = JSON_SET(j, '$.l[2]', 7) WHERE a = 1",
    "UPDATE app.made SET a = 30 WHERE a = 3",
    "INSERT INTO app.keyed (a, v) VALUES (5, 0), (15, 1), (25, 2)",
    "UPDATE app.keyed SET a = a + 10 WHERE v = 2",
    "UPDATE app.keyed SET v = 9 WHERE a = 5",
    "INSERT INTO app.hashed VALUES (1, '2024-01-01', 'a'), (2, '2024-01-01', 'b'), (7, 0, 'c')",
    "UPDATE app.hashed SET a = a + 1 ORDER BY a DESC",
    "DELETE FROM app.hashed WHERE a = 2",
    "INSERT INTO app.ranged VALUES (1, 'a'), (11, 'b'), (2, 'c')",
    "UPDATE app.ranged SET a = a + 20 WHERE a = 2",
    "INSERT INTO app.packed VALUES (1, REPEAT('long ', 9000)), (2, NULL)",
    "UPDATE app.packed SET v = CONCAT(v, 'er') WHERE a = 1",
    "INSERT INTO app.redundant VALUES (1, REPEAT('long ', 9000)), (2, '')",
    "INSERT INTO app.checked (a, v) VALUES (1, 1), (2, NULL)",
    "INSERT INTO app.lone VALUES (1), (2)",
    "UPDATE app.lone SET a = 3 WHERE a = 1",
    "INSERT INTO app.hidden VALUES (10), (20)",
    "UPDATE app.hidden SET v = 11 WHERE v = 10",
)


async def test_columns_and_partitions_of_every_kind(server_pool, tmp_path) -> None:
    """300 columns, generated and invisible ones, keys of generated columns, row formats."""
    create = [
        "CREATE DATABASE app",
        *(f"CREATE TABLE app.{name} {definition}" for name, definition in SHAPED.items()),
    ]
    async with lent_mesh(server_pool, tmp_path, create) as mesh:
        one, two = mesh.sql
        await run(one, *WRITES)
        await undisturbed(mesh)
        await run(
            two,
            "UPDATE app.wide SET c299 = 7, c2 = 1 WHERE id = 2",
            "UPDATE app.made SET b = 'z' WHERE a IN (1, 2)",
            "UPDATE app.keyed SET a = a + 1, v = 7 WHERE a IN (5, 15)",
            "DELETE FROM app.ranged WHERE a = 22",
            "UPDATE app.hidden SET v = v + 1",
        )
        await undisturbed(mesh)
        # A conflict in each: images are rebuilt for what stands here.
        mesh.isolate(0)
        for sql in mesh.sql:
            await run(
                sql,
                "UPDATE app.wide SET c298 = 'c' WHERE id = 2",
                "UPDATE app.made SET b = 'both' WHERE a = 30",
                "UPDATE app.keyed SET v = 8 WHERE a = 16",
                "UPDATE app.hashed SET v = 'both'",
                "INSERT INTO app.lone VALUES (9)",
            )
        mesh.cut()
        await undisturbed(mesh)
        assert mesh.count("conflicts") >= 5 and mesh.count("lifts") == 0
        found = await same_images(mesh, *(("app", name) for name in SHAPED))
        assert {name: len(found["app", name]) for name in SHAPED} == {
            "wide": 2, "made": 3, "keyed": 3, "hashed": 2, "ranged": 2, "packed": 2,
            "redundant": 2, "checked": 2, "lone": 3, "hidden": 2,
        }  # fmt: skip


async def test_rows_of_20_mib(server_pool, tmp_path) -> None:
    """Before images so large are cut to the key; the images together would be 107 MiB."""
    create = [
        "CREATE DATABASE app",
        "CREATE TABLE app.big (id INT PRIMARY KEY, b LONGBLOB, v INT)",
    ]
    async with lent_mesh(server_pool, tmp_path, create) as mesh:
        one, two = mesh.sql
        await one.execute(
            f"INSERT INTO app.big VALUES (1, REPEAT(X'00FF5C27', {BLOB_BYTES // 4}), 1)"
        )
        await undisturbed(mesh)
        await two.execute("UPDATE app.big SET v = 2")
        await two.execute("UPDATE app.big SET b = CONCAT(b, X'AA')")
        await undisturbed(mesh)
        await transaction(
            one, "INSERT INTO app.big VALUES (2, 'small', 2)", "UPDATE app.big SET v = 3"
        )
        await undisturbed(mesh)
        found = await same_images(mesh, ("app", "big"))
        assert max(map(len, found["app", "big"].values())) > BLOB_BYTES
