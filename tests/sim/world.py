"""A schedule: a mesh, its clients, what goes wrong, and how it must end.

First the safety phase, with faults; then the liveness phase: all heals, nobody writes,
and within a number of events the mesh must come to rest in the state that the oracle
works out.
"""

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

from .bus import Topic
from .clockwork import Clockwork, Steps
from .database import APPLIED, LETTERS, MEND
from .joining import Joining
from .journal import WORDS, Journal, Wrong
from .oracle import judge
from .region import Place, Region
from .weather import SECOND, Fault, Plan, draw

WATCHED = 50
"""One schedule in so many is looked at after every event."""

EVENTS = 60_000
"""A schedule that needs more than this will never end."""


REST = 3_000_000
"""How long hearts and gardeners go on when all has healed."""


class World:
    """One schedule, drawn from ``seed`` unless ``plan`` is given.

    ``orders`` and ``faults`` name those of the plan that happen.
    """

    def __init__(
        self,
        seed: int,
        aim: dict[str, Any] | None = None,
        orders: Iterable[int] | None = None,
        faults: Iterable[int] | None = None,
        lines: bool = False,
        plan: Plan | None = None,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.plan = plan or draw(self.rng, aim)
        # The run does not depend on how much was drawn for the plan.
        self.rng.seed(f"{seed} runs")
        weather = self.weather = self.plan.weather
        self.counts: Counter[str] = Counter()
        self.clockwork = Clockwork(1_800_000_000 * SECOND)
        self.began = self.clockwork.now
        self.journal = Journal()
        self.journal.clock = lambda: self.clockwork.now - self.began
        if lines:
            self.journal.lines = []
        topics = {
            number: Topic(number, weather.as_bytes) for number in range(1, weather.regions + 1)
        }
        place = Place(
            self.clockwork, self.rng, self.journal, self.counts, weather, topics
        )  # fmt: skip
        self.regions = {number: Region(number, place) for number in topics}
        self.keys = [weather.key(number) for number in range(weather.keys)]
        self.joining: Joining | None = None
        if weather.join or weather.later:
            keys = [key for key in self.keys if weather.join or key >= WORDS]
            self.joining = Joining(self.regions.values(), self.rng, keys, weather.later)
        every = range(len(self.plan.orders))
        self.orders = [self.plan.orders[each] for each in (every if orders is None else orders)]
        every = range(len(self.plan.faults))
        self.faults = [self.plan.faults[each] for each in (every if faults is None else faults)]

    def run(self) -> Counter[str]:
        """The whole schedule; what happened, counted.  Raises :class:`Wrong`."""
        if self.joining is not None:
            self.joining.fill()
            span = self.weather.length // (6 if self.weather.later else 40)
            self.clockwork.spawn("init", self.joining.run(self.clockwork, span))
        if not self.weather.join:
            for region in self.regions.values():
                region.start()
        self.clockwork.spawn("clients", self._clients())
        self.clockwork.spawn("faults", self._faults())
        if self.seed % WATCHED == 0:
            self.clockwork.watch = self._watch
        self._until(self.began + self.weather.length)
        self._rest()
        self._judge()
        self.counts["events"] += self.clockwork.events
        self.counts["transactions"] += len(self.journal.writes)
        return self.counts

    def _watch(self) -> None:
        """What must hold after every event, not only at the commits that touch a key."""
        for number, region in self.regions.items():
            database = region.database
            for key in self.keys:
                self.journal.check(database, key)
            for peer in region.peers:
                progress = database.plain(None, APPLIED + peer)
                done = self.journal.applied[number, peer]
                if done and progress.seq < max(done):
                    raise Wrong(
                        f"region {number} shows items of {peer} up to {max(done)}, its position"
                        f" says {progress.seq}", "data ahead of position",
                    )  # fmt: skip

    def _until(self, when: int) -> None:
        if not self.clockwork.run(when, EVENTS):
            raise Wrong("the schedule does not end", "not at rest")

    def _clients(self) -> Steps:
        for at, number, order in self.orders:
            yield max(0, self.began + at - self.clockwork.now)
            region = self.regions.get(number)
            if region is not None:
                region.client(order)

    def _faults(self) -> Steps:
        for fault in self.faults:
            yield max(0, self.began + fault.at - self.clockwork.now)
            self.journal.tell(fault.region, f"fault: {fault.kind} ({fault.peer}, {fault.span} us)")
            self.counts[f"fault: {fault.kind}"] += 1
            getattr(self, f"_{fault.kind}")(self.regions[fault.region], fault)

    # Faults

    def _later(self, delay: int, what) -> None:
        def steps() -> Steps:
            what()
            return
            yield

        self.clockwork.spawn("heal", steps(), delay)

    def _crash(self, region: Region, fault: Fault) -> None:
        if region.node is not None:
            region.crash()
            self._later(fault.span, lambda: self._start(region))

    def _start(self, region: Region) -> None:
        if self.weather.join and not self.joining.done:
            return
        if region.node is None or region.node.stopped:
            region.start()

    def _double(self, region: Region, fault: Fault) -> None:
        region.double()

    def _origin(self, region: Region, fault: Fault) -> None:
        if region.node is not None:
            region.restart(region.node.origin)

    def _applier(self, region: Region, fault: Fault) -> None:
        if region.node is not None:
            region.restart(region.node.appliers[fault.peer].process)

    def _resolver(self, region: Region, fault: Fault) -> None:
        if region.node is not None:
            region.restart(region.node.resolver.process)

    def _cut(self, region: Region, fault: Fault) -> None:
        region.links[fault.peer].cut = True
        if fault.span % 2:
            self.regions[fault.peer].links[fault.region].cut = True
        self._later(fault.span, lambda: self._heal_link(region, fault.peer))

    def _heal_link(self, region: Region, peer: int) -> None:
        for one, other in ((region, peer), (self.regions[peer], region.number)):
            one.links[other].cut = False
            one.notice(other)

    def _silence(self, region: Region, fault: Fault) -> None:
        region.silenced = True
        self._later(fault.span, region.speak)

    def _twin(self, region: Region, fault: Fault) -> None:
        """A second process, whether the first one has taken over or not."""
        region.double(early=True)

    def _freeze(self, region: Region, fault: Fault) -> None:
        """The process stands still for a while, and every other time another one starts."""
        node = region.node
        if node is None or node.stopped:
            return
        node.freeze()
        if fault.span % 2:
            region.double(early=True)
        self._later(fault.span, node.thaw)

    def _altered(self, region: Region, fault: Fault) -> None:
        region.altered = True
        self._later(fault.span, lambda: self._cure(region))

    def _poison(self, region: Region, fault: Fault) -> None:
        region.poison = 2 + fault.span % 3
        self._later(fault.span, lambda: self._cure(region))

    def _cure(self, region: Region) -> None:
        """The constraint is gone, and the operator asks for a replay of what was parked."""
        region.poison = 0
        region.altered = False
        database = region.database
        for record in [each for each in database.records if each >= LETTERS]:
            tx = database.begin("operator")
            letter = database.plain(None, record)
            if letter is not None and letter.state == "open" and database.acquire(tx, record):
                database.set(tx, record, letter._replace(state="replay"))
                database.commit(tx)
            else:
                database.rollback(tx)

    def _clock(self, region: Region, fault: Fault) -> None:
        region.database.skew += fault.span

    # The end

    def _rest(self) -> None:
        """Heal everything and let the mesh run until nothing moves."""
        clockwork = self.clockwork
        for region in self.regions.values():
            for peer in region.peers:
                self._heal_link(region, peer)
            region.speak()
            for node in region.nodes():
                node.thaw()
            self._start(region)
            self._cure(region)
            region.resting = True
        self._until(clockwork.now + REST)
        for _ in range(20):
            if self.joining is None or self.joining.done:
                break
            # A client may still hold a row that init wants.
            self._until(clockwork.now + 10 * REST)
        if self.joining is not None and not self.joining.done:
            raise Wrong("init does not come to an end", "not at rest")
        for region in self.regions.values():
            self._start(region)
            self._cure(region)
            region.beating = False
        for _ in range(5):
            if not clockwork.run(clockwork.now + (1 << 50), EVENTS):
                raise Wrong("the mesh does not come to rest", "not at rest")
            # A node that found out late that it was replaced is started again by its operator.
            for region in self.regions.values():
                self._start(region)
            if clockwork.idle:
                break
        for number, region in self.regions.items():
            records = region.database.records
            left = {
                record: value
                for record, value in records.items()
                if record >= MEND and (record < LETTERS or value.state != "closed")
            }
            if left:
                raise Wrong(f"region {number} has something left over: {left}", "not at rest")
            if region.database.open or region.database.owners:
                raise Wrong(f"region {number} has locks: {region.database.owners}", "not at rest")
            for peer in region.peers:
                progress = records[APPLIED + peer]
                if progress.position != len(self.regions[peer].topic):
                    behind = self.regions[peer].topic.records[progress.position :]
                    if any(getattr(each, "items", True) for each in behind):
                        self._lagging(number, peer, progress)

    def _lagging(self, number: int, peer: int, progress) -> None:
        node = self.regions[number].node
        applier = node.appliers[peer] if node else None
        if applier is None or applier.position != len(applier.topic):
            raise Wrong(f"region {number} has not read all of {peer}: {progress}", "not at rest")

    def _judge(self) -> None:
        topics = {number: region.topic.records for number, region in self.regions.items()}
        states = {}
        for number, region in self.regions.items():
            records = region.database.records
            rows = {
                key: (tuple(value[0]), value[1])
                for key, value in records.items()
                if 0 <= key < 1000
            }
            tombs = {~key: tuple(value) for key, value in records.items() if key < 0}
            states[number] = (rows, tombs)
        baseline = self.joining.baseline if self.joining else {}
        for number, region in self.regions.items():
            self.journal.since[number, False] = region.since
            self.journal.since[number, True] = max(region.since, region.words_since)
        judge(topics, states, self.journal, baseline)
        if self.weather.calm and self.counts["lift: promise"]:
            raise Wrong(
                "rows were lifted over a promise that nothing made late", "promise too high"
            )
