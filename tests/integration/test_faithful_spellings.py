"""Keys that are equal for MySQL and differ in bytes: one row, in the winner's spelling, everywhere.

'Straße' and 'STRASSE ' are one key of a column whose collation ignores case, pads
with spaces and expands ß.  Whoever wins must leave its own bytes.
"""

from faithful import lent_mesh, same_images, undisturbed
from steps import run

SPELLINGS = {
    "utf8mb4_0900_ai_ci": ("Straße", "STRASSE"),
    "utf8mb4_unicode_ci": ("Straße", "strasse \\0"),
    "utf8mb4_general_ci": ("Ärger", "arger "),
    "utf8mb4_bin": ("a", "a "),
    "utf8mb4_hu_0900_ai_ci": ("ccs", "cscs"),
    "utf8mb4_hungarian_ci": ("CS", "cs "),
    "utf8mb4_ja_0900_as_cs": ("はハ", "ハは"),
    "utf8mb4_de_pb_0900_ai_ci": ("Äpfel", "aepfel"),
    "utf8mb3_german2_ci": ("Äpfel", "aepfel "),
    "utf16_unicode_520_ci": ("Ａb", "aB  "),
    "ucs2_swedish_ci": ("é", "E "),
    "latin1_swedish_ci": ("é", "E "),
    "latin1_german2_ci": ("ä", "AE"),
    "latin2_czech_cs": ("a", "a\\t"),
    "cp1250_general_ci": ("a", "A\u00a0"),
    "gbk_chinese_ci": ("漢a", "漢A "),
    "sjis_japanese_ci": ("ハa", "ハA"),
    "tis620_bin": ("ก", "ก "),
}
"""Collation to two spellings of one key."""

TEXTS = list(SPELLINGS.items())


def table(kind: str, number: int) -> str:
    return f"{kind}_{number}"


def definitions() -> list[str]:
    return [
        f"CREATE TABLE app.{table(kind, number)} (k {kind}(20) COLLATE {collation}, p INT,"
        " v VARCHAR(20), PRIMARY KEY (k, p))"
        for number, (collation, _) in enumerate(TEXTS)
        for kind in ("varchar", "char")
    ]


TABLES = [
    (table(kind, number), first, second)
    for number, (_, (first, second)) in enumerate(TEXTS)
    for kind in ("varchar", "char")
]


async def test_one_key_in_two_spellings(server_pool, tmp_path) -> None:
    """Guards canonical keys: inserted, renamed and deleted on both sides of a cut."""
    async with lent_mesh(server_pool, tmp_path, ["CREATE DATABASE app", *definitions()]) as mesh:
        one, two = mesh.sql
        for name, first, second in TABLES:
            await one.execute(
                f"INSERT INTO app.{name} VALUES ('{first}', 1, 'base'), ('{first}', 2, 'base'),"
                f" ('{first}', 3, 'base'), ('{first}', 5, 'base')"
            )
            equal = f"SELECT COUNT(*) FROM app.{name} WHERE k = '{second}'"
            assert await one.value(equal) == 4, name
        await undisturbed(mesh)
        for name, _, second in TABLES:
            # Another spelling is no other key: an update, not a delete and an insert.
            await two.execute(f"UPDATE app.{name} SET k = '{second}' WHERE p = 5")
        await undisturbed(mesh)
        assert mesh.count("conflicts") == mesh.count("lifts") == 0

        mesh.isolate(0)
        for at, sql in enumerate(mesh.sql):
            for name, first, second in TABLES:
                mine = (first, second)[at]
                await run(
                    sql,
                    f"UPDATE app.{name} SET k = '{mine}', v = 'by {at}' WHERE p = 1",
                    f"INSERT INTO app.{name} VALUES ('{mine}', 4, 'by {at}')",
                )
        for name, _, second in TABLES:
            await one.execute(f"UPDATE app.{name} SET k = '{second}', v = 'lost' WHERE p IN (2, 3)")
        async with await mesh.session(1) as client:
            for name, first, _ in TABLES:
                await client.execute(f"DELETE FROM app.{name} WHERE p = 2")
                # A key given back in another spelling, in one transaction.
                async with client.transaction():
                    await client.execute(f"DELETE FROM app.{name} WHERE p = 3")
                    await client.execute(f"INSERT INTO app.{name} VALUES ('{first}', 3, 'again')")
        mesh.cut()
        await undisturbed(mesh)
        for name, _, _ in TABLES:
            for sql in mesh.sql:
                rows = await sql.rows(f"SELECT p, v FROM app.{name} ORDER BY p")
                expected = ((1, "by 1"), (3, "again"), (4, "by 1"), (5, "base"))
                assert tuple(rows) == expected, name
                spelt = await sql.value(
                    f"SELECT COUNT(*) FROM app.{name} WHERE p IN (1, 4, 5)"
                    f" AND HEX(k) = (SELECT HEX(k) FROM app.{name} WHERE p = 5)"
                )
                assert spelt == 3, name
        found = await same_images(mesh, *(("app", name) for name, _, _ in TABLES))
        assert all(len(images) == 4 for images in found.values())
