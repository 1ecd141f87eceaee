"""A fault plan as data: what goes wrong when, for how long, and to whom.

A plan is drawn from a seed before anything is started, written down as JSON beside the
journal, and read back by ``--plan FILE``.  Times are in seconds since the load began.  What a
plan cannot fix is how threads and processes meet; the same plan on the same code meets the same
kinds of trouble, not the same microseconds.
"""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from meshnode.errors import Refused


class Fault(Struct, frozen=True, omit_defaults=True):
    """One fault: ``kind`` (a key of ``chaos.faults.KINDS``) at ``target`` from ``start`` on.

    ``target`` names regions, or the two ends of a link (from, to).  After ``duration`` seconds
    it is undone; 0 means at once.  ``options`` are those of the kind.
    """

    start: float
    kind: str
    target: tuple[str, ...]
    duration: float = 0.0
    options: dict[str, float | str] = {}

    def number(self, name: str, default: float = 0.0) -> float:
        """A numeric option."""
        return float(self.options.get(name, default))

    def __str__(self) -> str:
        options = "".join(f" {name}={value}" for name, value in self.options.items())
        when = f"{self.start:7.2f} s +{self.duration:g} s"
        return f"{when} {self.kind} {', '.join(self.target)}{options}"


class Setting(Struct, frozen=True, omit_defaults=True):
    """The mesh that a plan needs.

    ``proxied`` puts a proxy between each node and its server, ``clocks`` gives each server a
    clock of its own, ``points`` maps fault points of the node to the chance that one fires.
    ``keep_bytes`` is what the file bus keeps of each topic, read or not; 0: gigabytes.
    ``part_bytes`` is the size of a part of a huge transaction; 0: the default.
    """

    regions: int = 3
    proxied: bool = False
    clocks: bool = False
    bus: str = "file"
    points: dict[str, float] = {}
    heartbeat_seconds: float = 0.25
    keep_bytes: int = 0
    part_bytes: int = 0


class Plan(Struct, frozen=True, omit_defaults=True):
    """A whole run: the load of ``workloads`` for ``seconds``, and the faults meanwhile.

    ``clients`` are those of each workload in each region; ``pace`` stretches their pauses, and
    those of readers.
    """

    scenario: str
    seed: int
    seconds: float
    setting: Setting
    workloads: tuple[str, ...]
    faults: tuple[Fault, ...] = ()
    clients: int = 1
    pace: float = 1.0

    def write(self, path: Path) -> None:
        """Write it as JSON, one fault a line."""
        text = msgspec.json.format(msgspec.json.encode(self), indent=1)
        path.write_bytes(text + b"\n")


def read_plan(path: Path) -> Plan:
    """The plan in ``path``; Refused if it is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except (OSError, msgspec.MsgspecError) as error:
        raise Refused(
            f"{path} is no fault plan: {error}", "name the plan.json of an earlier run"
        ) from error


class Draw(random.Random):
    """What plans are drawn with; ``names`` are the regions."""

    def __init__(self, scenario: str, seed: int, names: Sequence[str]) -> None:
        super().__init__(f"{scenario} {seed}")
        self.names = list(names)

    def region(self) -> str:
        return self.choice(self.names)

    def link(self) -> tuple[str, str]:
        """A one-way link between two different regions."""
        a, b = self.sample(self.names, 2)
        return a, b

    def times(self, seconds: float, every: float, since: float = 1.0) -> Iterator[float]:
        """Moments until ``seconds``, ``every`` seconds apart on average."""
        at = since
        while at < seconds:
            yield round(at, 2)
            at += self.uniform(0.5, 1.5) * every

    def log_uniform(self, low: float, high: float) -> float:
        """Between ``low`` and ``high``, every order of magnitude as likely."""
        return round(low * (high / low) ** self.random(), 4)
