"""One run of a plan: mesh, load, faults, rest, judgement, and what is left of it on disk.

The folder of a run holds ``plan.json``, ``journal.jsonl``, ``result.json``, and the mesh's own
files with the logs of nodes and servers if something was found.
"""

import asyncio
import contextlib
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from chaos import evidence
from chaos.faults import KINDS
from chaos.faults.links import links_of
from chaos.journal import Journal
from chaos.judge import NOTHING, Allowed, Judgement, judge
from chaos.mesh import Mesh, mesh_of
from chaos.plan import Fault, Plan
from chaos.progress import Chase
from chaos.sampler import Sampler
from chaos.unhurt import Unhurt
from chaos.workloads import WORKLOADS, Workload

CALM_SECONDS = 1.0
"""Load goes on so long after the last fault has ended."""

LOAD_ENDS_SECONDS = 240.0
LINKS = ("cut.", "link.")
LEAST_ANSWERED = 5
"""Transactions of each client; the load goes on until it has them, on however slow a machine."""

LOOK_SECONDS = 0.2

POINTS_SHOWN = 160
"""Values of a series that a report keeps: the picture is not much wider."""


@dataclass
class Result:
    """What a run left: figures, what the picture needs, and the findings.

    ``lags`` holds, by region that reads, (seconds since the load began, greatest lag of any
    stream in seconds); ``counts`` (seconds, conflicts, lifts, parked) by region.  ``points``
    counts the deaths of nodes at each fault point, where the plan armed them.
    """

    plan: Plan
    folder: Path
    seconds: float = 0.0
    faults: list[dict[str, Any]] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    points: dict[str, int] = field(default_factory=dict)
    findings: list[tuple[str, str]] = field(default_factory=list)
    more_findings: int = 0
    loads: dict[str, dict[str, Any]] = field(default_factory=dict)
    judgement: Judgement = field(default_factory=Judgement)
    lags: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    counts: dict[str, list[tuple[float, int, int, int]]] = field(default_factory=dict)
    lag: dict[str, float | None] = field(default_factory=dict)
    note: str = ""

    @property
    def good(self) -> bool:
        return not self.findings

    @property
    def fault_count(self) -> int:
        return sum(self.kinds.values())

    @property
    def again(self) -> str:
        """The command that runs the same plan."""
        return f"python -m chaos run {self.plan.scenario} --plan {self.folder / 'plan.json'}"

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON takes it; it names no folder, so that it may be kept elsewhere."""
        return {
            "scenario": self.plan.scenario, "seed": self.plan.seed, "good": self.good,
            "seconds": round(self.seconds, 1), "regions": self.plan.setting.regions,
            "workloads": self.plan.workloads, "faults": self.fault_count, "kinds": self.kinds,
            "points": self.points,
            "settle_seconds": self.judgement.settle_seconds, "lag_seconds": self.lag,
            "loads": self.loads, "oracle": self.judgement.oracle,
            "streams": self.judgement.streams, "note": self.note,
            "findings": [{"check": check, "text": text} for check, text in self.findings],
            "more_findings": self.more_findings, "happened": self.faults, "lags": self.lags,
            "counts": self.counts,
        }  # fmt: skip


async def run(
    plan: Plan, folder: Path, allowed: Allowed = NOTHING, report: Callable[[str], None] = print
) -> Result:
    """Perform ``plan``; its files go to the new folder ``folder``.

    A run that breaks is a result with a finding, so that those after it are performed, too.
    """
    folder.mkdir(parents=True)  # noqa: ASYNC240
    plan.write(folder / "plan.json")
    journal = Journal(folder / "journal.jsonl")
    began = time.monotonic()
    result = Result(plan, folder)
    try:
        await _run(plan, folder, journal, result, allowed, report)
    except Exception as error:
        _failed(journal, "the run itself", error)
    finally:
        result.seconds = time.monotonic() - began
        result.findings, result.more_findings = journal.findings, journal.more
        journal.close()
        (folder / "result.json").write_bytes(
            orjson.dumps(
                result.as_dict() | {"again": result.again},
                option=orjson.OPT_INDENT_2,
                default=str,
            )
        )
        if result.good:
            shutil.rmtree(folder / "mesh", ignore_errors=True)
    return result


async def _run(
    plan: Plan,
    folder: Path,
    journal: Journal,
    result: Result,
    allowed: Allowed,
    report: Callable[[str], None],
) -> None:
    names = [WORKLOADS[name] for name in plan.workloads]
    tables = [statement for kind in names for statement in kind.tables]
    async with mesh_of(folder / "mesh", plan.setting, tables, journal) as mesh:
        loads = [kind(mesh, plan.seed, plan.clients, plan.pace) for kind in names]
        for load in loads:
            await load.prepare(mesh.sql)
        sampler = Sampler(mesh, journal, _table_names(tables))
        report(f"{plan.scenario} seed {plan.seed}: {plan.seconds:g} s, {len(plan.faults)} faults")
        journal.begin()
        async with _background(sampler.run(), mesh.keep()):
            async with _loaded(loads, mesh, journal):
                if plan.setting.points:
                    mesh.points.arm(plan.setting.points, plan.seed)
                watched = Unhurt(sampler, loads, journal)
                await _perform(plan, mesh, watched, journal, result)
                if plan.setting.points:
                    mesh.points.arm({}, 0)
                await asyncio.sleep(CALM_SECONDS)
                await _worked(loads, journal)
            result.judgement = await judge(mesh, loads, journal, allowed)
            if journal.findings:
                await evidence.keep(mesh, folder, _table_names(tables))
        if plan.setting.points:
            result.points = mesh.points.deaths()
        for point, count in result.points.items():
            if count:
                result.kinds[f"point {point}"] = count
        for proxy in mesh.proxies.values():
            for (_, fate), count in proxy.met.items():
                name = f"commit: {fate}"
                result.kinds[name] = result.kinds.get(name, 0) + count
        result.loads = {load.name: _figures(load) for load in loads}
        _require_work(loads, journal)
        result.lag = {f"p{round(share * 100, 1):g}": sampler.percentile(share)
                      for share in (0.5, 0.99)}  # fmt: skip
        for name in mesh.names:
            read = [s for (reader, _), s in sampler.lags.items() if reader == name]
            result.lags[name] = greatest([each for series in read for each in series])
        result.counts = {name: _thinned(series) for name, series in sampler.counts.items()}


@contextlib.asynccontextmanager
async def _background(*work: Any):
    """Run ``work`` beside the block, and end it with the block."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [each for each in done if not isinstance(each, asyncio.CancelledError)]
    if failed:
        raise RuntimeError(f"a task beside the run failed: {failed[0]!r}") from failed[0]


@contextlib.asynccontextmanager
async def _loaded(loads: Sequence[Workload], mesh: Mesh, journal: Journal):
    """All clients write until the end of the block."""
    tasks = [asyncio.ensure_future(load.run(mesh.sql)) for load in loads]
    try:
        yield
    finally:
        for load in loads:
            load.stopped = True
        _, late = await asyncio.wait(tasks, timeout=LOAD_ENDS_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if late:
            journal.find("I14", f"{len(late)} loads have not ended")
    for task in tasks:
        if not task.cancelled():
            task.result()


async def _perform(
    plan: Plan, mesh: Mesh, unhurt: Unhurt, journal: Journal, result: Result
) -> None:
    """All faults at their times; returns when all have ended and the time is over."""
    # Nothing but links goes wrong: then all others must not notice anything.
    watched = unhurt if all(fault.kind.startswith(LINKS) for fault in plan.faults) else None
    async with asyncio.TaskGroup() as group:
        for fault in plan.faults:
            group.create_task(_fault(fault, mesh, watched, journal, result))
        group.create_task(asyncio.sleep(plan.seconds))


async def _fault(
    fault: Fault, mesh: Mesh, watched: Unhurt | None, journal: Journal, result: Result
) -> None:
    await asyncio.sleep(max(0.0, fault.start - journal.now))
    happened: dict[str, Any] = {
        "kind": fault.kind, "target": fault.target, "options": fault.options, "from": journal.now,
    }  # fmt: skip
    links = links_of(fault, mesh.names) if watched else []
    try:
        if watched:
            watched.begin(links)
        async with KINDS[fault.kind].perform(mesh, fault):
            happened["from"] = round(journal.now, 3)
            journal.note("fault", kind=fault.kind, target=fault.target, options=fault.options)
            result.faults.append(happened)
            result.kinds[fault.kind] = result.kinds.get(fault.kind, 0) + 1
            if watched:
                await watched.during(fault)
            else:
                await asyncio.sleep(fault.duration)
        happened["to"] = round(journal.now, 3)
        journal.note("over", kind=fault.kind, target=fault.target)
        if watched:
            await watched.healed(fault, links)
    except Exception as error:
        _failed(journal, str(fault), error)


def _failed(journal: Journal, what: str, error: Exception) -> None:
    """The journal has where; findings go into reports, which name no folder of a machine."""
    journal.note("failed", what=what, text="".join(traceback.format_exception(error)))
    journal.find("run", f"{what} failed: {error!r}")


async def _worked(loads: Sequence[Workload], journal: Journal) -> None:
    """Let the load go on until all have done something, or some do nothing."""
    goals = {client: LEAST_ANSWERED for load in loads for client in load.clients}
    goals |= {load: 1 for load in loads if load.reads_wanted}
    chase: Chase[Any] = Chase(goals, journal.now)
    while True:
        done = {client: len(client.acknowledged) for load in loads for client in load.clients}
        chase.look(journal.now, done | {load: load.reads for load in loads})
        if not chase.open or chase.still():
            return
        await asyncio.sleep(LOOK_SECONDS)


def _figures(load: Workload) -> dict[str, Any]:
    return {
        "acknowledged": load.acknowledged, "unsure": load.unsure, "reads": load.reads,
        "slowest_seconds": round(max(client.slowest for client in load.clients), 2),
        "clients": {client.name: len(client.acknowledged) for client in load.clients},
    }  # fmt: skip


def _require_work(loads: Sequence[Workload], journal: Journal) -> None:
    """A load that wrote nothing proves nothing."""
    for load in loads:
        idle = [client.name for client in load.clients if len(client.acknowledged) < LEAST_ANSWERED]
        if idle:
            journal.find("load", f"{load.name}: clients that hardly wrote: {idle}")
        if load.reads_wanted and not load.reads:
            journal.find("load", f"{load.name}: nobody could read")


def greatest(
    series: Sequence[tuple[float, float]], most: int = POINTS_SHOWN
) -> list[tuple[float, float]]:
    """The series of (time, value) in ``most`` spans of time at most, each with its greatest."""
    ordered = sorted(series)
    if not ordered:
        return []
    span = (ordered[-1][0] - ordered[0][0]) / most or 1.0
    found: dict[int, tuple[float, float]] = {}
    for at, value in ordered:
        place = min(int((at - ordered[0][0]) / span), most - 1)
        if place not in found or value > found[place][1]:
            found[place] = (round(at, 2), round(value, 2))
    return list(found.values())


def _thinned(series: list, most: int = POINTS_SHOWN) -> list:
    """Counts only grow, so that what is left out lies between its neighbours."""
    step = -(-len(series) // most) or 1
    return [tuple(round(v, 2) for v in each) for each in [*series[:-1:step], *series[-1:]]]


def _table_names(statements: Sequence[str]) -> list[str]:
    """The tables that these CREATE TABLE statements make in the schema of the workloads."""
    return [
        statement.split("chaos.", 1)[1].split(None, 1)[0]
        for statement in statements
        if statement.startswith("CREATE TABLE chaos.")
    ]
