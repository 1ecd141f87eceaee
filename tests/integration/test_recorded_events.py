"""The decoder and the builders against a real server's binary log, type by type."""

import json

import pymysql
import pytest
from recording import RowsEvent, executed, record, rows_events
from recording_session import (
    STAMPS,
    Session,
    create,
    every_column,
    rebuilt_map,
    rebuilt_rows,
    scanned,
)
from type_samples import SAMPLES, Sample

from meshnode.core.shape import FieldType
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.events import EventType
from meshnode.mysql.keys import key_bitmap, key_image, key_literal, stamp_bitmap, stamp_image
from meshnode.mysql.rowvalues import row_values
from meshnode.mysql.tablemap import parse_table_map


@pytest.fixture
async def session(servers) -> Session:
    (server,) = await servers(1)
    session = Session(server)
    session.prepare_to_apply()
    yield session
    session.connection.close()


def same(sample: Sample, decoded: object, shown: object) -> bool:
    if shown is None or decoded is None:
        return shown is decoded
    if sample.shown == "HEX(v)" and sample.name.startswith("bit"):
        return int(str(decoded), 16) == int(shown, 16)
    if sample.shown == "HEX(v)":
        return decoded == "0x" + shown.lower()
    if sample.name == "json":
        return json.loads(str(decoded)) == json.loads(shown)
    if sample.shown in ("v+0e0", "v+0"):
        return decoded == shown or sample.name == "enum_error"
    return str(decoded) == shown


async def test_every_type_scans_decodes_and_returns(session: Session) -> None:
    inserts = []
    for number, sample in enumerate(SAMPLES):
        columns = f"id INT PRIMARY KEY, v {sample.type} NULL, tail VARCHAR(5) DEFAULT 'zz'"
        create(session, f"v{number}", columns)
        tuples = ",".join(
            f"({row},{literal},{1000 + row},{row % 9})"
            for row, literal in enumerate((*sample.values, "NULL"))
        )
        inserts.append(f"INSERT INTO v{number} (id, v, _mesh_ts, _mesh_origin) VALUES {tuples}")
    events = session.recorded(*inserts)
    for number, sample in enumerate(SAMPLES):
        check_values(session, sample, number, events)

    for number in range(len(SAMPLES)):
        session.run(f"DELETE FROM v{number}")
    before = executed(session.connection)
    for number, event in enumerate(events):
        every = every_column(event)
        session.apply(
            rebuilt_map(event, number),
            rebuilt_rows(event, EventType.WRITE_ROWS, number, None, every, event.images),
        )
    again = rows_events(record(session.server, before))
    for first, second in zip(events, again, strict=True):
        assert second.images == first.images, first.table_map.shape.columns[1]


def check_values(session: Session, sample: Sample, number: int, events: list[RowsEvent]) -> None:
    """Boundaries, keys, stamps and values of one sample's rows."""
    table, place = f"v{number}", 0
    shown = dict(session.run(f"SELECT id, {sample.shown} FROM {table}"))
    for event in events:
        shape, pos = event.table_map.shape, event.rows.start
        if shape.table != table:
            continue
        for start, stop, key, ts, origin in scanned(event):
            label = f"{sample.name} row {place}"
            assert start == pos, label
            assert key == place.to_bytes(4, "little"), label
            assert (ts, origin) == (1000 + place, place % 9), label
            decoded = row_values(shape, event.event[start:stop], session.charsets)
            assert same(sample, decoded["v"], shown[place]), f"{label}: {decoded['v']!r}"
            assert decoded["tail"] == "zz", label
            pos, place = stop, place + 1
        assert pos == event.rows.stop
    assert place == len(sample.values) + 1 == len(shown), sample.name


async def test_every_key_type_is_found_and_deleted_by_its_key(session: Session) -> None:
    samples = [sample for sample in SAMPLES if sample.key]
    inserts = []
    for number, sample in enumerate(samples):
        columns = f"x INT, v {sample.type} NOT NULL, y VARCHAR(9)"
        create(session, f"k{number}", columns, ", PRIMARY KEY (v)")
        inserts += [
            f"INSERT IGNORE INTO k{number} (x, v) VALUES ({row},{literal})"
            for row, literal in enumerate(sample.values)
        ]
    events = session.recorded(*inserts)
    tables = {event.table_map.shape.table for event in events}
    assert tables == {f"k{number}" for number in range(len(samples))}
    for event in events:
        check_key(session, event)
    for number, sample in enumerate(samples):
        assert session.run(f"SELECT COUNT(*) FROM k{number}") == ((0,),), sample.name


def check_key(session: Session, event: RowsEvent) -> None:
    """The key finds its row in SQL, and alone it stamps and deletes that row."""
    shape = event.table_map.shape
    ((start, stop, key, _, _),) = scanned(event)
    x = row_values(shape, event.event[start:stop], session.charsets)["x"]
    literal = key_literal(shape, session.charsets)(key)
    label = f"{shape.columns[1]} {literal}"
    find = f"SELECT x FROM {shape.table} WHERE v IN ({literal})"
    assert session.run(find) == ((x,),), label
    assert "PRIMARY" in session.run(f"EXPLAIN FORMAT=TRADITIONAL {find}")[0], label
    image, bitmap = key_image(shape, key), key_bitmap(shape)
    stamp = stamp_image(2**63 + x, 200)
    stamped = rebuilt_rows(
        event, EventType.UPDATE_ROWS, 6, bitmap, stamp_bitmap(shape), image + stamp
    )
    session.apply(rebuilt_map(event, 6), stamped)
    found = session.run(f"SELECT x, _mesh_origin FROM {shape.table} WHERE _mesh_ts = {2**63 + x}")
    assert found == ((x, 200),), label
    gone = rebuilt_rows(event, EventType.DELETE_ROWS, 6, bitmap, None, image)
    session.apply(rebuilt_map(event, 6), gone)
    assert session.run(f"SELECT COUNT(*) FROM {shape.table} WHERE x = {x}") == ((0,),), label


TOO_LONG = ("char_255", "varchar_700")
"""For a key of two columns."""

TEXTS = ("abc", "\u00e4\u00d6", "\u042f\u0436", "\u6f22\u5b57", "\u05d0", "it's\\")


async def test_keys_in_every_character_set(session: Session) -> None:
    charsets = [
        name
        for (name,) in session.run(
            "SELECT character_set_name FROM information_schema.character_sets"
        )
    ]
    assert len(charsets) > 35
    inserts = []
    for charset in charsets:
        collation = "binary" if charset == "binary" else f"{charset}_bin"
        text = f"v VARCHAR(20) CHARACTER SET {charset} COLLATE {collation}"
        create(session, f"c_{charset}", f"x INT, {text}", ", PRIMARY KEY (v)")
        inserts += [
            f"INSERT IGNORE INTO c_{charset} (x, v) "
            f"VALUES ({row}, '{pymysql.converters.escape_string(text)}')"
            for row, text in enumerate(TEXTS)
        ]
    seen = set()
    for event in session.recorded(*inserts):
        shape = event.table_map.shape
        ((start, stop, key, _, _),) = scanned(event)
        charset = session.charsets[shape.key_columns[0].collation]
        seen.add(charset)
        x = row_values(shape, event.event[start:stop], session.charsets)["x"]
        literal = key_literal(shape, session.charsets)(key)
        found = session.run(f"SELECT x, LOWER(HEX(v)) FROM c_{charset} WHERE v IN ({literal})")
        assert found == ((x, key[1:].hex()),), f"{charset}: {literal}"
    assert seen == set(charsets)


async def test_every_key_type_is_found_within_a_composite_key(session: Session) -> None:
    samples = [sample for sample in SAMPLES if sample.key and sample.name not in TOO_LONG]
    inserts = []
    for number, sample in enumerate(samples):
        session.run(f"CREATE TABLE k{number} (v {sample.type}, n INT, PRIMARY KEY (v, n))")
        inserts += [
            f"INSERT INTO k{number} (v, n) VALUES ({literal}, {row})"
            for row, literal in enumerate(sample.values)
        ]
    events = session.recorded(*inserts)
    assert len(events) == len(inserts)
    for event in events:
        shape = event.table_map.shape
        ((start, stop, key, _, _),) = scanned(event)
        n = row_values(shape, event.event[start:stop], session.charsets)["n"]
        literal = key_literal(shape, session.charsets)(key)
        find = f"SELECT n FROM {shape.table} WHERE (v, n) IN ({literal}, {literal})"
        assert session.run(find) == ((n,),), f"{shape.columns[0]} {literal}"
        assert "PRIMARY" in session.run(f"EXPLAIN FORMAT=TRADITIONAL {find}")[0], literal


async def test_high_bytes_of_latin1_keys(session: Session) -> None:
    session.run(
        f"CREATE TABLE k (v CHAR(3) CHARACTER SET latin1 COLLATE latin1_bin PRIMARY KEY, {STAMPS})"
    )
    values = ",".join(f"(_latin1 X'{byte:02x}')" for byte in range(0x80, 0x100))
    (event,) = session.recorded(f"INSERT INTO k (v) VALUES {values}")
    write = key_literal(event.table_map.shape, session.charsets)
    keys = [row[2] for row in scanned(event)]
    assert len(keys) == 128
    every = ",".join(write(key) for key in keys)
    assert session.run(f"SELECT COUNT(*) FROM k WHERE v IN ({every})") == ((128,),)


async def test_composite_key_out_of_order(session: Session) -> None:
    session.run(
        "CREATE TABLE k (a VARCHAR(300), n INT, b BINARY(4), s INT, c DATETIME(3), "
        f"{STAMPS}, PRIMARY KEY (c, a, b))"
    )
    (event,) = session.recorded(
        "INSERT INTO k (a, n, b, s, c) VALUES ('', NULL, X'01', 5, '0000-00-00'), "
        "('it''s', 1, X'', NULL, '2024-02-30 01:02:03.004')"
    )
    shape = event.table_map.shape
    assert [column.name for column in shape.key_columns] == ["a", "b", "c"]
    write = key_literal(shape, session.charsets)
    for _, _, key, _, _ in scanned(event):
        found = session.run(f"SELECT COUNT(*) FROM k WHERE (a, b, c) IN ({write(key)})")
        assert found == ((1,),), write(key)
        values = row_values(shape, key_image(shape, key), session.charsets, key_bitmap(shape))
        assert list(values) == ["a", "b", "c"]


async def test_a_rebuilt_table_map_means_the_same(session: Session) -> None:
    columns = ",".join(
        f"c{number} {sample.type}"
        for number, sample in enumerate(SAMPLES)
        if sample.name not in ("varchar_700", "char_255", "point_srid")
    )
    session.run(f"CREATE TABLE wide (id INT PRIMARY KEY, {columns}, {STAMPS})")
    (event,) = session.recorded("INSERT INTO wide (id) VALUES (1)")
    assert event.table_map.named
    shape = event.table_map.shape
    assert {column.type for column in shape.columns} >= set(FieldType) - {FieldType.VAR_STRING}
    body = build_table_map(9, shape.schema, shape.table, shape.columns, shape.key)
    assert parse_table_map(body).shape == shape
