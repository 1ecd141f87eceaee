"""Has every region applied everything?  Answered by rounds of heartbeats.

Theory of operation.  A heartbeat is an ordinary row of its region's binlog, so a
beat that a region wrote after the call stands behind everything it had
committed before it, and a region that has applied that beat has applied all of
that.  A *round* is: one such beat of every region, applied by every other.

One round is not enough where a tailer lifts: the lifted row comes round in the
binlog again, behind the beat.  The lifts that a round caused are counted in the
beats of the next one, and stood in the binlog before those beats.  So the
answer is yes after the first round that counts no more lifts than the round
before it, if nothing was left in ``meshnode.mend`` before that round's beats were written:
a row that is mended later comes behind them.  Nor may a row be set aside that goes in by itself.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from meshnode import accounts
from meshnode.errors import MeshError, Refused
from meshnode.mysql.control import Control, connect
from meshnode.topology import Region, Topology

LOOK_SECONDS = 0.1
"""Pause between two looks at all regions."""

BEATS_REMEMBERED = 5

HEALTHY = frozenset({"running", "finished"})


@dataclass(frozen=True, slots=True)
class Pulse:
    """What one region says of itself: its newest beat, and what it has applied of others.

    ``mends`` and ``aside`` count the rows of this region's clients, and of the others', that wait
    until a client lets go of them.  ``heard`` maps a region id to the number of the newest of
    its beats that is applied here.  Numbers, because a region's clock may be set back.
    """

    beat: int
    mends: int
    aside: int
    body: Mapping[str, Any]
    heard: Mapping[int, int]

    @property
    def lifts(self) -> int:
        return int(self.body.get("counts", {}).get("lifts", 0))

    def troubles(self, *names: str) -> list[str]:
        """Actors that do not run, each with its reason; only those of ``names`` if given."""
        return [
            f"{actor['name']} {actor['state']}"
            + (f": {actor['reason']}" if actor["reason"] else "")
            for actor in self.body.get("actors", [])
            if actor["state"] not in HEALTHY and (not names or actor["name"] in names)
        ]


@dataclass(slots=True)
class Verdict:
    """Whether everything is applied everywhere; if not, ``reasons`` says who waits for whom."""

    complete: bool
    reasons: list[str] = field(default_factory=list)
    rounds: int = 0
    seconds: float = 0.0


async def wait(topology: Topology, timeout: float) -> Verdict:
    """Wait until every region has applied all that any had committed before this call."""
    began = time.monotonic()
    async with _Watch(topology, began + timeout) as watch:
        verdict = Verdict(False)
        former: dict[str, int] | None = None
        before = await watch.everybody()
        while not watch.late:
            reached = await watch.round({name: pulse.beat for name, pulse in before.items()})
            verdict.seconds = time.monotonic() - began
            if reached is None:
                break
            verdict.rounds += 1
            lifts = {name: pulse.lifts for name, pulse in reached.items()}
            waiting = [text for name, pulse in before.items() for text in _held(name, pulse)]
            if former == lifts and before.keys() == lifts.keys() and not waiting:
                verdict.complete = True
                return verdict
            watch.reasons = [
                f"{name} still lifts rows ({count} so far)"
                for name, count in lifts.items()
                if former is not None and former.get(name) != count
            ] + waiting
            former, before = lifts, await watch.everybody()
        verdict.reasons = watch.reasons or [f"no round of heartbeats ended within {timeout:g} s"]
        return verdict


async def beats(topology: Topology) -> dict[str, int]:
    """The newest beat of each region, 0 before the first; raises MeshError if one is away."""
    found = {}
    for region in topology.regions:
        async with await _connect(topology, region) as control:
            found[region.name] = (await read_pulse(control)).beat
    return found


async def first_round(
    topology: Topology,
    before: Mapping[str, int],
    timeout: float,
    hopeless: Callable[[], list[str]] = list,
) -> Verdict:
    """Wait for one round of beats after ``before``; gives up at once when ``hopeless`` says why."""
    began = time.monotonic()
    async with _Watch(topology, began + timeout, hopeless) as watch:
        reached = await watch.round(before)
        return Verdict(
            reached is not None, watch.reasons, int(reached is not None), time.monotonic() - began
        )


class _Watch:
    """Connections to all regions, made again when one breaks, until a deadline."""

    def __init__(
        self, topology: Topology, deadline: float, hopeless: Callable[[], list[str]] = list
    ) -> None:
        self.topology = topology
        self.deadline = deadline
        self.hopeless = hopeless
        self.reasons: list[str] = []
        self._halts: dict[str, tuple[int, list[str]]] = {}
        self._controls: dict[str, Control] = {}

    @property
    def late(self) -> bool:
        return time.monotonic() >= self.deadline

    async def __aenter__(self) -> "_Watch":
        return self

    async def __aexit__(self, *_: object) -> None:
        for control in self._controls.values():
            await control.close()

    async def everybody(self) -> dict[str, Pulse]:
        """All regions now; waits for those that are away, until the deadline."""
        while True:
            pulses, away = await self._look()
            if not away or self.late:
                self.reasons = [*self.reasons, *away]
                return pulses
            await asyncio.sleep(LOOK_SECONDS)

    async def round(self, before: Mapping[str, int]) -> dict[str, Pulse] | None:
        """The first beat of each region after ``before``, when all others have applied it.

        None at the deadline; ``reasons`` then says who waits for whom.
        """
        marks: dict[str, Pulse] = {}
        while True:
            pulses, away = await self._look()
            for name, pulse in pulses.items():
                if name not in marks and pulse.beat > before.get(name, 0):
                    marks[name] = pulse
            self.reasons = [
                *(self.hopeless() or ()),
                *away,
                *self._silent(marks, pulses),
                *self._behind(marks, pulses),
            ]
            if not self.reasons:
                return marks
            if self.late or self.hopeless():
                return None
            await asyncio.sleep(LOOK_SECONDS)

    def _silent(self, marks: Mapping[str, Pulse], pulses: Mapping[str, Pulse]) -> list[str]:
        return [
            f"{name} has written no heartbeat since the call (beat {pulse.beat}); "
            + (_listed(pulse.troubles()) or "is its node running?")
            for name, pulse in pulses.items()
            if name not in marks
        ]

    def _behind(self, marks: Mapping[str, Pulse], pulses: Mapping[str, Pulse]) -> list[str]:
        reasons = []
        for here in self.topology.regions:
            pulse = pulses.get(here.name)
            for origin in self.topology.peers(here.name):
                mark = marks.get(origin.name)
                if pulse is None or mark is None:
                    continue
                heard = pulse.heard.get(origin.id, 0)
                if heard >= mark.beat:
                    continue
                ago = f"the newest heard is {heard}" if heard else "none was ever heard"
                there = pulses.get(origin.name)
                whose = {
                    here.name: pulse.troubles(f"applier {origin.name}"),
                    origin.name: self._publishing(origin.name, there) if there else [],
                }
                if not any(whose.values()):
                    whose = {here.name: pulse.troubles()}
                reasons.append(
                    f"{here.name} waits for {origin.name}'s beat {mark.beat} ({ago})"
                    + "".join(
                        f"; {name}: {_listed(troubles)}"
                        for name, troubles in whose.items()
                        if troubles
                    )
                )
        return reasons

    def _publishing(self, origin: str, pulse: Pulse) -> list[str]:
        """Why ``origin`` publishes nothing.

        A halted actor tries again and again, and runs for a moment each time: what it said
        some beats ago still holds.
        """
        found = pulse.troubles("tailer", "heart")
        if found:
            self._halts[origin] = pulse.beat, found
        beat, former = self._halts.get(origin, (0, []))
        return former if pulse.beat - beat <= BEATS_REMEMBERED else []

    async def _look(self) -> tuple[dict[str, Pulse], list[str]]:
        """All pulses to be had now, and why the others are not."""
        results = await asyncio.gather(
            *(self._read(region) for region in self.topology.regions), return_exceptions=True
        )
        pulses: dict[str, Pulse] = {}
        away = []
        for region, result in zip(self.topology.regions, results, strict=True):
            if isinstance(result, Pulse):
                pulses[region.name] = result
            elif isinstance(result, MeshError):
                away.append(f"{region.name} cannot be asked: {result.what}")
            else:
                raise result
        return pulses, away

    async def _read(self, region: Region) -> Pulse:
        control = self._controls.get(region.name)
        if control is None:
            control = self._controls[region.name] = await _connect(self.topology, region)
        try:
            return await read_pulse(control)
        except MeshError:
            del self._controls[region.name]
            await control.close()
            raise


def _held(name: str, pulse: Pulse) -> list[str]:
    counts = {
        f"{name} has {pulse.mends} rows in meshnode.mend that clients hold locked": pulse.mends,
        f"{name} has set {pulse.aside} rows aside that clients hold locked": pulse.aside,
    }
    return [text for text, count in counts.items() if count]


def _listed(troubles: list[str]) -> str:
    return "; ".join(troubles[:3])


async def _connect(topology: Topology, region: Region) -> Control:
    return await connect(region, accounts.secrets(topology, region.name, "admin"))


async def read_pulse(control: Control) -> Pulse:
    row = await control.row(
        "SELECT h.beat, h.body, (SELECT COUNT(*) FROM meshnode.mend),"
        " (SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'replay')"
        " FROM meshnode.heartbeat h JOIN meshnode.member m ON m.region = h.region"
    )
    if row is None:
        raise Refused(
            f"region {control.server} has no heartbeat row", "run `meshnode init --all` first"
        )
    heard = await control.rows("SELECT origin, heard_beat FROM meshnode.applied")
    beat, body, mends, aside = row
    return Pulse(beat, mends, aside, orjson.loads(body), dict(heard))
