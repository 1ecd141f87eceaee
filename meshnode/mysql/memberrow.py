"""What a region says of itself and of its tables, read by its node and by ``doctor``."""

from collections.abc import Sequence

from meshnode.mysql.schema import MESH_SCHEMA, quoted_table
from meshnode.store.values import Joined, Member, Tail

MEMBER = (
    "SELECT mesh, region, incarnation, epoch, HEX(tail_position), tail_seq, tail_gtids,"
    " tail_frontier, tail_epoch, tail_tx_id, tail_commit_us"
    f" FROM {quoted_table(MESH_SCHEMA, 'member')}"
)
"""One row or none, for :func:`member_of`."""

JOINED = (
    f"SELECT schema_name, table_name, since_gtids FROM {quoted_table(MESH_SCHEMA, 'tables')}"
    " WHERE state = 'active' ORDER BY schema_name, table_name"
)
"""The active tables, for :func:`joined_of`."""

SERVER = f"SELECT @@server_uuid, server_uuid FROM {quoted_table(MESH_SCHEMA, 'member')}"
"""The server that answers, and the one that was installed."""

ANOTHER_SERVER_REMEDY = (
    "point the topology at the former server; docs/LIMITS.md has the manual way on"
)


def another_server(own: str, known: str) -> str:
    """What to say of the uuid of a server that is not the one of the region."""
    return f"is {own}, the mesh knows {known}: this is another server, perhaps a replica"


def member_of(row: Sequence[object]) -> Member:
    """The member row."""
    mesh, region, incarnation, epoch, *end = row
    position, seq, gtids, frontier, tail_epoch, tx_id, commit_us = end
    tail = Tail(
        bytes.fromhex(str(position or "")), _whole(seq), str(gtids or ""), _whole(frontier),
        _whole(tail_epoch), str(tx_id), _whole(commit_us),
    )  # fmt: skip
    return Member(str(mesh), _whole(region), _whole(incarnation), _whole(epoch), tail)


def joined_of(rows: Sequence[Sequence[object]]) -> list[Joined]:
    """The active tables, by name."""
    return [Joined(*map(str, row)) for row in rows]


def _whole(value: object) -> int:
    return int(str(value))
