"""The kind of schedule a seed makes, and the plan of what will happen in it.

Each seed draws which faults exist at all: rare ones alone find what a uniform mixture
hides.  An *aim* narrows the draw to schedules in which one kind of danger is met often.
Clients and faults are drawn before the schedule begins, so that any of them can be left
out to find the smallest schedule that fails (:mod:`.shrink`).
"""

import random
from typing import Any, NamedTuple

from .client import Action, Order
from .journal import WORDS

MILLISECOND = 1_000
SECOND = 1_000_000


class Cue(NamedTuple):
    """One client of a pattern, ``at`` or up to ``spread`` microseconds later.

    ``here``: in the region of this round, else in the next.
    """

    at: int
    spread: int
    here: bool
    what: str
    triggers: bool = True
    hold: tuple[int, ...] = (1,)
    commits: bool = True


class Weather:
    """The options of one schedule; times in microseconds."""

    def __init__(self, rng: random.Random, aim: dict[str, Any] | None = None) -> None:
        choice = rng.choice
        self.regions = choice((2,) * 8 + (3,) * 12 + (4,) * 3 + (rng.randint(5, 8),))
        self.keys = choice((1, 1, 2, 3, 5))
        self.transactions = choice((10, 15, 20, 25))
        self.length = choice((30 * MILLISECOND, 2 * SECOND, 8 * SECOND, 40 * SECOND, 150 * SECOND))
        length = (aim or {}).get("length", self.length)
        self.latency = choice((MILLISECOND, length // 40, length // 8))
        slow = min(length, 8 * SECOND)
        self.slowness = choice(((0,), (0, slow // 400), (slow // 400,), (0, slow // 60)))
        self.tail_pause = choice(((1,), (1, length // 200), (length // 20, 1)))
        self.tail_most = choice(((1,), (2, 5), (10,)))
        self.apply_most = choice(((1,), (2, 6), (20,)))
        self.straight = choice(((0,), (1, 2), (0, 1)))
        self.wide = choice((0, 0, 0, 0.3))
        self.skew = choice((0, 0, 10 * MILLISECOND, 3 * SECOND, 300 * SECOND))
        self.steps = choice((0, 0, 1, 3))
        self.commit_lag = choice(((0,), (0,), (0, min(5 * MILLISECOND, length // 1000))))
        self.wire = choice((1, 1, slow // 300, slow // 60))
        self.late = choice((length // 100, length // 10))
        self.linger = choice((1, length // 100, length // 20))
        self.beat = length // choice((1, 2, 4))
        self.collect = choice((0, 0, length // 4, length // 16))
        self.rounds = choice((slow // 25, SECOND, slow // 8))
        self.back = choice((0, 0, 2, 6))
        self.bases = choice((8, 40, 1000))
        self.removals = choice((1, 8, 1000))
        self.as_bytes = rng.random() < 0.1
        self.hold = choice((0, 0, length // 100, length // 10, length // 2))
        self.held = choice((0.1, 0.4, 1.0))
        self.size = choice(((1,), (1, 1, 2), (1, 2, 4)))
        self.ties = rng.random() < 0.1
        self.bursts = rng.random() < 0.2
        self.mix = {"put": 4, "delete": choice((0, 1, 2, 4))}
        for what, weight in (
            ("replace", 2), ("move", 2), ("cascade", 2), ("bare", 1), ("forge", 1),
        ):  # fmt: skip
            if rng.random() < 0.25:
                self.mix[what] = weight
        self.rollbacks = choice((0, 0.1))
        self.partial = choice((0, 0, 0, 0.2))
        self.parts = choice((0, 0, 0.2, 0.6))
        self.faults = [kind for kind in FAULTS if rng.random() < 0.25]
        self.fault_count = choice((1, 2, 4, 8))
        if "double" in self.faults and rng.random() < 0.5:
            self.wire = slow // 40
        self.join = rng.random() < 0.08
        self.words = choice((0, 0, 0, 1, 1, 2))
        self.later = rng.random() < 0.2
        self.pattern: tuple[Cue, ...] = ()
        if self.ties:
            # A forged stamp could be just that of another region's row.
            self.mix.pop("forge", None)
        for name, value in (aim or {}).items():
            setattr(self, name, value)
        # The words join a mesh that is at work.
        self.later = bool(self.later and self.words and not self.join)

    def key(self, number: int) -> int:
        """Key ``number`` of the schedule: of ``words``, 0: none, 1: every other, 2: all."""
        return number + WORDS if self.words > number % 2 else number

    @property
    def calm(self) -> bool:
        """Whether nothing can make a stamp late: no promise should ever be in the way then."""
        return (
            not self.skew and not self.steps and not self.join and not self.later
            and not {"bare", "forge", "cascade"} & self.mix.keys()
            and self.hold < 50 * SECOND
        )  # fmt: skip


FAULTS = ("crash", "origin", "applier", "cut", "silence", "poison", "double", "resolver")
"""Kinds of fault; clock steps, late records and lost COMMITs come with the others.

Only aims have ``twin``, ``freeze`` and ``altered``.
"""


class Fault(NamedTuple):
    """What goes wrong when, where, and for how long."""

    at: int
    kind: str
    region: int
    peer: int
    span: int


class Plan(NamedTuple):
    """All that is drawn beforehand."""

    weather: Weather
    orders: list[tuple[int, int, Order]]
    faults: list[Fault]


def frozen(plan: Plan) -> dict[str, Any]:
    """The plan as JSON has it, independent of how it was drawn."""
    orders = [[at, region, list(order)] for at, region, order in plan.orders]
    return {
        "weather": dict(sorted(vars(plan.weather).items())),
        "orders": orders,
        "faults": [list(fault) for fault in plan.faults],
    }


def thawed(data: dict[str, Any]) -> Plan:
    """The plan that :func:`frozen` has written."""
    weather = Weather(random.Random(0), {"words": 0, "later": False, **data["weather"]})
    orders = [
        (at, region, Order(tuple(Action(*each) for each in actions), *rest))
        for at, region, (actions, *rest) in data["orders"]
    ]
    return Plan(weather, orders, [Fault(*each) for each in data["faults"]])


def draw(rng: random.Random, aim: dict[str, Any] | None = None) -> Plan:
    """The plan of a schedule."""
    weather = Weather(rng, aim)
    if weather.pattern:
        orders = _patterned(rng, weather)
    else:
        orders = [_order(rng, weather) for _ in range(weather.transactions)]
    if weather.ties:
        orders = _in_step(orders, weather.length // 10)
    orders.sort(key=lambda each: each[0])
    faults = []
    for _ in range(weather.fault_count if weather.faults else 0):
        region, peer = rng.sample(range(1, weather.regions + 1), 2)
        span = 1 + int(rng.random() * weather.length / 4)
        at = int(rng.random() * weather.length)
        faults.append(Fault(at, rng.choice(weather.faults), region, peer, span))
    for _ in range(weather.steps):
        region = rng.randint(1, weather.regions)
        step = int((rng.random() * 2 - 1) * max(weather.skew, 10 * MILLISECOND))
        faults.append(Fault(int(rng.random() * weather.length), "clock", region, 0, step))
    faults.sort()
    return Plan(weather, orders, faults)


def _patterned(rng: random.Random, weather: Weather) -> list[tuple[int, int, Order]]:
    """The pattern again and again: all clients of one round on one key."""
    orders = []
    span = 2 * max(cue.at + cue.spread for cue in weather.pattern)
    for begin in range(0, weather.length, span):
        region, key = rng.randint(1, weather.regions), weather.key(int(rng.random() * weather.keys))
        for cue in weather.pattern:
            action = Action(cue.what, key, key, 1, cue.triggers)
            at = begin + cue.at + int(rng.random() * cue.spread)
            where = region if cue.here else 1 + region % weather.regions
            order = Order((action,), rng.choice(cue.hold), cue.commits)
            orders.append((at, where, order))
    return orders


def _in_step(orders: list, grid: int) -> list:
    """Clients of several regions begin in the same microsecond; two of one region never do."""
    taken: dict[tuple[int, int], int] = {}
    moved = []
    for at, region, order in orders:
        slot = at // grid
        place = taken[slot, region] = taken.get((slot, region), -1) + 1
        moved.append((slot * grid + 3 * place, region, order))
    return moved


def _order(rng: random.Random, weather: Weather) -> tuple[int, int, Order]:
    at = int(rng.random() * weather.length)
    if weather.bursts:
        at = at // (weather.length // 5) * (weather.length // 5) + at % max(
            1, weather.length // 500
        )
    region = rng.randint(1, weather.regions)
    kinds, weights = zip(*weather.mix.items())
    partial = rng.random() < weather.partial
    actions = []
    for number in range(rng.choice(weather.size)):
        what = rng.choices(kinds, weights)[0]
        key = weather.key(int(rng.random() * weather.keys))
        to = weather.key(int(rng.random() * weather.keys))
        pause = 0 if weather.ties and not number else 1 + int(rng.random() * weather.length / 500)
        # A delete whose image shows no stamp, and that no trigger saw, is dated by its commit:
        # where clocks differ that may be below the row, and nobody can know.
        triggers = what not in ("cascade", "bare") or (partial and what == "cascade")
        what = {"cascade": "delete", "bare": "put"}.get(what, what)
        actions.append(Action(what, key, to, pause, triggers))
    hold = 1
    if rng.random() < weather.held:
        hold += int(rng.random() * weather.hold)
    return at, region, Order(
        tuple(actions), hold, rng.random() >= weather.rollbacks,
        partial, rng.random() < weather.parts,
    )  # fmt: skip
