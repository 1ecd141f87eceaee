"""The catalogue and the binlog describe one table alike, for every column type."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from regions import control

from meshnode.core.shape import Shape
from meshnode.mysql import catalog
from meshnode.mysql.catalog import Default
from meshnode.mysql.control import Control
from meshnode.mysql.schema import quoted, quoted_table
from meshnode.mysql.tablemap import parse_table_map

TABLE_MAP = 19

CHARSETS = """
    ascii latin1 latin2 cp1250 cp1251 cp850 koi8r hebrew greek swe7 macce hp8 dec8 big5 gbk gb18030
    sjis cp932 ujis euckr gb2312 tis620 utf8mb3 utf8mb4 ucs2 utf16 utf16le utf32 binary
    """.split()  # noqa: SIM905

TABLES = {
    "integers": """id BIGINT UNSIGNED, a TINYINT, b TINYINT UNSIGNED, c SMALLINT,
        d SMALLINT UNSIGNED,
        e MEDIUMINT, f MEDIUMINT UNSIGNED NOT NULL, g INT, h INT UNSIGNED, i BIGINT NOT
        NULL, z INT(8) ZEROFILL, bo BOOL, PRIMARY KEY (id)""",
    "numbers": """id DECIMAL(20,5), a DECIMAL, b DECIMAL(65,30), c DECIMAL(9,9) UNSIGNED, d FLOAT, e
        FLOAT UNSIGNED, f FLOAT(7,3), g DOUBLE, h DOUBLE(10,2) UNSIGNED, i BIT, j BIT(9), k
        BIT(64), y YEAR, y2 YEAR NOT NULL, PRIMARY KEY (id)""",
    "times": """id DATETIME(6), a DATE, b TIME, c TIME(3), d DATETIME, e DATETIME(1), f TIMESTAMP
        NULL, g TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), PRIMARY KEY (id)""",
    "texts": """id CHAR(5), a CHAR(255), a2 CHAR(255) CHARACTER SET utf8mb4, b VARCHAR(10), c
        VARCHAR(3000) COLLATE utf8mb4_bin, d TINYTEXT, e TEXT, f MEDIUMTEXT, g LONGTEXT, h
        TEXT CHARACTER SET latin1, i BINARY(3), j BINARY(255), k VARBINARY(10), l
        VARBINARY(3000), m TINYBLOB, n BLOB, o MEDIUMBLOB, p LONGBLOB, q CHAR(0), r
        VARCHAR(0), s BLOB(100), t TEXT(70000), u NCHAR(3), PRIMARY KEY (id)""",
    "others": """id INT, a JSON, b GEOMETRY, c POINT SRID 4326, d LINESTRING, e POLYGON, f
        MULTIPOINT, g MULTILINESTRING, h MULTIPOLYGON, i GEOMETRYCOLLECTION, j VECTOR(3), k
        VECTOR, l VARCHAR(3) CHARACTER SET latin1, m VECTOR(7), PRIMARY KEY (id)""",
    "labels": """id ENUM('x','y') NOT NULL, a ENUM('it''s','back\\\\slash','comma,',')',
        'new\\nline') NOT NULL, b SET('a','b'), c SET('1','2','3','4','5','6','7','8','9'), d
        ENUM('ä','ö') CHARACTER SET latin1, e SET('д') CHARACTER SET koi8r, f ENUM('漢','字'),
        g ENUM('a','Ω') CHARACTER SET utf16, h ENUM('') , PRIMARY KEY (id)""",
    "many_labels": """id INT PRIMARY KEY, a ENUM({enum}),
        b SET({set17}), c SET({set33}), d SET({set64})""".format(
        enum=",".join(f"'e{n}'" for n in range(300)),
        set17=",".join(f"'s{n}'" for n in range(17)),
        set33=",".join(f"'s{n}'" for n in range(33)),
        set64=",".join(f"'s{n}'" for n in range(64)),
    ),
    "computed": """id INT, a INT INVISIBLE DEFAULT 5, b INT AS (id + 1) VIRTUAL, c INT AS (id * 2)
        STORED, d JSON DEFAULT (JSON_ARRAY()), e INT NOT NULL DEFAULT 3, f INT NOT NULL, g
        INT, u INT UNIQUE, KEY ((id + 7)), PRIMARY KEY (id)""",
    "serial": "a VARCHAR(5), id INT UNSIGNED AUTO_INCREMENT UNIQUE, PRIMARY KEY (a)",
    "key_order": "b INT, a VARCHAR(10), c INT, PRIMARY KEY (c, b)",
    "prefix_key": "b INT, a VARCHAR(10), c BLOB, PRIMARY KEY (c(7), b, a(3))",
    "keyless": "a INT, b INT",
    "charsets": "id INT PRIMARY KEY, "
    + ", ".join(f"`{c}` VARCHAR(7) CHARACTER SET {c}" for c in CHARSETS)
    + ", "
    + ", ".join(f"`l{c}` CHAR(2) CHARACTER SET {c}" for c in CHARSETS),
    "ü`näme" + "x" * 58: "`gr`` öße` INT, `" + "k" * 64 + "` INT PRIMARY KEY",
}


def table_maps(binlog: bytes) -> Iterator[bytes]:
    """Bodies of the table maps of a binlog file, without header and checksum."""
    position = 4
    while position + 19 <= len(binlog):
        size = int.from_bytes(binlog[position + 9 : position + 13], "little")
        if binlog[position + 4] == TABLE_MAP:
            yield binlog[position + 19 : position + size - 4]
        position += size


async def logged_shape(connection: Control, schema: str, table: str) -> Shape:
    """Write a row and read the shape from the table map that it leaves in the log."""
    await connection.execute("FLUSH BINARY LOGS")
    # Not strict: where there is no default, the type's own fits.
    await connection.execute("SET sql_mode = ''")
    await connection.execute(f"INSERT INTO {quoted_table(schema, table)} () VALUES ()")
    name = (await connection.row("SHOW BINARY LOG STATUS"))[0]
    folder = Path(await connection.value("SELECT @@log_bin_basename")).parent
    (body,) = set(table_maps((folder / name).read_bytes()))
    return parse_table_map(body).shape


@pytest.mark.parametrize("table", TABLES, ids=lambda name: name[:12])
async def test_catalogue_and_table_map_give_one_shape(servers, table: str) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        await connection.execute("CREATE DATABASE types DEFAULT CHARACTER SET utf8mb4")
        await connection.execute("USE types")
        await connection.execute(f"CREATE TABLE {quoted(table)} ({TABLES[table]})")
        found = await catalog.read(connection, "types", table)
        logged = await logged_shape(connection, "types", table)
    assert found is not None
    assert found.shape == logged


async def test_catalogue_knows_more_than_the_log(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as connection:
        await connection.execute("CREATE DATABASE types")
        await connection.execute("USE types")
        for table in ("computed", "serial", "key_order"):
            await connection.execute(f"CREATE TABLE {table} ({TABLES[table]})")
        # A table map calls this index the key; a table without PRIMARY KEY is refused.
        await connection.execute("CREATE TABLE unique_only (a INT NOT NULL UNIQUE, b INT)")
        generated = await catalog.read(connection, "types", "computed")
        serial = await catalog.read(connection, "types", "serial")
        ordered = await catalog.read(connection, "types", "key_order")
        unique_only = await catalog.read(connection, "types", "unique_only")
        missing = await catalog.read(connection, "types", "nothing")
        tables = await catalog.base_tables(connection, ["types"])
    names = [column.name for column in generated.shape.columns]
    assert dict(zip(names, generated.defaults, strict=True)) == {
        "id": Default.NONE,
        "a": Default.LITERAL,
        "b": Default.GENERATED,
        "c": Default.GENERATED,
        "d": Default.EXPRESSION,
        "e": Default.LITERAL,
        "f": Default.NONE,
        "g": Default.LITERAL,
        "u": Default.LITERAL,
    }
    assert generated.unique_keys == ("u",)
    assert Default.AUTO_INCREMENT in serial.defaults
    assert [column.name for column in ordered.key] == ["b", "c"]
    assert ordered.key_order == ("c", "b")
    assert ordered.shape.key == (0, 2)
    assert unique_only.key == () and unique_only.unique_keys == ("a",)
    assert missing is None
    assert len(tables) == 4
