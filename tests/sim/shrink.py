"""The smallest schedule that still fails, and its timeline.

What can be left out of a failing schedule is tried by halves, then one by one: clients'
transactions, faults, and whole options of the weather.
"""

import shlex
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .weather import Plan
from .world import World

TRIES = 600

SIMPLER: tuple[tuple[str, Any], ...] = (
    ("regions", 2), ("regions", 3), ("keys", 1), ("keys", 2), ("collect", 0), ("back", 0),
    ("commit_lag", (0,)), ("wire", 1), ("slowness", (0,)), ("tail_pause", (1,)), ("skew", 0),
    ("latency", 1000), ("straight", (0,)), ("wide", 0), ("apply_most", (1,)), ("tail_most", (1,)),
    ("as_bytes", False), ("linger", 1), ("parts", 0), ("partial", 0), ("join", False),
)  # fmt: skip
"""Options that make a schedule simpler, the most telling first."""


class Case(NamedTuple):
    """A schedule with what is left of its plan."""

    seed: int
    aim: dict[str, Any]
    orders: tuple[int, ...]
    faults: tuple[int, ...]

    def world(self, lines: bool = False) -> World:
        return World(self.seed, self.aim, self.orders, self.faults, lines)

    def plan(self) -> Plan:
        """What is left of its plan."""
        plan = self.world().plan
        return Plan(
            plan.weather,
            [plan.orders[each] for each in self.orders],
            [plan.faults[each] for each in self.faults],
        )

    @property
    def command(self) -> str:
        """How to see it again."""
        parts = [f"python -m tests.sim --seed {self.seed}"]
        for name, value in self.aim.items():
            parts.append(f"--set {shlex.quote(f'{name}={value!r}')}")
        parts.append(f"--orders {','.join(map(str, self.orders)) or 'none'}")
        parts.append(f"--faults {','.join(map(str, self.faults)) or 'none'}")
        return " ".join(parts)


def whole(seed: int, aim: dict[str, Any] | None = None) -> Case:
    """The schedule of a seed with all that its plan has."""
    plan = World(seed, aim).plan
    orders, faults = range(len(plan.orders)), range(len(plan.faults))
    return Case(seed, dict(aim or {}), tuple(orders), tuple(faults))


def failure(case: Case) -> str | None:
    """What goes wrong in it."""
    try:
        case.world().run()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def shrink(case: Case, fails: Callable[[Case], bool] | None = None, tries: int = TRIES) -> Case:
    """A smaller case that fails, too; ``fails`` decides what counts as failing."""
    left = tries

    def broken(each: Case) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            return False
        return fails(each) if fails is not None else failure(each) is not None

    while True:
        before = case
        case = _fewer(case, "faults", broken)
        case = _fewer(case, "orders", broken)
        for name, value in SIMPLER:
            if getattr(case.world().weather, name) == value:
                continue
            simpler = case._replace(aim={**case.aim, name: value})
            if _fits(simpler) and broken(simpler):
                case = simpler
        if case == before or left < 0:
            return case


def _fits(case: Case) -> bool:
    """Whether the plan under these options still has what the case names."""
    plan = case.world().plan
    names = {"orders": case.orders, "faults": case.faults}
    return all(not kept or kept[-1] < len(getattr(plan, name)) for name, kept in names.items())


def _fewer(case: Case, name: str, broken: Callable[[Case], bool]) -> Case:
    """Leave out as many of ``name`` as can be, in ever smaller pieces."""
    size = max(1, len(getattr(case, name)) // 2)
    while True:
        kept: Sequence[int] = getattr(case, name)
        at = 0
        while at < len(kept):
            fewer = case._replace(**{name: (*kept[:at], *kept[at + size :])})
            if broken(fewer):
                case, kept = fewer, getattr(fewer, name)
            else:
                at += size
        if size == 1:
            return case
        size //= 2


def timeline(case: Case) -> str:
    """What happened, a line for each commit, fault and lift; and how it ended."""
    world = case.world(lines=True)
    try:
        counts = world.run()
        end = f"it ends as it should ({counts['events']} events)"
    except Exception as error:
        end = f"{type(error).__name__}: {error}"
    lines = [
        f"{at / 1000:12.3f} ms  region {region}  {line}"
        for at, region, line in world.journal.lines or ()
    ]
    return "\n".join((*lines, end, f"again: {case.command}"))
