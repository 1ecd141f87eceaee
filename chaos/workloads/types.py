"""W8: a column of every type with the values at its edges, under sessions of every kind.

At the end the rows must be equal to the byte in all regions, and in MySQL's own replica of the
first region, which has got them by MySQL's way.
"""

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from chaos.workloads.base import Client, Connect, Workload
from meshnode.accounts import Account
from meshnode.errors import Retry
from meshnode.lab.servers import Server
from meshnode.mysql.control import Control, connect_to
from meshnode.topology import MysqlAddress

KEYS = 60
REPLICA_SECONDS = 300.0
REPLICA_ID = 900

COLUMNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "c_tiny": ("TINYINT", ("-128", "127", "0")),
    "c_small": ("SMALLINT UNSIGNED", ("0", "65535")),
    "c_medium": ("MEDIUMINT", ("-8388608", "8388607")),
    "c_int": ("INT UNSIGNED", ("0", "4294967295")),
    "c_big": ("BIGINT UNSIGNED", ("0", "18446744073709551615", "9223372036854775808")),
    "c_decimal": ("DECIMAL(65,30)", ("0", f"{'9' * 35}.{'9' * 30}", f"-0.{'0' * 29}1")),
    "c_float": ("FLOAT", ("0", "-0e0", "3.4028234e38", "1.17549435e-38", "16777217.1")),
    "c_double": ("DOUBLE", ("0.1", "-1.7976931348623157e308", "2.2250738585072014e-308", "-0e0")),
    "c_bit": ("BIT(64)", ("b'0'", f"b'{'1' * 64}'", "b'1010'")),
    "c_date": ("DATE", ("'1000-01-01'", "'9999-12-31'", "'2024-02-29'")),
    "c_time": ("TIME(6)", ("'-838:59:59.000000'", "'838:59:59.000000'", "'00:00:00.000001'")),
    "c_moment": ("DATETIME(6)", ("'1000-01-01 00:00:00.000001'", "'9999-12-31 23:59:59.999999'")),
    "c_stamp": ("TIMESTAMP(6) NULL", ("'2001-02-03 04:05:06.000001'", "'2037-01-01 00:00:00'")),
    "c_year": ("YEAR", ("1901", "2155")),
    "c_char": ("CHAR(20)", ("''", "'trailing  '", "'Straße 日本 🐬'", "'0'")),
    "c_text": ("VARCHAR(300)", ("''", "'a\\0b'", "REPEAT('é', 300)", "'O''Brien \\\\ % _'")),
    "c_latin": ("VARCHAR(40) CHARACTER SET latin1", ("'ÿ'", "'naïve'")),
    "c_wide": ("VARCHAR(40) CHARACTER SET utf16", ("'🐬'", "'x'")),
    "c_binary": ("BINARY(8)", ("x'00'", "x'FFFFFFFFFFFFFFFF'")),
    "c_bytes": ("VARBINARY(300)", ("x''", "x'00FF00'", "REPEAT(x'7F', 300)")),
    "c_blob": ("MEDIUMBLOB", ("x''", "REPEAT(x'00', 70000)", "x'DEADBEEF'")),
    "c_enum": ("ENUM('a','b','ü','')", ("'a'", "'ü'", "''")),
    "c_set": ("SET('x','y','z')", ("''", "'x,z'", "'y'")),
    "c_json": ("JSON", (
        "'{}'", "'[1, 2.5, null, true]'", "JSON_OBJECT('k', CAST('2020-01-02' AS DATE), 'n', -0e0)",
        "JSON_ARRAY(CAST(1.0 AS DECIMAL(10,5)), REPEAT('x', 500))",
    )),
    "c_point": ("POINT", ("ST_GeomFromText('POINT(1.5 -2.25)')",)),
}  # fmt: skip
"""Type and literals by column; each may be NULL, too."""

SESSIONS = (
    "SET SESSION time_zone = '+05:45', sql_mode = ''",
    "SET SESSION time_zone = '-11:00', sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'",
    "SET SESSION time_zone = 'SYSTEM', sql_mode = DEFAULT",
)


class Types(Workload):
    name = "W8"
    about = "all MySQL types with extremes"
    tables = (
        "CREATE TABLE chaos.types (id INT PRIMARY KEY, "
        + ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())
        + ") DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci",
    )
    pace = 0.05
    selected: ClassVar[str] = ", ".join(
        # What is not a string is shown as one that holds every digit.
        f"HEX(CAST({name} AS CHAR))" if kind.startswith(("JSON", "DATE", "TIME", "YEAR", "DEC"))
        else f"CAST({name} + 0e0 AS CHAR)" if kind in ("FLOAT", "DOUBLE")
        else f"HEX(ST_AsBinary({name}))" if kind == "POINT"
        else f"HEX({name})"
        for name, (kind, _) in COLUMNS.items()
    )  # fmt: skip

    async def write(self, client: Client, control: Control) -> None:
        draw, token = client.draw, client.token()
        key = draw.randrange(KEYS)
        if client.fresh or draw.random() < 0.1:
            await control.execute(draw.choice(SESSIONS))
        names = draw.sample(sorted(COLUMNS), draw.randint(1, len(COLUMNS)))
        values = [
            "NULL" if draw.random() < 0.1 else draw.choice(COLUMNS[name][1]) for name in names
        ]
        await control.execute("START TRANSACTION")
        if draw.random() < 0.1:
            await control.execute(f"DELETE FROM chaos.types WHERE id = {key}")
        verb = "REPLACE" if draw.random() < 0.2 else "INSERT"
        statement = (
            f"{verb} INTO chaos.types (id, {', '.join(names)}) VALUES ({key}, {', '.join(values)})"
        )
        if verb == "INSERT":
            changed = ", ".join(f"{name} = VALUES({name})" for name in names)
            statement += f" ON DUPLICATE KEY UPDATE {changed}"
        await control.execute(statement)
        await self.commit(client, control, token, key)

    async def judge(self, connect: Connect) -> None:
        first = self.regions[0]
        query = f"SELECT id, {self.selected}, _mesh_ts, _mesh_origin FROM chaos.types ORDER BY id"

        async def rows(control: Control) -> list[tuple]:
            await control.execute("SET SESSION time_zone = '+00:00'")
            return await control.rows(query)

        async with await connect(first) as control:
            wanted = await rows(control)
        for region in self.regions[1:]:
            async with await connect(region) as control:
                self._compare(wanted, await rows(control), first, region)
        server = self.mesh.servers[first]
        replica = Server(
            server.mysqld, self.mesh.layout.directory / "replica", server_id=REPLICA_ID,
            password=server.password, die_with_parent=True,
        )  # fmt: skip
        try:
            await replica.start_async()
            async with await _session(replica) as control:
                await _replicated(control, server, connect, first)
                self._compare(wanted, await rows(control), first, "MySQL's own replica of it")
        finally:
            await asyncio.to_thread(replica.remove)

    def _compare(self, one: Sequence[tuple], other: Sequence[tuple], here: str, there: str) -> None:
        if one == other:
            return
        differ = sorted({row[0] for row in set(one) ^ set(other)})
        names = ["id", *COLUMNS, "_mesh_ts", "_mesh_origin"]
        both = {row[0]: row for row in one}, {row[0]: row for row in other}
        a, b = (rows.get(differ[0], ()) for rows in both)
        columns = [name for name, x, y in zip(names, a, b, strict=False) if x != y]
        self.find("I1", f"{here} and {there} differ in {len(differ)} rows: {differ[0]}, {columns}")


async def _session(server: Server) -> Control:
    login = Account(server.user, server.password)
    return await connect_to(MysqlAddress(server.host, server.port), login, server="the replica")


async def _replicated(control: Control, source: Server, connect: Connect, first: str) -> None:
    """Let the server of ``control`` copy ``source`` from its first transaction on."""
    for statement in (
        # Kept by triggers that the replica has not got.
        "CHANGE REPLICATION FILTER REPLICATE_WILD_IGNORE_TABLE = ('audit.%')",
        f"CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{source.host}', SOURCE_PORT = {source.port},"
        f" SOURCE_USER = '{source.user}', SOURCE_PASSWORD = '{source.password}',"
        " SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1",
        "START REPLICA",
    ):
        await control.execute(statement)
    async with await connect(first) as other:
        executed = await other.value("SELECT @@GLOBAL.gtid_executed")
    late = await control.value(
        "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s)", (executed, REPLICA_SECONDS)
    )
    if late:
        raise Retry(f"the replica is late: {await control.rows('SHOW REPLICA STATUS')}")
