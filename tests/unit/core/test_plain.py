"""The short way to a transaction's index says what the long way says, or nothing."""

from core_values import OWN, PEER, at, delete, number_table, text_table, transaction, update, write
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core.change import Mended, Partial, Transaction, net_effects
from meshnode.core.mend import Examiner, Removed, to_item
from meshnode.core.plain import plain, plain_item
from meshnode.core.stamp import Stamp
from meshnode.core.wire import PART, TRANSACTION, Beat, Item

T, U, NAMES = number_table(), number_table("u"), text_table()
NUMBER = {T: 0, U: 1, NAMES: 2}


def s(ts: int, origin: int = OWN) -> Stamp:
    return Stamp(ts, origin)


def short(tx: Transaction, promised: int, tombstones: dict, locked: set) -> Item | None:
    index = plain(tx, OWN, NUMBER)
    if index is None or not index.stands(promised, tombstones, locked):
        return None
    return plain_item(tx, index, NUMBER)


KEYS = {T: st.integers(1, 4), U: st.integers(1, 2), NAMES: st.sampled_from(["a", "A", "b"])}
STAMPS = st.builds(Stamp, st.integers(1, 6), st.sampled_from([OWN, OWN, OWN, PEER]))


@st.composite
def ops(draw):
    table = draw(st.sampled_from([T, T, U, NAMES]))
    row = st.tuples(KEYS[table], STAMPS)
    kind = draw(st.sampled_from([write, write, update, update, update, delete]))
    if kind is not update:
        return kind(table, *draw(st.lists(row, min_size=0, max_size=3)))
    pairs = []
    for key, stamp in draw(st.lists(row, min_size=1, max_size=3)):
        other = draw(st.sampled_from([key, key, key, draw(KEYS[table])]))
        pairs.append(((key, stamp), (other, draw(STAMPS))))
    return update(table, *pairs)


@st.composite
def transactions(draw) -> Transaction:
    whole = draw(st.lists(ops(), min_size=1, max_size=3))
    part, last = draw(st.sampled_from([(0, True), (0, True), (0, False), (2, True)]))
    return transaction(*whole, part=part, last=last, shortened=draw(st.booleans()))


@given(
    transactions(),
    st.integers(0, 3),
    st.dictionaries(st.integers(1, 4), STAMPS, max_size=2),
    st.sets(st.integers(1, 4), max_size=1),
)
def test_it_says_what_the_net_effects_say(tx, promised, tombs, held):
    tombstones = {at(T, key): stamp for key, stamp in tombs.items()}
    locked = {at(T, key) for key in held}
    item = short(tx, promised, tombstones, locked)
    if item is None:
        return
    examined = Examiner(OWN, promised).examine(tx, net_effects(tx, {}), tombstones, locked)
    assert not examined.lifts and not examined.late
    assert item == to_item(examined, tombstones, {}, NUMBER, Removed())


def test_what_is_ordinary_takes_the_short_way():
    tx = transaction(
        write(T, (1, s(20)), (2, s(21))), update(T, ((3, s(5, PEER)), (3, s(22)))),
        write(NAMES, ("a", s(23))), part=3, last=False,
    )  # fmt: skip
    item = short(tx, 19, {at(T, 9): s(30)}, {at(U, 1)})

    assert [(entry.ts, entry.base_ts, entry.base_row) for entry in item.entries] == [
        (20, 0, False), (21, 0, False), (22, 5, True), (23, 0, False),
    ]  # fmt: skip
    assert (item.kind, item.part, item.last, item.exact) == (PART, 3, False, True)
    assert short(transaction(write(T, (1, s(20)))), 0, {}, set()).kind == TRANSACTION
    assert not short(transaction(write(T, (1, s(20))), shortened=True), 0, {}, set()).exact


def test_what_is_not_takes_the_long_way():
    row = write(T, (1, s(20)))
    mended = {(T.digest, at(T, 1)[1]): Mended(s(1), s(1), False)}
    for tx in (
        transaction(write(T, (1, s(20, PEER)))),
        transaction(update(T, ((1, s(20)), (1, s(20))))),
        transaction(update(T, ((1, s(10)), (2, s(20))))),
        transaction(delete(T, (1, s(10)))),
        transaction(row, tombs=((2, s(30)),)),
        transaction(row, mended=mended),
        transaction(row, beat=Beat(1, 1, 1, "")),
        transaction(row, partial=[Partial(T, b"", True, None)]),
        transaction(row, update(T, ((1, s(20)), (1, s(21))))),
        transaction(write(NAMES, ("a", s(20)), ("A", s(21)))),
        Transaction("a:1", 0),
    ):
        assert plain(tx, OWN, NUMBER) is None
    assert short(transaction(row), 20, {}, set()) is None
    assert short(transaction(row), 0, {at(T, 1): s(1)}, set()) is None
    assert short(transaction(row), 0, {}, {at(T, 1)}) is None
