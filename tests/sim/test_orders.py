"""Every order of delivery, batched in every way, ends in the same state.

A history is made by three origins that see each other late or never, on clocks
that differ.  A fourth region then receives their streams in every order that
keeps each stream's own order, cut into every possible batch, through the real
check, plan and decision.  The oracle only takes maxima.
"""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshnode.core.change import Transaction, net_effects
from meshnode.core.check import check, scan
from meshnode.core.mend import Examiner, Removed, to_item
from meshnode.core.plan import Ancestry, Work
from meshnode.core.stamp import Stamp
from meshnode.core.wire import DELETE, REMOVE, UPDATE, UPSERT, WRITE

from .instant import Data, Locks, apply_batch
from .table import TABLE, image, key_of, row_op, wire_key

READER = 9


class Origin:
    """A region that writes, and takes in a prefix of the other streams now and then."""

    def __init__(self, number: int, skew: int) -> None:
        self.number = number
        self.skew = skew
        self.data = Data()
        self.ancestry = Ancestry(100, number)
        self.stream: list[Work] = []
        self.taken: dict[int, int] = {}

    def take(self, other: "Origin", upto: int) -> None:
        start = self.taken.get(other.number, 0)
        if upto > start:
            works = other.stream[start:upto]
            self.data, _ = apply_batch(self.data, works, self.ancestry, Locks())
            self.taken[other.number] = upto

    def commit(self, now: int, actions: list[tuple[str, int]], value: int) -> None:
        """One local transaction of ``(what, key)``, stamped as the triggers do, lifted never.

        A stamp that the mender would have to lift is taken high enough at once.
        """
        clock = now + self.skew
        ops, tombs = [], []
        data = self.data
        for what, key in actions:
            row = data.rows.get(key)
            tomb = data.tombs.get(key, Stamp(0, 0))
            if what == "put":
                above = max(row[0].ts + 1 if row else 0, tomb.ts + 1, clock)
                new = (Stamp(above, self.number), value)
                after = image(key, new)
                ops.append(row_op(UPDATE, image(key, row) + after) if row else row_op(WRITE, after))
                data.rows[key] = new
            elif row is not None:
                stamp = max(Stamp(max(clock, row[0].ts + 1), self.number), tomb)
                ops.append(row_op(DELETE, image(key, row)))
                tombs.append((TABLE.digest, wire_key(key), stamp))
                del data.rows[key]
                data.tombs[key] = stamp
        if not ops:
            return
        tx = Transaction(f"{self.number}:{len(self.stream) + 1}", now, ops=ops, tombstones=tombs)
        nets = net_effects(tx, {TABLE.digest: TABLE})
        known = {at: self.before[key] for at in nets if (key := key_of(at[1])) in self.before}
        examined = Examiner(self.number, 0).examine(tx, nets, known)
        assert not examined.lifts and not examined.late
        item = to_item(examined, known, {}, {TABLE: 0}, Removed())
        assert item is not None
        scanned = scan(item, [TABLE], "east")
        self.stream.append(Work(item, scanned, check(item, [TABLE], scanned, "east")))

    @property
    def before(self) -> dict[int, Stamp]:
        """Tombstones below the present rows: what an insert replaced."""
        return {
            key: tomb
            for key, tomb in self.data.tombs.items()
            if key in self.data.rows and tomb < self.data.rows[key][0]
        }


def history(rng: random.Random, operations: int, keys: int) -> list[list[Work]]:
    """The streams of three origins with about ``operations`` transactions in all."""
    origins = [Origin(number, rng.choice((0, 0, -300, 500))) for number in (1, 2, 3)]
    for number in range(operations):
        origin = rng.choice(origins)
        for other in origins:
            if other is not origin and rng.random() < 0.4:
                origin.take(other, rng.randint(0, len(other.stream)))
        actions = [
            (rng.choice(("put", "put", "delete")), rng.randrange(keys))
            for _ in range(rng.choice((1, 1, 1, 2, 3)))
        ]
        origin.commit(1000 + rng.choice((0, 100)) * number, actions, number + 1)
    return [origin.stream for origin in origins]


def oracle(streams: list[list[Work]]) -> tuple[dict, dict]:
    """Rows' and tombstones' stamps: the greatest of each kind; at a tie the row stays."""
    upserts: dict[int, tuple] = {}
    removals: dict[int, tuple] = {}
    for stream in streams:
        for work in stream:
            for entry in work.item.entries:
                side = upserts if entry.outcome == UPSERT else removals
                key, stamp = int.from_bytes(entry.key, "little"), (entry.ts, entry.origin)
                side[key] = max(side.get(key, (0, 0)), stamp)
    rows = {key: stamp for key, stamp in upserts.items() if stamp >= removals.get(key, (0, 0))}
    return rows, removals


def orders(lengths: tuple[int, ...]) -> Iterator[list[int]]:
    """Every interleaving of the streams, as a list of stream numbers."""
    if not any(lengths):
        yield []
    for stream, length in enumerate(lengths):
        if length:
            rest = tuple(each - (at == stream) for at, each in enumerate(lengths))
            for tail in orders(rest):
                yield [stream, *tail]


def batchings(order: list[int]) -> Iterator[list[tuple[int, int]]]:
    """Every way to cut ``order`` into batches of one stream: ``(stream, items)``."""
    if not order:
        yield []
        return
    size = 1
    while size <= len(order) and order[size - 1] == order[0]:
        for rest in batchings(order[size:]):
            yield [(order[0], size), *rest]
        size += 1


def deliver(streams: list[list[Work]], batches: list[tuple[int, int]]) -> tuple[dict, dict]:
    data, ancestry = Data(), Ancestry(100, READER)
    places = [0, 0, 0]
    for stream, size in batches:
        works = streams[stream][places[stream] : places[stream] + size]
        places[stream] += size
        data, _ = apply_batch(data, works, ancestry, Locks())
    return {key: tuple(row[0]) for key, row in data.rows.items()}, {
        key: tuple(stamp) for key, stamp in data.tombs.items()
    }


@pytest.mark.parametrize("operations", [2, 3, 4, 5, 6])
def test_every_order_and_every_batching_ends_alike(operations):
    exact = outcomes = 0
    for seed in range(12):
        rng = random.Random(operations * 1000 + seed)
        streams = history(rng, operations, keys=rng.choice((1, 2)))
        expected = oracle(streams)
        for order in orders(tuple(len(stream) for stream in streams)):
            for batches in batchings(order):
                assert deliver(streams, batches) == expected, (seed, batches)
        for work in (work for stream in streams for work in stream):
            removes = any(entry.outcome == REMOVE for entry in work.item.entries)
            exact, outcomes = exact + work.item.exact, outcomes + removes
    assert exact and outcomes, "histories without deletes or whole items prove little"


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(5, 25), st.integers(1, 4))
def test_larger_histories_in_any_order(rng, operations, keys):
    streams = history(rng, operations, keys)
    expected = oracle(streams)
    for _ in range(4):
        order = [number for number, stream in enumerate(streams) for _ in stream]
        rng.shuffle(order)
        batches: list[tuple[int, int]] = []
        for stream in order:
            if batches and batches[-1][0] == stream and rng.random() < 0.6:
                batches[-1] = (stream, batches[-1][1] + 1)
            else:
                batches.append((stream, 1))
        assert deliver(streams, batches) == expected


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(5, 20), st.integers(1, 3))
def test_a_stream_read_again_changes_nothing(rng, operations, keys):
    streams = history(rng, operations, keys)
    data, ancestry = Data(), Ancestry(100, READER)
    for stream in streams:
        for work in stream:
            data, _ = apply_batch(data, [work], ancestry, Locks())
    again = data
    for stream in rng.sample(streams, 3):
        again, plan = apply_batch(again, stream, ancestry, Locks())
        assert not plan.exact_items or not stream
        assert not plan.rows
    assert again == data
