"""How long a committed transaction takes to be applied elsewhere, sampled while the mesh runs.

Each row of ``meshnode.applied`` tells when the newest item applied was committed at its origin and
when it was applied here.  Looked at often, and taken once per item, these are samples
of the lag of every pair, from the servers' own clocks (one clock, on one machine).
"""

import asyncio
from contextlib import AsyncExitStack

from meshnode import accounts
from meshnode.mysql.control import Control, connect
from meshnode.topology import Topology

PAUSE_SECONDS = 0.05

_SAMPLE = (
    "SELECT origin, seq, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', applied_at) - commit_us"
    " FROM meshnode.applied WHERE commit_us > 0"
)


class LagMeter:
    """Samples all pairs until cancelled; ``milliseconds`` holds what was seen."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self.milliseconds: list[float] = []

    async def run(self) -> None:
        """Sample until cancelled."""
        async with AsyncExitStack() as stack:
            async with asyncio.TaskGroup() as group:
                for region in self._topology.regions:
                    login = accounts.secrets(self._topology, region.name, "admin")
                    control = await stack.enter_async_context(await connect(region, login))
                    group.create_task(self._sample(control))

    async def _sample(self, control: Control) -> None:
        seen: dict[int, int] = {}
        first = True
        while True:
            for origin, seq, lag in await control.rows(_SAMPLE):
                if not first and seen.get(origin) != seq:
                    self.milliseconds.append(lag / 1000)
                seen[origin] = seq
            first = False
            await asyncio.sleep(PAUSE_SECONDS)

    def percentile(self, share: float) -> float | None:
        """The lag in milliseconds that ``share`` (0..1) of the samples do not exceed."""
        if not self.milliseconds:
            return None
        ordered = sorted(self.milliseconds)
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
