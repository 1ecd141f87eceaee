"""A table that is defined anew while its streams run: who notices, and what if nobody did.

Appliers compare a table with the local one once, and again when they are told that
definitions may have changed.  Each test leaves one of those who tell, and then none:
MySQL takes the rows all the same and writes other values.
"""

import pytest
from steps import run, running, sees, until, waits

from meshnode.mysql.notices import Notices
from meshnode.mysql.resolver_session import ResolverSession

both = pytest.mark.parametrize("rule", ["on", "off"])


def tailers_say_nothing(monkeypatch) -> None:
    """As tailers that lag far behind."""
    nothing = property(lambda self: 0, lambda self, count: None)
    monkeypatch.setattr(Notices, "definitions", nothing, raising=False)


async def always_the_same(self) -> object:
    """A resolver that looks at no definition."""
    return 0


@both
async def test_the_resolver_notices(servers, tmp_path, monkeypatch, rule) -> None:
    tailers_say_nothing(monkeypatch)
    if rule == "off":
        monkeypatch.setattr(ResolverSession, "definitions", always_the_same)
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, c ENUM('a', 'b'))"
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES (1, 'a')")
        await mesh.settle()
        board = mesh.nodes[1][0].board
        before = board.definitions
        await two.execute("ALTER TABLE app.t MODIFY COLUMN c ENUM('b', 'a')")
        if rule == "on":
            await until(lambda: board.definitions > before, "a definition that was noticed")
        await one.execute("INSERT INTO app.t VALUES (2, 'a')")
        if rule == "on":
            await waits(mesh, 1, "applier one", "labels", "app.t")
            assert await two.rows("SELECT * FROM app.t") == [(1, "a")]
            await two.execute("ALTER TABLE app.t MODIFY COLUMN c ENUM('a', 'b')")
            await sees(mesh, 1, "SELECT c FROM app.t WHERE id = 2", "a")
        else:
            await sees(mesh, 1, "SELECT c FROM app.t WHERE id = 2", "b")


async def test_the_resolver_notices_columns_that_change_places(
    servers, tmp_path, monkeypatch
) -> None:
    """Described in equally many characters: a checksum that is linear stays as it was."""
    tailers_say_nothing(monkeypatch)
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, aa INT, bb INT)"
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES (1, 10, 20)")
        await mesh.settle()
        board = mesh.nodes[1][0].board
        before = board.definitions
        await two.execute("ALTER TABLE app.t MODIFY COLUMN aa INT AFTER bb")
        await until(lambda: board.definitions > before, "a definition that was noticed")
        await one.execute("INSERT INTO app.t VALUES (2, 10, 20)")
        await waits(mesh, 1, "applier one", "column 2 is `bb` here and `aa` at the source")
        assert await two.value("SELECT COUNT(*) FROM app.t") == 1


@both
async def test_a_tailer_that_halts_at_the_statement_notices(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """The statement stops the region's own stream, and must reach the appliers all the same."""
    monkeypatch.setattr(ResolverSession, "definitions", always_the_same)
    if rule == "off":
        tailers_say_nothing(monkeypatch)
    table = "CREATE TABLE app.t (id INT PRIMARY KEY, a INT, b INT)"
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES (1, 10, 20)")
        await mesh.settle()
        await run(two, "ALTER TABLE app.t DROP COLUMN a, ADD COLUMN c INT AFTER id")
        await waits(mesh, 1, "tailer", "ALTER")
        await one.execute("INSERT INTO app.t VALUES (2, 10, 20)")
        if rule == "on":
            await waits(mesh, 1, "applier one", "column 2 is `c` here and `a` at the source")
            assert await two.value("SELECT COUNT(*) FROM app.t") == 1
        else:
            await sees(mesh, 1, "SELECT c FROM app.t WHERE id = 2", 10)
