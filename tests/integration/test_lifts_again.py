"""A transaction that is judged again after its lifts: they are done, and nothing was overtaken."""

import pytest
from mesh import Mesh
from steps import PLAIN, converged, records, running, sees, until

from meshnode.errors import Retry
from meshnode.lab.wire_proxy import Fate, proxied
from meshnode.mysql.schema import TriggerRole, trigger_name

BARE = "CREATE TABLE app.bare (id INT PRIMARY KEY, v VARCHAR(40))"


async def unstamped(mesh: Mesh) -> None:
    """What region one inserts into ``app.bare`` from now on gets no stamp, so it is lifted."""
    await mesh.settle()
    name = trigger_name(TriggerRole.BEFORE_INSERT, "app", "bare")
    await mesh.sql[0].execute(f"DROP TRIGGER app.`{name}`")


async def nothing_overtaken(mesh: Mesh, count: int) -> None:
    rows = await converged(mesh, "app.bare")
    assert len(rows) == count
    for key in range(1, count + 1):
        assert await records(mesh, {"id": key}, "bare") == [[], []]
    assert mesh.count("overtaken") == 0
    assert mesh.count("lifts") >= count


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.ZOMBIE])
async def test_a_lift_whose_commit_had_no_answer(servers, tmp_path, fate: Fate) -> None:
    """Done or not: the row says it.  What carries the lift's own stamp is no other version."""
    lent = await servers(2)
    async with proxied(lent[0]) as proxy:
        async with running([proxy, lent[1]], tmp_path, PLAIN, BARE) as mesh:
            await unstamped(mesh)

            def decide(program: str, sent: bytes) -> Fate:
                lifts = program == "meshnode mender" and b"meshnode.mend" in sent
                return fate if lifts and not proxy.met else Fate.PASSES

            proxy.decide = decide
            await mesh.sql[0].execute("INSERT INTO app.bare VALUES (1, 'x'), (2, 'y')")
            await until(lambda: proxy.met, "a lift without an answer")
            proxy.bury()
            await sees(mesh, 1, "SELECT v FROM app.bare WHERE id = 2", "y")
            await nothing_overtaken(mesh, 2)


async def test_lifts_whose_frame_was_not_acknowledged(servers, tmp_path) -> None:
    """The whole transaction is read again, and its lifts are committed."""
    async with running(servers, tmp_path, PLAIN, BARE) as mesh:
        await unstamped(mesh)
        node, _ = mesh.nodes[0]
        append, failed = node.writer.append, []

        async def append_once_not(payload: bytes) -> bytes:
            if not failed and node.board.counts["lifts"]:
                failed.append(payload)
                raise Retry("the bus is away")
            return await append(payload)

        node.writer.append = append_once_not
        one = mesh.sql[0]
        await one.execute("BEGIN")
        await one.execute("INSERT INTO app.bare VALUES (1, 'x')")
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'published at once')")
        await one.execute("COMMIT")
        await until(lambda: failed, "a frame that is not acknowledged")
        await sees(mesh, 1, "SELECT v FROM app.bare WHERE id = 1", "x")
        await nothing_overtaken(mesh, 1)
