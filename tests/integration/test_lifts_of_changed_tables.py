"""Rows that must be lifted, of a table that has changed since they were written."""

import pytest
from steps import converged, run, running, waits

from meshnode.mysql import mending
from meshnode.mysql.mending import MendingStatements
from meshnode.mysql.schema import TriggerRole, trigger_name

both = pytest.mark.parametrize("rule", ["on", "off"])
WIDER = (
    "ALTER TABLE app.t ADD COLUMN big BIGINT UNSIGNED NOT NULL DEFAULT 0 AFTER n,"
    " ADD COLUMN small TINYINT UNSIGNED NOT NULL DEFAULT 0 AFTER big"
)


async def unstamped(mesh) -> None:
    """Region one's node is stopped, and a row is written that no trigger stamped."""
    one = mesh.sql[0]
    await mesh.settle()
    await mesh.stop(0)
    name = trigger_name(TriggerRole.BEFORE_INSERT, "app", "t")
    created = (await one.row(f"SHOW CREATE TRIGGER app.{name}"))[2]
    await run(
        one,
        f"DROP TRIGGER app.{name}",
        "INSERT INTO app.t (id, v) VALUES (1, 'unstamped')",
        "USE app",
        created,
    )


@both
async def test_columns_that_were_added_before_the_stamp(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """Off: the stamp is written where it stood when the row was, into the new columns."""

    async def as_it_was(self, table):
        return table

    if rule == "off":
        monkeypatch.setattr(MendingStatements, "_present", as_it_was)
    async with running(servers, tmp_path) as mesh:
        await unstamped(mesh)
        await mesh.everywhere(WIDER)
        mesh.start(0)
        (row,) = await converged(mesh)
        assert row[:3] == (1, "unstamped", 0)
        if rule == "on":
            assert row[3:5] == (0, 0)
            assert mesh.count("lifts") == 1
        else:
            assert row[3] > 0 and row[4] == 1


@both
async def test_a_table_that_was_dropped(servers, tmp_path, monkeypatch, rule) -> None:
    """The stream stops at the DROP, which ``skip`` can pass.  Off: it stops at the lift of a
    table that is not there, and no transaction is named.
    """

    def never(error) -> bool:
        return False

    if rule == "off":
        monkeypatch.setattr(mending, "names_no_table", never)
    async with running(servers, tmp_path) as mesh:
        await unstamped(mesh)
        await mesh.sql[0].execute("DROP TABLE app.t")
        mesh.start(0)
        if rule == "on":
            state = await waits(mesh, 0, "tailer", "DROP", "app.t")
            assert "meshnode skip --region one --tx " in state.remedy
        else:
            state = await waits(mesh, 0, "tailer", "1146", "app.t")
            assert "meshnode skip" not in state.remedy


@both
async def test_a_key_that_has_another_type_now(servers, tmp_path, monkeypatch, rule) -> None:
    """The stream stops with the reason.  Off: the lift names another row than the one it means."""

    async def whatever_the_key(self, table):
        return await self.tables.named(table.schema, table.name)

    if rule == "off":
        monkeypatch.setattr(MendingStatements, "_present", whatever_the_key)
    async with running(servers, tmp_path) as mesh:
        await unstamped(mesh)
        await mesh.sql[0].execute("ALTER TABLE app.t MODIFY COLUMN id BIGINT")
        mesh.start(0)
        if rule == "on":
            await waits(mesh, 0, "tailer", "the key of app.t was changed", "lifted")
        else:
            state = await waits(mesh, 0, "tailer", "1032", state="retrying")
            assert state.restarts >= 1
