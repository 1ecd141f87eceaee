"""A mesh in which nobody writes: what its nodes write by themselves."""

import pytest
from recording import executed, record, rows_events, unpacked
from steps import running, until

from meshnode.actors import census, gardener
from meshnode.mysql.bodies import parse_query
from meshnode.mysql.events import EventType

BEATS = 10
QUIET = {("meshnode", "heartbeat"), ("meshnode", "member"), ("meshnode", "applied")}


async def test_an_idle_mesh_writes_only_heartbeats_and_how_far_they_are_applied(
    servers, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who comes by every few seconds comes by several times.
    monkeypatch.setattr(gardener, "ROUND_SECONDS", 0.2)
    monkeypatch.setattr(census, "ROUND_SECONDS", 0.2)
    lent = await servers(2)
    async with running(lent, tmp_path) as mesh:
        await mesh.sql[0].execute("INSERT INTO app.t (id, v) VALUES (1, 'before')")
        await mesh.sql[1].execute("DELETE FROM app.t WHERE id = 7")
        await mesh.settle()
        with lent[0].connect() as connection:
            after = executed(connection)
        for _ in range(BEATS):
            beat = await mesh.sql[0].value("SELECT wall_us FROM meshnode.heartbeat")
            heard = await mesh.sql[0].value("SELECT heard_us FROM meshnode.applied")

            async def later(beat: int = beat, heard: int = heard) -> bool:
                now = await mesh.sql[0].row(
                    "SELECT wall_us, heard_us FROM meshnode.heartbeat, meshnode.applied"
                )
                return now[0] > beat and now[1] > heard

            await until(later, "the next beats")
        seen = record(lent[0], after)
        touched = {
            (each.table_map.shape.schema, each.table_map.shape.table) for each in rows_events(seen)
        }
        assert touched <= QUIET
        assert {table for _, table in touched} >= {"heartbeat", "applied"}
        statements = {
            parse_query(each.body).sql
            for each in unpacked(seen)
            if each.header.type == EventType.QUERY
        }
        assert statements <= {b"BEGIN"}
