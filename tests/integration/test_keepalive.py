"""Sessions that have nothing to say for longer than the server keeps them."""

import pytest
from steps import actor, converged, running, until

from meshnode.mysql import session as session_module
from meshnode.mysql.session import Session


@pytest.mark.parametrize("rule", ["on", "off"])
async def test_the_menders_session_outlives_a_quiet_time(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """Off: nothing is said.  The first write after a quiet time finds the session gone, and the
    origin side of the region starts again with a claim.
    """
    pinned = session_module._PINNED
    short = pinned.replace("wait_timeout = 30", "wait_timeout = 6", 1)
    assert short != pinned
    monkeypatch.setattr(session_module, "_PINNED", short)
    monkeypatch.setattr(session_module, "IDLE_SECONDS", 0.5)

    async def silent(self) -> None:
        return

    if rule == "off":
        monkeypatch.setattr(Session, "keep_alive", silent)
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await mesh.settle()
        before = actor(mesh, 0, "tailer").restarts
        beat = await one.value("SELECT beat FROM meshnode.heartbeat")

        async def later() -> bool:
            # A beat takes 0.2 s at the least: these take longer than the server waits.
            return await one.value("SELECT beat FROM meshnode.heartbeat") > beat + 40

        await until(later, "40 heartbeats", seconds=60)
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'after')")
        assert [row[1] for row in await converged(mesh)] == ["after"]
        restarts = actor(mesh, 0, "tailer").restarts - before
        assert restarts == 0 if rule == "on" else restarts >= 1
