"""The whole story in one command, without a terminal.

A lab comes up; all regions are written at once, with conflicts on purpose; two
regions are cut off from the others while everybody keeps writing; the links heal;
the mesh comes to rest.  Then two judges that share no code look at it:
``verify`` compares all rows of all regions, and the checker reads the topics and
looks for the winner of every key and the record of every lost write.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshnode import accounts
from meshnode.lab import checker, cluster, rounds, workload
from meshnode.lab.brokers import BusKind
from meshnode.lab.cluster import Report, to_stderr
from meshnode.lab.lagmeter import LagMeter
from meshnode.lab.stage import Stage
from meshnode.lab.workload import Counts
from meshnode.mysql.control import connect
from meshnode.topology import Topology

WAIT_SECONDS = 180.0

APPLIED_PER_SECOND = 250.0
"""Transactions that all regions together have to apply in a second while the lag is measured:
two processors bear that without a queue, which would hide the lag of the mesh."""

CUT_FACTOR = 2
"""While links are cut, this much more is written."""

MOST_PER_REGION = 60.0
"""Transactions a second written in one region, however few there are."""


@dataclass
class Summary:
    """What the demo did and found; times in seconds, lags in milliseconds."""

    regions: int = 0
    seconds_up: float = 0.0
    load: Counts = field(default_factory=Counts)
    isolated: list[str] = field(default_factory=list)
    conflicts: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    lag_p50: float | None = None
    lag_p99: float | None = None
    seconds_to_converge: float | None = None
    wait_reasons: list[str] = field(default_factory=list)
    identical: bool = False
    rows_compared: int = 0
    differing: int = 0
    orphans: int = 0
    checked: checker.Report | None = None
    seconds_total: float = 0.0

    @property
    def converged(self) -> bool:
        """Whether everything was applied everywhere and both judges agree that all is well."""
        return (
            self.seconds_to_converge is not None
            and self.identical
            and self.checked is not None
            and self.checked.good
            and not self.counts.get("parked_rows")
        )

    def as_dict(self) -> dict[str, Any]:
        """The summary as ``--json`` prints it."""
        return {
            "converged": self.converged,
            "regions": self.regions,
            "rows_written": self.load.rows,
            "transactions": self.load.transactions,
            "conflicts": {"total": sum(self.conflicts.values()), "by_kind": self.conflicts},
            "lifts": self.counts.get("lifts", 0),
            "late_tombstones": self.counts.get("late_tombstones", 0),
            "parked_rows": self.counts.get("parked_rows", 0),
            "lag_ms": {"p50": self.lag_p50, "p99": self.lag_p99},
            "seconds_to_converge": self.seconds_to_converge,
            "waiting_for": self.wait_reasons,
            "isolated": self.isolated,
            "verify": {
                "identical": self.identical,
                "rows": self.rows_compared,
                "differing": self.differing,
                "orphans": self.orphans,
            },
            "checker": self.checked.as_dict() if self.checked else None,
            "load": self.load.as_dict(),
            "seconds_up": round(self.seconds_up, 1),
            "seconds_total": round(self.seconds_total, 1),
        }

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.conflicts.items()) or "none"
        converged = (
            f"in {self.seconds_to_converge:.1f} s after the last write"
            if self.seconds_to_converge is not None
            else "not in time: " + "; ".join(self.wait_reasons)
        )
        lines = [
            f"{self.regions} regions, {self.load.transactions} transactions, "
            f"{self.load.rows} rows written in all of them at once",
            f"cut off meanwhile: {', '.join(self.isolated) or 'nobody'}",
            f"conflicts: {sum(self.conflicts.values())} records ({kinds})",
            f"lifts: {self.counts.get('lifts', 0)}, parked rows: "
            f"{self.counts.get('parked_rows', 0)}",
            f"lag from commit to apply: p50 {self.lag_p50} ms, p99 {self.lag_p99} ms",
            f"applied everywhere: {converged}",
            f"verify: {'identical' if self.identical else f'{self.differing} rows DIFFER'}, "
            f"{self.rows_compared} rows"
            + (f", {self.orphans} orphans of foreign keys" if self.orphans else ""),
            f"checker: {self.checked}",
            f"converged: {'yes' if self.converged else 'NO'} ({self.seconds_total:.0f} s in all)",
        ]
        return "\n".join(lines)


async def run(
    directory: Path,
    *,
    regions: int,
    seconds: float,
    seed: int = 1,
    mysqld: str | None = None,
    wan: bool = False,
    bus: BusKind = "file",
    report: Report = to_stderr,
) -> Summary:
    """Run the demo in the folder ``directory`` and take the lab down again, whatever happens.

    ``seconds`` of load: the first third with all links, the rest with two regions cut off.
    """
    began = time.monotonic()
    summary = Summary(regions=regions)
    lab = await cluster.up(
        directory, regions, mysqld=mysqld, wan=wan, bus=bus, die_with_parent=True, report=report
    )
    try:
        summary.seconds_up = time.monotonic() - began
        await act(lab, summary, seconds, seed, report)
    finally:
        report("taking the lab down")
        await lab.down(report=report)
    summary.seconds_total = time.monotonic() - began
    return summary


async def act(lab: Stage, summary: Summary, seconds: float, seed: int, report: Report) -> None:
    """Play the story on a mesh that runs, and put what was found into ``summary``.

    ``seconds`` of load, as in :func:`run`.  Links that were cut are healed, unless it raises.
    """
    from meshnode.ops import verify

    topology = lab.topology
    count = len(lab.names)
    rate = min(MOST_PER_REGION, APPLIED_PER_SECOND / (count * (count - 1)))

    async def load(share: float, rate: float, number: int) -> None:
        counts = await workload.run(
            lab, seconds=seconds * share, rate=rate, seed=seed * 1000 + number
        )
        summary.load.add(counts)

    # All regions make the same rows at once: the first conflicts, before any lag is measured.
    await workload.fill(lab)
    await rounds.wait(topology, WAIT_SECONDS)
    report(f"writing in all {count} regions for {seconds / 3:.0f} s")
    meter = LagMeter(topology)
    async with _running(meter.run):
        await load(1 / 3, rate, 1)
    summary.lag_p50, summary.lag_p99 = meter.percentile(0.5), meter.percentile(0.99)

    summary.isolated = isolated = lab.names[-2:] if len(lab.names) > 3 else lab.names[-1:]
    report(f"cutting off {' and '.join(isolated)}, writing on for {2 * seconds / 3:.0f} s")
    lab.isolate(isolated)
    await load(2 / 3, CUT_FACTOR * rate, 2)
    report("healing all links")
    lab.heal()
    verdict = await rounds.wait(topology, WAIT_SECONDS)
    if verdict.complete:
        summary.seconds_to_converge = round(verdict.seconds, 2)
    summary.wait_reasons = verdict.reasons
    report("comparing all rows of all regions, then every winner with the topics")
    found = await verify.verify(topology)
    # Orphans of foreign keys are the application's: regions that have the same ones converged.
    summary.identical = not any(
        table.problem or table.differing or table.unlisted[0] or table.moving
        for table in found.tables
    )
    summary.rows_compared = sum(table.rows for table in found.tables)
    summary.differing = sum(table.differing for table in found.tables)
    summary.orphans = sum(table.orphan_count for table in found.tables)
    summary.checked = await checker.check(lab)
    await _count(topology, summary)


@asynccontextmanager
async def _running(work: Callable[[], Any]) -> AsyncIterator[None]:
    """Keep ``work`` running beside the block; what it raised comes out at the end."""
    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _count(topology: Topology, summary: Summary) -> None:
    """Add up what all regions counted."""
    for region in topology.regions:
        login = accounts.secrets(topology, region.name, "admin")
        async with await connect(region, login) as control:
            for kind, count in await control.rows(
                "SELECT kind, COUNT(*) FROM meshnode.conflict_log GROUP BY kind ORDER BY kind"
            ):
                summary.conflicts[kind] = summary.conflicts.get(kind, 0) + count
            parked = await control.value(
                "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state <> 'closed'"
            )
            pulse = await rounds.read_pulse(control)
            for name, count in {**pulse.body.get("counts", {}), "parked_rows": parked}.items():
                summary.counts[name] = summary.counts.get(name, 0) + int(count)
