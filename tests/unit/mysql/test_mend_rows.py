"""Rows of ``meshnode.mend`` as they are sent."""

from meshnode.core.mend import Lift, Reason
from meshnode.core.shape import STAMP_ORIGIN, STAMP_TS, Column, FieldType
from meshnode.core.stamp import ZERO, Stamp
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.maps import make_table
from meshnode.mysql.mend_rows import put
from meshnode.mysql.records import INSERT_CHARACTERS, INSERT_ROWS

TABLE = make_table(
    build_table_map(
        1, "shop", "t",
        (
            Column("id", FieldType.LONG, nullable=False),
            Column(STAMP_TS, FieldType.LONGLONG, unsigned=True, nullable=False, visible=False),
            Column(STAMP_ORIGIN, FieldType.TINY, unsigned=True, nullable=False, visible=False),
        ),
        (0,),
    )
)  # fmt: skip


def lift(key: int, shown: str) -> Lift:
    wire = key.to_bytes(4, "little")
    return Lift(TABLE, wire, Stamp(7, 1), ZERO, False, Reason.PROMISE, None, shown)


def test_images_that_wait_go_in_portions_by_number_and_by_size():
    """A server refuses a statement that is too large for it, and the stream would stop."""
    half = "x" * (INSERT_CHARACTERS // 2)
    large = list(put([lift(key, half) for key in range(3)], {}))
    assert len(large) == 3 and max(map(len, large)) < INSERT_CHARACTERS + 1_000
    assert all(each.startswith("REPLACE INTO meshnode.mend") for each in large)
    assert len(list(put([lift(key, "{}") for key in range(INSERT_ROWS + 1)], {}))) == 2
    assert len(list(put([lift(key, half) for key in range(3)], {}, images=False))) == 1
