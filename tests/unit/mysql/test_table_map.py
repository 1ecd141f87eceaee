"""Table maps: a recorded one, and rebuilt ones with any columns."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import of_type, table_map

from meshnode.core.shape import Column, FieldType
from meshnode.errors import Halt
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.events import HEADER_SIZE, EventType
from meshnode.mysql.tablemap import parse_table_map, require_names
from meshnode.mysql.wire import MalformedEvent

F = FieldType


def test_the_recorded_columns():
    shape = table_map().shape
    assert shape.name == "shop.orders"
    assert shape.key == (0,)
    assert shape.stamp_indexes == (16, 17)
    columns = {column.name: column for column in shape.columns}
    assert list(columns)[-1] == "_mesh_origin"
    assert columns["id"] == Column("id", F.LONGLONG, unsigned=True, nullable=False)
    assert columns["note"] == Column("note", F.VARCHAR, 1200, collation=255)
    assert columns["price"] == Column("price", F.NEWDECIMAL, 12 << 8 | 2)
    assert columns["kind"] == Column(
        "kind", F.ENUM, 1, collation=255, labels=(b"new", b"old, used", b"")
    )
    assert columns["tags"] == Column("tags", F.SET, 1, collation=255, labels=(b"a", b"b", b"c"))
    assert columns["vec"] == Column("vec", F.VECTOR, 4, collation=63, dimension=2)
    assert columns["iso"] == Column("iso", F.VARCHAR, 20, collation=8), "VECTOR counts as text"
    assert columns["year"] == Column("year", F.YEAR, unsigned=True), "YEAR counts as a number"
    assert columns["bits"] == Column("bits", F.BIT, 10)
    assert columns["code"] == Column("code", F.STRING, 4, collation=63)
    assert columns["place"] == Column("place", F.GEOMETRY, 4, geometry=1)
    assert columns["_mesh_ts"] == Column(
        "_mesh_ts", F.LONGLONG, unsigned=True, nullable=False, visible=False
    )


TEXT = st.text("ab`\u00e4\u6f22", min_size=1, max_size=64)
COLLATION = st.sampled_from([8, 63, 255, 300])


def _columns() -> st.SearchStrategy[Column]:
    def one(type_: int, **fields) -> st.SearchStrategy[Column]:
        return st.builds(
            Column,
            name=TEXT,
            type=st.just(int(type_)),
            nullable=st.booleans(),
            visible=st.booleans(),
            **fields,
        )

    labels = st.lists(st.sampled_from([b"", b"a,b", b"\xff", bytes(255)]), max_size=4).map(tuple)
    return st.one_of(
        *(
            one(kind, unsigned=st.booleans())
            for kind in (F.TINY, F.SHORT, F.INT24, F.LONG, F.LONGLONG, F.YEAR)
        ),
        one(F.FLOAT, meta=st.just(4), unsigned=st.booleans()),
        one(F.DOUBLE, meta=st.just(8), unsigned=st.booleans()),
        one(F.DATE),
        one(F.TIME2, meta=st.integers(0, 6)),
        one(F.BIT, meta=st.integers(1, 64)),
        one(F.VARCHAR, meta=st.integers(0, 65535), collation=COLLATION),
        one(F.STRING, meta=st.integers(0, 1020), collation=COLLATION),
        one(F.BLOB, meta=st.integers(1, 4), collation=COLLATION),
        one(F.JSON, meta=st.just(4)),
        one(F.GEOMETRY, meta=st.just(4), geometry=st.integers(0, 7)),
        one(F.VECTOR, meta=st.just(4), collation=st.just(63), dimension=st.integers(1, 16383)),
        one(F.ENUM, meta=st.integers(1, 2), collation=COLLATION, labels=labels),
        one(F.SET, meta=st.sampled_from([1, 2, 3, 4, 8]), collation=COLLATION, labels=labels),
        one(
            F.NEWDECIMAL,
            meta=st.integers(1, 65).flatmap(
                lambda p: st.integers(0, min(p, 30)).map(lambda s: p << 8 | s)
            ),
            unsigned=st.booleans(),
        ),
    )


COLUMNS = st.lists(_columns(), min_size=1, max_size=10)


@settings(max_examples=80, deadline=None)
@given(COLUMNS, st.data())
def test_any_table_map_returns(columns, data):
    key = data.draw(st.sets(st.integers(0, len(columns) - 1), min_size=1, max_size=3))
    body = build_table_map(2**48 - 1, "sch\u00e9ma", "t`a", columns, sorted(key), 5)
    parsed = parse_table_map(body)
    assert (parsed.table_id, parsed.flags) == (2**48 - 1, 5)
    assert (parsed.shape.schema, parsed.shape.table) == ("sch\u00e9ma", "t`a")
    assert parsed.shape.columns == tuple(columns)
    assert parsed.shape.key == tuple(sorted(key))
    assert parsed.named
    assert (
        parse_table_map(build_table_map(1, "sch\u00e9ma", "t`a", columns, sorted(key), 5)) != parsed
    )
    assert parsed.definition == body[6:]


def test_over_250_columns_and_long_names():
    columns = [Column(f"{'n' * 60}{number}", F.LONG) for number in range(1017)]
    assert parse_table_map(build_table_map(1, "s", "t", columns)).shape.columns == tuple(columns)


def test_a_default_collation_with_exceptions():
    columns = [Column(name, F.VARCHAR, 9, collation=255) for name in "abc"]
    body = build_table_map(1, "s", "t", columns)
    listed = b"\x03\x09" + b"\xfc\xff\x00" * 3
    assert listed in body
    body = body.replace(listed, b"\x02\x05" + b"\xfc\xff\x00" + b"\x01\x08")
    shape = parse_table_map(body).shape
    assert [column.collation for column in shape.columns] == [255, 8, 255]


def test_a_key_with_prefixes_comes_in_column_order():
    columns = [Column(name, F.VARCHAR, 40, nullable=False, collation=8) for name in "abc"]
    body = build_table_map(1, "s", "t", columns, (0,))
    body = body.replace(b"\x08\x01\x00", b"\x09\x04\x02\x00\x01\x07")
    shape = parse_table_map(body).shape
    assert (shape.key, shape.prefixes) == ((1, 2), (7, 0))


def test_unknown_tags_are_skipped():
    columns = [Column("a", F.LONG)]
    body = build_table_map(1, "s", "t", columns) + b"\x63\x03abc"
    assert parse_table_map(body).shape.columns == tuple(columns)


def test_without_names_the_reader_must_stop():
    body = build_table_map(1, "s", "t", [Column("a", F.LONG)], (0,))
    short = body[: body.index(b"\x04\x02\x01a")]
    parsed = parse_table_map(short)
    assert not parsed.named
    with pytest.raises(Halt, match="binlog_row_metadata"):
        require_names(parsed)
    assert require_names(parse_table_map(body)).columns[0].name == "a"


def test_an_unknown_type_names_table_and_column():
    body = bytearray(build_table_map(1, "s", "t", [Column("a", F.LONG), Column("b", F.DATE)]))
    body[body.index(bytes((F.LONG, F.DATE))) + 1] = 201
    with pytest.raises(Halt, match=r"column 2 of table s\.t has the wire type 201"):
        parse_table_map(bytes(body))


def test_every_cut_is_refused_or_loses_only_whole_tags():
    event = of_type(EventType.TABLE_MAP)
    body = event[HEADER_SIZE:]
    whole = parse_table_map(body).shape
    for size in range(len(body)):
        try:
            parsed = parse_table_map(body[:size])
        except MalformedEvent:
            continue
        assert [column.type for column in parsed.shape.columns] == [
            column.type for column in whole.columns
        ]
