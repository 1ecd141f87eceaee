"""Who wins, as a table and as algebra, and which losers are owed a record."""

from itertools import permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.core.resolve import (
    CERTAIN,
    POSSIBLE,
    Conflict,
    Kind,
    Local,
    Verdict,
    conflict,
    decide,
    raised,
)
from meshnode.core.stamp import ZERO, Stamp
from meshnode.core.wire import REMOVE, UPSERT

A, B, C = Stamp(10, 1), Stamp(10, 2), Stamp(20, 1)
APPLY, DUPLICATE, LOST = Verdict.APPLY, Verdict.DUPLICATE, Verdict.LOST

TABLE = [
    (UPSERT, B, None, None, APPLY),
    (UPSERT, B, A, None, APPLY),
    (UPSERT, B, B, None, DUPLICATE),
    (UPSERT, B, C, None, LOST),
    (UPSERT, B, None, A, APPLY),
    (UPSERT, B, None, B, APPLY),
    (UPSERT, B, None, C, LOST),
    (UPSERT, C, B, A, APPLY),
    (UPSERT, B, B, A, DUPLICATE),
    (UPSERT, B, B, B, DUPLICATE),
    (UPSERT, B, A, B, LOST),
    (REMOVE, B, None, None, APPLY),
    (REMOVE, B, A, None, APPLY),
    (REMOVE, B, B, None, LOST),
    (REMOVE, B, C, None, LOST),
    (REMOVE, B, None, A, APPLY),
    (REMOVE, B, None, B, DUPLICATE),
    (REMOVE, B, None, C, LOST),
    (REMOVE, C, B, A, APPLY),
    (REMOVE, B, A, B, DUPLICATE),
    (REMOVE, B, A, C, LOST),
    (REMOVE, B, ZERO, C, LOST),
    (REMOVE, B, C, A, LOST),
]


@pytest.mark.parametrize(("outcome", "new", "row", "tomb", "verdict"), TABLE)
def test_verdict(outcome, new, row, tomb, verdict):
    assert decide(outcome, new, Local(row, tomb)) is verdict


def test_the_version_of_a_key():
    assert Local(None, None).version == ZERO
    assert Local(A, None).version == A
    assert Local(A, C).version == C
    assert Local(C, A).version == C


def merge(local: Local, op: tuple[int, Stamp]) -> Local:
    outcome, new = op
    tomb = raised(outcome, new, local.tomb)
    if decide(outcome, new, local) is APPLY:
        return Local(new if outcome == UPSERT else None, tomb)
    return Local(local.row, tomb)


def oracle(ops) -> Local:
    """The greatest upsert unless a delete is greater; a tie is the row's."""
    row = max((stamp for outcome, stamp in ops if outcome == UPSERT), default=None)
    tomb = max((stamp for outcome, stamp in ops if outcome == REMOVE), default=None)
    return Local(None if row and tomb and tomb > row else row, tomb)


STAMPS = (Stamp(1, 1), Stamp(1, 2), Stamp(2, 1))
OPS = list(product((UPSERT, REMOVE), STAMPS))


def test_every_order_of_every_four_operations_ends_alike():
    for chosen in product(OPS, repeat=4):
        if list(chosen) != sorted(chosen):
            continue
        for order in permutations(chosen):
            local = Local(None, None)
            for op in order:
                local = merge(local, op)
            assert local == oracle(chosen), order


stamps = st.builds(Stamp, st.integers(1, 6), st.integers(1, 3))
ops = st.tuples(st.sampled_from((UPSERT, REMOVE)), stamps)


@given(st.lists(ops, max_size=8), st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(chosen, random):
    order = chosen + random.sample(chosen, len(chosen) // 2)
    random.shuffle(order)
    local = Local(None, None)
    for op in order:
        after = merge(local, op)
        assert merge(after, op) == after, "idempotent"
        assert after.version >= local.version, "monotone"
        assert after.row is None or after.tomb is None or after.row >= after.tomb
        local = after
    assert local == oracle(chosen)


@given(stamps, st.none() | stamps, st.none() | stamps)
def test_a_tombstone_never_falls(new, row, tomb):
    assert raised(UPSERT, new, tomb) == tomb
    assert raised(REMOVE, new, tomb) == max(new, tomb or ZERO)


# Records. The incoming operation is of region 2, ``base`` is what its writer replaced.

P1, P2, P3 = Stamp(10, 1), Stamp(20, 1), Stamp(30, 1)
NEW = Stamp(25, 2)


def record(outcome, new, base, base_row, local, ancestors=()):
    verdict = decide(outcome, new, local)
    return conflict(outcome, new, base, base_row, local, verdict, ancestors)


def test_nothing_is_owed_where_nothing_stood():
    assert record(UPSERT, NEW, ZERO, False, Local(None, None)) is None
    assert record(REMOVE, NEW, P1, True, Local(None, None)) is None


def test_nothing_is_owed_for_a_duplicate():
    assert record(UPSERT, NEW, P1, True, Local(NEW, None)) is None
    assert record(REMOVE, NEW, P1, True, Local(None, NEW)) is None


def test_nothing_is_owed_where_the_writer_saw_what_it_beat():
    assert record(UPSERT, NEW, P2, True, Local(P2, None)) is None
    assert record(UPSERT, NEW, P2, False, Local(None, P2)) is None
    assert record(REMOVE, NEW, P2, True, Local(P2, P1)) is None


def test_nothing_is_owed_within_one_origin():
    assert record(UPSERT, NEW, P1, True, Local(Stamp(24, 2), None)) is None
    assert record(UPSERT, NEW, P1, True, Local(Stamp(26, 2), None)) is None


KINDS = [
    (UPSERT, True, Local(P2, None), Kind.UPDATE_UPDATE),
    (UPSERT, False, Local(P2, None), Kind.INSERT_INSERT),
    (UPSERT, True, Local(None, P2), Kind.UPDATE_DELETE),
    (UPSERT, False, Local(None, P2), Kind.UPDATE_DELETE),
    (REMOVE, True, Local(P2, None), Kind.DELETE_UPDATE),
    (REMOVE, True, Local(P2, P2), Kind.DELETE_UPDATE),
    (REMOVE, True, Local(None, P2), Kind.DELETE_DELETE),
]


@pytest.mark.parametrize(("outcome", "base_row", "local", "kind"), KINDS)
def test_what_arrives_wins(outcome, base_row, local, kind):
    found = record(outcome, NEW, P1, base_row, local)
    assert found == Conflict(kind, CERTAIN, NEW, P2, True)


@pytest.mark.parametrize(("outcome", "base_row", "local", "kind"), KINDS)
def test_what_arrives_loses(outcome, base_row, local, kind):
    late = Stamp(15, 2)
    found = record(outcome, late, P1, base_row, local, ancestors=(P1,))
    assert found == Conflict(kind, CERTAIN, P2, late, False)


def test_what_stood_below_the_base_may_have_been_seen():
    found = record(UPSERT, NEW, P2, True, Local(P1, None))
    assert found == Conflict(Kind.UPDATE_UPDATE, POSSIBLE, NEW, P1, True)


def test_nothing_is_owed_when_the_loser_is_known_to_precede_the_winner():
    late = Stamp(15, 2)
    assert record(UPSERT, late, P1, True, Local(P3, None), ancestors=(P2, late)) is None


def test_unknown_ancestors_make_a_possible_conflict():
    late = Stamp(15, 2)
    found = record(UPSERT, late, P1, True, Local(P3, None), ancestors=None)
    assert found == Conflict(Kind.UPDATE_UPDATE, POSSIBLE, P3, late, False)


def test_a_loser_below_the_newest_ancestor_is_only_possible():
    late = Stamp(15, 2)
    found = record(UPSERT, late, P1, True, Local(P3, None), ancestors=(P2,))
    assert found is not None
    assert found.certainty == POSSIBLE


def test_a_local_write_precedes_everything_that_arrives_later():
    late = Stamp(15, 2)
    found = record(UPSERT, late, P1, True, Local(P3, None), ancestors=())
    assert found == Conflict(Kind.UPDATE_UPDATE, CERTAIN, P3, late, False)


def test_a_row_written_without_the_mesh_is_owed_a_record_too():
    found = record(UPSERT, NEW, ZERO, False, Local(ZERO, None))
    assert found == Conflict(Kind.INSERT_INSERT, POSSIBLE, NEW, ZERO, True)
    assert record(UPSERT, NEW, ZERO, True, Local(ZERO, None)) is None, "its writer saw it"


def test_a_row_that_waits_to_be_lifted_over_its_tombstone_is_the_loser():
    waiting = Stamp(5, 1)
    for outcome, kind in ((UPSERT, Kind.UPDATE_UPDATE), (REMOVE, Kind.DELETE_UPDATE)):
        found = record(outcome, NEW, Stamp(20, 2), True, Local(waiting, Stamp(20, 2)))
        assert found == Conflict(kind, POSSIBLE, NEW, waiting, True)
