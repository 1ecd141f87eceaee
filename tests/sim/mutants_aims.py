"""The schedules of the gate: drawn at large, or aimed at what a rule is for.

The aims of the model's own tests, and some that only a mutant needs.
"""

from typing import Any

from .aims import AIMS
from .weather import MILLISECOND, SECOND, Cue
from .world import World, Wrong

_QUIET: dict[str, Any] = {
    "faults": [], "steps": 0, "partial": 0, "straight": (0,), "ties": False, "bursts": False,
    "join": False, "later": False,
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
    # Deletes without triggers, and inserts over them in the same batch; clocks far apart.
    "after": {
        **_QUIET, "regions": 3, "keys": 8, "length": 2 * SECOND, "skew": 3 * SECOND, "hold": 0,
        "mix": {"put": 4, "cascade": 2}, "size": (1,), "tail_pause": (20 * MILLISECOND,),
        "tail_most": (20,), "slowness": (0,), "latency": 5 * MILLISECOND, "transactions": 40,
        "collect": 0, "bursts": True,
    },
    # Rows that cannot apply for a while, a resolver that seldom comes, tombstones that go soon.
    "letters": {
        **_QUIET, "regions": 3, "keys": 3, "length": 20 * SECOND, "skew": 0, "hold": 0,
        "faults": ["poison"], "fault_count": 6, "rounds": 15 * SECOND, "apply_most": (1, 4),
        "beat": 400 * MILLISECOND, "collect": 300 * MILLISECOND, "latency": 5 * MILLISECOND,
        "tail_pause": (1,), "slowness": (0,), "mix": {"put": 4, "delete": 3}, "size": (1,),
        "transactions": 40,
    },
    # Clients that hold rows and tombstones, and often take all back; clocks far apart.
    "looks": {
        **_QUIET, "regions": 2, "keys": 4, "length": 4 * SECOND, "skew": 10 * SECOND,
        "mix": {"put": 3, "delete": 2, "replace": 4}, "size": (1,), "hold": SECOND, "held": 0.8,
        "rollbacks": 0.5, "tail_pause": (20 * MILLISECOND,), "tail_most": (1, 5),
        "slowness": (0,), "latency": 5 * MILLISECOND, "transactions": 60, "collect": 0,
    },
    # Commits that show long after they are in the binlog; deletes that meet everywhere.
    "lags": {
        **_QUIET, "regions": 3, "keys": 3, "length": 2 * SECOND, "skew": SECOND, "words": 0,
        "slowness": (5 * MILLISECOND,), "commit_lag": (120 * MILLISECOND,), "tail_pause": (1,),
        "latency": 20 * MILLISECOND, "mix": {"put": 3, "delete": 4}, "size": (1,), "hold": 0,
        "transactions": 40, "collect": 0,
    },
    # The same with much time between the statements of an applier.
    "slow": {
        **_QUIET, "regions": 3, "keys": 3, "length": 4 * SECOND, "skew": SECOND, "words": 0,
        "slowness": (60 * MILLISECOND,), "commit_lag": (0,), "tail_pause": (1,),
        "latency": 20 * MILLISECOND, "mix": {"put": 3, "delete": 4}, "size": (1,), "hold": 0,
        "transactions": 60, "collect": 0,
    },
    # Cascades under slow menders, while old rows still come in.
    "cascades": {
        **_QUIET, "regions": 3, "keys": 3, "length": 2 * SECOND, "skew": 3 * SECOND,
        "slowness": (150 * MILLISECOND,), "tail_pause": (1,), "latency": 100 * MILLISECOND,
        "mix": {"put": 5, "cascade": 3}, "size": (1, 1, 2), "hold": 0, "transactions": 40,
        "collect": 0, "beat": SECOND,
    },
    # A delete and an unstamped insert in one transaction, and a delete before the lift.
    "undone": {
        **_QUIET, "regions": 2, "keys": 1, "length": SECOND, "skew": 10 * SECOND,
        "mix": {"put": 3, "delete": 3, "cascade": 2, "bare": 4}, "size": (1, 1, 2), "hold": 0,
        "tail_pause": (60 * MILLISECOND,), "tail_most": (1,), "slowness": (0,),
        "latency": 5 * MILLISECOND, "transactions": 12, "collect": 0, "bursts": True,
    },
    # The same with stamps of the clients' own making.
    "forged": {
        **_QUIET, "regions": 2, "keys": 1, "length": SECOND, "skew": 3 * SECOND,
        "mix": {"put": 3, "cascade": 3, "bare": 3, "forge": 2}, "size": (1, 2, 2), "hold": 0,
        "tail_pause": (20 * MILLISECOND,), "tail_most": (1,), "slowness": (0,),
        "latency": 5 * MILLISECOND, "transactions": 15, "collect": 0, "bursts": True,
    },
    # Clients that hold rows and tombstones for long and often take all back, cascades, and
    # tailers that begin anew.
    "waits": {
        **_QUIET, "regions": 2, "keys": 3, "length": 4 * SECOND, "skew": 10 * SECOND,
        "mix": {"put": 2, "cascade": 3, "replace": 4}, "size": (1, 2, 2), "rollbacks": 0.5,
        "hold": 800 * MILLISECOND, "held": 0.5, "tail_pause": (100 * MILLISECOND,),
        "tail_most": (2,), "slowness": (0,), "latency": 5 * MILLISECOND, "transactions": 40,
        "collect": 0, "faults": ["origin"], "fault_count": 15, "linger": 1, "rounds": 4 * SECOND,
        "beat": 4 * SECOND, "words": 0,
    },
    # Sessions that log only what is needed of a row.
    "partial": {"partial": 0.4},
    # A table that joins a mesh with rows of before, while the clocks step again and again.
    "stepped": {
        "words": 2, "later": True, "join": False, "faults": [], "transactions": 4, "steps": 40,
        "regions": 2, "keys": 5, "skew": 30 * SECOND, "length": 8 * SECOND, "hold": 0,
    },
    # The same; rows go and come again before it joins.
    "again": {
        **_QUIET, "words": 2, "later": True, "steps": 40, "regions": 2, "keys": 5,
        "skew": 30 * SECOND, "length": 8 * SECOND,
        "pattern": (
            Cue(0, 300 * MILLISECOND, True, "delete"),
            Cue(500 * MILLISECOND, 500 * MILLISECOND, True, "put"),
        ),
    },
    # Regions whose tables have more columns, so that an update is a delete and a write.
    "wide": {**_QUIET, "wide": 1, "mix": {"put": 4, "delete": 1, "move": 1}, "skew": SECOND},
    # Keys that are spelled now so, now so.
    "words": {
        **_QUIET, "words": 2, "keys": 2, "mix": {"put": 4, "delete": 2, "move": 1}, "size": (1, 2),
        "skew": SECOND,
    },
    # A row below a late tombstone, and both wait for one client; another writes as they are free.
    "settle": {
        **_QUIET, "regions": 2, "keys": 2, "words": 0, "length": 8 * SECOND, "skew": 10 * SECOND,
        "tail_pause": (30 * MILLISECOND,), "tail_most": (5,), "slowness": (40 * MILLISECOND,),
        "latency": 5 * MILLISECOND, "collect": 0, "rounds": 20 * MILLISECOND, "beat": 4 * SECOND,
        "pattern": (
            Cue(0, 1, False, "put"),
            Cue(150 * MILLISECOND, 1, True, "delete", triggers=False),
            Cue(151 * MILLISECOND, 1, True, "put"),
            Cue(152 * MILLISECOND, 1, True, "delete", hold=(250 * MILLISECOND,), commits=False),
            Cue(402 * MILLISECOND, 150 * MILLISECOND, True, "put", hold=(1, 250 * MILLISECOND)),
        ),
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
