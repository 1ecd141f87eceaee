"""Servers that are not what they were: commits are gone, or another server has the address."""

from itertools import count

from healthy import faults
from mesh import Mesh
from steps import running, until, waits

from meshnode.ops.doctor import Level, examine


async def use_up(mesh: Mesh, executed: str) -> None:
    """Let clients of region one write until every GTID of ``executed`` is there again."""
    numbers = count(100)

    async def again() -> object:
        await mesh.sql[0].execute("INSERT INTO app.t (id) VALUES (%s)", (next(numbers),))
        return await mesh.sql[0].value(f"SELECT GTID_SUBSET('{executed}', @@GLOBAL.gtid_executed)")

    await until(again, "every number of what was lost is used again")


async def test_the_stream_stands_also_when_all_numbers_are_used_again(throwaway, tmp_path) -> None:
    async with running([await throwaway(), await throwaway()], tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id) VALUES (1)")
        await mesh.settle()
        executed = str(await one.value("SELECT @@GLOBAL.gtid_executed")).replace("\n", "")
        await one.execute("RESET BINARY LOGS AND GTIDS")
        await use_up(mesh, executed)
        await waits(mesh, 0, "tailer", "has lost commits", "is another transaction now")
        await mesh.stop(0)
        (found,) = faults(await examine(mesh.topology, "one"))
        assert (found.check, found.level) == ("published-history", Level.REFUSE)
        assert "is another transaction now" in found.finding
        mesh.start(0)
        await waits(mesh, 0, "tailer", "is another transaction now")
        assert await two.rows("SELECT id FROM app.t") == [(1,)]


async def test_another_server_under_the_address_is_refused_by_a_node_that_runs(
    throwaway, tmp_path
) -> None:
    async with running([await throwaway(), await throwaway()], tmp_path) as mesh:
        one = mesh.sql[0]
        await mesh.settle()
        # As a replica would have it, which has everything but the uuid.
        await one.execute("UPDATE meshnode.member SET server_uuid = UUID()")
        epoch = await one.value("SELECT epoch FROM meshnode.member")
        dump = await one.value(
            "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
        )
        await one.execute(f"KILL {dump}")
        await waits(mesh, 0, "tailer", "this is another server, perhaps a replica")
        assert await one.value("SELECT epoch FROM meshnode.member") == epoch
