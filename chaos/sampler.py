"""What is measured while a plan runs: the lag of each pair, conflicts, and what must never be.

Lags are counted by heartbeats, not by clocks, because a fault may step those: a pair lags by
the age of the oldest beat of the origin that the reader has not applied, both seen by
this process's own clock.

At every look a region must not hold a row *of another region* beside a newer tombstone (I3).
Its own rows may stand so for a moment, until the tailer has lifted them.
"""

import asyncio
from bisect import bisect_right

from chaos.journal import Journal
from chaos.mesh import CONNECT_SECONDS, SCHEMA, Mesh, drop
from meshnode.errors import MeshError
from meshnode.lab.keyreader import identifier
from meshnode.mysql.control import Control
from meshnode.mysql.schema import tombstone_table

PAUSE_SECONDS = 0.4
"""Between two samples of a region, in a mesh of ``PAUSED_REGIONS``; the more the longer."""

PAUSED_REGIONS = 3
LOOK_EACH = 3
"""Every so many samples the rows are joined with the tombstones."""

_PULSE = (
    "SELECT h.beat, (SELECT COUNT(*) FROM meshnode.conflict_log),"
    " h.body ->> '$.counts.lifts', (SELECT COUNT(*) FROM meshnode.dead_letter"
    " WHERE state IN ('open', 'replay'))"
    " FROM meshnode.heartbeat h JOIN meshnode.member m ON m.region = h.region"
)


class Sampler:
    """Samples all regions until cancelled.

    ``lags`` holds (seconds since the load began, lag in seconds) by pair (reader, origin);
    ``counts`` (seconds, conflicts, lifts, parked) by region.  ``beat`` is the newest beat of each
    region, ``heard`` the newest that a pair's reader has applied of its origin.
    """

    def __init__(self, mesh: Mesh, journal: Journal, tables: list[str]) -> None:
        self._mesh = mesh
        self._journal = journal
        self._tables = tables
        self._seen: dict[str, tuple[list[int], list[float]]] = {
            name: ([], []) for name in mesh.names
        }
        self.beat: dict[str, int] = {}
        self.heard: dict[tuple[str, str], int] = {}
        self.lags: dict[tuple[str, str], list[tuple[float, float]]] = {}
        self.counts: dict[str, list[tuple[float, int, int, int]]] = {n: [] for n in mesh.names}
        self.looks = 0
        # What is sampled costs the processors that the mesh needs.
        self._pause = PAUSE_SECONDS * max(1.0, len(mesh.names) / PAUSED_REGIONS)

    async def run(self) -> None:
        """Sample until cancelled, through every loss of a server."""
        async with asyncio.TaskGroup() as group:
            for name in self._mesh.names:
                group.create_task(self._region(name))

    async def _region(self, region: str) -> None:
        control: Control | None = None
        number = 0
        while True:
            try:
                if control is None:
                    control = await self._mesh.sql(region)
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._sample(region, control)
                    number += 1
                    if number % LOOK_EACH == 0:
                        await self._beside(region, control)
            except (MeshError, OSError, TimeoutError):
                await drop(control)
                control = None
            await asyncio.sleep(self._pause)

    async def _sample(self, region: str, control: Control) -> None:
        row = await control.row(_PULSE)
        heard = await control.rows("SELECT origin, heard_beat FROM meshnode.applied")
        now = self._journal.now
        if row is None:
            return
        beat, conflicts, lifts, parked = row
        beats, times = self._seen[region]
        if beats and beat < beats[-1]:
            # The mesh was begun anew.
            beats.clear()
            times.clear()
        if not beats or beat > beats[-1]:
            beats.append(beat)
            times.append(now)
        self.beat[region] = beat
        self.counts[region].append((now, conflicts, int(lifts or 0), parked))
        for origin, number in heard:
            name = self._mesh.names[origin - 1]
            self.heard[region, name] = number
            beats, times = self._seen[name]
            place = bisect_right(beats, number)
            lag = now - times[place] if place < len(beats) else 0.0
            self.lags.setdefault((region, name), []).append((now, lag))

    async def _beside(self, region: str, control: Control) -> None:
        own = self._mesh.id(region)
        if region in self._mesh.unseen:
            return
        for table in self._tables:
            keys = [
                identifier(name)
                for (name,) in await control.rows(
                    "SELECT COLUMN_NAME FROM information_schema.STATISTICS"
                    " WHERE INDEX_NAME = 'PRIMARY' AND TABLE_SCHEMA = %s AND TABLE_NAME = %s",
                    (SCHEMA, table),
                )
            ]
            same = " AND ".join(f"r.{key} = t.{key}" for key in keys)
            rows = await control.rows(
                f"SELECT {', '.join(f'r.{key}' for key in keys)}, r._mesh_ts, r._mesh_origin,"
                f" t._mesh_ts, t._mesh_origin FROM {SCHEMA}.{identifier(table)} r"
                f" JOIN {tombstone_table(SCHEMA, table)} t ON {same}"
                " WHERE (t._mesh_ts, t._mesh_origin) > (r._mesh_ts, r._mesh_origin)"
                f" AND r._mesh_origin NOT IN (0, {own}) LIMIT 3"
            )
            if rows:
                self._journal.find("I3", f"{region}: {table}: beside a newer tombstone: {rows}")
        self.looks += 1

    def percentile(self, share: float) -> float | None:
        """The lag in seconds that this share (0..1) of all samples does not exceed."""
        ordered = sorted(lag for series in self.lags.values() for _, lag in series)
        if not ordered:
            return None
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)
