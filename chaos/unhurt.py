"""Who must not notice a fault of the links: clients, and pairs of regions whose link is whole (I8).

A plan that hurts nothing but links is watched with this.  While a fault lasts, each client
must be answered, and each pair (reader, origin) whose own link no fault touches must apply beats
that its origin wrote after the fault began.  When the fault is over, so must the pairs that it
had hurt.  A fault lasts until that has come about, so nothing depends on how fast the machine is.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from chaos.journal import Journal
from chaos.plan import Fault
from chaos.progress import Chase
from chaos.workloads import Workload

LOOK_SECONDS = 0.2
BEATS = 8
"""So many beats of an origin have to arrive: the first ones may have been on their way when the
fault began, and a node notices a cut a moment later."""

Link = tuple[str, str]
"""(from, to)."""

Pair = tuple[str, str]
"""(reader, origin): what ``origin`` publishes comes to ``reader`` over one link."""


class Beats(Protocol):
    """What :class:`chaos.sampler.Sampler` knows: the newest beats, written and applied."""

    beat: Mapping[str, int]
    heard: Mapping[Pair, int]


class Unhurt:
    """Watches the faults of one plan; ``loads`` are the clients' workloads."""

    def __init__(self, beats: Beats, loads: Sequence[Workload], journal: Journal) -> None:
        self._beats = beats
        self._loads = loads
        self._journal = journal
        self._hurt: Counter[Link] = Counter()

    def begin(self, links: Collection[Link]) -> None:
        """A fault is about to hurt these links."""
        self._hurt.update(links)

    async def during(self, fault: Fault) -> None:
        """Return when its time is over and all have gone on meanwhile, or one stands still."""
        own, heard = self._beats.beat, self._beats.heard
        pairs = Chase({pair: own[pair[1]] + BEATS for pair in heard if pair[1] in own}, self._now)
        clients = Chase({name: n + 1 for name, n in self._answered().items()}, self._now)
        end = self._now + fault.duration
        while True:
            pairs.leave((to, origin) for (origin, to), count in self._hurt.items() if count > 0)
            self._look(pairs, lambda: heard)
            self._look(clients, self._answered)
            still = [*pairs.still(), *clients.still()]
            if still or (self._now >= end and not pairs.open and not clients.open):
                break
            await asyncio.sleep(LOOK_SECONDS)
        for reader, origin in pairs.still():
            self._find(f"{fault}: {reader} hears no more of {origin}, whose link is whole")
        if clients.still():
            self._find(f"{fault}: clients that could not write: {clients.still()}")

    async def healed(self, fault: Fault, links: Collection[Link]) -> None:
        """The fault is over: return when its links carry again, or one does not."""
        self._hurt.subtract(links)
        own, heard = self._beats.beat, self._beats.heard
        goals = {(to, origin): own.get(origin, 0) + BEATS for origin, to in links}
        pairs = Chase(goals, self._now)
        while True:
            # Another fault may have them again.
            pairs.leave((to, origin) for (origin, to), count in self._hurt.items() if count > 0)
            self._look(pairs, lambda: heard)
            if not pairs.open or pairs.still():
                break
            await asyncio.sleep(LOOK_SECONDS)
        for reader, origin in pairs.still():
            self._find(f"{fault} is over, and {reader} hears nothing of {origin}")

    @property
    def _now(self) -> float:
        return self._journal.now

    def _look(self, chase: Chase, numbers: Callable[[], Mapping]) -> None:
        chase.look(self._now, numbers())

    def _answered(self) -> dict[str, int]:
        """Acknowledged transactions by client."""
        return {
            f"{load.name} {client.name}": len(client.acknowledged)
            for load in self._loads
            for client in load.clients
        }

    def _find(self, text: str) -> None:
        self._journal.find("I8", text)
