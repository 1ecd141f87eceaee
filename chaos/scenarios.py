"""The catalogue: what each scenario torments, for how long, and what it brings about on purpose.

``draw`` makes the faults of one run from a seed.  Each scenario has two lengths, in seconds of
load: ``short`` for every change, ``full`` for `make chaos`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from chaos import drawings
from chaos.judge import NOTHING, Allowed
from chaos.plan import Draw, Fault, Plan, Setting
from meshnode.lab import cluster
from meshnode.limits import KIB

PLAIN = Setting()
Drawing = Callable[[Draw, float], list[Fault]]


@dataclass(frozen=True)
class Scenario:
    """``name`` as in the catalogue; ``seconds`` are (short, full) of load."""

    name: str
    about: str
    checks: str
    seconds: tuple[float, float]
    workloads: tuple[str, ...]
    draw: Drawing
    setting: Setting = PLAIN
    allowed: Allowed = NOTHING
    clients: int = 1
    pace: float = 1.0
    full_setting: Setting | None = None
    notes: str = field(default="")

    def plan(self, seed: int, full: bool) -> Plan:
        """The plan of one run."""
        seconds = self.seconds[full]
        setting = self.full_setting if full and self.full_setting else self.setting
        names = [place.name for place in cluster.places(setting.regions)]
        faults = sorted(self.draw(Draw(self.name, seed, names), seconds), key=lambda f: f.start)
        return Plan(
            self.name,
            seed,
            seconds,
            setting,
            self.workloads,
            tuple(faults),
            self.clients,
            self.pace,
        )


SCENARIOS: dict[str, Scenario] = {
    each.name: each
    for each in (
        Scenario(
            "C2", "mesh smoke: no fault", "I1-I10", (10, 40), ("W1", "W4", "W5", "W7"),
            drawings.none,
        ),
        Scenario(
            "C3", "kill storm: nodes killed and frozen, fault points on", "I1-I9", (35, 100),
            ("W1", "W2", "W3", "W4"), drawings.kill_storm,
            Setting(points=drawings.POINT_CHANCES, part_bytes=64 * KIB),
        ),
        Scenario(
            "C4", "database crash: servers killed, durable", "I2, I9, I11", (30, 50),
            ("W2", "W3"), drawings.database_crash, clients=2,
        ),
        Scenario(
            "C5", "non-durable source: refused; a server that lost what it had published",
            "I1, I11", (20, 40), ("W2",), drawings.forgetful_sources, Setting(regions=2),

        ),
        Scenario(
            "C6", "partitions: isolate, one-way, ring, pairs, latency, slow links", "I1-I8",
            (32, 100), ("W1", "W5", "W7"), drawings.partitions, full_setting=Setting(regions=4),
        ),
        Scenario(
            "C7", "commit ambiguity: lost answers, lost COMMITs, nodes standing still", "I4",
            (25, 45), ("W1", "W3"), drawings.lost_commits, Setting(regions=2, proxied=True),
            clients=2,
        ),
        Scenario(
            "C8", "clocks: bumps, strobes, steps back, thirty days ahead", "I1, I3, I7",
            (32, 75), ("W1", "W5"), drawings.clocks, Setting(clocks=True),
        ),
        Scenario(
            "C9", "duplicates: positions set back, records appended again", "I4, I5",
            (25, 30), ("W3", "W7"), drawings.duplicates, Setting(regions=2),
            Allowed(repeats=True), clients=2,
        ),
        Scenario(
            "C10", "types: every type with extremes, against MySQL's own replica, too", "I1",
            (14, 40), ("W8",), drawings.none, Setting(regions=2), clients=2,
        ),
        Scenario(
            "C11", "fencing: two processes for one region", "I13, I4",
            (20, 30), ("W3", "W7"), drawings.twins, Setting(regions=2), clients=2,
        ),
        Scenario(
            "C12", "poison rows, tables that differ", "I12, then I1",
            (27, 50), ("W6",), drawings.differing_tables, Setting(), Allowed(letters=True),
            clients=2,
        ),
    )
}  # fmt: skip
