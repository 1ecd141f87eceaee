"""A node: the process beside a region's server, with its actors.

It can be ended at any moment.  Its sessions linger on the server then, and what it had
sent may still arrive: a COMMIT, a frame, a claim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshnode.core.mend import Restamped
from meshnode.core.plan import Ancestry

from .applier import Applier
from .clockwork import Process, Steps
from .heart import Gardener, Heart
from .mender import Mender
from .origin import Origin, Tail
from .resolver import Resolver

if TYPE_CHECKING:
    from .region import Region


class Node:
    """One process of ``region``: what its actors know of each other, and their turns."""

    def __init__(self, region: Region) -> None:
        weather = region.weather
        self.region = region
        self.slowness = region.slowness
        self.removals = weather.removals
        self.epoch = self.apply_epoch = 0
        self.unclaimed = 0
        self.epochs: set[int] = set()
        self.raising = False
        self.claim_killed = False
        self.claimed = False
        self.promised = 0
        self.tail = Tail()
        self.restamped = Restamped(weather.removals)
        self.ancestry = Ancestry(weather.bases, region.number)
        self.processes: dict[Process, None] = {}
        self.waiting: list[Process] = []
        self.tailing: Process | None = None
        self.mender: Mender | None = None
        self.publisher: Process | None = None
        self.begun: dict[Process, object] = {}
        self.stopped = self.frozen = False
        self.resolver = Resolver(self)
        self.appliers = {peer: Applier(self, peer) for peer in region.peers}
        self.origin = self.spawn("origin", Origin(self).run())
        for start in (self._heart, self._resolver, *self.appliers, self._gardener):
            self._begin(start)

    def _begin(self, what, delay: int = 0) -> None:
        """An actor's first turn, or its first after an error."""
        if what in self.appliers:
            applier = self.appliers[what]
            applier.asleep = False
            process = applier.process = self.spawn("applier", applier.run(), delay)
        elif what == self._gardener and not self.region.weather.collect:
            return
        else:
            process = what(delay)
        self.begun[process] = what

    def _heart(self, delay: int) -> Process:
        return self.spawn("heart", Heart(self).run(), delay)

    def _resolver(self, delay: int) -> Process:
        self.resolver.asleep = False
        return self.spawn("resolver", self.resolver.run(), delay)

    def _gardener(self, delay: int) -> Process:
        return self.spawn("gardener", Gardener(self).run(), delay)

    def restart(self, process: Process, delay: int) -> None:
        """One actor's session is gone: it ends where it stands and begins again."""
        if self.stopped or process not in self.processes:
            return
        self.region.leave_sessions(self, process)
        self.end(process)
        if process is self.origin:
            self.end(self.publisher)
            self.region.leave_parcels(self)
            self.tailing = None
            self.origin = self.spawn("origin", Origin(self).run(), delay)
        elif process in self.begun:
            self._begin(self.begun.pop(process), delay)

    def killed(self) -> None:
        """A successor has killed every session of this node: its actors connect again."""
        # One that waits for its claim finds out when that has arrived.
        self.claim_killed = self.raising
        mine = list(self.begun) if self.raising else [self.origin, *self.begun]
        for process in mine:
            self.restart(process, 1 + int(self.region.rng.random() * 100_000))

    def spawn(self, name: str, steps: Steps, delay: int = 0) -> Process:
        process = self.region.clockwork.spawn(name, steps, delay)
        process.frozen = self.frozen
        self.processes[process] = None
        return process

    def end(self, process: Process | None) -> None:
        """End one actor where it stands."""
        if process is not None and process in self.processes:
            del self.processes[process]
            if process is not self.region.clockwork.current:
                self.region.clockwork.kill(process)

    def claim(self) -> None:
        """The stream is this node's: its actors may begin."""
        self.claimed = True
        for process in self.waiting:
            self.region.clockwork.wake(process)
        self.waiting.clear()

    def until_claimed(self) -> Steps:
        while not self.claimed:
            self.waiting.append(self.region.clockwork.current)
            yield None

    def freeze(self) -> None:
        """The process gets no time; what it has sent arrives, or not, and is not answered."""
        self.frozen = True
        for process in self.processes:
            process.frozen = True
        self.region.leave_sessions(self, sent=True)

    def thaw(self) -> None:
        """The process goes on where it stood."""
        self.frozen = False
        for process in list(self.processes):
            self.region.clockwork.thaw(process)

    def fenced(self) -> None:
        """Another process has taken over: this one ends."""
        self.region.counts["node fenced"] += 1
        self.end_all()
        if self.region.node and all(each.stopped for each in self.region.nodes()):
            self.region.counts["no node of a region was left"] += 1

    def end_all(self) -> None:
        """All actors end; the sessions linger."""
        self.stopped = True
        for process in list(self.processes):
            self.end(process)
        self.tailing = None
        self.region.leave_sessions(self)
