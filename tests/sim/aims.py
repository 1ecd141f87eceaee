"""Aims: draws of the weather in which one kind of danger is met again and again.

A uniform mixture meets a race of four parties once in ten thousand schedules; one hot
key under slow appliers meets it once in a hundred.
"""

from typing import Any

from .weather import MILLISECOND, SECOND

_CALM: dict[str, Any] = {"faults": [], "steps": 0}

AIMS: dict[str, dict[str, Any]] = {
    # Inserts and deletes of one key in three regions; many act between two steps of one apply.
    "hot": {
        **_CALM, "regions": 3, "keys": 1, "transactions": 40, "length": 2 * SECOND,
        "latency": 20 * MILLISECOND, "slowness": (30 * MILLISECOND,), "tail_pause": (MILLISECOND,),
        "apply_most": (1, 3), "mix": {"put": 4, "delete": 4, "replace": 1}, "hold": 0,
        "skew": 10 * MILLISECOND, "beat": SECOND, "size": (1,), "collect": 0,
    },
    # The same with a cascade now and then.
    "cascade": {
        **_CALM, "regions": 3, "keys": 1, "transactions": 40, "length": 2 * SECOND,
        "latency": 20 * MILLISECOND, "slowness": (10 * MILLISECOND,),
        "mix": {"put": 4, "delete": 1, "cascade": 3, "bare": 1}, "hold": 0, "beat": SECOND,
        "skew": 300 * MILLISECOND, "size": (1, 1, 2), "collect": 0,
    },
    # Many commits, then long pauses of the tailer.
    "bursts": {
        "regions": 3, "keys": 2, "transactions": 40, "length": 4 * SECOND, "bursts": True,
        "tail_pause": (400 * MILLISECOND,), "tail_most": (10,), "slowness": (5 * MILLISECOND,),
        "mix": {"put": 4, "delete": 3, "cascade": 1}, "size": (1, 2),
    },
    # Clients that hold rows for long.
    "locks": {
        **_CALM, "regions": 3, "keys": 2, "transactions": 30, "length": 4 * SECOND,
        "hold": 400 * MILLISECOND, "held": 0.7, "slowness": (5 * MILLISECOND,),
        "mix": {"put": 4, "delete": 3, "cascade": 1, "bare": 1}, "skew": 300 * MILLISECOND,
        "rounds": 100 * MILLISECOND, "size": (1, 2),
    },
    # Rows that a client holds beyond all patience, set aside and replayed.
    "aside": {
        **_CALM, "regions": 3, "keys": 2, "transactions": 30, "length": 40 * SECOND,
        "hold": 30 * SECOND, "held": 0.4, "mix": {"put": 4, "delete": 4}, "size": (1, 2),
        "collect": SECOND, "beat": 2 * SECOND, "rounds": SECOND,
    },
    # The same, and tables that may not be written for a while; claims meanwhile.
    "altered": {
        **_CALM, "regions": 3, "keys": 2, "transactions": 30, "length": 40 * SECOND,
        "hold": 30 * SECOND, "held": 0.4, "mix": {"put": 4, "delete": 4}, "size": (1, 2),
        "collect": SECOND, "beat": 2 * SECOND, "rounds": SECOND, "fault_count": 10,
        "faults": ["altered", "altered", "origin", "freeze", "double", "poison"],
        "slowness": (20 * MILLISECOND,),
    },
    # Rows that cannot apply for a while; tombstones are collected often; then a replay.
    "parked": {
        "regions": 3, "keys": 2, "transactions": 40, "length": 40 * SECOND, "steps": 0,
        "faults": ["poison"], "fault_count": 6, "collect": SECOND, "beat": SECOND,
        "latency": 100 * MILLISECOND, "mix": {"put": 4, "delete": 4}, "apply_most": (1, 4),
        "size": (1, 2),
    },
    # Clocks apart, tailers behind by several beats, tombstones collected often.
    "frontier": {
        "regions": 3, "keys": 2, "transactions": 40, "length": 20 * SECOND, "skew": 6 * SECOND,
        "tail_pause": (1, 3 * SECOND), "tail_most": (2, 5), "beat": 500 * MILLISECOND,
        "collect": 500 * MILLISECOND, "hold": 4 * SECOND, "held": 0.3, "steps": 2,
        "mix": {"put": 4, "delete": 3}, "faults": ["cut", "silence"], "fault_count": 4,
        "latency": 2 * SECOND,
    },
    # Crashes with a record on the wire; claims in a row and out of order.
    "epochs": {
        "regions": 2, "keys": 2, "transactions": 30, "length": 4 * SECOND, "steps": 0,
        "faults": ["crash", "origin", "double"], "fault_count": 10, "wire": 100 * MILLISECOND,
        "late": SECOND, "linger": 200 * MILLISECOND, "slowness": (5 * MILLISECOND,),
    },
    # Processes of one region that start at any moment, stand still, and wake up.
    "claims": {
        "regions": 2, "keys": 2, "transactions": 30, "length": 4 * SECOND, "steps": 0,
        "faults": ["crash", "origin", "double", "twin", "freeze", "silence"], "fault_count": 24,
        "wire": 50 * MILLISECOND, "late": SECOND, "linger": 200 * MILLISECOND,
        "slowness": (20 * MILLISECOND,), "beat": 500 * MILLISECOND,
    },
    # Claims in the middle of long apply transactions and of replays.
    "long": {
        "regions": 3, "keys": 3, "transactions": 20, "length": 8 * SECOND, "parts": 0.6,
        "size": (2, 4, 6), "hold": SECOND, "held": 0.3, "steps": 0,
        "faults": ["origin", "origin", "origin", "double", "freeze", "crash"], "fault_count": 20,
        "slowness": (60 * MILLISECOND,), "linger": 500 * MILLISECOND, "beat": SECOND,
        "tail_pause": (10 * MILLISECOND,), "rounds": 200 * MILLISECOND,
    },
    # Sessions of appliers that break with a COMMIT on its way.
    "sessions": {
        "regions": 2, "keys": 2, "transactions": 30, "length": 2 * SECOND, "steps": 0,
        "faults": ["applier", "crash", "double"], "fault_count": 10,
        "slowness": (20 * MILLISECOND,), "linger": 200 * MILLISECOND, "beat": 500 * MILLISECOND,
        "apply_most": (1, 2), "mix": {"put": 4, "delete": 2},
    },
    # Transactions in parts, and crashes between them.
    "huge": {
        "regions": 2, "keys": 3, "transactions": 20, "length": 2 * SECOND, "parts": 0.8,
        "size": (2, 4, 6), "faults": ["crash", "origin"], "fault_count": 6, "tail_most": (1, 2),
        "wire": 20 * MILLISECOND, "tail_pause": (10 * MILLISECOND,),
    },
    # Clocks that agree to the microsecond: ties between regions.
    "ties": {
        **_CALM, "regions": 3, "keys": 1, "transactions": 30, "length": 2 * SECOND, "skew": 0,
        "ties": True, "mix": {"put": 4, "delete": 2}, "hold": 0, "size": (1,),
        "latency": 100 * MILLISECOND,
    },
    # Tables that join with rows of before.
    "join": {"join": True, "regions": 3, "transactions": 20, "faults": []},
    # A table that joins a mesh at work.
    "later": {"words": 2, "later": True, "join": False, "faults": [], "transactions": 30},
    # Ordinary rows in runs.
    "runs": {
        "straight": (1,), "words": 0, "apply_most": (20,), "tail_most": (10,), "keys": 5, "wide": 0,
        "mix": {"put": 6, "delete": 1}, "parts": 0.1, "partial": 0,
        "slowness": (0, 5 * MILLISECOND),
    },
}  # fmt: skip
