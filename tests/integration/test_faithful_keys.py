"""Rows are found by their key, whatever its type: plainly, in a conflict, and when lifted.

Each type that can be a key has a table of its own, all in one mesh.  A wrong
literal or a wrong canonical form makes a row unfindable, or two rows one.
"""

from typing import NamedTuple

from faithful import LENIENT, Keys, inserted_keys, lent_mesh, same_images, undisturbed
from mesh import NAMES, Mesh
from recording import executed
from steps import run
from type_samples import SAMPLES

from meshnode.accounts import secrets
from meshnode.mysql.lookup import FOR_SHARE_NOWAIT, Lookup, fold_keys, read_collations, read_stamps
from meshnode.mysql.maps import make_table
from meshnode.mysql.schema import tombstone_table
from meshnode.mysql.session import connect

AHEAD_US = 600_000_000
"""Tombstones are set ahead by more than the test can last: an insert is lifted over them."""

REFUSED = ("float", "float_7_3", "double")
ALIKE = tuple(
    f"{kind}_{digits}" for kind in ("time", "datetime", "timestamp") for digits in (1, 2, 4)
)


class Keyed(NamedTuple):
    """A table whose key are all of ``columns`` (name, type) in ``order``, and SQL of keys."""

    name: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, ...], ...]
    order: str = "k"

    def create(self) -> str:
        columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in self.columns)
        return (
            f"CREATE TABLE app.{self.name} ({columns}, v VARCHAR(40), n INT NOT NULL,"
            f" PRIMARY KEY ({self.order}))"
        )

    def insert(self, value: str, *places: int, number: int | None = None) -> str:
        """Rows with the keys at ``places``; ``n`` is the place unless ``number`` says it."""
        rows = (
            f"({', '.join(self.rows[at])}, '{value}', {at if number is None else number})"
            for at in places
        )
        return f"INSERT INTO app.{self.name} VALUES {', '.join(rows)}"

    def move(self, number: int, place: int) -> str:
        """Give the row with ``n = number`` the key at ``place``."""
        pairs = zip(self.columns, self.rows[place], strict=True)
        assignments = ", ".join(f"{name} = {value}" for (name, _), value in pairs)
        return f"UPDATE app.{self.name} SET {assignments} WHERE n = {number}"

    def update(self, value: str, where: str = "1 = 1") -> str:
        return f"UPDATE app.{self.name} SET v = '{value}' WHERE {where}"

    def delete(self, number: int) -> str:
        return f"DELETE FROM app.{self.name} WHERE n = {number}"


def single(name: str, kind: str, *values: str) -> Keyed:
    return Keyed(name, (("k", kind),), tuple((value,) for value in values))


LETTERS = ("'a'", "'b '", "'\t'", "'a\t'")
SIXTY_FOUR = ",".join(f"'m{number}'" for number in range(64))

TABLES = [
    *(
        single(f"k_{sample.name}", sample.type, *sample.values[:4])
        for sample in SAMPLES
        if sample.key and sample.name not in (*REFUSED, *ALIKE)
    ),
    single("k_hungarian", "VARCHAR(20) COLLATE utf8mb4_hu_0900_ai_ci", "'ccs'", "'cs'", "'cc s'"),
    single("k_unicode", "VARCHAR(20) COLLATE utf8mb4_unicode_ci", "'ss'", "'s'", "'a\\0b'", "''"),
    single("k_latin1", "CHAR(9) CHARACTER SET latin1", *LETTERS),
    single("k_bin", "CHAR(9) COLLATE utf8mb4_bin", *LETTERS, "''"),
    single("k_nopad", "VARCHAR(9) COLLATE utf8mb4_0900_bin", "'a'", "'a '", "'a  '", "'A'"),
    single("k_czech", "VARCHAR(9) COLLATE latin2_czech_cs", "'a'", "'b '", "'ch'", "'c'"),
    single("k_gbk", "VARCHAR(9) CHARACTER SET gbk", "'漢'", "'漢a'", "'字'"),
    single("k_utf16", "VARCHAR(9) CHARACTER SET utf16", "'漢'", "'\U0001f600'", "'b'"),
    Keyed(
        "c_order", (("a", "INT"), ("b", "VARCHAR(20) COLLATE utf8mb4_unicode_ci")),
        (("1", "'x'"), ("2", "'x'"), ("1", "'y '")), "b, a",
    ),
    Keyed(
        "c_many",
        (
            ("e", "ENUM('one','two','')"), ("s", f"SET({SIXTY_FOUR})"), ("t", "BIT(9)"),
            ("x", "BINARY(3)"), ("p", "VARCHAR(9) COLLATE utf8mb4_general_ci"),
        ),
        (
            ("1", "18446744073709551615", "511", "X'01'", "'a '"), ("2", "0", "0", "X''", "''"),
            ("3", "9223372036854775808", "256", "X'010000'", "'A b'"),
            ("0", "1", "1", "X'FF'", "'z'"),
        ),
        "p, x, e, t, s",
    ),
    Keyed(
        "c_exact",
        (
            ("d", "DATETIME(6)"), ("q", "DECIMAL(20,10)"), ("b", "VARBINARY(9)"), ("y", "YEAR"),
            ("t", "TIME(3)"), ("m", "TIMESTAMP(6)"), ("c", "CHAR(9) COLLATE utf8mb4_0900_ai_ci"),
        ),
        (
            ("'2024-02-29 01:02:03.000004'", "-0.5", "X'00'", "0", "'-00:00:00.001'", "0", "'é'"),
            ("'0000-00-00'", "0", "X''", "1901", "'838:59:58.999'", "'2038-01-19 03:14:07'", "'f'"),
            ("'2023-02-31'", "9999999999.5", "X'0000'", "2155", "0", "'1970-01-01 00:00:01'", "''"),
        ),
        "t, m, c, d, q, b, y",
    ),
]  # fmt: skip


async def found_by_key(mesh: Mesh, at: int, keys: Keys) -> None:
    """Each key alone is read by the primary key, and all together are found again."""
    login = secrets(mesh.topology, NAMES[at], "apply")
    session = await connect(mesh.topology.regions[at], login, "test")
    collations = await read_collations(session)
    for title, (body, wire) in keys.items():
        table = make_table(body)
        lookup = Lookup(table.shape, collations)
        if table.folds is not None:
            await fold_keys(session, lookup, table, wire)
        found = await read_stamps(session, lookup, table, wire, FOR_SHARE_NOWAIT)
        assert found.keys() == {(table, table.fold(key)) for key in wire}, title
        assert len(found) == len(wire), title
        for key in wire:
            plan = await session.query(
                f"EXPLAIN FORMAT=TRADITIONAL SELECT {lookup.select} FROM {lookup.table}"
                f" WHERE {lookup.where([key])}"
            )
            assert (plan[0][4], plan[0][6]) == ("const", "PRIMARY"), (title, key, plan)
    session.close()


async def values(mesh: Mesh, table: Keyed) -> list[dict[int, str]]:
    """``n`` to ``v`` in each region."""
    return [dict(await sql.rows(f"SELECT n, v FROM app.{table.name}")) for sql in mesh.sql]


async def as_client(mesh: Mesh, at: int, *statements: str) -> None:
    """In a session of its own: one that has just inserted dates a delete before that insert."""
    async with await mesh.session(at) as client:
        await run(client, f"SET SESSION sql_mode = '{LENIENT}'", *statements)


async def test_every_key_type(server_pool, tmp_path) -> None:
    """Guards lookups by key, and what each key goes through until it is lifted."""
    create = ["CREATE DATABASE app", *(table.create() for table in TABLES)]
    async with lent_mesh(server_pool, tmp_path, create) as mesh:
        with mesh.servers[0].connect() as connection:
            before = executed(connection)
        await run(mesh.sql[0], *(table.insert("a", *range(len(table.rows))) for table in TABLES))
        await undisturbed(mesh)
        keys = inserted_keys(mesh.servers[0], before)
        assert {name for _, name in keys} == {table.name for table in TABLES}
        await found_by_key(mesh, 1, keys)

        await as_client(mesh, 1, *(table.update("b") for table in TABLES))
        await as_client(mesh, 1, *(table.delete(0) for table in TABLES))
        await undisturbed(mesh)
        await as_client(mesh, 0, *(table.move(1, 0) for table in TABLES))
        await undisturbed(mesh)
        for table in TABLES:
            expected = dict.fromkeys(range(1, len(table.rows)), "b")
            assert await values(mesh, table) == [expected, expected], table.name
        assert mesh.count("lifts") == mesh.count("conflicts") == mesh.count("replans") == 0
        await conflicts(mesh)
        await lifts(mesh)
        await as_client(mesh, 0, *(table.update("end") for table in TABLES))
        found = await same_images(mesh, *(("app", table.name) for table in TABLES))
        assert all(found.values())


async def conflicts(mesh: Mesh) -> None:
    """Both sides of a cut write one key: row 1 is updated, row 0 inserted, row 2 lost."""
    mesh.isolate(0)
    for at, name in enumerate(("one", "two")):
        for table in TABLES:
            last = table.delete(2) if at else table.update("one", "n = 2")
            await as_client(mesh, at, table.update(name, "n = 1"), last)
        await as_client(mesh, at, *(table.insert(name, 1, number=0) for table in TABLES))
    mesh.cut()
    await undisturbed(mesh)
    assert mesh.count("lifts") == 0
    for table in TABLES:
        expected = dict.fromkeys(range(3, len(table.rows)), "b") | {0: "two", 1: "two"}
        assert await values(mesh, table) == [expected, expected], table.name
        records = await mesh.sql[0].rows(
            "SELECT kind FROM meshnode.conflict_log WHERE table_name = %s ORDER BY kind",
            (table.name,),
        )
        kinds = ["delete/update"] * (len(table.rows) > 2) + ["insert/insert", "update/update"]
        assert [kind for (kind,) in records] == kinds, table.name


async def lifts(mesh: Mesh) -> None:
    """An insert below the tombstone of its key is lifted over it, in the region that wrote it."""
    await as_client(mesh, 0, *(table.delete(0) for table in TABLES))
    await undisturbed(mesh)
    tombstones = [tombstone_table("app", table.name) for table in TABLES]
    raises = (f"UPDATE {name} SET _mesh_ts = _mesh_ts + {AHEAD_US}" for name in tombstones)
    await as_client(mesh, 0, *raises)
    await undisturbed(mesh)
    await as_client(mesh, 1, *(table.insert("lifted", 1, number=0) for table in TABLES))
    await undisturbed(mesh)
    assert mesh.count("lifts") >= len(TABLES)
    for table, tombstone in zip(TABLES, tombstones):
        for found in await values(mesh, table):
            assert found[0] == "lifted", table.name
        for sql in mesh.sql:
            ts = await sql.value(f"SELECT _mesh_ts FROM app.{table.name} WHERE n = 0")
            assert ts > await sql.value(f"SELECT MAX(_mesh_ts) FROM {tombstone}"), table.name
