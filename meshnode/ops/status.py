"""One look at the whole mesh: every region, every pair of regions, every actor.

Each region is asked for itself, through its own MySQL: its node's heartbeat (with the
body that lists counters and actors), the ``applied`` rows, open letters and rows that
wait for mending.  All regions are asked at once, and a region that cannot be asked
is a finding, never an error: the others are still shown.

The lag of a pair (origin -> region) is the age of the newest heartbeat of the origin that the
region has applied, by the region's own clock or by the origin's, whichever is greater: the
origin dated the heartbeat, so by its clock no skew makes a stream that stands look fresh.
Heartbeats take their place in binlog order, so everything that the origin committed before that
heartbeat is applied too.  They come every second: a healthy pair shows between 0 and 2 seconds,
and more where the region's clock is ahead.  What an origin's clock hides that was set back is
seen by counting: heartbeats are numbered.

What the facts mean (converged or not, and why) is decided in
:mod:`meshnode.ops.verdict`, which needs no server.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from meshnode import accounts
from meshnode.errors import MeshError, Refused, Retry
from meshnode.mysql import bookkeeping, catalog, control
from meshnode.mysql.control import Control
from meshnode.ops.verdict import (
    ActorStatus,
    Letters,
    PairStatus,
    Paused,
    RegionStatus,
    Status,
    judge,
)
from meshnode.topology import Region, Topology

ANSWER_SECONDS = 5.0
"""A server that has not answered within this (after the connection is up) is unreachable."""

RATE_SECONDS = 1.1
"""Two looks this far apart see two different heartbeats of a healthy node."""

NOT_INSTALLED = frozenset({1049, 1146})
"""MySQL's errors for a schema or a table that is not there."""

_HEARTBEAT = (
    "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6)), h.beat, h.wall_us, h.frontier,"
    " h.body, m.mesh, m.region, m.epoch, m.tail_seq, m.gc_limit"
    " FROM meshnode.member m LEFT JOIN meshnode.heartbeat h ON h.region = m.region"
)
_APPLIED = "SELECT origin, seq, frontier, heard_us, heard_beat, commit_us FROM meshnode.applied"
_LETTERS = (
    "SELECT state, COUNT(*) FROM meshnode.dead_letter"
    " WHERE state IN ('open', 'replay', 'skipped') GROUP BY state"
)
_MEND = "SELECT COUNT(*) FROM meshnode.mend"


class _Seen(msgspec.Struct):
    """What one region said: itself, and its side of each pair by origin id."""

    region: RegionStatus
    applied: dict[int, PairStatus]


class Lookout:
    """Looks at a mesh again and again over the same connections.

    Use as ``async with Lookout(topology) as lookout``.  Rates come from the difference
    to the last look at which the node's heartbeat had moved on.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._connections: dict[str, Control] = {}
        self._before: dict[str, RegionStatus] = {}

    async def __aenter__(self) -> "Lookout":
        return self

    async def __aexit__(self, *_: object) -> None:
        connections, self._connections = list(self._connections.values()), {}
        await asyncio.gather(*(connection.close() for connection in connections))

    async def look(self) -> Status:
        """The mesh now; never raises for a region out of reach."""
        topology = self._topology
        seen = await asyncio.gather(*(self._region(region) for region in topology.regions))
        by_id = {each.region.id: each.region for each in seen}
        pairs = []
        for each in seen:
            for origin in topology.peers(each.region.name):
                pair = each.applied.get(origin.id) or PairStatus(origin.name, each.region.name)
                pairs.append(with_distance(pair, by_id[origin.id]))
        for each in seen:
            self._rate(each.region)
        return judge(topology, [each.region for each in seen], pairs)

    async def _region(self, region: Region) -> _Seen:
        shown = RegionStatus(region.name, region.id, str(region.mysql))
        try:
            async with asyncio.timeout(control.CONNECT_SECONDS + ANSWER_SECONDS):
                return await self._ask(region, shown)
        except TimeoutError:
            shown.error = f"the MySQL of region {region.name} ({region.mysql}) does not answer"
            shown.remedy = "check that the server runs and is not overloaded"
        except MeshError as error:
            shown.error, shown.remedy = error.what, error.remedy
        await self._drop(region.name)
        return _Seen(shown, {})

    async def _ask(self, region: Region, shown: RegionStatus) -> _Seen:
        connection = self._connections.get(region.name)
        try:
            if connection is not None:
                return await read(connection, self._topology, region, shown)
        except Retry:  # the server was restarted since the last look
            await self._drop(region.name)
        login = accounts.secrets(self._topology, region.name, "admin")
        connection = await control.connect(region, login)
        self._connections[region.name] = connection
        return await read(connection, self._topology, region, shown)

    async def _drop(self, name: str) -> None:
        connection = self._connections.pop(name, None)
        if connection is not None:
            await connection.close()

    def _rate(self, region: RegionStatus) -> None:
        before = self._before.get(region.name)
        if region.wall_us and (before is None or region.wall_us > before.wall_us):
            if before is not None and before.wall_us:
                region.rates = rates(before, region)
            self._before[region.name] = region
        elif before is not None and region.wall_us == before.wall_us:
            region.rates = before.rates


async def look(topology: Topology) -> Status:
    """One look; rates are empty, because they need two (:class:`Lookout`)."""
    async with Lookout(topology) as lookout:
        return await lookout.look()


async def look_twice(topology: Topology) -> Status:
    """Two looks ``RATE_SECONDS`` apart, and the second with rates."""
    async with Lookout(topology) as lookout:
        await lookout.look()
        await asyncio.sleep(RATE_SECONDS)
        return await lookout.look()


def as_json(status: Status) -> dict[str, Any]:
    """The status as ``status --json`` prints it."""
    told: dict[str, Any] = msgspec.to_builtins(status)
    for shown, region in zip(told["regions"], status.regions, strict=True):
        shown["beat_age"] = region.beat_age
    return told


def as_line(status: Status) -> str:
    """The same on one line."""
    return orjson.dumps(as_json(status)).decode()


async def read(
    connection: Control, topology: Topology, region: Region, shown: RegionStatus
) -> _Seen:
    """Fill ``shown`` from the region's own server."""
    try:
        heartbeat = await connection.row(_HEARTBEAT)
    except Refused as error:
        if control.code_of(error) not in NOT_INSTALLED:
            raise
        heartbeat = None
    if heartbeat is None:
        shown.error = f"schema meshnode is missing or empty in {region.mysql}"
        shown.remedy = (
            "run `meshnode init --all`; into a mesh that has run already, with `--seed-from` a"
            " region that has all rows"
        )
        return _Seen(shown, {})
    now, beat, wall, frontier, body, mesh, member, epoch, tail_seq, gc_limit = heartbeat
    if (mesh, member) != (topology.mesh, region.id):
        shown.error = (
            f"the server at {region.mysql} is region {member} of mesh {mesh!r},"
            f" not region {region.id} ({region.name}) of mesh {topology.mesh!r}"
        )
        shown.remedy = "correct the address in the topology"
        return _Seen(shown, {})
    shown.now_us, shown.wall_us = int(now), int(wall or 0)
    shown.beat, shown.frontier_us, shown.epoch = int(beat or 0), int(frontier or 0), int(epoch)
    shown.published_seq, shown.gc_limit = int(tail_seq), int(gc_limit)
    read_body(body, shown)
    names = {peer.id: peer.name for peer in topology.regions}
    paused = await _paused(connection)
    applied = {
        int(origin): PairStatus(
            origin=names[origin],
            region=region.name,
            seq=int(seq),
            lag=(shown.now_us - int(heard)) / 1e6 if heard else None,
            heard_us=int(heard),
            heard_beat=int(number),
            frontier_us=int(reached),
            commit_us=int(commit),
            now_us=shown.now_us,
            paused=paused.get(int(origin)),
        )
        for origin, seq, reached, heard, number, commit in await connection.rows(_APPLIED)
        if origin in names
    }
    shown.letters = Letters(**{s: int(count) for s, count in await connection.rows(_LETTERS)})
    shown.mend = int(await connection.value(_MEND))
    shown.unreplicated, shown.unnamed = await _unlike(connection, topology)
    shown.unsettled = {
        f"{schema}.{table}": int(keys)
        for schema, table, keys in await _if_there(connection, bookkeeping.UNSETTLED)
        if topology.matches(schema, table)
    }
    return _Seen(shown, applied)


async def _if_there(connection: Control, sql: str) -> list[tuple]:
    """Rows of a bookkeeping table; none where an older install does not have it."""
    try:
        return await connection.rows(sql)
    except Refused as error:
        if control.code_of(error) not in NOT_INSTALLED:
            raise
        return []


async def _unlike(connection: Control, topology: Topology) -> tuple[list[str], list[str]]:
    """Tables that the topology names, that are here, and that are not replicated; the reverse."""
    active = {
        (str(schema), str(table))
        for schema, table in await connection.rows(
            "SELECT schema_name, table_name FROM meshnode.tables"
        )
    }
    waiting = [
        ".".join(name)
        for name in await catalog.base_tables(connection)
        if name not in active and topology.matches(*name)
    ]
    return waiting, [".".join(name) for name in sorted(active) if not topology.matches(*name)]


async def _paused(connection: Control) -> dict[int, Paused]:
    """What operators hold in the region."""
    rows = await _if_there(connection, bookkeeping.PAUSED)
    return {int(origin): Paused(int(since) / 1e6, str(reason)) for origin, since, reason in rows}


def read_body(body: str | bytes | None, shown: RegionStatus) -> None:
    """Take what the node wrote into its heartbeat; an unknown or empty body says nothing."""
    told: Any = orjson.loads(body) if body else {}
    if not isinstance(told, Mapping) or told.get("v") != 1:
        return
    shown.node = str(told.get("node", ""))
    shown.digest = str(told.get("digest", ""))
    shown.retention = told.get("retention")
    shown.retention_left = {
        int(origin): float(left) for origin, left in told.get("retention_left", {}).items()
    }
    shown.counts = {name: int(count) for name, count in told.get("counts", {}).items()}
    shown.actors = [
        msgspec.convert(actor, ActorStatus, strict=False) for actor in told.get("actors", [])
    ]


def rates(before: RegionStatus, after: RegionStatus) -> dict[str, float]:
    """Counts per second between two heartbeats; empty where the node was restarted between."""
    seconds = (after.wall_us - before.wall_us) / 1e6
    found = {}
    for name in ("published_transactions", "published_rows", "applied_transactions"):
        found[name] = after.counts.get(name, 0) - before.counts.get(name, 0)
    found["applied_rows"] = after.counts.get("applied_rows", 0) - before.counts.get(
        "applied_rows", 0
    )
    if seconds <= 0 or min(found.values()) < 0:
        return {}
    return {name: round(count / seconds, 1) for name, count in found.items()}


def with_distance(pair: PairStatus, origin: RegionStatus) -> PairStatus:
    """What the region has still to apply, and for how long, as far as the origin's server tells."""
    if origin.error is not None:
        return pair
    if pair.seq is not None:
        pair.behind = max(0, origin.published_seq - pair.seq)
    if pair.lag is not None:
        pair.lag = max(pair.lag, (origin.now_us - pair.heard_us) / 1e6)
        pair.beats = max(0, origin.beat - pair.heard_beat)
    return pair
