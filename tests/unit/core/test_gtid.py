"""GtidSet against plain Python sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core.gtid import GtidSet

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "4e11fa47-71ca-11e1-9e33-c80aa9429562"

SOURCES = st.sampled_from([A, B, f"{A}:tag", f"{A}:other_1", f"{B}:tag"])
GTIDS = st.sets(st.tuples(SOURCES, st.integers(1, 25)), max_size=60)


def made(model: set[tuple[str, int]]) -> GtidSet:
    result = GtidSet()
    for gtid in model:
        result.add([gtid])
    return result


def members(gtids: GtidSet) -> set[tuple[str, int]]:
    return {
        (source, number)
        for source, first, last in gtids.intervals()
        for number in range(first, last + 1)
    }


@given(st.lists(st.tuples(SOURCES, st.integers(1, 25)), max_size=60))
def test_adding_many_in_any_order(gtids):
    result = GtidSet()
    result.add(gtids)
    assert members(result) == set(gtids)
    assert result == made(set(gtids))


@given(GTIDS)
def test_add_and_contains(model):
    gtids = made(model)
    assert members(gtids) == model
    assert len(gtids) == len(model)
    assert bool(gtids) == bool(model)
    for source in (A, B, f"{A}:tag"):
        for number in range(1, 27):
            assert (f"{source}:{number}" in gtids) == ((source, number) in model)


@given(GTIDS)
def test_the_text_returns_and_a_tag_tells_the_binary_form(model):
    gtids = made(model)
    assert GtidSet(str(gtids)) == gtids
    assert GtidSet(str(gtids).replace(",", ",\n").upper()) == gtids
    tagged = gtids.encode()[7] == 1
    assert tagged == any(":" in source for source, _ in model)


@given(GTIDS, GTIDS)
def test_subtract_and_subset(first, second):
    one, two = made(first), made(second)
    assert members(one.subtract(two)) == first - second
    assert one.issubset(two) == (first <= second)
    assert (one == two) == (first == second)
    assert members(one) == first, "the operands are untouched"


@given(GTIDS)
def test_intervals_are_merged_and_ordered(model):
    previous = ("", 0)
    for source, first, last in made(model).intervals():
        assert first <= last
        assert source > previous[0] or (source == previous[0] and first > previous[1] + 1)
        previous = (source, last)


@given(GTIDS)
def test_a_copy_is_independent(model):
    gtids = made(model)
    twin = gtids.copy()
    twin.add([(A, 26)])
    assert members(gtids) == model
    assert members(twin) == model | {(A, 26)}


def test_text_of_the_server():
    text = f"{A}:1-264:300:abc_tag:1-4:6,{B}:7"
    gtids = GtidSet(f" {A}:1-264:300:abc_tag:1-4:6,\n{B}:7-7")
    assert str(gtids) == text
    assert f"{A}:abc_tag:6" in gtids
    assert f"{A}:6" in gtids
    assert f"{A}:abc_tag:5" not in gtids


def test_what_is_owned_names_its_threads():
    owned = GtidSet.of_owned(f"{A}:42#13:41#14:40#20:ab:7#9,\n{B}:7#21")
    assert str(owned) == f"{A}:40-42:ab:7,{B}:7"
    assert not GtidSet.of_owned("")


def test_known_binary_forms():
    plain = GtidSet(f"{A}:1-3:7")
    uuid = bytes.fromhex(A.replace("-", ""))
    numbers = b"".join(n.to_bytes(8, "little") for n in (1, 4, 7, 8))
    assert plain.encode() == b"\1" + bytes(7) + uuid + b"\2" + bytes(7) + numbers
    tagged = GtidSet(f"{A}:ab:1")
    assert tagged.encode() == (
        b"\1\1\0\0\0\0\0\1"
        + uuid
        + b"\4ab"
        + b"\1"
        + bytes(7)
        + b"\1"
        + bytes(7)
        + b"\2"
        + bytes(7)
    )


@pytest.mark.parametrize(
    "text", ["x:1", A, f"{A}:0", f"{A}:1-x", f"{A}:1tag:1", f"{A}:9223372036854775808", ":1"]
)
def test_bad_text_is_refused(text):
    with pytest.raises(ValueError):
        GtidSet(text)
