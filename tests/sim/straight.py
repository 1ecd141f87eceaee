"""The straight way of runs: lock and compare, write, look, in two packets.

As the node's ``mysql/straight.py``: new rows are not asked for before they are written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshnode.core.runs import Segment, touched
from meshnode.core.wire import UPDATE

from .clockwork import Steps
from .database import LOCKING, SHARED, Surprise, Tx
from .table import key_of, rows_of, wire_key

if TYPE_CHECKING:
    from .applying import Applying


def write_straight(applying: Applying, tx: Tx, segments: list[Segment]) -> Steps:
    """Write runs in the open transaction; False where they cannot go straight."""
    tables = touched(segments)
    if tables is None or any(s.table in applying.wide and s.kind == UPDATE for s in segments):
        return False
    database = applying.database
    for table in tables:
        known = sorted(map(key_of, table.known))
        found = database.read_stamps(tx, known, False, LOCKING)
        bases = dict(zip(map(key_of, table.known), table.bases))
        if found != bases:
            raise Surprise("rows that are not at their base")
    if applying.node.slowness:
        yield applying.step()
    for segment in segments:
        rows = rows_of(segment.rows)
        if segment.kind == UPDATE:
            rows = rows[1::2]
        for key, row in rows:
            applying.region.constrain(row)
            yield from applying.take(tx, key)
            if segment.kind == UPDATE:
                database.change(tx, key, key, row)
            else:
                database.write(tx, key, row)
    look_at_tombstones(applying, tx, tables)
    return True


def look_at_tombstones(applying: Applying, tx: Tx, tables: list) -> None:
    """No tombstone may stand beside a written row but one that an updated row has overtaken."""
    for table in tables:
        keys = sorted(map(key_of, table.keys))
        for key, tomb in applying.database.read_stamps(tx, keys, True, SHARED).items():
            if not table.tolerates(wire_key(key), tomb):
                raise Surprise("a tombstone stands beside a row")
