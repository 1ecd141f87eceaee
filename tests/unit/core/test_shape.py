"""Which shapes fit, and what is said of those that do not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from meshnode.core.shape import (
    STAMP_ORIGIN,
    STAMP_TS,
    Column,
    Equal,
    FieldType,
    Shape,
    Unfit,
    Wider,
    compare,
    fits,
    same_keys,
)

F = FieldType
TS = Column(STAMP_TS, F.LONGLONG, unsigned=True, nullable=False, visible=False)
ORIGIN = Column(STAMP_ORIGIN, F.TINY, unsigned=True, nullable=False, visible=False)
ID = Column("id", F.LONG, nullable=False)
NAME = Column("name", F.VARCHAR, 80, collation=255)
KIND = Column("kind", F.ENUM, 1, collation=255, labels=(b"a", b"b"))
EXTRA = Column("extra", F.LONG)
OTHER = Column("other", F.DATE)


def shape(*columns: Column, key: tuple[int, ...] = (0,), **fields) -> Shape:
    return Shape("shop", "t", columns, key, **fields)


SOURCE = shape(ID, NAME, KIND, TS, ORIGIN)


def test_equal_shapes():
    assert compare(SOURCE, SOURCE) == Equal()
    bare = shape(ID, NAME)
    assert compare(bare, bare) == Equal(), "bookkeeping tables have no stamps"


def test_schema_and_visibility_do_not_matter():
    local = Shape("x", "y", (ID, NAME, KIND, replace(TS, visible=True), ORIGIN), (0,))
    assert compare(SOURCE, local) == Equal()


@pytest.mark.parametrize(
    ("local", "fit"),
    [
        (shape(ID, NAME, KIND, TS, ORIGIN, EXTRA), Wider(1, (0, 1, 2, 3, 4))),
        (shape(ID, NAME, KIND, EXTRA, TS, ORIGIN), Wider(1, (0, 1, 2, 4, 5))),
        (shape(ID, NAME, KIND, EXTRA, TS, ORIGIN, OTHER), Wider(2, (0, 1, 2, 4, 5))),
        (shape(ID, NAME, KIND, EXTRA, TS, OTHER, ORIGIN), Wider(2, (0, 1, 2, 4, 6))),
    ],
)
def test_wider_tables(local, fit):
    assert compare(SOURCE, local) == fit


@pytest.mark.parametrize(
    ("local", "words"),
    [
        (shape(ID, NAME, TS, ORIGIN), "`kind`"),
        (shape(ID, KIND, NAME, TS, ORIGIN), "column 2 is `kind` here and `name`"),
        (shape(ID, EXTRA, NAME, KIND, TS, ORIGIN), "column 2 is `extra`"),
        (shape(replace(ID, unsigned=True), NAME, KIND, TS, ORIGIN), "`id`: type is LONG UNSIGNED"),
        (
            shape(replace(ID, type=int(F.LONGLONG)), NAME, KIND, TS, ORIGIN),
            "LONGLONG here and LONG",
        ),
        (shape(ID, replace(NAME, meta=84), KIND, TS, ORIGIN), r"VARCHAR\(84\) here"),
        (shape(ID, replace(NAME, collation=8), KIND, TS, ORIGIN), "`name`: collation id is 8"),
        (shape(ID, replace(NAME, nullable=False), KIND, TS, ORIGIN), "`name`: nullable is False"),
        (shape(ID, NAME, replace(KIND, labels=(b"b", b"a")), TS, ORIGIN), "`kind`: labels"),
        (shape(ID, NAME, KIND), "local table has no stamp columns"),
        (shape(ID, NAME, KIND, TS), "without its companion"),
        (shape(ID, NAME, KIND, replace(TS, unsigned=False), ORIGIN), "stamp column `_mesh_ts`"),
        (shape(ID, NAME, KIND, TS, replace(ORIGIN, nullable=True)), "stamp column `_mesh_origin`"),
        (shape(ID, NAME, KIND, ORIGIN, TS), "stands before"),
        (shape(ID, TS, ORIGIN, NAME, KIND), "stands before"),
        (shape(ID, NAME, KIND, TS, ORIGIN, key=()), "no primary key here"),
        (shape(ID, NAME, KIND, TS, ORIGIN, key=(0, 1)), r"primary key is \['id', 'name'\] here"),
        (
            shape(ID, NAME, KIND, TS, ORIGIN, key=(0, 1), prefixes=(0, 9)),
            "only a prefix of `name`",
        ),
    ],
)
def test_what_does_not_fit(local, words):
    fit = compare(SOURCE, local)
    assert isinstance(fit, Unfit)
    assert re.search(words, fit.reason), fit.reason


def test_decimal_and_vector_parameters_are_named():
    one = shape(ID, Column("d", F.NEWDECIMAL, 10 << 8 | 2))
    two = shape(ID, Column("d", F.NEWDECIMAL, 12 << 8 | 2))
    assert "NEWDECIMAL(12,2) here and NEWDECIMAL(10,2)" in compare(one, two).reason
    one = shape(ID, Column("v", F.VECTOR, 4, collation=63, dimension=3))
    two = shape(ID, Column("v", F.VECTOR, 4, collation=63, dimension=4))
    assert "dimension is 4 here and 3" in compare(one, two).reason


def test_a_source_that_lost_its_columns():
    wide = shape(ID, NAME, KIND, TS, ORIGIN, EXTRA)
    fit = compare(wide, SOURCE)
    assert isinstance(fit, Unfit) and "`extra` (LONG) of the source is missing" in fit.reason


@pytest.mark.parametrize(
    ("local", "literal", "words"),
    [
        (SOURCE, [False] * 5, ""),
        (shape(ID, NAME, KIND, TS, ORIGIN, EXTRA), [False] * 5 + [True], ""),
        (
            shape(ID, NAME, KIND, TS, ORIGIN, EXTRA),
            [True] * 5 + [False],
            "`extra` of shop.t",
        ),
        (shape(ID, NAME, KIND, EXTRA, TS, ORIGIN), [True] * 6, "not behind the source's last"),
        (shape(ID, NAME, TS, ORIGIN), [True] * 4, "`kind`"),
    ],
)
def test_what_only_the_local_table_has_must_be_filled_up(local, literal, words):
    fit = fits(SOURCE, local, literal)
    assert isinstance(fit, Unfit) == bool(words)
    assert not words or words in fit.reason


POOL = [NAME, KIND, EXTRA, OTHER]


@given(st.integers(0, 4), st.integers(0, 4), st.data())
def test_positions_are_where_the_sources_columns_are(known, added, data):
    known, total = sorted((known, min(4, known + added)))
    source_stamp = data.draw(st.integers(1, known + 1))
    source = [ID, *POOL[:known]]
    source[source_stamp:source_stamp] = [TS, ORIGIN]
    local = [ID, *POOL[:total]]
    place = data.draw(st.integers(1, total + 1))
    local[place:place] = [TS, ORIGIN]
    fit = compare(shape(*source), shape(*local))
    if isinstance(fit, Wider):
        assert fit.extra == total - known
        assert [local[index] for index in fit.positions] == source
        assert list(fit.positions) == sorted(fit.positions)
    elif isinstance(fit, Equal):
        assert local == source
    else:
        kept = [column for column in local if column in source]
        assert kept != source, fit.reason


@pytest.mark.parametrize(
    ("there", "here", "same"),
    [
        ((ID,), (ID,), True),
        ((ID,), (replace(ID, type=F.LONGLONG),), True),
        ((ID,), (replace(ID, name="number"),), False),
        ((ID,), (replace(ID, type=F.YEAR),), False),
        ((ID,), (ID, NAME), False),
        ((NAME,), (replace(NAME, meta=1200),), True),
        ((NAME,), (replace(NAME, collation=46),), False),
        ((NAME,), (replace(NAME, type=F.STRING),), False),
        ((KIND,), (replace(KIND, labels=(b"b", b"a")),), False),
        ((NAME, ID), (ID, NAME), False),
    ],
)
def test_which_keys_name_the_same_rows(
    there: tuple[Column, ...], here: tuple[Column, ...], same: bool
) -> None:
    found = [shape(*columns, EXTRA, key=tuple(range(len(columns)))) for columns in (there, here)]
    assert same_keys(*found) is same
    assert same_keys(*reversed(found)) is same
