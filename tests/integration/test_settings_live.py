"""Settings that somebody changes while the node runs."""

import pytest
from steps import actor_of, running, sees, until, waits

from meshnode.ops.status import look

COUNT = "SELECT COUNT(*) FROM app.t"


async def told(mesh, region: str, *words: str) -> None:
    """Wait until ``status`` says all ``words`` of the region in one problem."""

    async def said() -> bool:
        status = await look(mesh.topology)
        return not status.converged and any(
            problem.region == region and all(word in str(problem) for word in words)
            for problem in status.problems
        )

    await until(said, f"{words} in status")


@pytest.mark.parametrize("name", ["innodb_flush_log_at_trx_commit", "sync_binlog"])
async def test_a_server_that_may_forget_publishes_nothing(servers, tmp_path, name: str) -> None:
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'durable')")
        await mesh.settle()
        await one.execute(f"SET GLOBAL {name} = 0")
        await waits(mesh, 0, "settings", f"{name} is '0'", "nothing is published", "SET PERSIST")
        await one.execute("INSERT INTO app.t (id, v) VALUES (2, 'may be lost')")
        await told(mesh, "one", "settings halted", name)
        node, _ = mesh.nodes[0]
        assert node.board.hold.closed
        # Whatever its peer publishes is still applied: a crash takes rows and position together.
        await mesh.sql[1].execute("INSERT INTO app.t (id, v) VALUES (3, 'from two')")
        await sees(mesh, 0, COUNT, 3)
        beats = node.board.beat_us
        await until(lambda: node.board.beat_us > beats + 1_000_000, "beats go on")
        assert await mesh.sql[1].value(COUNT) == 2, "published though it may be lost"
        await one.execute(f"SET GLOBAL {name} = 1")
        await sees(mesh, 1, COUNT, 3)
        await waits(mesh, 0, "settings", state="running")
        await mesh.settle()
        await mesh.same("app.t")


async def test_a_setting_that_loses_no_commit_is_told_and_holds_nothing(servers, tmp_path) -> None:
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await mesh.settle()
        await one.execute("SET GLOBAL binlog_row_image = MINIMAL")
        await waits(mesh, 0, "settings", "binlog_row_image is 'MINIMAL'", "SET PERSIST")
        await told(mesh, "one", "settings halted", "binlog_row_image")
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'goes on')")
        await sees(mesh, 1, COUNT, 1)
        await one.execute("SET GLOBAL binlog_row_image = FULL")
        await waits(mesh, 0, "settings", state="running")


async def test_a_lab_may_run_without_durability(servers, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MESHNODE_LAB", "1")
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await mesh.settle()
        await one.execute("SET GLOBAL sync_binlog = 0")
        guard = actor_of(mesh, 0, "settings")
        await until(lambda: guard.warned, "the guard has seen it")
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'goes on')")
        await sees(mesh, 1, COUNT, 1)
        assert guard.state.state == "running"
