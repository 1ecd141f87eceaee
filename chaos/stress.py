"""The stress: a few hot keys, two appliers, local writers, and no pause.

Theory of operation.  Three regions with skewed clocks.  All write the same two to four keys at a
time as fast as they can: INSERT, UPDATE, REPLACE, DELETE, rows that come and go in a transaction,
and deletes that no trigger sees (of a parent, by cascade).  Their nodes run in this process, so a
rule can be switched off in them, and each step of an apply transaction is followed by a short
pause drawn from the seed: what happens within a microsecond once a year happens many times a
second.

What is not there has no lock: the narrowest races need a key that has neither row nor tombstone.
So in most rounds the hot keys are others after a moment; in the rest they stay, and have both.

It goes in rounds.  During a round every region is looked at all the while: no row of another
region beside a newer tombstone.  After it the mesh comes to rest, and the oracle says from the
published streams what must be left: final rows equal to it, in every region, stamps included,
and every write that lost on record.
"""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from chaos.journal import Journal
from chaos.mesh import SCHEMA, Mesh, mesh_of
from chaos.mutants import switched_off
from chaos.plan import Setting
from meshnode.errors import MeshError
from meshnode.lab import checker
from meshnode.mysql.applying import ApplyingStatements
from meshnode.mysql.control import Control
from meshnode.mysql.schema import tombstone_table
from meshnode.node import Node

TABLES = (
    "CREATE TABLE chaos.parents (id INT PRIMARY KEY)",
    "CREATE TABLE chaos.hot (id INT PRIMARY KEY, parent INT NOT NULL, v VARCHAR(30) NOT NULL,"
    " CONSTRAINT hot_parent FOREIGN KEY (parent) REFERENCES chaos.parents (id) ON DELETE CASCADE)",
)
ROUND_SECONDS = 5.0
LOOK_SECONDS = 0.02
LEAST_SHARE = 10
"""A stress that met no conflict, or no plan that had to be made anew, goes on for up to so many
times its length: a slow machine is no reason for a stress that is none."""

PAUSE_SECONDS = 0.004
"""The longest pause between two steps of an apply transaction."""

KEYS = 2, 4
"""The least and the most keys that are hot at a time in a round."""

MOVES = (0.1, 0.2, 0.5, math.inf)
"""After so many seconds, one of these in each round, all clients turn to keys of nobody."""

WRITERS = 2
SKEWS = (0.0, 0.4, -0.3)


@dataclass
class Stressed:
    """What a stress did and found."""

    seed: int
    mutant: str = ""
    rounds: int = 0
    transactions: int = 0
    applied: int = 0
    replans: int = 0
    conflicts: int = 0
    seconds: float = 0.0
    findings: list[tuple[str, str]] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        rule = f" with {self.mutant}" if self.mutant else ""
        return (
            f"stress seed {self.seed}{rule}: {self.rounds} rounds,"
            f" {self.transactions} transactions, {self.applied} applied, {self.replans} planned"
            f" anew, {self.conflicts} conflicts, {self.seconds:.0f} s: "
            + ("good" if self.good else f"{self.findings[0][0]}: {self.findings[0][1][:300]}")
        )


async def stress(
    seed: int,
    seconds: float,
    folder: Path,
    mutant: str = "",
    report: Callable[[str], None] = print,
) -> Stressed:
    """Rounds for ``seconds``, or until something is wrong; ``mutant`` switches a rule off."""
    draw = random.Random(seed)
    result = Stressed(seed, mutant)
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240
    journal = Journal(folder / "journal.jsonl")
    setting = Setting(regions=3, clocks=True)
    try:
        async with mesh_of(folder / "mesh", setting, TABLES, journal, processes=False) as mesh:
            for name, skew in zip(mesh.names, draw.sample(SKEWS, 3), strict=True):
                mesh.clocks[name].step(skew)
            with switched_off(mutant), _slowed(random.Random(f"{seed} pauses")):
                async with _nodes(mesh) as nodes:
                    began = time.monotonic()
                    while not journal.findings and _goes_on(
                        result, time.monotonic() - began, seconds
                    ):
                        await _round(mesh, result, draw.random(), journal)
                        result.replans = sum(node.board.counts["replans"] for node in nodes)
                        report(f"  round {result.rounds}: {result.transactions} transactions")
                    result.seconds = time.monotonic() - began
                    result.applied = sum(
                        peer.counts["applied_transactions"]
                        for node in nodes
                        for peer in node.board.peers.values()
                    )
    finally:
        result.findings = journal.findings
        journal.close()
    return result


def _goes_on(result: Stressed, gone: float, seconds: float) -> bool:
    """Whether there is to be another round, ``gone`` seconds after the first began."""
    if gone < seconds:
        return True
    return not (result.conflicts and result.replans) and gone < LEAST_SHARE * seconds


@contextlib.contextmanager
def _slowed(draw: random.Random):
    """A pause after each step of every apply transaction."""
    own = {name: getattr(ApplyingStatements, name) for name in ("lock", "write", "look")}

    def slow(name: str):
        async def step(self: ApplyingStatements, *arguments: object):
            done = await own[name](self, *arguments)
            await asyncio.sleep(draw.random() * PAUSE_SECONDS)
            return done

        return step

    for name in own:
        setattr(ApplyingStatements, name, slow(name))
    try:
        yield
    finally:
        for name, method in own.items():
            setattr(ApplyingStatements, name, method)


@contextlib.asynccontextmanager
async def _nodes(mesh: Mesh) -> AsyncIterator[list[Node]]:
    topology = mesh.topology
    nodes = [Node(topology, None, name) for name in mesh.names]
    tasks = [asyncio.create_task(node.run()) for node in nodes]
    try:
        yield nodes
    finally:
        for node in nodes:
            node.supervisor.stop()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _round(mesh: Mesh, result: Stressed, seed: float, journal: Journal) -> None:
    stop = asyncio.Event()
    draw = random.Random(f"{seed} moves")
    moves, keys = draw.choice(MOVES), draw.randint(*KEYS)
    begun = time.monotonic()
    # The rounds that keep their keys share them.
    first = 0 if moves == math.inf else 1000 * (result.rounds + 1)

    def hot() -> range:
        least = first + int((time.monotonic() - begun) / moves) * keys
        return range(least, least + keys)

    writers = [
        asyncio.create_task(
            _write(mesh, name, result, hot, random.Random(f"{seed} {name} {at}"), stop)
        )
        for name in mesh.names
        for at in range(WRITERS)
    ]
    watchers = [asyncio.create_task(_watch(mesh, name, journal, stop)) for name in mesh.names]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ROUND_SECONDS):
            await stop.wait()
    stop.set()
    await asyncio.gather(*writers, *watchers)
    result.rounds += 1
    verdict = await mesh.settle()
    if not verdict.complete:
        journal.find("I14", "; ".join(verdict.reasons))
    checked = await checker.check(mesh.cluster)
    result.conflicts = checked.lost_writes
    for finding in checked.findings:
        journal.find("I1", finding)


async def _write(
    mesh: Mesh,
    region: str,
    result: Stressed,
    hot: Callable[[], range],
    draw: random.Random,
    stop: asyncio.Event,
) -> None:
    control = await mesh.sql(region)
    try:
        while not stop.is_set():
            try:
                for statement in _statements(draw, hot(), f"{region}.{result.transactions}"):
                    await control.execute(statement)
                result.transactions += 1
            except MeshError:
                # A deadlock, a lock, a parent that is gone: the client goes on.
                with contextlib.suppress(MeshError):
                    await control.execute("ROLLBACK")
            await asyncio.sleep(draw.random() * PAUSE_SECONDS * 4)
    finally:
        await control.close()


def _statements(draw: random.Random, keys: range, word: str) -> list[str]:
    key = draw.choice(keys)
    row = f"({key}, {key}, '{word}')"
    parent = f"INSERT IGNORE INTO chaos.parents VALUES ({key})"
    return draw.choices(
        (
            ["START TRANSACTION", parent, f"INSERT INTO chaos.hot VALUES {row}", "COMMIT"],
            ["START TRANSACTION", parent, f"REPLACE INTO chaos.hot VALUES {row}", "COMMIT"],
            [
                "START TRANSACTION", parent, f"INSERT INTO chaos.hot VALUES {row}",
                f"DELETE FROM chaos.hot WHERE id = {key}", "COMMIT",
            ],
            [f"UPDATE chaos.hot SET v = '{word}' WHERE id = {key}"],
            [f"DELETE FROM chaos.hot WHERE id = {key}"],
            [f"DELETE FROM chaos.parents WHERE id = {key}"],
        ),
        (4, 2, 4, 3, 4, 1),
    )[0]  # fmt: skip


async def _watch(mesh: Mesh, region: str, journal: Journal, stop: asyncio.Event) -> None:
    """No row of another region beside a newer tombstone, at any moment."""
    own = mesh.id(region)
    control = await mesh.sql(region)
    try:
        while not stop.is_set():
            rows = await _beside(control, own)
            if rows:
                journal.find("I3", f"{region}: beside a newer tombstone: {rows}")
                stop.set()
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await control.close()


async def _beside(control: Control, own: int) -> list[tuple]:
    return await control.rows(
        "SELECT r.id, r._mesh_ts, r._mesh_origin, t._mesh_ts, t._mesh_origin"
        f" FROM {SCHEMA}.hot r JOIN {tombstone_table(SCHEMA, 'hot')} t ON r.id = t.id"
        " WHERE (t._mesh_ts, t._mesh_origin) > (r._mesh_ts, r._mesh_origin)"
        f" AND r._mesh_origin NOT IN (0, {own})"
    )
