"""How far a region is in every stream, as ``init`` asks it in one snapshot with its rows."""

from collections.abc import Collection

from meshnode import limits
from meshnode.mysql import bookkeeping
from meshnode.mysql.control import Control
from meshnode.mysql.schema import MESH_SCHEMA, digest, quoted_table
from meshnode.ops.alignment import Progress, Reach

_OWN = f"""
SELECT m.incarnation, m.tail_seq, h.beat,
  TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6)) > h.wall_us + %s,
  m.gc_limit > ({bookkeeping.SINCE}),
  EXISTS (SELECT 1 FROM {quoted_table(MESH_SCHEMA, "dead_letter")}
    WHERE state IN ('open', 'replay') AND schema_name = %s AND table_name = %s)
FROM {quoted_table(MESH_SCHEMA, "member")} m
JOIN {quoted_table(MESH_SCHEMA, "heartbeat")} h ON h.region = m.region"""


async def read(
    connection: Control,
    schema: str,
    table: str,
    members: Collection[int],
    pulse: float = limits.HEARTBEAT_SECONDS,
) -> Progress:
    """How far the region is that keeps ``table`` as one of ``members``.

    Their nodes write a heartbeat every ``pulse`` seconds.
    """
    incarnation, seq, beat, silent, collects, parked = await connection.row(
        _OWN,
        (round(limits.silent_seconds(pulse) * 1e6), digest(schema, table), schema, table),
    )
    among = ", ".join(map(str, members))
    rows = await connection.rows(
        "SELECT origin, incarnation, seq, heard_beat"
        f" FROM {quoted_table(MESH_SCHEMA, 'applied')} WHERE origin IN ({among})"
    )
    return Progress(
        Reach(incarnation, seq, beat),
        {origin: Reach(*reach) for origin, *reach in rows},
        bool(silent),
        bool(collects),
        bool(parked),
    )
