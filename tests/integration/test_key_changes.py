"""Key columns that were changed, and clients who did not wait for `init`."""

import pytest
from steps import converged, run, running, waits

from meshnode.core.shape import buries
from meshnode.mysql import catalog, maps

PAIRS = "CREATE TABLE app.pair (a INT NOT NULL, b INT NOT NULL, PRIMARY KEY (a, b))"
LAGS = "the tombstone table of {} does not have its key"
both = pytest.mark.parametrize("rule", ["on", "off"])


async def test_a_delete_before_the_tombstones_have_the_wider_key(servers, tmp_path) -> None:
    """Its tombstone is logged with four bytes of key, its row with eight."""
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await run(one, "INSERT INTO app.t (id, v) VALUES (1, 'a'), (2, 'b'), (3, 'c')")
        await mesh.settle()
        await mesh.everywhere("ALTER TABLE app.t MODIFY COLUMN id BIGINT NOT NULL")
        await run(one, "DELETE FROM app.t WHERE id = 1", "UPDATE app.t SET v = 'B' WHERE id = 2")
        state = await waits(mesh, 1, "applier one", LAGS.format("app.t"))
        assert "meshnode init" in state.remedy
        await mesh.init()
        assert [row[:2] for row in await converged(mesh)] == [(2, "B"), (3, "c")]


@both
async def test_a_delete_after_the_key_s_columns_have_changed_places(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """Off: (1, 2) is read as (2, 1), which the peers delete, and the origin keeps."""
    if rule == "off":
        monkeypatch.setattr(maps, "buries", lambda *_: True)
        monkeypatch.setattr(catalog, "buries", lambda *_: True)
    else:
        assert catalog.buries is maps.buries is buries
    async with running(servers, tmp_path, PAIRS) as mesh:
        one = mesh.sql[0]
        await run(one, "INSERT INTO app.pair (a, b) VALUES (1, 2), (2, 1)")
        await mesh.settle()
        await mesh.everywhere("ALTER TABLE app.pair MODIFY COLUMN a INT NOT NULL AFTER b")
        await run(one, "DELETE FROM app.pair WHERE a = 1 AND b = 2")
        if rule == "on":
            await waits(mesh, 1, "applier one", LAGS.format("app.pair"))
            await mesh.init()
        await mesh.settle()
        left = [await sql.rows("SELECT a, b FROM app.pair") for sql in mesh.sql]
        assert left == ([[(2, 1)]] * 2 if rule == "on" else [[(2, 1)], []])
