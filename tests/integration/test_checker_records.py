"""The oracle reads the keys of records: that of one row does not excuse the loss of another."""

import json

import pytest
from mesh import mesh_of
from steps import PLAIN

from meshnode.lab.checker import Report, _Comparison
from meshnode.lab.keyreader import KeyReader
from meshnode.lab.topics import Published, Stamp, Topic

KEYS = [
    ("a INT, b BIGINT UNSIGNED", [(-5, 18446744073709551615), (0, 0)]),
    ("a VARCHAR(20) COLLATE utf8mb4_0900_ai_ci", [("Straße",), ("",), ('it\'s "a\\b" 100 %',)]),
    ("a CHAR(5) CHARACTER SET latin1, b TINYINT", [("ü", 3)]),
    ('`odd "name" 5%` SMALLINT', [(7,)]),
]


@pytest.mark.parametrize(("columns", "values"), KEYS, ids=[columns for columns, _ in KEYS])
async def test_keys_of_records_are_read_as_those_of_rows(servers, columns, values) -> None:
    (server,) = await servers(1)
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE app")
        names = [part.strip().rsplit(" ", 1)[0] for part in columns.split(",")]
        names = ['odd "name" 5%'] if "odd" in columns else [name.split()[0] for name in names]
        quoted = ", ".join(f"`{name}`" for name in names)
        cursor.execute(f"CREATE TABLE app.t ({columns}, PRIMARY KEY ({quoted}))")
        cursor.execute("CREATE TABLE app.records (row_key JSON)")
        for row in values:
            marks = ", ".join(["%s"] * len(row))
            cursor.execute(f"INSERT INTO app.t VALUES ({marks})", row)
            key = json.dumps(dict(zip(names, row, strict=True)))
            cursor.execute("INSERT INTO app.records VALUES (%s)", (key,))
        reader = KeyReader(connection, ("app", "t"))
        cursor.execute(f"SELECT {reader.selected} FROM app.t")
        rows = {reader.of_row(row) for row in cursor.fetchall()}
        cursor.execute(f"SELECT {reader.recorded} FROM app.records")
        assert {reader.of_row(row) for row in cursor.fetchall()} == rows
        assert len(rows) == len(values)


async def test_a_record_of_another_row_with_the_same_stamp_excuses_nothing(
    servers, tmp_path
) -> None:
    """Rows that are lifted together have one stamp."""
    pair = await servers(2)
    async with mesh_of(pair, tmp_path) as mesh:
        await mesh.everywhere("CREATE DATABASE app", PLAIN)
        await mesh.init()
        record = (
            "INSERT INTO meshnode.conflict_log (at, schema_name, table_name, row_key, kind,"
            " certainty, policy, reason, winner_ts, winner_origin, loser_ts, loser_origin, origin,"
            " seq, tx_id) VALUES (UTC_TIMESTAMP(6), 'app', 't', %s, 'update/update', 'certain',"
            " 'lww', '', 9, 2, 5, 1, 1, 1, '')"
        )
        await mesh.sql[0].execute(record, ('{"id": 1}',))
        topics = [Topic("one", 1, 2), Topic("two", 1, 2)]
        for key in (1, 2):
            wire = key.to_bytes(4, "little")
            for topic, stamp in zip(topics, (Stamp(5, 1), Stamp(9, 2)), strict=True):
                topic.entries.append(
                    Published("app", "t", wire, False, stamp, Stamp(0, 0), topic.region, key)
                )
        connections = {name: server.connect() for name, server in zip(("one", "two"), pair)}
        try:
            report = Report(topics)
            _Comparison(connections, report).run()
        finally:
            for connection in connections.values():
                connection.close()
        assert (report.lost_writes, report.recorded) == (2, 1)
        (loss,) = [finding for finding in report.findings if "is in no conflict_log" in finding]
        assert "app.t (2): 5.1 of one" in loss
