"""What takes longer than a change may wait: L1 to L9, as far as they are built.

L1 is everything at once: eight regions, all workloads that one schema carries, a fault every five
seconds, for hours.  It goes in legs of ten minutes, each with a mesh and a plan of its own, so
that a finding has a plan that can be run again in ten minutes, and what one leg does to its
topics ends with it.  The others are scenarios with a name, and run once after it.
"""

from dataclasses import replace

from chaos import drawings
from chaos.judge import Allowed
from chaos.plan import Draw, Fault, Plan, Setting
from chaos.scenarios import Scenario
from meshnode.limits import MIB

LEG_SECONDS = 600.0

PACE = 60.0
"""Some 16 transactions a second in all.  Two processors apply 100 to 200 a second, each transaction
seven times; more would only make a queue, which takes longer to drain than it took to grow."""

KEEP_BYTES = 8 * MIB

EVERYTHING = Setting(
    regions=8, proxied=True, clocks=True, heartbeat_seconds=1.0,
    points={name: chance / 10 for name, chance in drawings.POINT_CHANCES.items()},
)  # fmt: skip


def _away(draw: Draw, seconds: float) -> list[Fault]:
    """One region is cut off, and its node down, longer than tombstones and topics would keep."""
    victim = draw.region()
    return [
        Fault(2.0, "cut.isolate", (victim,), seconds - 10),
        Fault(3.0, "node.kill", (victim,), seconds - 15),
    ]


def _brokers(draw: Draw, seconds: float) -> list[Fault]:
    faults = []
    for at in draw.times(seconds - 20, 20.0, 5.0):
        kind = draw.choice(("broker.kill", "broker.stop"))
        faults.append(Fault(at, kind, ("kafka",), round(draw.uniform(1.0, 12.0), 2)))
    return faults


LONG: dict[str, Scenario] = {
    each.name: each
    for each in (
        Scenario(
            "L1", "eight regions, everything at once", "all", (60, LEG_SECONDS),
            ("W1", "W2", "W3", "W4", "W5", "W6", "W7"), drawings.composition, EVERYTHING,
            Allowed(repeats=True, letters=True), pace=PACE,
        ),
        Scenario(
            "L2", "one region away for long: tombstones wait for it", "I3, I1", (60, 300),
            ("W5", "W1"), _away, Setting(regions=4),
        ),
        Scenario(
            "L3", "a region lost with its data, another away past retention; both seeded anew",
            "I1, I2, I11, I12", (60, 180), ("W2", "W5", "W7"), drawings.losses,
            Setting(keep_bytes=KEEP_BYTES), Allowed(gaps=True),
        ),
        Scenario(
            "L5", "broker: Kafka killed and frozen", "I5, I1", (60, 300),
            ("W2", "W7"), _brokers, Setting(bus="kafka"),
        ),
        Scenario(
            "L8", "rolling restart: each process replaced under load", "all", (40, 300),
            ("W1", "W2", "W3", "W4", "W7"), drawings.rolling, Setting(regions=4), pace=2.0,
        ),
        Scenario(
            "L9", "lag of eight regions without faults", "figures", (60, 300),
            ("W9",), drawings.none, Setting(regions=8, heartbeat_seconds=1.0),
            pace=8.0,
        ),
    )
}  # fmt: skip

MISSING = {
    "L4": "failover to a replica: refused in this release",
    "L6": "huge transactions: tests/integration/test_crash_huge.py",
    "L7": "secondary unique keys are parked, not resolved: tests/integration/test_parking.py",
}
"""What is not run here, and why or where it is shown."""


def legs(seed: int, hours: float) -> list[Plan]:
    """The plans for ``hours`` of load, each with a seed of its own.

    L1, whose last leg may be shorter, and then the others once at full length, if the hours leave
    L1 a whole leg beside them.
    """
    left = hours * 3600
    once = [each for each in LONG.values() if each.name != "L1"]
    beside = sum(each.seconds[True] for each in once)
    if left < beside + LEG_SECONDS:
        once, beside = [], 0.0
    left -= beside
    scenarios = []
    while left >= 60 or not scenarios:
        seconds = min(LEG_SECONDS, left)
        scenarios.append(replace(LONG["L1"], seconds=(seconds, seconds)))
        left -= seconds
    return [each.plan(seed + number, True) for number, each in enumerate([*scenarios, *once])]
