"""What must hold when the faults are over: the invariants, by their names.

I1   all regions identical, stamps included; equal to the oracle's answer from the topics
I2   every answered write is there, overwritten by who saw it, or on record
I3   no row beside a newer tombstone (also looked at during the run)
I4   every item applied once: the positions form one chain
I5   without gap, in order
I6   transactions whole in every snapshot
I7   stamps above what they replace and above what was promised
I8   who is not hurt by a fault of the links goes on (:mod:`chaos.unhurt`, during the run); every
     pair is level again once the faults are over
I9   no position ahead of the topic that it is about; that it commits with the data, chain and
     oracle say
I10  nothing applied is published again; silence when writers are silent
I11  what is published is in its server's history
I12  what is set aside or skipped is told
I13  one writer: no older epoch after a newer one, in topics and in MySQL
I14  everything makes progress again; no node ends by itself
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.journal import Journal
from chaos.mesh import Mesh
from chaos.progress import ahead, behind
from chaos.streams import Rules, Stream, read_stream
from chaos.workloads import Workload
from meshnode.buses import bare_bus
from meshnode.errors import MeshError
from meshnode.lab import checker
from meshnode.lab.applied_audit import chained
from meshnode.ops.verify import verify
from meshnode.ops.verify_view import View

QUIET_SECONDS = 2.0


@dataclass
class Judgement:
    """The figures beside the findings."""

    settle_seconds: float = 0.0
    rounds: int = 0
    oracle: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Allowed:
    """What a scenario brings about on purpose.

    ``repeats``: records stand twice in a topic.  ``letters``: rows may have been parked, if
    none is left.  ``gaps``: topics are not whole, so that the oracle cannot say who has won.
    """

    repeats: bool = False
    letters: bool = False
    gaps: bool = False


NOTHING = Allowed()


async def judge(
    mesh: Mesh, loads: Sequence[Workload], journal: Journal, allowed: Allowed
) -> Judgement:
    """Wait until the mesh is at rest, then check everything; findings go to the journal."""
    result = Judgement()
    began = time.monotonic()
    beats = {name: await mesh.beat(name) for name in mesh.names}
    verdict = await mesh.settle()
    result.settle_seconds, result.rounds = round(time.monotonic() - began, 2), verdict.rounds
    journal.note("settled", seconds=result.settle_seconds, complete=verdict.complete)
    if not verdict.complete:
        journal.find("I14", "not level: " + "; ".join(verdict.reasons) + mesh.tails())
        heard = await mesh.heard_beats()
        for reader, origin in behind(beats, heard) if heard else ():
            journal.find("I8", f"{reader} is not level with {origin}: {verdict.seconds:.0f} s")
    await _identical(mesh, journal)
    if not allowed.gaps:
        await _oracle(mesh, journal, result)
    await _streams(mesh, journal, result, allowed)
    for text in unexcused(journal.suspicions, result.streams):
        journal.find(*text)
    for region in mesh.names:
        await _applied(mesh, region, journal, allowed)
    for load in loads:
        try:
            await load.judge(mesh.sql)
        except (MeshError, TimeoutError) as error:
            journal.find("I14", f"{load.name} cannot be judged: {error!r}")
    return result


def unexcused(
    suspicions: Iterable[tuple[str, str, str]], streams: Mapping[str, Mapping[str, int]]
) -> list[tuple[str, str]]:
    """The findings among ``suspicions``: (check, text).

    A row that was restamped is published apart from the rest of its transaction, so a reader may
    see that transaction in part.  Where a region restamped nothing, nothing may be seen in part.
    """
    return [
        (check, text)
        for check, text, origin in suspicions
        if not streams.get(origin, {}).get("lifts")
    ]


async def _identical(mesh: Mesh, journal: Journal) -> None:
    topology = mesh.topology
    try:
        verdict = await verify(topology)
    except MeshError as error:
        journal.find("I1", f"verify fails: {error}")
        return
    if not verdict.settled:
        journal.find("I1", "\n".join(View(topology).lines(verdict)))


async def _oracle(mesh: Mesh, journal: Journal, result: Judgement) -> None:
    try:
        report = await checker.check(mesh.cluster)
    except MeshError as error:
        journal.find("I1", f"the oracle cannot read: {error}")
        return
    result.oracle = report.as_dict()
    for finding in report.findings:
        check = "I2" if "conflict_log" in finding else "I3" if "tombstone" in finding else "I1"
        journal.find(check, f"oracle: {finding}")


async def _streams(mesh: Mesh, journal: Journal, result: Judgement, allowed: Allowed) -> None:
    topology = mesh.topology
    bus = bare_bus(topology)
    positions = {region: await _positions(mesh, region) for region in mesh.names}
    ends: dict[str, int] = {}
    try:
        for region in mesh.names:
            rules = Rules(region, journal, allowed.repeats)
            stream = await read_stream(bus, region, rules)
            ends[region] = stream.last_seq
            await _history(mesh, stream, journal)
            result.streams[region] = {
                "records": stream.records, "claims": stream.claims, "void": stream.void,
                "repeated": stream.repeated, "transactions": len(stream.transactions),
                "upserts": stream.upserts, "deletes": stream.deletes,
                "heartbeats": stream.heartbeats, "lifts": stream.lifts,
            }  # fmt: skip
        for region, (tail, applied) in positions.items():
            for text in ahead(region, tail, applied, ends):
                journal.find("I9", text)
        await _silent(mesh, bus, journal, result)
    except (MeshError, TimeoutError) as error:
        journal.find("I5", f"a topic cannot be read: {error!r}")
    finally:
        await bus.close()


async def _positions(mesh: Mesh, region: str) -> tuple[int, dict[str, int]]:
    """The items that a region has noted: the newest published one, and those applied by origin."""
    async with await mesh.sql(region) as control:
        tail = await control.value("SELECT tail_seq FROM meshnode.member")
        rows = await control.rows("SELECT origin, seq FROM meshnode.applied")
    return int(tail or 0), {mesh.names[origin - 1]: seq for origin, seq in rows}


async def _silent(mesh: Mesh, bus: Any, journal: Journal, result: Judgement) -> None:
    """Nobody writes, so nothing but heartbeats may be published."""
    # The length of the silence, not a wait for anything.
    await asyncio.sleep(QUIET_SECONDS)
    for region in mesh.names:
        stream = await read_stream(bus, region, Rules(region, journal, True))
        before = result.streams[region]["transactions"]
        if len(stream.transactions) != before:
            found = stream.transactions[before:][:3]
            journal.find("I10", f"{region} publishes while nobody writes: {found}")


async def _history(mesh: Mesh, stream: Stream, journal: Journal) -> None:
    """Every published transaction is in the history of its own server."""
    async with await mesh.sql(stream.region) as control:
        executed = await control.value("SELECT @@GLOBAL.gtid_executed")
        names = stream.transactions
        for start in range(0, len(names), 2000):
            part = ",".join(names[start : start + 2000])
            lost = await control.value("SELECT GTID_SUBTRACT(%s, %s)", (part, executed))
            if lost:
                journal.find("I11", f"{stream.region} published what it has not: {lost[:200]}")


async def _applied(mesh: Mesh, region: str, journal: Journal, allowed: Allowed) -> None:
    async with await mesh.sql(region) as control:
        try:
            await chained(control, region)
        except AssertionError as error:
            check = "I13" if "epoch" in str(error) else "I4"
            journal.find(check, str(error))
        wanted = "state IN ('open', 'replay')" if allowed.letters else "TRUE"
        parked = await control.rows(
            f"SELECT state, table_name, cause FROM meshnode.dead_letter WHERE {wanted} LIMIT 3"
        )
        if parked:
            journal.find("I12", f"{region}: rows set aside: {parked}")
