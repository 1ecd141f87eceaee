"""A server that comes back as it was some time ago, under a node that lives.

It gives the numbers of what it lost to other transactions.  When it has used them up, everything
that was published is in ``gtid_executed`` again, and only what stands behind a number tells.
"""

import asyncio

import pytest

from meshnode.actors.kernel import Actor

from .clients import Client
from .options import Options
from .world import TABLE, Place, World

OPTIONS = Options(regions=2, clients=1, seconds=1.0)


class Restored(World):
    """Region 1 is set back by ``lost`` seconds; then clients write there, or do not."""

    def __init__(self, seed: int, lost: float, clients: bool) -> None:
        super().__init__(seed, OPTIONS)
        self.lost = lost
        self.clients = clients
        self.seen: list[str] = []

    async def _client(self, place: Place) -> None:
        if place.number != 1:
            return
        database = place.database
        client = Client(database, 1, TABLE)
        for key in range(100, 110):
            await client.insert(key, f"kept {key}")
        while database.open:
            await database.growth()
        copy, transactions = dict(database.records), len(database.binlog)
        for key in range(int(self.lost * 10)):
            await client.insert(key, f"lost {key}")
            await asyncio.sleep(0.1)
        await asyncio.sleep(2.0)
        database.set_back(copy, transactions)
        for session in list(place.store.sessions):
            session.close()
        for key in range(1000, 1300):
            if self.clients:
                await client.insert(key, f"new {key}")
            await asyncio.sleep(0.1)
            assert place.node is not None
            self._see(place.node.actors)

    def _see(self, actors: list[Actor]) -> None:
        (tailer,) = (actor.state for actor in actors if actor.name == "tailer")
        if not self.seen or self.seen[-1] != tailer.state:
            self.seen.append(tailer.state)


@pytest.mark.parametrize("clients", [True, False], ids=["clients write", "nobody writes"])
@pytest.mark.parametrize("lost", [0.3, 1.5])
def test_a_tailer_never_goes_on_behind_commits_that_were_lost(lost: float, clients: bool) -> None:
    world = Restored(7, lost, clients)
    problems = world.run()
    assert world.seen[-1] == "halted"
    assert world.seen.count("running") <= 1
    assert any("lost commits that one has published" in each for each in problems)
