"""The schedules of the gate: drawn at large, or aimed at what a rule is for.

The aims of the model's own tests, and some that only a mutant needs.
"""

from typing import Any

from .aims import AIMS
from .weather import MILLISECOND, SECOND
from .world import World, Wrong

_QUIET: dict[str, Any] = {
    "faults": [], "steps": 0, "partial": 0, "straight": (0,), "ties": False, "bursts": False,
    "join": False,
}  # fmt: skip

MORE: dict[str, dict[str, Any]] = {
    # Nothing goes wrong, clocks agree, triggers are there: no promise may make work.
    "calm": {
        **_QUIET, "skew": 0, "length": 8 * SECOND, "mix": {"put": 4, "delete": 1}, "beat": SECOND,
        "hold": SECOND,
    },
    # Many short transactions of four regions on one key, with time between any two statements.
    "races": {
        **_QUIET, "regions": 4, "keys": 1, "length": SECOND, "latency": 100 * MILLISECOND,
        "slowness": (20 * MILLISECOND,), "tail_pause": (1,), "mix": {"put": 3, "delete": 3},
        "skew": SECOND, "transactions": 40, "hold": 0, "collect": 0, "bursts": True,
    },
    # Bursts of deletes and inserts without triggers on one key, before the tailer comes.
    "bare": {
        **_QUIET, "regions": 3, "keys": 1, "length": SECOND, "latency": 20 * MILLISECOND,
        "slowness": (5 * MILLISECOND,), "tail_pause": (20 * MILLISECOND,), "tail_most": (1, 5),
        "mix": {"put": 2, "cascade": 3, "bare": 2}, "skew": SECOND, "size": (1, 1, 2),
        "transactions": 40, "hold": 40 * MILLISECOND, "held": 0.3, "collect": 0, "bursts": True,
        "rounds": 20 * MILLISECOND,
    },
    # Old news: long ways between regions, short lives of tombstones.
    "stale": {
        **_QUIET, "regions": 3, "keys": 1, "length": 20 * SECOND, "latency": 6 * SECOND,
        "beat": 400 * MILLISECOND, "collect": 400 * MILLISECOND, "skew": 10 * MILLISECOND,
        "tail_pause": (1,), "slowness": (0,), "mix": {"put": 3, "delete": 3}, "hold": 0,
        "transactions": 40, "size": (1,),
    },
    # Clocks some seconds apart, and tombstones that go as soon as they may.
    "apart": {
        **_QUIET, "regions": 2, "keys": 3, "length": 20 * SECOND, "skew": 3 * SECOND, "hold": 0,
        "beat": 400 * MILLISECOND, "collect": 300 * MILLISECOND, "latency": 5 * MILLISECOND,
        "tail_pause": (1,), "slowness": (0,), "mix": {"put": 3, "delete": 3}, "size": (1,),
        "transactions": 40,
    },
    # A tailer that comes many beats later, while its peers promise on; few writes of each key.
    "lagging": {
        **_QUIET, "regions": 3, "keys": 6, "length": 16 * SECOND, "skew": SECOND, "hold": 0,
        "beat": 400 * MILLISECOND, "collect": 300 * MILLISECOND, "latency": 5 * MILLISECOND,
        "tail_pause": (1, 1, 12 * SECOND), "tail_most": (50,), "slowness": (0,), "size": (1,),
        "mix": {"put": 3, "delete": 3}, "transactions": 24,
    },
    # Cascades and inserts without triggers in one transaction; clocks apart.
    "hidden": {
        **_QUIET, "regions": 2, "keys": 1, "length": 2 * SECOND, "skew": 3 * SECOND,
        "mix": {"put": 3, "cascade": 3, "bare": 3}, "size": (1, 2, 2), "hold": 0,
        "tail_pause": (30 * MILLISECOND,), "tail_most": (1, 2), "slowness": (2 * MILLISECOND,),
        "latency": 20 * MILLISECOND, "transactions": 40, "collect": 0, "bursts": True,
    },
    # Clocks apart that step, one hot key, all triggers there.
    "clocks": {
        **_QUIET, "regions": 3, "keys": 1, "length": 2 * SECOND, "skew": 3 * SECOND, "steps": 4,
        "mix": {"put": 4, "delete": 3}, "transactions": 40, "hold": 0, "size": (1, 2),
        "latency": 50 * MILLISECOND, "collect": 0, "beat": SECOND,
    },
}  # fmt: skip


def run_one(seed: int, aim: str) -> Exception | None:
    """What the oracle, or an error that stopped a stream, says of schedule ``seed``."""
    world = World(seed, AIMS.get(aim) or MORE.get(aim) if aim else None)
    try:
        world.run()
        if aim == "calm" and world.counts["lift: promise"]:
            raise Wrong("a row was lifted over a promise that nobody had to make", "cost")
    except Exception as error:
        return error
    return None
