"""What a look after the write may find beside it."""

import pytest
from core_values import PEER, THIRD, at, delete, number_table, transaction, work_of, write

from meshnode.core.look import beside_removal, beside_upsert
from meshnode.core.plan import Ancestry, Plan, make_plan
from meshnode.core.resolve import CERTAIN, Kind, Local
from meshnode.core.stamp import Stamp
from meshnode.errors import Replan

TABLE = number_table()
WRITTEN = Stamp(2000, PEER)


def inserted(state: dict | None = None) -> Plan:
    work = work_of(transaction(write(TABLE, (1, WRITTEN))), own=PEER)
    return make_plan([work], state or {}, Ancestry(10, 1))


def removed() -> Plan:
    tx = transaction(delete(TABLE, (1, Stamp(1000, PEER))), tombs=((1, WRITTEN),))
    return make_plan([work_of(tx, own=PEER)], {}, Ancestry(10, 1))


def test_a_newer_tombstone_beside_an_upsert_is_a_surprise():
    with pytest.raises(Replan):
        beside_upsert(inserted(), at(TABLE, 1), Stamp(2000, THIRD))


def test_an_older_one_that_nobody_had_seen_is_owed_a_record():
    plan = inserted()
    tomb = Stamp(1500, THIRD)
    beside_upsert(plan, at(TABLE, 1), tomb)
    (record,) = plan.records
    assert (record.conflict.kind, record.conflict.certainty) == (Kind.UPDATE_DELETE, CERTAIN)
    assert (record.conflict.winner, record.conflict.loser) == (WRITTEN, tomb)


@pytest.mark.parametrize(
    ("state", "tomb"),
    [
        ({}, Stamp(1500, PEER)),
        ({at(TABLE, 1): Local(None, Stamp(1500, THIRD))}, Stamp(1500, THIRD)),
    ],
    ids=["of the same origin", "that the plan has seen"],
)
def test_any_other_older_one_is_not(state, tomb):
    plan = inserted(state)
    before = len(plan.records)
    beside_upsert(plan, at(TABLE, 1), tomb)
    assert len(plan.records) == before


def test_a_row_below_a_raised_tombstone_is_a_surprise_and_one_above_is_not():
    plan = removed()
    with pytest.raises(Replan):
        beside_removal(plan, at(TABLE, 1), Stamp(1999, THIRD))
    beside_removal(plan, at(TABLE, 1), WRITTEN)
    beside_removal(plan, at(TABLE, 1), Stamp(2000, THIRD))
