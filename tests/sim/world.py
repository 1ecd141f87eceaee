"""A schedule: what happens to a mesh, drawn from a seed, and how it must end.

Each seed first draws which faults exist at all and how often (rare faults alone
find what a uniform mixture hides), then a few hundred steps.  At the end all
cuts heal, nobody writes, and the mesh must come to rest in the state that the
oracle works out.
"""

import random
from collections import Counter
from dataclasses import dataclass

from .journal import Journal
from .oracle import Wrong, judge
from .region import Region

MILLISECOND = 1_000
SECOND = 1_000_000
ROUNDS_TO_REST = 400


@dataclass
class Weather:
    """The kind of schedule a seed makes; chances are per step."""

    regions: int
    keys: int
    steps: int
    pause: int
    skew: int
    missing_triggers: float
    in_parts: float
    held_open: float
    crash: float
    cut: float
    back: int
    collect: float

    @classmethod
    def draw(cls, rng: random.Random) -> "Weather":
        return cls(
            regions=rng.choice((2, 2, 3, 3, 4)),
            keys=rng.choice((1, 2, 3, 5)),
            steps=rng.choice((100, 200, 350)),
            pause=rng.choice((0, MILLISECOND, 100 * MILLISECOND, 3 * SECOND)),
            skew=rng.choice((0, 0, 10 * MILLISECOND, 5 * SECOND, 300 * SECOND)),
            missing_triggers=rng.choice((0, 0, 0.1, 0.5)),
            in_parts=rng.choice((0, 0.2, 0.6)),
            held_open=rng.choice((0, 0.2, 0.6)),
            crash=rng.choice((0, 0.02, 0.1)),
            cut=rng.choice((0, 0.03, 0.1)),
            back=rng.choice((0, 1, 5)),
            collect=rng.choice((0, 0.05, 0.3)),
        )


class World:
    """Regions, the links between them, and the time."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.weather = Weather.draw(self.rng)
        self.journal = Journal()
        numbers = range(1, self.weather.regions + 1)
        self.regions = {each: Region(each, self.rng, self.journal) for each in numbers}
        self.cuts: set[tuple[int, int]] = set()
        self.now = 1_800_000_000 * SECOND

    def run(self) -> Counter[str]:
        """The whole schedule; what happened, counted.  Raises :class:`Wrong`."""
        for _ in range(self.weather.steps):
            # Never the same microsecond: the triggers' clock does not stand still either.
            self.now += 1 + self.rng.randint(0, self.weather.pause)
            self._step(self.rng.choice(list(self.regions.values())))
        self._rest()
        self._judge()
        return Counter(
            {
                name: sum(region.counts[name] for region in self.regions.values())
                for region in self.regions.values()
                for name in region.counts
            }
        )

    def _step(self, region: Region) -> None:
        rng, weather = self.rng, self.weather
        region.now = self.now
        if rng.random() < 0.03:
            region.skew = rng.randint(-weather.skew, weather.skew)
        if rng.random() < weather.crash:
            region.crash()
        if rng.random() < weather.cut:
            self.cuts ^= {(region.number, rng.choice(list(self.regions)))}
        if rng.random() < weather.collect:
            region.collect(list(self.regions))
        what = rng.choices(
            ("client", "commit", "tail", "apply", "beat", "resolve"), (6, 4, 12, 12, 2, 1)
        )[0]
        if what == "client":
            self._client(region)
        elif what == "commit" and region.clients:
            client = rng.choice(region.clients)
            region.commit(client) if rng.random() < 0.9 else region.rollback(client)
        elif what == "tail":
            region.tail()
        elif what == "apply":
            peer = rng.choice([each for each in self.regions.values() if each is not region])
            if (region.number, peer.number) not in self.cuts:
                region.apply(peer, rng.randint(1, 6), rng.randint(0, weather.back))
        elif what == "beat":
            region.beat()
        elif what == "resolve":
            region.resolve()

    def _client(self, region: Region) -> None:
        rng, weather = self.rng, self.weather
        actions = [
            (rng.choice(("put", "put", "delete")), rng.randrange(weather.keys))
            for _ in range(rng.choice((1, 1, 1, 2, 4)))
        ]
        before = len(region.clients)
        region.begin(
            actions, rng.random() >= weather.missing_triggers, rng.random() < weather.in_parts
        )
        if len(region.clients) > before and rng.random() >= weather.held_open:
            region.commit(region.clients[-1])

    def _rest(self) -> None:
        """Heal everything and let the mesh run until nothing moves."""
        for region in self.regions.values():
            region.now = self.now
            for client in list(region.clients):
                region.commit(client)
        for _ in range(ROUNDS_TO_REST):
            moved = False
            for region in self.regions.values():
                length = len(region.binlog)
                while region.tail():
                    moved = True
                region.resolve()
                moved |= len(region.binlog) > length
                for peer in self.regions.values():
                    if peer is not region:
                        moved |= region.apply(peer, 1000, 0)
            if not moved:
                break
        else:
            raise Wrong("the mesh does not come to rest")
        held = [(each.notes, each.unburied) for each in self.regions.values()]
        held = [each for each in held if any(each)]
        if held:
            raise Wrong(f"keys are still held back: {held}")

    def _judge(self) -> None:
        topics = {number: region.topic for number, region in self.regions.items()}
        states = {
            number: (
                {key: (tuple(stamp), value) for key, (stamp, value) in region.data.rows.items()},
                {key: tuple(stamp) for key, stamp in region.data.tombs.items()},
            )
            for number, region in self.regions.items()
        }
        judge(topics, states)
        lost = self.journal.unexplained()
        if lost:
            raise Wrong("; ".join(lost))
