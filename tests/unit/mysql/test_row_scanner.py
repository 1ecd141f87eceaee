"""The generated scanner: against recorded rows, a plain walk, and damage."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import rows, shape, table_map

from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType, Shape
from meshnode.errors import Halt
from meshnode.mysql.bodies import Rows
from meshnode.mysql.events import EventType
from meshnode.mysql.partialimage import scan_partial
from meshnode.mysql.rowimage import (
    MalformedRow,
    compile_scanner,
    cut_before_images,
    fixed_size,
    make_scanner,
    piece_end,
    prefix_size,
)
from meshnode.mysql.wire import pack_first_low

F = FieldType
BIG = (2**64 - 1).to_bytes(8, "little")
ONE = (1).to_bytes(8, "little")
T0 = 1795271123403368


def test_recorded_rows():
    (write, insert), (update, change), (delete, gone), _ = rows()
    scanner = make_scanner(table_map())
    found = scanner.scan_write(insert, write.start, write.stop)
    assert [row[2:] for row in found] == [(BIG, T0, 3), (ONE, T0 + 1, 255)]
    assert found[0][0] == write.start
    assert found[0][1] == found[1][0]
    assert found[1][1] == write.stop
    ((start, middle, old, ts, origin, stop, new, new_ts, new_origin),) = scanner.scan_update(
        change, update.start, update.stop
    )
    assert (start, stop) == (update.start, update.stop)
    assert (old, ts, origin) == (new, new_ts, new_origin) == (ONE, T0 + 1, 255)
    assert stop - middle - (middle - start) == 262 + 6 + 4, "note, price and gen are no longer NULL"
    ((_, stop, key, ts, origin),) = scanner.scan_write(gone, delete.start, delete.stop)
    assert (stop, key, ts, origin) == (delete.stop, ONE, T0 + 1, 255)


def test_scanners_are_kept_by_definition():
    assert make_scanner(table_map()) is make_scanner(table_map())


def test_recorded_partial_json():
    found, event = rows()[3]
    assert found.type == EventType.PARTIAL_UPDATE_ROWS
    ((before, after),) = scan_partial(shape(), found, event)
    assert (before.key, before.ts) == (BIG, None)
    assert (after.key, after.ts, after.origin) == (BIG, T0 + 631, None)
    assert after.stop == found.stop


COLUMN = st.one_of(
    st.sampled_from([F.TINY, F.SHORT, F.INT24, F.LONG, F.LONGLONG, F.DATE, F.YEAR]).map(
        lambda kind: (kind, 0)
    ),
    st.tuples(st.sampled_from([F.TIME2, F.DATETIME2, F.TIMESTAMP2]), st.integers(0, 6)),
    st.tuples(st.sampled_from([F.VARCHAR, F.STRING]), st.sampled_from([0, 10, 255, 256, 900])),
    st.tuples(st.just(F.BLOB), st.integers(1, 4)),
    st.sampled_from([(F.JSON, 4), (F.GEOMETRY, 4), (F.VECTOR, 4), (F.FLOAT, 4), (F.DOUBLE, 8)]),
    st.tuples(st.just(F.BIT), st.integers(1, 64)),
    st.sampled_from([(F.ENUM, 1), (F.ENUM, 2), (F.SET, 8), (F.SET, 3)]),
    st.sampled_from([(10, 2), (65, 30), (9, 9), (1, 0)]).map(
        lambda ps: (F.NEWDECIMAL, ps[0] << 8 | ps[1])
    ),
)


@st.composite
def tables(draw) -> Shape:
    kinds = draw(st.lists(COLUMN, min_size=1, max_size=17))
    columns = [
        Column(f"c{number}", int(kind), meta, nullable=draw(st.booleans()))
        for number, (kind, meta) in enumerate(kinds)
    ]
    if draw(st.booleans()):
        ts = Column(STAMP_TS, F.LONGLONG, unsigned=True, nullable=False)
        origin = Column(STAMP_ORIGIN, F.TINY, unsigned=True, nullable=False)
        place = draw(st.integers(0, len(columns)))
        columns.insert(place, origin)
        columns.insert(draw(st.integers(0, place)), ts)
    users = [index for index, column in enumerate(columns) if not column.is_stamp]
    key = sorted(draw(st.sets(st.sampled_from(users), max_size=4)))
    return Shape("s", "t", tuple(columns), tuple(key))


def piece(draw, column: Column) -> bytes:
    size = fixed_size(column)
    if size is not None:
        return draw(st.binary(min_size=size, max_size=size))
    content = draw(st.binary(max_size=min(column.meta, 12)))
    return len(content).to_bytes(prefix_size(column), "little") + content


def image(draw, table: Shape, present: list[bool]) -> tuple[bytes, dict[int, bytes]]:
    pieces, nulls = {}, []
    for index, column in enumerate(table.columns):
        if present[index]:
            must = index in table.key or column.is_stamp or not column.nullable
            nulls.append(not must and draw(st.booleans()))
            if not nulls[-1]:
                pieces[index] = piece(draw, column)
    return pack_first_low(nulls) + b"".join(pieces.values()), pieces


def expected(table: Shape, pieces: dict[int, bytes]) -> tuple:
    key = b"".join(pieces[index] for index in table.key)
    if table.stamp_indexes is None:
        return key, None, None
    return key, *(int.from_bytes(pieces[index], "little") for index in table.stamp_indexes)


@settings(deadline=None, max_examples=200)
@given(tables(), st.data())
def test_any_table_scans_as_it_was_built(table, data):
    scanner = compile_scanner(table)
    every = [True] * len(table.columns)
    buf, wanted, spans = b"head", [], []
    for _ in range(data.draw(st.integers(0, 4)) * 2):
        raw, pieces = image(data.draw, table, every)
        spans.append((len(buf), len(buf) + len(raw)))
        wanted.append(expected(table, pieces))
        buf += raw
    end = len(buf)
    buf += b"tail"
    found = scanner.scan_write(buf, 4, end)
    assert [row[:2] for row in found] == spans
    assert [row[2:] for row in found] == wanted
    pairs = scanner.scan_update(buf, 4, end)
    assert [row[:2] for row in pairs] == spans[::2]
    assert [row[5] for row in pairs] == [stop for _, stop in spans[1::2]]
    assert [row[2:5] for row in pairs] == wanted[::2]
    assert [row[6:] for row in pairs] == wanted[1::2]
    bitmap = pack_first_low(every)
    head = Rows(EventType.UPDATE_ROWS, 1, 0, len(every), bitmap, bitmap, 4, end)
    slow = scan_partial(table, head, buf)
    if table.key:
        assert [tuple(row.before) for row in slow] == [row[:5] for row in pairs]
        assert [tuple(row.after)[2:] for row in slow] == [row[6:] for row in pairs]


@settings(deadline=None, max_examples=150)
@given(tables(), st.data())
def test_partial_images(table, data):
    present = [data.draw(st.booleans()) for _ in table.columns]
    raw, pieces = image(data.draw, table, present)
    bitmap = pack_first_low(present)
    head = Rows(EventType.WRITE_ROWS, 1, 0, len(present), None, bitmap, 0, len(raw))
    if not raw:
        return
    ((before, after),) = scan_partial(table, head, raw)
    assert before is None
    assert after.stop == len(raw)
    whole = all(index in pieces for index in table.key)
    assert after.key == (b"".join(pieces[index] for index in table.key) if whole else None)
    if table.stamp_indexes:
        for index, value in zip(table.stamp_indexes, (after.ts, after.origin), strict=True):
            given = pieces.get(index)
            assert value == (None if given is None else int.from_bytes(given, "little"))


@settings(deadline=None, max_examples=100)
@given(tables(), st.data())
def test_a_cut_or_longer_row_is_malformed(table, data):
    scanner = compile_scanner(table)
    raw, _ = image(data.draw, table, [True] * len(table.columns))
    cut = data.draw(st.integers(1, len(raw) - 1)) if len(raw) > 1 else None
    if cut:
        with pytest.raises(MalformedRow, match=r"table s\.t"):
            scanner.scan_write(raw[:cut], 0, cut)
        with pytest.raises(MalformedRow):
            scanner.scan_write(raw + raw, 0, cut)
        with pytest.raises(MalformedRow):
            scanner.scan_update(raw + raw[:cut], 0, len(raw) + cut)
    with pytest.raises(MalformedRow):
        scanner.scan_update(raw, 0, len(raw))


PLAIN = Shape(
    "s",
    "t",
    (Column("id", F.LONG, nullable=False), Column("v", F.VARCHAR, 9), Column("b", F.BLOB, 4)),
    (0,),
)


def test_null_in_the_key_is_malformed():
    scanner = compile_scanner(PLAIN)
    good = b"\x06" + bytes(4)
    assert scanner.scan_write(good, 0, 5) == [(0, 5, bytes(4), None, None)]
    with pytest.raises(MalformedRow, match=r"s\.t at offset 5 has NULL"):
        scanner.scan_write(good + b"\x01" + bytes(9), 0, 15)


def test_spare_bits_of_the_null_bitmap_do_not_matter():
    scanner = compile_scanner(PLAIN)
    assert scanner.scan_write(b"\xfe" + bytes(4), 0, 5) == [(0, 5, bytes(4), None, None)]
    row = b"\xf8" + bytes(4) + b"\x01x" + bytes(4)
    assert scanner.scan_write(row, 0, len(row))[0][1] == len(row)


def test_a_length_beyond_the_end_is_malformed():
    scanner = compile_scanner(PLAIN)
    row = b"\0" + bytes(4) + b"\x01x" + b"\xff\xff\xff\x7f"
    with pytest.raises(MalformedRow, match="row 0 of table"):
        scanner.scan_write(row, 0, len(row))


def test_no_rows():
    assert compile_scanner(PLAIN).scan_write(b"abc", 3, 3) == []


def test_a_type_that_cannot_be_measured():
    with pytest.raises(Halt, match="`x`"):
        compile_scanner(Shape("s", "t", (Column("x", F.BLOB, 9),), ()))
    with pytest.raises(Halt):
        piece_end(Column("x", 99), b"", 0)


def test_a_name_cannot_become_code():
    shape = Shape("s'{1/0}", 't"\n)', PLAIN.columns, (0,))
    with pytest.raises(MalformedRow, match="1/0"):
        compile_scanner(shape).scan_write(b"\0", 0, 1)


@settings(deadline=None, max_examples=200)
@given(tables(), st.data(), st.booleans())
def test_a_cut_before_image_keeps_key_and_stamp_and_the_after_image(table, data, pairs):
    scan = compile_scanner(table).scan_update if pairs else compile_scanner(table).scan_write
    every = [True] * len(table.columns)
    number = data.draw(st.integers(0, 3)) * (2 if pairs else 1)
    images = [image(data.draw, table, every)[0] for _ in range(number)]
    longest = data.draw(st.sampled_from([0, 30]))
    buf = b"".join(images)
    found = scan(buf, 0, len(buf))
    cut = cut_before_images(table, buf, found, pairs, longest)
    again = scan(cut, 0, len(cut))

    assert [row[2:5] for row in again] == [row[2:5] for row in found]
    for was, now in zip(found, again, strict=True):
        assert now[1] - now[0] <= was[1] - was[0]
        if was[1] - was[0] <= longest:
            assert cut[now[0] : now[1]] == buf[was[0] : was[1]]
        if pairs:
            assert cut[now[1] : now[5]] == buf[was[1] : was[5]]
