"""Every column type, at its edges, is byte for byte the same in the other region.

Tables are wide: a column for each type, a row for each of its values.  What
the storage engine has in the end is compared (see :mod:`faithful`).
"""

from faithful import lent_mesh, same_images, undisturbed
from steps import run
from type_samples import SAMPLES, Sample

WIDTH = 14
"""Columns in one table: the row must fit 65,535 bytes."""

GROUPS = [SAMPLES[at : at + WIDTH] for at in range(0, len(SAMPLES), WIDTH)]
TABLES = [f"types_{number}" for number in range(len(GROUPS))]

MIXED = "äß漢字かなハングル한글 €\\'\"%_\u0301\u200b"
"""Of it, each wide character set takes what it has."""


def literals(group: tuple[Sample, ...], row: int) -> list[str]:
    """A value of each column; from row to row each column goes round its values."""
    return [sample.values[row % len(sample.values)] for sample in group]


async def test_every_type_and_edge_value(server_pool, tmp_path) -> None:
    """Guards exact images: inserted, changed from the other side, deleted, NULL."""
    definitions = [
        f"CREATE TABLE app.{table} (id INT PRIMARY KEY, "
        + ", ".join(f"c{at} {sample.type} NULL" for at, sample in enumerate(group))
        + ")"
        for table, group in zip(TABLES, GROUPS)
    ]
    async with lent_mesh(server_pool, tmp_path, ["CREATE DATABASE app", *definitions]) as mesh:
        one, two = mesh.sql
        expected = 0
        for table, group in zip(TABLES, GROUPS):
            rounds = max(len(sample.values) for sample in group)
            rows = [f"({row}, {', '.join(literals(group, row))})" for row in range(rounds)]
            rows.append(f"({rounds}{', NULL' * len(group)})")
            await one.execute(f"INSERT INTO app.{table} VALUES {', '.join(rows)}")
            await two.execute(
                f"INSERT INTO app.{table} VALUES (-1, {', '.join(literals(group, 1))})"
            )
            expected += rounds + 1
        await undisturbed(mesh)
        for table, group in zip(TABLES, GROUPS):
            # Row 0 moves on by one value, row -1 to NULL, the NULLs to values; row 1 goes.
            for row, wanted in ((0, literals(group, 1)), (-1, ["NULL"] * len(group))):
                changed = ", ".join(f"c{at} = {value}" for at, value in enumerate(wanted))
                await one.execute(f"UPDATE app.{table} SET {changed} WHERE id = {row}")
            values = ", ".join(f"c{at} = {v}" for at, v in enumerate(literals(group, 2)))
            await two.execute(f"UPDATE app.{table} SET {values} WHERE c0 IS NULL AND id > 0")
            await two.execute(f"DELETE FROM app.{table} WHERE id = 1")
        found = await same_images(mesh, *(("app", table) for table in TABLES))
        assert sum(map(len, found.values())) == expected
        assert mesh.count("lifts") == mesh.count("conflicts") == 0


NARROW = """
    armscii8 ascii cp1250 cp1251 cp1256 cp1257 cp850 cp852 cp866 dec8 geostd8 greek hebrew hp8
    keybcs2 koi8r koi8u latin1 latin2 latin5 latin7 macce macroman swe7 tis620
"""
BROAD = """
    big5 cp932 eucjpms euckr gb18030 gb2312 gbk sjis ucs2 ujis utf16 utf16le utf32 utf8mb3 utf8mb4
"""


async def test_every_character_set(server_pool, tmp_path) -> None:
    """All 256 bytes of the narrow ones; nothing is ever decoded on the way (BINLOG 1)."""
    definitions = [
        f"CREATE TABLE app.{charset} (id INT PRIMARY KEY, a VARCHAR(256) CHARACTER SET {charset},"
        f" b CHAR(64) CHARACTER SET {charset}, c TEXT CHARACTER SET {charset},"
        f" d ENUM('x','yz') CHARACTER SET {charset})"
        for charset in (NARROW + BROAD).split()
    ]
    texts = {
        charset: f"_{charset} X'{bytes(range(128 if charset == 'ascii' else 256)).hex()}'"
        for charset in NARROW.split()
    } | dict.fromkeys(BROAD.split(), f"CONVERT(X'{MIXED.encode().hex()}' USING utf8mb4)")
    async with lent_mesh(server_pool, tmp_path, ["CREATE DATABASE app", *definitions]) as mesh:
        one, two = mesh.sql
        known = await one.rows(
            "SELECT character_set_name FROM information_schema.character_sets"
            " WHERE character_set_name <> 'binary' ORDER BY 1"
        )
        assert [row[0] for row in known] == sorted(texts)
        for charset, text in texts.items():
            row = f"{text}, LEFT({text}, 64), REPEAT({text}, 9), 2"
            await one.execute(f"INSERT INTO app.{charset} VALUES (1, {row}), (2, '', ' ', NULL, 1)")
        await undisturbed(mesh)
        for charset, text in texts.items():
            await two.execute(f"UPDATE app.{charset} SET c = a, b = 'x', d = 1 WHERE id = 1")
            await two.execute(f"UPDATE app.{charset} SET c = {text}, b = RIGHT(c, 64) WHERE id = 2")
        found = await same_images(mesh, *(("app", charset) for charset in texts))
        assert all(len(images) == 2 for images in found.values())


SOURCES = (
    "b BLOB, l LONGBLOB, x BINARY(3), bits BIT(9), n DECIMAL(10,3), ts TIMESTAMP(6),"
    " dt DATETIME(3), tm TIME(1), y YEAR, e ENUM('a','b'), s SET('a','b'), f FLOAT, u BIGINT"
    " UNSIGNED"
)
OPAQUE = "b, l, x, bits, n, ts, dt, tm, y, e, s, f, u"

DOCUMENTS = (
    "JSON_ARRAY(" + OPAQUE + ")",
    "JSON_OBJECT('deep', JSON_ARRAY(" + OPAQUE + "), 'n', n)",
    "CAST(n AS JSON)",
    "CAST(b AS JSON)",
    "ST_AsGeoJSON(ST_GeomFromText('POINT(1 2)'))",
    "'null'",
    "NULL",
    "'[]'",
    "JSON_OBJECT('big', REPEAT('x', 70000), 'a', 'abcdefgh', 'list', JSON_ARRAY(1, 'two', 3.5))",
    "JSON_OBJECT('a', 'abcdefghijklmnop', 'k', REPEAT('y', 200), 'gone', 'soon')",
)

CHANGES = (
    "JSON_SET(d, '$.a', 'x')",
    "JSON_REPLACE(d, '$.a', 'longer than it was before', '$.k', 'short')",
    "JSON_REMOVE(d, '$.gone', '$.list[1]')",
    "JSON_SET(JSON_REMOVE(d, '$.big'), '$.new', JSON_ARRAY(n, ts), '$[0]', 7)",
)


async def test_every_kind_of_json(server_pool, tmp_path) -> None:
    """Opaque values, and documents with holes that updates in place have left."""
    definition = f"CREATE TABLE app.j (id INT PRIMARY KEY, d JSON, d2 JSON, {SOURCES})"
    async with lent_mesh(server_pool, tmp_path, ["CREATE DATABASE app", definition]) as mesh:
        one, two = mesh.sql
        values = (
            "X'00FF5C', X'FE', X'0102', 257, -1.250, '2024-02-29 01:02:03.000004',"
            " '9999-12-31 23:59:59.999', '-838:59:58.9', 1901, 2, 3, 1.1, 18446744073709551615"
        )
        rounds = range(0, 100 * len(CHANGES), 100)
        for first in (*rounds, 1000):
            rows = [f"({first + at}, NULL, NULL, {values})" for at in range(len(DOCUMENTS))]
            await one.execute(f"INSERT INTO app.j VALUES {', '.join(rows)}")
            for at, document in enumerate(DOCUMENTS):
                await one.execute(
                    f"UPDATE app.j SET d = {document}, d2 = {document} WHERE id = {first + at}"
                )
        await undisturbed(mesh)
        for first, change in zip(rounds, CHANGES):
            await two.execute(
                f"UPDATE app.j SET d = {change} WHERE id BETWEEN {first} AND {first + 99}"
                " AND JSON_TYPE(d) = 'OBJECT'"
            )
        await undisturbed(mesh)
        assert mesh.count("lifts") == 0
        holes = "SELECT COUNT(*) FROM app.j WHERE JSON_STORAGE_FREE(d) > 0"
        assert await two.value(holes) > 2
        # A session may log only what changed: such rows are published in full by a lift.
        async with await mesh.session(0) as client:
            await run(
                client,
                "SET SESSION binlog_row_value_options = 'PARTIAL_JSON'",
                f"UPDATE app.j SET d = {CHANGES[0]}, d2 = {CHANGES[1]}"
                " WHERE id >= 1000 AND JSON_TYPE(d) = 'OBJECT'",
                f"UPDATE app.j SET d2 = {CHANGES[2]} WHERE JSON_TYPE(d) = 'OBJECT'",
            )
        await undisturbed(mesh)
        assert mesh.count("lifts") > 0
        found = await same_images(mesh, ("app", "j"))
        assert len(found["app", "j"]) == (len(CHANGES) + 1) * len(DOCUMENTS)
