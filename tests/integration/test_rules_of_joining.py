"""The rules of what stood in a table before it was replicated, each with the rule on, and off."""

import pytest
from mesh import mesh_of
from regions import now_us

from meshnode.mysql import schema
from meshnode.ops import activation, install_data
from tests.sim.mutants_tables import the_tombstone_wins


async def no_time(*_: object) -> int:
    return 0


RULES = {
    "all on": (None, {1: None, 2: 2, 3: 30}),
    "told by the clock alone": ("newest_us", {1: 1, 2: None, 3: 3}),
    "a tombstone is newer than the row below it": ("decide", {1: None, 2: 2, 3: None}),
}
"""What is off, and what the second region has at the end."""


@pytest.mark.parametrize("off", RULES)
async def test_what_was_stamped_before_a_clock_stepped_back_is_compared(
    servers, tmp_path, monkeypatch, off
) -> None:
    """Rows and a tombstone of before the activation, stamped later than it: no stream has them.

    Row 3 was deleted, and inserted again below its tombstone.  With a rule off a region keeps
    what it had, or loses what its client wrote last.
    """
    rule, second = RULES[off]
    if rule == "newest_us":
        monkeypatch.setattr(activation, "newest_us", no_time)
    elif rule == "decide":
        monkeypatch.setattr(install_data, "decide", the_tombstone_wins(install_data.decide))
    pair = await servers(2)
    async with mesh_of(pair, tmp_path) as mesh:
        ahead = now_us() + 3600 * 1_000_000
        await mesh.everywhere(
            "CREATE DATABASE app",
            # The columns as init adds them: nothing stamps what is written yet.
            "CREATE TABLE app.t (id INT PRIMARY KEY, v INT,"
            " _mesh_ts BIGINT UNSIGNED NOT NULL DEFAULT 0 INVISIBLE,"
            " _mesh_origin TINYINT UNSIGNED NOT NULL DEFAULT 0 INVISIBLE)",
            "INSERT INTO app.t VALUES (1, 1), (3, 3)",
        )
        await mesh.sql[0].execute(
            "INSERT INTO app.t (id, v, _mesh_ts, _mesh_origin) VALUES (2, 2, %s, 1)", (ahead,)
        )
        written: list[str] = []

        def write_once(line: str) -> None:
            # Those of region one stand by now; its stream has not begun.
            if not written and line.startswith("two: ") and "TRIGGER" in line:
                written.append(line)
                with pair[0].connect() as connection:
                    cursor = connection.cursor()
                    cursor.execute("DELETE FROM app.t WHERE id <> 2")
                    tombstones = schema.tombstone_table("app", "t")
                    cursor.execute(f"UPDATE {tombstones} SET _mesh_ts = {ahead}")
                    cursor.execute("INSERT INTO app.t VALUES (3, 30)")

        result = await mesh.init(report=write_once)
        mesh.start()
        await mesh.settle()
        rows = dict(await mesh.sql[1].rows("SELECT id, v FROM app.t"))
        assert {key: rows.get(key) for key in (1, 2, 3)} == second
        if rule is not None:
            return
        assert result.lifted == {"app.t": 3}
        assert [row[:2] for row in await mesh.same("app.t")] == [(2, 2), (3, 30)]
        # What comes from now on is the streams' again.
        since = await mesh.sql[0].value("SELECT since_us FROM meshnode.tables")
        assert since == ahead
        assert (await mesh.init()).statements == []
