"""A DBA, or a server's own time limit, ends the node's sessions at any moment.

The nodes must find their way back by themselves, and nobody may take the death of a session
for the rise of a successor.
"""

import asyncio
import random

from crash_load import TABLES, under_load
from crash_steps import audited, connector, judge
from mesh import NAMES

from meshnode.errors import MeshError
from meshnode.mysql.control import code_of

KILLS = 80
OWN = "SELECT id FROM information_schema.processlist WHERE user IN ('mesh_tail', 'mesh_apply')"
GONE = 1094


async def test_sessions_that_are_killed_at_random(servers, tmp_path) -> None:
    """KILL and KILL QUERY, under load, while idle sessions may live for a second only."""
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    lent = await servers(2)
    async with audited(lent, tmp_path, *TABLES) as mesh:
        for sql in mesh.sql:
            await sql.execute("SET GLOBAL wait_timeout = 1, GLOBAL interactive_timeout = 1")
        restarts = actor_restarts(mesh)
        async with under_load(NAMES[:2], connector(mesh)) as loads:
            killed = 0
            while killed < KILLS:
                # The moment is the point of this test.
                await asyncio.sleep(chance.uniform(0.0, 0.2))
                at = chance.randrange(2)
                found = [row[0] for row in await mesh.sql[at].rows(OWN)]
                if found:
                    what = chance.choice(("CONNECTION", "CONNECTION", "QUERY"))
                    killed += await kill(mesh.sql[at], what, chance.choice(found))
        for sql in mesh.sql:
            await sql.execute("SET GLOBAL wait_timeout = 28800, GLOBAL interactive_timeout = 28800")
        assert actor_restarts(mesh) > restarts, f"seed {seed}: nobody noticed"
        await judge(mesh, loads, f"seed {seed}")


async def kill(sql, what: str, thread: int) -> bool:
    """Whether the session was still there."""
    try:
        await sql.execute(f"KILL {what} {thread}")
    except MeshError as error:
        if code_of(error) != GONE:
            raise
        return False
    return True


def actor_restarts(mesh) -> int:
    return sum(actor.state.restarts for node, _ in mesh.nodes.values() for actor in node.actors)
