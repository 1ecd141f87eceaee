"""The record of lost writes: each region's own ``meshnode.conflict_log``.

A conflict is logged where it was decided, so the same one may stand in several
regions.  Images are the decoded rows by column name; a delete has none.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from meshnode import accounts
from meshnode.core.stamp import Stamp
from meshnode.errors import Refused
from meshnode.mysql import control
from meshnode.ops.everywhere import Answers, ask
from meshnode.topology import Topology

_COLUMNS = (
    "id, CAST(at AS CHAR), schema_name, table_name, row_key, kind, certainty, policy, reason,"
    " winner_ts, winner_origin, loser_ts, loser_origin, winner_image, loser_image, origin, seq,"
    " tx_id"
)


class Conflict(msgspec.Struct):
    """One record; ``at`` in UTC, ``origin`` the region whose stream brought it (by id)."""

    region: str
    id: int
    at: str
    table: str
    key: dict[str, Any]
    kind: str
    certainty: str
    policy: str
    reason: str
    winner: Stamp
    loser: Stamp
    winner_image: dict[str, Any] | None
    loser_image: dict[str, Any] | None
    origin: int
    seq: int
    tx_id: str


async def newest(
    topology: Topology,
    *,
    regions: Sequence[str] | None = None,
    table: str | None = None,
    limit: int = 20,
) -> Answers[Conflict]:
    """The newest ``limit`` conflicts of all ``regions`` (None: of the mesh), newest first.

    ``table`` is ``schema.table`` or a table's name alone.
    """
    where, parameters = "TRUE", []
    if table is not None:
        schema, _, name = table.rpartition(".")
        where, parameters = "table_name = %s", [name]
        if schema:
            where, parameters = "table_name = %s AND schema_name = %s", [name, schema]
    where += f" ORDER BY id DESC LIMIT {int(limit)}"
    answers = await ask(
        [region.name for region in topology.regions if regions is None or region.name in regions],
        lambda region: _read(topology, region, where, parameters),
    )
    answers.found.sort(key=lambda conflict: (conflict.at, conflict.id), reverse=True)
    del answers.found[limit:]
    return answers


async def one(topology: Topology, region: str, number: int) -> Conflict:
    """The conflict with this id in this region's log; Refused if there is none."""
    found = await _read(topology, region, "id = %s", [number])
    if not found:
        raise Refused(
            f"region {region} has no conflict {number}",
            f"see `meshnode conflicts list --region {region}` (old ones are deleted after"
            f" {topology.limits.keep_closed_days} days)",
        )
    return found[0]


async def _read(
    topology: Topology, region: str, where: str, parameters: Sequence[object]
) -> list[Conflict]:
    login = accounts.secrets(topology, region, "admin")
    async with await control.connect(topology.region(region), login) as connection:
        rows = await connection.rows(
            f"SELECT {_COLUMNS} FROM meshnode.conflict_log WHERE {where}", parameters
        )
    return [_conflict(region, row) for row in rows]


def _conflict(region: str, row: tuple) -> Conflict:
    number, at, schema, table, key, kind, certainty, policy, reason = row[:9]
    winner, loser, winner_image, loser_image = row[9:11], row[11:13], row[13], row[14]
    return Conflict(
        region=region,
        id=int(number),
        at=at,
        table=f"{schema}.{table}",
        key=orjson.loads(key),
        kind=kind,
        certainty=certainty,
        policy=policy,
        reason=reason,
        winner=Stamp(*winner),
        loser=Stamp(*loser),
        winner_image=_image(winner_image),
        loser_image=_image(loser_image),
        origin=row[15],
        seq=int(row[16]),
        tx_id=row[17],
    )


def _image(text: str | None) -> dict[str, Any] | None:
    return None if text is None else orjson.loads(text)
