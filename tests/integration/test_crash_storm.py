"""SIGKILL of node processes and of servers, at random moments, under load that conflicts.

The moments come from a seed that every failure names.  Where a process dies, between which
two of its steps, nobody chooses: over many kills every place has its turn, the start of
a node that was killed a moment ago as well.
"""

import asyncio
import random

import pytest
from crash_load import under_load
from crash_mesh import crash_mesh

pytestmark = pytest.mark.timeout(900)

REGIONS = 3
AT_WORK = 0.5
"""So many kills wait until the node has claimed its stream; the others meet its start, too."""


async def storm(tmp_path, mysqld, nodes: int, servers: int, seed: int) -> None:
    """Kill ``nodes`` nodes and ``servers`` servers, each started again at once."""
    draw = random.Random(seed)
    kinds = ["node"] * nodes + ["server"] * servers
    draw.shuffle(kinds)
    async with crash_mesh(tmp_path, mysqld, REGIONS) as mesh:
        async with under_load(mesh.names, mesh.sql) as loads:
            for kind in kinds:
                region = draw.choice(mesh.names)
                if draw.random() < AT_WORK:
                    await mesh.at_work(region)
                # The moment is the point of this test.
                await asyncio.sleep(draw.uniform(0.0, 0.8))
                if kind == "node":
                    await mesh.kill_node(region)
                    mesh.start_node(region)
                else:
                    await mesh.servers[region].kill_async()
                    await mesh.servers[region].start_async()
            ended = [name for name in mesh.names if not mesh.node(name).running]
            assert not ended, f"seed {seed}: ended by itself: {ended}{mesh.tails()}"
        try:
            report = await mesh.judge(loads)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
        assert all(len(load.acknowledged) > 50 for load in loads), f"seed {seed}: no load"
        assert report["lost_writes"] > 0, f"seed {seed}: the load made no conflict"


async def test_nodes_and_servers_that_are_killed_under_load(tmp_path, mysqld) -> None:
    """Identical, nothing applied or published twice, every answered write there or on record."""
    await storm(tmp_path, mysqld, nodes=20, servers=3, seed=random.randrange(1 << 30))


@pytest.mark.slow
async def test_a_long_storm(tmp_path, mysqld) -> None:
    """The same for about five minutes."""
    await storm(tmp_path, mysqld, nodes=150, servers=20, seed=random.randrange(1 << 30))
