"""The full decode, on the recorded row and on values at the edges."""

import orjson
import pytest
from recorded import CHARSETS, rows, shape, table_map

from meshnode.core.shape import Column, FieldType
from meshnode.mysql.keys import key_bitmap, key_image
from meshnode.mysql.rowimage import MalformedRow, make_scanner
from meshnode.mysql.rowvalues import column_value, key_values, row_values

F = FieldType


def image(number: int) -> bytes:
    found, event = rows()[0]
    start, stop, *_ = make_scanner(table_map()).scan_write(event, found.start, found.stop)[number]
    return event[start:stop]


def test_the_recorded_row():
    values = row_values(shape(), image(0), CHARSETS)
    assert values == {
        "id": 18446744073709551615,
        "note": "caf\u00e9",
        "price": "-1234567.89",
        "kind": "old, used",
        "tags": "a,c",
        "at": "2024-02-30 01:02:03.000004",
        "left_for": "-00:00:00.500",
        "doc": '{"a": [1, 2.5, null, "x"]}',
        "photo": "0x00ff",
        "place": "0x00000000" + "0101000000" + "000000000000f03f" + "0000000000000040",
        "vec": "0x0000803f00000040",
        "year": "2024",
        "bits": "0x0201",
        "iso": {"charset": "latin1", "hex": "e481"},
        "code": "0x01000000",
        "gen": 5,
        "_mesh_ts": 1795271123403368,
        "_mesh_origin": 3,
    }
    assert orjson.loads(orjson.dumps(values)) == values


def test_the_row_of_nulls():
    values = row_values(shape(), image(1), CHARSETS)
    assert values.pop("id") == 1
    assert values.pop("_mesh_origin") == 255
    assert values.pop("_mesh_ts") == 1795271123403369
    assert set(values.values()) == {None}


def test_an_image_of_the_key_has_only_the_key():
    key = bytes(8)
    assert row_values(shape(), key_image(shape(), key), CHARSETS, key_bitmap(shape())) == {"id": 0}
    assert key_values(shape(), key, CHARSETS) == {"id": 0}


def test_images_of_the_wrong_length():
    with pytest.raises(MalformedRow, match="1 bytes too long"):
        row_values(shape(), image(0) + b"\0", CHARSETS)
    with pytest.raises(MalformedRow, match="`_mesh_origin`"):
        row_values(shape(), image(0)[:-1], CHARSETS)
    with pytest.raises(MalformedRow):
        key_values(shape(), b"1", CHARSETS)


LABELS = (b"a", b"\x81", b"c")


@pytest.mark.parametrize(
    ("column", "piece", "value"),
    [
        (Column("c", F.ENUM, 1, collation=255, labels=LABELS), "01", "a"),
        (Column("c", F.ENUM, 1, collation=255, labels=LABELS), "00", 0),
        (Column("c", F.ENUM, 1, collation=255, labels=LABELS), "09", 9),
        (Column("c", F.SET, 1, collation=255, labels=LABELS), "05", "a,c"),
        (Column("c", F.SET, 1, collation=255, labels=LABELS), "00", ""),
        (Column("c", F.SET, 1, collation=255, labels=LABELS), "07", 7),
        (Column("c", F.SET, 1, collation=255, labels=LABELS), "08", 8),
        (Column("c", F.YEAR), "00", "0000"),
        (Column("c", F.DOUBLE, 8), "000000000000f8bf", -1.5),
        (Column("c", F.VARCHAR, 9, collation=255), "023078", "0x"),
        (
            Column("c", F.VARCHAR, 9, collation=4242),
            "0161",
            {"charset": "collation 4242", "hex": "61"},
        ),
        (Column("c", F.BLOB, 3, collation=63), "010000ff", "0xff"),
        (Column("c", F.STRING, 9, collation=255), "0161", "a"),
        (Column("c", F.TIME2, 1), "7fffffce", "-00:00:00.5"),
        (Column("c", F.TIME2, 2), "7fffffff", "-00:00:00.01"),
        (Column("c", F.TIME2), "4b9105", "-838:59:59"),
    ],
)
def test_values_at_the_edges(column, piece, value):
    assert column_value(column, bytes.fromhex(piece), CHARSETS) == value
