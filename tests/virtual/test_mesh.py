"""Whole meshes of real actors in virtual time: seed by seed, and rules that are switched off.

Seeds that failed once are kept in ``KEPT``; a change of the harness changes their schedules, so
what they have found has tests of its own, too.  Each mutant must be noticed on seeds which the
untouched node passes, with options aimed at it: otherwise these runs could not fail.
"""

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest

from meshnode.actors import batching, fitting, gardener, intake, origin
from meshnode.actors.gardener import Gardener
from meshnode.core import look
from meshnode.core.ledger import Ledger
from meshnode.core.shape import Equal
from meshnode.core.wire import Claim, Item, Sender
from meshnode.store.values import Member, Waiting

from .applying import MemoryApplying
from .mending import MemoryMending
from .options import Options
from .resolving import MemoryResolving
from .world import World

SEEDS = 40
"""Each takes about a third of a second."""

KEPT = {
    5: "rows that an applier had written were taken for those of another table",
    12: "a version that was held back was overwritten before it could be lifted",
    38: "an actor that failed while it was cancelled was started again, and its node never ended",
    20036: "the bus had forgotten what a successor had to read",
}

HOT = Options(
    keys=1, clients=2, seconds=6.0, wire_lag=0.02, bus_lag=0.05, delete_share=0.5, regions=3
)

SKEWED = replace(HOT, regions=2, keys=8, skew=2.0, bus_lag=0.3, unseen_deletes=0.2)


LOCKED = replace(
    HOT, regions=2, keys=1, clients=5, skew=2.0, long_transactions=0.5, delete_share=0.3
)


WIDENED = Options(
    clients=3, seconds=6.0, bus_lag=0.02, cuts=True, lost_messages=0.01, skew=0.05, columns=4
)

BEHIND = Options(
    regions=2,
    keys=1,
    clients=5,
    seconds=3.0,
    delete_share=0.2,
    wire_lag=0.02,
    bus_lag=0.3,
    kill=0.001,
    skew=2.0,
    columns=4,
)


IN_PARTS = Options(
    keys=8, seconds=6.0, long_transactions=0.8, part_bytes=40, kill=0.001, bus_lag=0.02
)


def outcome(seed: int, options: Options | None = None) -> tuple[list[str], dict[str, int]]:
    """What is wrong with a seed, and what happened in it."""
    world = World(seed, options)
    return world.run(), world.counts


def told(seed: int, options: Options | None = None) -> tuple:
    """Everything that a run leaves behind."""
    world = World(seed, options)
    problems = world.run()
    binlogs = [
        [(each.number, each.at, len(each.changes)) for each in place.database.binlog]
        for place in world.places
    ]
    topics = {name: list(topic.payloads) for name, topic in world.topics.topics.items()}
    return problems, world.loop.steps, world.written, binlogs, topics


def test_seeds() -> None:
    """Every mesh becomes what its topics say, and nothing that a client committed is nowhere."""
    happened: Counter[str] = Counter()
    seeds = [*KEPT, *range(1000, 1000 + SEEDS)]
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        for seed, (problems, counts) in zip(seeds, pool.map(outcome, seeds, chunksize=4)):
            assert not problems, f"seed {seed} ({KEPT.get(seed, 'new')}): {problems}"
            happened.update(counts)
    disturbed = ("kills", "cancels", "twins", "cuts", "clock steps", "clients disturbed")
    aside = ("parked", "set aside", "huge", "unfinished")
    for what in (*disturbed, *aside, "columns added", "halted by a definition"):
        assert happened[what] >= 5, f"{what}: {happened}"
    assert happened["fenced"], happened


def test_a_seed_tells_the_same_story_twice() -> None:
    for seed in (38, *range(1001, 1006)):
        assert told(seed) == told(seed)
    assert told(1001) != told(1002)


def no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(self: MemoryApplying, plan: object) -> None:
        """Not looking at the other side of what was written."""

    monkeypatch.setattr(MemoryApplying, "_look", nothing)


def blind_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "beside_upsert", lambda *_: None)


def no_tombstones(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(self: MemoryMending, keys: object) -> tuple[dict, set]:
        return {}, set()

    monkeypatch.setattr(MemoryMending, "tombstones", nothing)


def position_first(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = MemoryApplying._begin

    async def alone(self: MemoryApplying, fence: object) -> bool:
        if not await begin(self, fence):
            return False
        self.database.commit(self._open())
        self.tx = self.database.begin()
        return True

    monkeypatch.setattr(MemoryApplying, "_begin", alone)


def collected_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gardener, "gc_limit", lambda applied, published, parked: 2**63)
    monkeypatch.setattr(gardener, "ROUND_SECONDS", 0.2)


def overtaken_lifts_are_published(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(self: MemoryMending, lifts: list, *_: object, **__: object) -> None:
        """Lifting nothing."""

    monkeypatch.setattr(MemoryMending, "lift", nothing)


def own_end_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def only_what_was_noted(
        reader: object, member: Member, sender: Sender, end: bytes
    ) -> tuple[Ledger, bytes]:
        tail = member.tail
        known = Ledger(sender.name, member.incarnation, tail.seq, member.epoch)
        known.resume, known.promised = tail.gtids, tail.frontier
        return known, end

    monkeypatch.setattr(origin, "read_own_end", only_what_was_noted)


def held_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = MemoryResolving.waiting

    async def taken_out(self: MemoryResolving, most: int) -> list[Waiting]:
        entries = await waiting(self, most)
        await self.forget(entries)
        return entries

    monkeypatch.setattr(MemoryResolving, "waiting", taken_out)


def dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(self: MemoryApplying, *_: object) -> None:
        """Setting nothing aside."""

    monkeypatch.setattr(MemoryApplying, "park", nothing)


def forgotten_too_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    async def what_peers_have(self: Gardener) -> None:
        self.board.noted = self.board.tail.position
        await retain(self)

    retain = Gardener.retain
    monkeypatch.setattr(Gardener, "retain", what_peers_have)
    monkeypatch.setattr(gardener, "ROUND_SECONDS", 0.1)


def parts_outlive_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_the_epoch(self: Ledger, claim: Claim) -> list[Item]:
        self.epoch = max(self.epoch, claim.epoch)
        return []

    monkeypatch.setattr(Ledger, "_claim", only_the_epoch)


def one_form_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (origin, intake, batching):
        monkeypatch.setattr(module, "in_form", lambda tables, forms: True)


def never_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "fits", lambda theirs, ours, literal: Equal())


MUTANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], Options]] = {
    "no look": (no_look, HOT),
    "no look at tombstones": (blind_look, HOT),
    "the tailer ignores tombstones": (no_tombstones, SKEWED),
    "the position is committed first": (position_first, Options(kill=0.001, seconds=6.0)),
    "tombstones go at once": (collected_at_once, HOT),
    "nothing is lifted": (overtaken_lifts_are_published, HOT),
    "the end of the own topic is not read": (own_end_unread, Options(kill=0.001, seconds=6.0)),
    "the bus forgets what was not noted": (forgotten_too_soon, Options(kill=0.001, seconds=6.0)),
    "held-back keys are tried once": (held_back_once, LOCKED),
    "rows that cannot stand are dropped": (dropped, Options(refused=0.2, seconds=4.0)),
    "a claim leaves parts as they are": (parts_outlive_a_claim, IN_PARTS),
    "definitions are not told apart": (one_form_for_all, BEHIND),
    "more columns here are no matter": (never_wide, WIDENED),
}

TRIES = 30


@pytest.mark.parametrize("name", MUTANTS)
def test_a_rule_that_is_off_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, options = MUTANTS[name]
    mutate(monkeypatch)
    for seed in range(2000, 2000 + TRIES):
        problems, _ = outcome(seed, options)
        if problems:
            break
    else:
        pytest.fail(f"{name}: survived {TRIES} seeds")
    monkeypatch.undo()
    assert outcome(seed, options)[0] == [], f"seed {seed} fails with the rule on, too"
