"""The doctor compares the server's past with the end of the region's own topic, running or not."""

import asyncio

from healthy import faults
from mesh import Mesh
from steps import converged, running, sees, until, waits

from meshnode.ops.doctor import Finding, Level, examine

TAIL = (
    "tail_position", "tail_seq", "tail_gtids", "tail_frontier", "tail_epoch", "tail_tx_id",
    "tail_commit_us",
)  # fmt: skip


async def past(mesh: Mesh) -> list[Finding]:
    """What the doctor says of the past of region one."""
    found = await examine(mesh.topology, "one")
    assert "published-history" in {each.check for each in found}
    return [each for each in faults(found) if each.check == "published-history"]


async def purge(mesh: Mesh) -> None:
    """Forget all files of the binary log but the newest."""
    one = mesh.sql[0]
    newest = (await one.rows("SHOW BINARY LOGS"))[-1][0]
    await one.execute(f"PURGE BINARY LOGS TO '{newest}'")
    assert await one.value("SELECT @@GLOBAL.gtid_purged")


async def test_what_is_purged_and_not_published_is_found_before_the_node_halts(
    throwaway, tmp_path
) -> None:
    async with running([await throwaway(), await throwaway()], tmp_path) as mesh:
        one = mesh.sql[0]
        await mesh.settle()
        noted = ", ".join(f"@{name}" for name in TAIL)
        await one.execute(f"SELECT {', '.join(TAIL)} INTO {noted} FROM meshnode.member")
        await one.execute("INSERT INTO app.t (id) VALUES (1)")
        await one.execute("FLUSH BINARY LOGS")
        await mesh.settle()
        assert await past(mesh) == [], "while the node runs"
        await mesh.stop(0)
        # A note that lags behind the topic is no reason to call the rest lost.
        assign = ", ".join(f"{name} = @{name}" for name in TAIL)
        await one.execute("SET SESSION sql_log_bin = 0")
        await one.execute(f"UPDATE meshnode.member SET {assign}")
        await purge(mesh)
        assert await past(mesh) == []

        await one.execute("SET SESSION sql_log_bin = 1")
        await one.execute("INSERT INTO app.t (id) VALUES (2)")
        await one.execute("FLUSH BINARY LOGS")
        assert await past(mesh) == [], "it is in the binary log"
        await purge(mesh)
        (found,) = await past(mesh)
        assert (found.level, found.subject) == (Level.WARN, "gtid_purged")
        assert "which is not published" in found.finding
        assert "A purged position" in found.remedy
        # It starts all the same: what its peers publish is applied.
        mesh.start(0)
        await waits(mesh, 0, "tailer", "has purged transactions")
        await mesh.sql[1].execute("INSERT INTO app.t (id) VALUES (3)")

        async def arrived() -> object:
            return await one.value("SELECT COUNT(*) FROM app.t WHERE id = 3")

        await until(arrived, "the row of the peer")


async def test_what_is_published_and_not_committed_yet_is_not_lost(throwaway, tmp_path) -> None:
    """A commit that waits for a semi-synchronous replica is in the log, and with the peers.

    Needed: ``gtid_owned`` beside ``gtid_executed``.  Without semi-synchronous replicas it is so
    for the moment between the sync of the log and the commit.
    """
    async with running([await throwaway(), await throwaway()], tmp_path) as mesh:
        one = mesh.sql[0]
        await mesh.settle()
        await one.execute("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'")
        await one.execute("SET GLOBAL rpl_semi_sync_source_timeout = 600000")
        await one.execute("SET GLOBAL rpl_semi_sync_source_enabled = ON")
        async with await mesh.session(0) as client:
            waiting = asyncio.create_task(client.execute("INSERT INTO app.t (id) VALUES (1)"))
            await sees(mesh, 1, "SELECT COUNT(*) FROM app.t", 1)
            assert await one.value("SELECT COUNT(*) FROM app.t") == 0
            assert await past(mesh) == []
            await one.execute("SET GLOBAL rpl_semi_sync_source_enabled = OFF")
            await waiting
        assert len(await converged(mesh)) == 1
        assert await past(mesh) == []


async def test_a_topic_that_is_not_read_in_time_is_named(servers, tmp_path, monkeypatch) -> None:
    async def forever(*_: object) -> str:
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr("meshnode.ops.doctor_history.ANSWER_SECONDS", 0.05)
    monkeypatch.setattr("meshnode.ops.doctor_history._published", forever)
    async with running(servers, tmp_path) as mesh:
        (found,) = await past(mesh)
        assert (found.level, found.subject) == (Level.WARN, "topic of one")
        assert "not read within 0.05 s" in found.finding
