"""What may go wrong in a mesh in virtual time: a mix for each seed."""

import random
from dataclasses import dataclass

from meshnode.limits import PART_BYTES


@dataclass
class Options:
    """What a seed allows; chances are shares of steps, messages or statements.

    ``refused``: of the versions of others that cannot stand in a region; ``idle``: of the long
    transactions that stay open for longer than an applier waits.  ``clock_steps``: seconds by which
    a server's clock jumps at most, forth or back, again and again.  ``part_bytes``: transactions
    that are longer are published in parts; an image has about 30.  ``columns``: how many are added
    to the table, region by region, while clients write.
    """

    regions: int = 2
    keys: int = 3
    clients: int = 2
    seconds: float = 20.0
    wire_lag: float = 0.002
    bus_lag: float = 0.01
    lost_answers: float = 0.0
    lost_messages: float = 0.0
    kill: float = 0.0
    cancel: float = 0.0
    twins: float = 0.0
    skew: float = 0.0
    unseen_deletes: float = 0.0
    long_transactions: float = 0.1
    cuts: bool = False
    delete_share: float = 0.3
    refused: float = 0.0
    idle: float = 0.0
    clock_steps: float = 0.0
    part_bytes: int = PART_BYTES
    columns: int = 0


def options_of(source: random.Random) -> Options:
    """A mix of its own for each seed: many faults at once hide what needs few."""

    def maybe(value: float, chance: float = 0.4) -> float:
        return value if source.random() < chance else 0.0

    return Options(
        regions=source.choice((2, 2, 3)),
        keys=source.choice((1, 2, 3, 8)),
        clients=source.choice((1, 2, 3)),
        seconds=source.choice((4.0, 8.0)),
        wire_lag=source.choice((0.0005, 0.003, 0.02)),
        bus_lag=source.choice((0.001, 0.02, 0.3)),
        lost_answers=maybe(0.003),
        lost_messages=maybe(0.01),
        kill=maybe(0.0004),
        cancel=maybe(0.0004),
        twins=maybe(0.2),
        skew=maybe(source.choice((0.05, 2.0))),
        unseen_deletes=maybe(0.3),
        long_transactions=source.choice((0.0, 0.1, 0.5)),
        cuts=source.random() < 0.3,
        delete_share=source.choice((0.1, 0.3, 0.6)),
        refused=maybe(0.2, 0.3),
        idle=maybe(0.05, 0.3),
        clock_steps=maybe(source.choice((0.05, 2.0, 20.0)), 0.3),
        part_bytes=source.choice((PART_BYTES, 40, 40)),
        columns=source.choice((0, 0, 1, 3)),
    )
