"""Events that are not plain full rows, as a real server writes them."""

import pytest
from recording import executed, record, rows_events, unpacked
from recording_session import (
    STAMPS,
    Session,
    create,
    every_column,
    rebuilt_map,
    rebuilt_rows,
    scanned,
)

from meshnode.core.shape import Equal, Unfit, Wider, compare
from meshnode.mysql.bodies import RowsFlag, parse_gtid, parse_gtid_name, parse_query
from meshnode.mysql.events import EventType
from meshnode.mysql.partialimage import scan_partial
from meshnode.mysql.rowimage import make_scanner
from meshnode.mysql.rowvalues import row_values
from meshnode.mysql.statements import StatementClass, classify_query
from meshnode.mysql.wire import pack_first_low

GTIDS = (EventType.GTID, EventType.GTID_TAGGED)


@pytest.fixture
async def session(servers) -> Session:
    (server,) = await servers(1)
    session = Session(server)
    session.prepare_to_apply()
    yield session
    session.run("SET gtid_next='AUTOMATIC'")
    session.connection.close()


async def test_gtids_tell_what_the_server_executed(session: Session) -> None:
    before = executed(session.connection)
    session.run("CREATE TABLE t (id INT PRIMARY KEY)")
    session.run("SET gtid_next='AUTOMATIC:some_tag'")
    for number in range(70):
        session.run(f"INSERT INTO t VALUES ({number})")
    session.run("SET gtid_next='AUTOMATIC'")
    session.run("INSERT INTO t VALUES (100)")
    after = executed(session.connection)
    seen = before.copy()
    clock = int(session.run("SELECT UNIX_TIMESTAMP(NOW(6)) * 1000000")[0][0])
    for one in record(session.server, before):
        if one.header.type in GTIDS:
            gtid = parse_gtid(one.body)
            assert gtid.text not in seen
            assert 0 <= clock - gtid.immediate_commit_us < 60_000_000
            assert gtid.transaction_length > len(one.event)
            seen.add([parse_gtid_name(one.header.type, one.body)])
    assert seen == after
    assert len(after) - len(before) == 72
    assert ":some_tag:1-70" in str(after)
    assert record(session.server, after)[-1].header.type not in GTIDS

    session.run("FLUSH BINARY LOGS")
    session.run("INSERT INTO t VALUES (101)")
    (previous,) = (
        one.body
        for one in record(session.server, after)
        if one.header.type == EventType.PREVIOUS_GTIDS
    )
    assert previous == after.encode()


async def test_compressed_transactions_hold_the_same_rows(session: Session) -> None:
    create(session, "t", "id INT PRIMARY KEY, v LONGTEXT")
    before = executed(session.connection)
    session.run("SET SESSION binlog_transaction_compression=ON")
    session.run("BEGIN")
    for number in range(20):
        session.run(f"INSERT INTO t (id, v) VALUES ({number}, REPEAT('{number} ', 200000))")
    session.run("COMMIT")
    recorded = record(session.server, before)
    payloads = [one for one in recorded if one.header.type == EventType.TRANSACTION_PAYLOAD]
    assert len(payloads) == 1
    assert len(payloads[0].event) < 1_000_000
    keys = [row[2] for event in rows_events(recorded) for row in scanned(event)]
    assert keys == [number.to_bytes(4, "little") for number in range(20)]
    inner = [one.header.type for one in unpacked(recorded)]
    assert inner[-1] == EventType.XID


async def test_partitioned_tables_have_extra_row_info(session: Session) -> None:
    session.run(f"CREATE TABLE p (id INT PRIMARY KEY, {STAMPS}) PARTITION BY HASH(id) PARTITIONS 4")
    *inserts, update = session.recorded(
        "INSERT INTO p VALUES (1), (2)", "UPDATE p SET id=7 WHERE id=2"
    )
    assert sorted(row[2][0] for insert in inserts for row in scanned(insert)) == [1, 2]
    scanner = make_scanner(update.table_map)
    ((_, _, old, _, _, _, new, _, _),) = scanner.scan_update(
        update.event, update.rows.start, update.rows.stop
    )
    assert (old[0], new[0]) == (2, 7)


async def test_phantom_bits_of_functional_indexes(session: Session) -> None:
    columns = ",".join(f"c{number} INT" for number in range(12))
    session.run(f"CREATE TABLE ph ({columns}, PRIMARY KEY (c0), KEY ((c0 + 1)))")
    session.run("INSERT INTO ph (c0, c1) VALUES (1, 1)")
    session.run("SET SESSION binlog_row_image=MINIMAL")
    changes = ",".join(f"c{number}={100 + number}" for number in range(8))
    (event,) = session.recorded(f"UPDATE ph SET {changes}")
    assert event.rows.column_count == 12
    assert int.from_bytes(event.rows.after, "little") < 1 << 12
    ((before, after),) = scan_partial(event.table_map.shape, event.rows, event.event)
    assert before.key == (1).to_bytes(4, "little")
    assert after.key == (100).to_bytes(4, "little")


async def test_minimal_images_still_give_keys_and_stamps(session: Session) -> None:
    create(session, "m", "a INT, k VARCHAR(300), b TEXT, n INT", ", PRIMARY KEY (n, k)")
    session.run("INSERT INTO m (a, k, b, n) VALUES (1, 'one', 'text', 7), (2, 'two', NULL, 8)")
    session.run("SET SESSION binlog_row_image=MINIMAL")
    change, move, gone, full = session.recorded(
        "UPDATE m SET b='more', _mesh_ts=5, _mesh_origin=6 WHERE n = 7",
        "UPDATE m SET n=70 WHERE n = 7",
        "DELETE FROM m WHERE n = 8",
        "INSERT INTO m (k, n, _mesh_origin) VALUES ('x', 1, 9)",
    )
    assert not any(event.rows.full for event in (change, move, gone, full))
    one, two = b"\x03\0one" + (7).to_bytes(4, "little"), b"\x03\0two" + (8).to_bytes(4, "little")
    ((before, after),) = scan_partial(change.table_map.shape, change.rows, change.event)
    assert (before.key, before.ts, before.origin) == (one, None, None)
    assert (after.key, after.ts, after.origin) == (one, 5, 6)
    ((before, after),) = scan_partial(move.table_map.shape, move.rows, move.event)
    assert (before.key, after.key) == (one, one[:5] + (70).to_bytes(4, "little"))
    ((before, after),) = scan_partial(gone.table_map.shape, gone.rows, gone.event)
    assert (before.key, after) == (two, None)
    ((before, after),) = scan_partial(full.table_map.shape, full.rows, full.event)
    assert (before, after.key, after.ts, after.origin) == (None, b"\x01\0x\x01\0\0\0", None, 9)


async def test_json_diffs_are_skipped(session: Session) -> None:
    columns = "j1 JSON, id INT PRIMARY KEY, j2 JSON, tail VARCHAR(9), j3 JSON"
    create(session, "j", columns)
    document = "JSON_OBJECT('a', REPEAT('x', 100), 'b', 1)"
    for image in ("FULL", "MINIMAL"):
        session.run("DELETE FROM j")
        session.run(
            f"INSERT INTO j (j1, id, j2, tail, j3) VALUES "
            f"({document}, 1, {document}, 't', {document}), ({document}, 2, {document}, 't', NULL)"
        )
        session.run(f"SET SESSION binlog_row_image={image}")
        session.run("SET SESSION binlog_row_value_options=PARTIAL_JSON")
        events = session.recorded(
            "UPDATE j SET j2=JSON_SET(j2, '$.a', 'y'), _mesh_ts=3 WHERE id=1",
            "UPDATE j SET j1=JSON_REPLACE(j1, '$.b', 2), j2=JSON_REMOVE(j2, '$.a'), tail='u'",
            "UPDATE j SET j3=JSON_REPLACE(j3, '$.a', 'z'), j1='{}'",
        )
        session.run("SET SESSION binlog_row_value_options=''")
        assert [event.rows.type for event in events] == [EventType.PARTIAL_UPDATE_ROWS] * 3
        keys = []
        for event in events:
            assert not event.rows.full
            found = scan_partial(event.table_map.shape, event.rows, event.event)
            keys.append([(row.before.key[0], row.after.key[0]) for row in found])
            assert found[-1].after.stop == event.rows.stop
        assert keys == [[(1, 1)], [(1, 1), (2, 2)], [(1, 1), (2, 2)]]
        first = scan_partial(events[0].table_map.shape, events[0].rows, events[0].event)
        assert first[0].after.ts == 3


async def test_json_with_holes_reads_like_select(session: Session) -> None:
    session.run("CREATE TABLE h (id INT PRIMARY KEY, j JSON)")
    session.run("INSERT INTO h VALUES (1, JSON_OBJECT('a', REPEAT('x', 40), 'b', REPEAT('y', 40)))")
    (event,) = session.recorded(
        "UPDATE h SET j=JSON_SET(j, '$.a', 'short', '$.b', 1)",
    )
    assert session.run("SELECT JSON_STORAGE_FREE(j) > 0 FROM h") == ((1,),)
    ((_, middle, _, _, _, stop, _, _, _),) = make_scanner(event.table_map).scan_update(
        event.event, event.rows.start, event.rows.stop
    )
    after = row_values(event.table_map.shape, event.event[middle:stop], session.charsets)
    assert after["j"] == session.run("SELECT CAST(j AS CHAR) FROM h")[0][0]


async def test_a_wider_table_takes_narrow_rows(session: Session) -> None:
    create(session, "w", "id INT PRIMARY KEY, v VARCHAR(9)")
    (event,) = session.recorded("INSERT INTO w VALUES (1, 'a'), (2, NULL)")
    source = event.table_map.shape
    for columns, rest in (
        ("id INT PRIMARY KEY, v VARCHAR(9)", ", c INT NOT NULL DEFAULT 5, d VARCHAR(3)"),
        ("id INT PRIMARY KEY, v VARCHAR(9), c INT NOT NULL DEFAULT 5, d VARCHAR(3)", ""),
    ):
        session.run("DROP TABLE w")
        create(session, "w", columns, rest)
        (local,) = session.recorded("INSERT INTO w (id) VALUES (9)")
        fit = compare(source, local.table_map.shape)
        assert isinstance(fit, Wider) and fit.extra == 2
        count = len(local.table_map.shape.columns)
        bitmap = pack_first_low([index in fit.positions for index in range(count)])
        session.apply(
            rebuilt_map(local, 8),
            rebuilt_rows(local, EventType.WRITE_ROWS, 8, None, bitmap, event.images),
        )
        rows = session.run("SELECT id, v, c, d FROM w WHERE id < 9")
        assert rows == ((1, "a", 5, None), (2, None, 5, None))
    assert isinstance(compare(source, source), Equal)
    session.run("ALTER TABLE w MODIFY v VARCHAR(10)")
    (changed,) = session.recorded("INSERT INTO w (id) VALUES (10)")
    fit = compare(source, changed.table_map.shape)
    assert isinstance(fit, Unfit) and "`v`" in fit.reason


async def test_groups_of_several_events_end_with_the_last_flag(session: Session) -> None:
    create(session, "g", "id INT PRIMARY KEY")
    first, second = session.recorded("INSERT INTO g VALUES (1)", "INSERT INTO g VALUES (2)")
    session.run("DELETE FROM g")
    every = every_column(first)
    open_group = RowsFlag.NO_FOREIGN_KEY_CHECKS
    events = [
        rebuilt_rows(first, EventType.WRITE_ROWS, 4, None, every, first.images, open_group),
        rebuilt_rows(second, EventType.WRITE_ROWS, 4, None, every, second.images),
    ]
    session.apply(rebuilt_map(first, 4), *events)
    assert session.run("SELECT id FROM g ORDER BY id") == ((1,), (2,))


async def test_statements_are_classified_as_logged(session: Session) -> None:
    statements = {
        "CREATE TABLE s1 (id INT PRIMARY KEY, c INT)": (StatementClass.DDL, False, "s1"),
        "CREATE TABLE s2 LIKE s1": (StatementClass.DDL, False, "s2"),
        "TRUNCATE types.s1": (StatementClass.DDL, True, "s1"),
        "ALTER TABLE s1 ADD COLUMN d INT": (StatementClass.DDL, False, "s1"),
        "/* why */ ALTER TABLE s1 DROP d": (StatementClass.DDL, True, "s1"),
        "RENAME TABLE s1 TO s3": (StatementClass.DDL, True, "s1"),
        "DROP TABLE s3": (StatementClass.DDL, True, "s3"),
        "SET SESSION sql_mode='ANSI_QUOTES'": None,
        'DROP TABLE "s2"': (StatementClass.DDL, True, "s2"),
        "SET SESSION sql_mode=''": None,
        "CREATE VIEW v AS SELECT 1": (StatementClass.HARMLESS, False, None),
        "CREATE USER recorded": (StatementClass.HARMLESS, False, None),
        "DROP USER recorded": (StatementClass.HARMLESS, False, None),
    }
    before = executed(session.connection)
    for statement in statements:
        session.run(statement)
    queries = [
        parse_query(one.body)
        for one in record(session.server, before)
        if one.header.type == EventType.QUERY
    ]
    logged = {sql: expected for sql, expected in statements.items() if expected}
    for query, (sql, (kind, stops, table)) in zip(queries, logged.items(), strict=True):
        found = classify_query(query.sql, query.schema, query.sql_mode, query.client_collation)
        assert (found.kind, found.stops) == (kind, stops), sql
        if table:
            assert found.tables[0] == ("types", table), sql


async def test_ddl_in_the_clients_character_set(session: Session) -> None:
    before = executed(session.connection)
    session.run("SET NAMES latin1")
    session.run("CREATE TABLE `täö` (id INT PRIMARY KEY)".encode("latin1"))
    session.run("DROP TABLE `täö`".encode("latin1"))
    session.run("SET NAMES gbk")
    name = "\u4e57".encode("gbk")
    assert name[1:] == b"\\" or name[1:].isascii()
    session.run(b"CREATE TABLE `t" + name + b"` (id INT PRIMARY KEY)")
    session.run(b"DROP TABLE `t" + name + b"`")
    session.run("SET NAMES utf8mb4")
    queries = [
        parse_query(one.body)
        for one in record(session.server, before)
        if one.header.type == EventType.QUERY
    ]
    found = [
        classify_query(query.sql, query.schema, query.sql_mode, query.client_collation)
        for query in queries
    ]
    names = [statement.tables for statement in found]
    first, second = (("types", "täö"),), (("types", "t\u4e57"),)
    assert names == [first, first, second, second]
