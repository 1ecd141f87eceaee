"""How the faults of each scenario are drawn from a seed.

Moments, victims and lengths are chance; which kinds there are, and how often, is the scenario's.
"""

from chaos.plan import Draw, Fault

POINT_CHANCES = {
    "publisher.append": 0.004,
    "publisher.appended": 0.004,
    "heart.tail": 0.004,
    "takeover.raised": 0.06,
    "takeover.claimed": 0.06,
    "applier.fenced": 0.004,
    "applier.locked": 0.004,
    "applier.commit": 0.004,
    "applier.commit.sent": 0.004,
    "applier.committed": 0.004,
    "straight.written": 0.02,
    "straight.commit.sent": 0.02,
    "straight.committed": 0.02,
    "straight.part": 0.02,
    "mending.lift": 0.05,
    "mending.lifted": 0.05,
    "gardener.drop": 0.05,
}
"""How likely each fault point kills its node when it is passed."""


LATE = ("straight.", "gardener.")
"""Points that a node comes to only when it has been at work for a while."""

LONG_ENOUGH = 40.0
"""Seconds of load that make room for a second new beginning."""


def none(draw: Draw, seconds: float) -> list[Fault]:
    return []


def kill_storm(draw: Draw, seconds: float) -> list[Fault]:
    """A node every 0.8 seconds; some are frozen instead, and wake beside their successors' work."""
    faults = []
    for at in draw.times(seconds - 1, 0.8):
        if draw.random() < 0.15:
            faults.append(
                Fault(at, "node.stop", (draw.region(),), round(draw.uniform(0.5, 3.0), 2))
            )
        else:
            away = round(draw.uniform(0.0, 0.6), 2)
            faults.append(Fault(at, "node.kill", (draw.region(),), away))
    # Chance alone would miss some points of the nodes' code: each is met once on purpose.  Those
    # that a node comes to after a while come last, when the storm is over.
    points = draw.sample(sorted(POINT_CHANCES), len(POINT_CHANCES))
    points.sort(key=lambda point: point.startswith(LATE))
    for number, point in enumerate(points):
        at = round(1 + number * (seconds - 4) / len(points), 2)
        faults.append(Fault(at, "node.point", (draw.region(),), 0.0, {"point": point}))
    return faults


def database_crash(draw: Draw, seconds: float) -> list[Fault]:
    faults = []
    for at in draw.times(seconds - 2, 1.5):
        kind = draw.choices(("mysql.kill", "region.kill", "mysql.stop"), (8, 2, 1))[0]
        faults.append(Fault(at, kind, (draw.region(),), round(draw.uniform(0.0, 2.0), 2)))
    return faults


def partitions(draw: Draw, seconds: float) -> list[Fault]:
    """One partition after the other, each a few seconds, some healing link by link."""
    faults: list[Fault] = []
    at = 1.0
    number = 0
    while at < seconds - 2:
        length = round(draw.uniform(1.6, 3.2) if seconds < 100 else draw.uniform(7.0, 12.0), 2)
        length = min(length, round(seconds - 1 - at, 2))
        kind = ("cut.isolate", "cut.one-way", "cut.ring", "cut.pair", "link.latency", "link.slow")[
            number % 6
        ]
        options: dict[str, float | str] = {}
        target: tuple[str, ...]
        if kind == "cut.isolate":
            target = tuple(draw.sample(draw.names, draw.randint(1, len(draw.names) // 2)))
            options = {"swizzle": 0.4}
        elif kind == "cut.ring":
            target = tuple(draw.sample(draw.names, len(draw.names)))
            options = {"swizzle": 0.4}
        else:
            target = draw.link()
            if kind == "link.latency":
                options = {"ms": draw.log_uniform(20, 800)}
            if kind == "link.slow":
                options = {"rate": draw.log_uniform(10_000, 200_000)}
        faults.append(Fault(round(at, 2), kind, target, length, options))
        # Some begin before the one before has ended.
        at += length * draw.uniform(0.4, 0.9)
        number += 1
    return faults


def lost_commits(draw: Draw, seconds: float) -> list[Fault]:
    """One COMMIT in twenty of every node is lost all the while; nodes stand still meanwhile."""
    faults = [
        Fault(1.0, "commit.lost", (name,), seconds - 2, {"share": 0.05, "least": 3})
        for name in draw.names
    ]
    faults += [
        Fault(at, "node.stop", (draw.region(),), 3.0) for at in draw.times(seconds - 4, 7.0, 3.0)
    ]
    return faults


def clocks(draw: Draw, seconds: float) -> list[Fault]:
    """Bumps of 11 ms to 288 s both ways, strobes, steps back, and once thirty days ahead."""
    faults = []
    for at in draw.times(seconds - 4, 1.1):
        length = round(draw.uniform(1.2, 3.2), 2)
        kind = draw.choices(("clock.bump", "clock.strobe", "clock.back-under"), (6, 3, 2))[0]
        ahead = draw.log_uniform(0.011, 288) * draw.choice((1, -1))
        options: dict[str, float | str] = {"seconds": ahead}
        if kind == "clock.strobe":
            options["period"] = round(draw.uniform(1.0, 2.0), 2)
        if kind == "clock.back-under":
            options = {"seconds": abs(ahead)}
        faults.append(Fault(at, kind, (draw.region(),), length, options))
    month = {"seconds": 30 * 86400.0}
    faults.append(
        Fault(round(seconds / 3, 2), "clock.bump", (draw.region(),), min(20.0, seconds / 3), month)
    )
    return faults


def duplicates(draw: Draw, seconds: float) -> list[Fault]:
    """Positions set back, records appended again."""
    faults = []
    for at in draw.times(seconds - 1, 0.75):
        if draw.random() < 0.5:
            target = draw.link()
            faults.append(Fault(at, "stream.rewind", target, 0.0, {"back": draw.randint(1, 200)}))
        else:
            count = {"count": draw.randint(1, 50)}
            faults.append(Fault(at, "stream.repeat", (draw.region(),), 0.0, count))
    return faults


def twins(draw: Draw, seconds: float) -> list[Fault]:
    """Second processes, every other one beside a first that stands still."""
    return [
        Fault(at, "node.twin", (draw.region(),), round(draw.uniform(2.0, 4.0), 2),
              {"frozen": number % 2})
        for number, at in enumerate(draw.times(seconds - 4, 6.0))
    ]  # fmt: skip


def differing_tables(draw: Draw, seconds: float) -> list[Fault]:
    """Poisonous rows, narrower columns, columns added region by region."""
    faults = []
    third = seconds / 3
    for part in range(3):
        at = round(1 + part * third, 2)
        victim = draw.region()
        options: dict[str, float | str] = {"below": draw.randint(100, 190)}
        faults.append(Fault(at, "row.poison", (victim,), round(third * 0.35, 2), options))
        others = [name for name in draw.names if name != victim]
        narrow = round(at + third * 0.1, 2)
        faults.append(Fault(narrow, "ddl.narrow", (draw.choice(others),), round(third * 0.3, 2)))
        order = tuple(draw.sample(draw.names, len(draw.names)))
        faults.append(Fault(round(at + third * 0.6, 2), "ddl.add", order, 1.0, {"pause": 1.0}))
    return faults


def forgetful_sources(draw: Draw, seconds: float) -> list[Fault]:
    """One region runs without durability and is refused; one loses its tail.

    In a long run one loses the end of its binary log, too: each of the two begins the mesh anew.
    """
    first, second = draw.sample(draw.names, 2)
    ago = {"ago": round(draw.uniform(1.0, 3.0), 2)}
    third = {"count": draw.randint(1, 12), "ago": 2.0}
    faults = [
        Fault(1.0, "source.not-durable", (first,), 1.0),
        Fault(round(seconds * 0.3, 2), "source.lost-tail", (second,), 1.0, ago),
    ]
    if seconds >= LONG_ENOUGH:
        at = round(seconds * 0.8, 2)
        faults.append(Fault(at, "source.cut-binlog", (first,), 1.0, third))
    return faults


def losses(draw: Draw, seconds: float) -> list[Fault]:
    """A region is lost with its data; another one is away for longer than the bus remembers."""
    first, second = draw.sample(draw.names, 2)
    return [
        Fault(3.0, "region.lost", (first,), round(draw.uniform(2.0, 10.0), 2)),
        Fault(round(seconds / 2, 2), "region.outlived", (second,), 1.0),
    ]


def rolling(draw: Draw, seconds: float) -> list[Fault]:
    """Each process of the mesh is replaced while it works, one after the other, all the while."""
    faults: list[Fault] = []
    for number, at in enumerate(draw.times(seconds - 2, 3.0)):
        name = draw.names[number % len(draw.names)]
        faults.append(Fault(at, "node.restart", (name,), round(draw.uniform(0.0, 1.0), 2)))
    return faults


def composition(draw: Draw, seconds: float) -> list[Fault]:
    """A fault every five seconds, of any kind, up to three at a time and more by chance."""
    faults: list[Fault] = []
    for at in draw.times(seconds - 10, 5.0, 5.0):
        kind = draw.choice(COMPOSED)
        length = round(draw.uniform(1.0, 14.0), 2)
        options: dict[str, float | str] = {}
        target: tuple[str, ...] = (draw.region(),)
        if kind in ("cut.pair", "cut.one-way", "link.latency", "link.slow", "stream.rewind"):
            target = draw.link()
        if kind == "cut.isolate":
            target = tuple(draw.sample(draw.names, draw.randint(1, len(draw.names) // 2)))
            options = {"swizzle": 0.3}
        if kind == "cut.ring":
            target = tuple(draw.sample(draw.names, len(draw.names)))
            options = {"swizzle": 0.3}
        if kind == "link.latency":
            options = {"ms": draw.log_uniform(20, 1000)}
        if kind == "link.slow":
            options = {"rate": draw.log_uniform(10_000, 200_000)}
        if kind == "commit.lost":
            options = {"share": 0.03}
        if kind in ("clock.bump", "clock.strobe"):
            options = {"seconds": draw.log_uniform(0.011, 288) * draw.choice((1, -1))}
        if kind == "stream.rewind":
            options = {"back": draw.randint(1, 200)}
        if kind == "stream.repeat":
            options = {"count": draw.randint(1, 50)}
        if kind == "node.twin":
            options = {"frozen": draw.randint(0, 1)}
            length = min(length, 4.0)
        if kind in ("mysql.kill", "region.kill", "node.kill"):
            length = round(draw.uniform(0.0, 6.0), 2)
        faults.append(Fault(at, kind, target, length, options))
    return faults


COMPOSED = (
    "node.kill", "node.kill", "node.stop", "mysql.kill", "mysql.stop", "region.kill",
    "cut.pair", "cut.one-way", "cut.isolate", "cut.ring", "link.latency", "link.slow",
    "commit.lost", "clock.bump", "clock.strobe", "stream.rewind", "stream.repeat", "node.twin",
)  # fmt: skip
