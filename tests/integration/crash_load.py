"""Clients that know what became of each of their writes, whatever dies under them.

Theory of operation.  Each transaction has a token.  It inserts the token into ``tokens``,
which nobody ever changes, and writes one of a few hot rows that all regions write: it
appends the token to the row's ``trail``, or deletes the row.  So each version of a hot row
names all versions that it was written over, and where a write has gone can be read from
what is left: it is in the trail of the final row, in the trail of an image that some
``conflict_log`` keeps, or in a trail that a client has deliberately deleted.  A write that was
answered and is in none of them was lost.

A client whose COMMIT was not answered does not know; that token may be there or not.
"""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import orjson

from meshnode.errors import Busy, MeshError, Retry
from meshnode.mysql.control import Control

TABLES = (
    "CREATE TABLE app.tokens (token VARCHAR(24) CHARACTER SET ascii COLLATE ascii_bin"
    " PRIMARY KEY, region INT NOT NULL)",
    "CREATE TABLE app.hot (id INT PRIMARY KEY, trail MEDIUMTEXT NOT NULL, n INT NOT NULL)",
)
Connect = Callable[[str], Awaitable[Control]]
"""Opens a new administrator session with the server of a region."""

HOT_ROWS = 12
DELETES, REPLACES = 0.06, 0.06
PACE_SECONDS = 0.05
AGAIN_SECONDS = 0.05


@dataclass
class Load:
    """One client of ``region``; ``seed`` decides what it does.

    ``acknowledged`` maps a token to its hot key; ``unsure`` likewise; ``removed`` holds the
    tokens, by key, that a delete or a REPLACE of this client wiped out.
    """

    region: str
    seed: str
    acknowledged: dict[str, int] = field(default_factory=dict)
    unsure: dict[str, int] = field(default_factory=dict)
    removed: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    stopped: bool = False

    async def run(self, connect: Connect) -> None:
        """Write until ``stopped``, through every loss of the server."""
        draw = random.Random(self.seed)
        number, control = 0, None
        while not self.stopped:
            number += 1
            token, key, kind = f"{self.seed}.{number}", draw.randrange(HOT_ROWS), draw.random()
            try:
                if control is None:
                    control = await connect(self.region)
                await self._write(control, token, key, kind)
                await asyncio.sleep(PACE_SECONDS)  # a client's pace, not a wait for anything
            except (Busy, Retry):
                # A deadlock, a lock or a server that is gone: with a new session none of
                # it can be half done.
                if control is not None:
                    with contextlib.suppress(MeshError, OSError):
                        await control.close()
                    control = None
                await asyncio.sleep(AGAIN_SECONDS)
        if control is not None:
            await control.close()

    async def _write(self, control: Control, token: str, key: int, kind: float) -> None:
        await control.execute("START TRANSACTION")
        await control.execute(
            "INSERT INTO app.tokens (token, region) VALUES (%s, @@server_id)", (token,)
        )
        gone = None
        if kind < DELETES + REPLACES:
            gone = await control.value("SELECT trail FROM app.hot WHERE id = %s FOR UPDATE", (key,))
        if gone is None:
            # An absent row cannot be locked: a peer's may come before a delete of what is not
            # there, which would take it unseen.
            kind = 1.0
        if kind < DELETES:
            await control.execute("DELETE FROM app.hot WHERE id = %s", (key,))
        elif kind < DELETES + REPLACES:
            await control.execute(
                "REPLACE INTO app.hot (id, trail, n) VALUES (%s, %s, 1)", (key, token)
            )
        else:
            await control.execute(
                "INSERT INTO app.hot (id, trail, n) VALUES (%s, %s, 1) ON DUPLICATE KEY UPDATE"
                " trail = CONCAT(trail, ' ', VALUES(trail)), n = n + 1",
                (key, token),
            )
        self.unsure[token] = key
        if gone:
            # Also if the answer is lost: the trail may be gone then.
            self.removed[key].update(gone.split())
        if kind < DELETES:
            self.removed[key].add(token)
        await control.execute("COMMIT")
        self.acknowledged[token] = self.unsure.pop(token)


@contextlib.asynccontextmanager
async def under_load(
    regions: Sequence[str], connect: Connect, clients: int = 2
) -> AsyncIterator[list[Load]]:
    """Clients in all ``regions`` until the end of the block; it fails if one of them does."""
    loads = [Load(name, f"{name}{at}") for name in regions for at in range(clients)]
    async with asyncio.TaskGroup() as group:
        for load in loads:
            group.create_task(load.run(connect))
        try:
            yield loads
        finally:
            for load in loads:
                load.stopped = True


async def traces(regions: Sequence[str], connect: Connect) -> tuple[set[str], dict[int, set[str]]]:
    """What is left: the rows of ``tokens``, and by hot key the tokens that are accounted for."""
    found: dict[int, set[str]] = defaultdict(set)
    tokens: set[str] = set()
    for at, region in enumerate(regions):
        async with await connect(region) as control:
            if at == 0:  # all regions are identical: the verify before this says so
                tokens = {row[0] for row in await control.rows("SELECT token FROM app.tokens")}
                for key, trail in await control.rows("SELECT id, trail FROM app.hot"):
                    found[key].update(trail.split())
            for image in await control.rows(
                "SELECT loser_image FROM meshnode.conflict_log"
                " WHERE schema_name = 'app' AND table_name = 'hot' AND loser_image IS NOT NULL"
            ):
                row = orjson.loads(image[0])
                found[int(row["id"])].update(row["trail"].split())
    return tokens, found


async def account_for(regions: Sequence[str], connect: Connect, loads: Sequence[Load]) -> None:
    """Every write that was answered is there, overwritten by who saw it, or on record."""
    tokens, found = await traces(regions, connect)
    for load in loads:
        for key, wiped in load.removed.items():
            found[key] |= wiped
    for load in loads:
        missing = load.acknowledged.keys() - tokens
        assert not missing, f"{load.region}: answered but nowhere: {sorted(missing)[:5]}"
        lost = [token for token, key in load.acknowledged.items() if token not in found[key]]
        assert not lost, f"{load.region}: lost without a record: {lost[:5]}"
    mine = {token for load in loads for token in (*load.acknowledged, *load.unsure)}
    assert tokens <= mine, f"rows that nobody wrote: {sorted(tokens - mine)[:5]}"
