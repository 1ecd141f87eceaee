"""A letter whose table has got another key since: what stands under its bytes now says nothing."""

import pytest
from steps import actor, running, sees

from meshnode.actors import resolver

NOTE = "SELECT CONCAT(state, ': ', note) FROM meshnode.dead_letter"
WAITS = "open: does not close by itself while the key of app.t is another than it was"


@pytest.fixture
def often(monkeypatch) -> None:
    """Every round looks for letters that have been overtaken, and rounds are short."""
    monkeypatch.setattr(resolver, "ROUND_SECONDS", 0.05)
    monkeypatch.setattr(resolver, "CLOSE_EVERY", 1)


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("ENUM('a', 'b')", "ENUM('b', 'a')"),
        ("VARCHAR(9) COLLATE utf8mb4_0900_ai_ci", "VARCHAR(9) COLLATE utf8mb4_bin"),
        ("VARCHAR(9) COLLATE utf8mb4_0900_ai_ci", "VARBINARY(9)"),
    ],
)
async def test_it_stays_until_the_key_is_what_it_was(
    servers, tmp_path, often, key: str, changed: str
) -> None:
    """Labels in another order: its number is another row's, whose stamp would close it."""
    table = f"CREATE TABLE app.t (id {key} PRIMARY KEY, n INT)"
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t VALUES ('a', 1), ('b', 1)")
        await mesh.settle()
        await two.execute("ALTER TABLE app.t ADD CONSTRAINT small CHECK (n < 100)")
        await one.execute("UPDATE app.t SET n = 500 WHERE id = 'a'")
        await sees(mesh, 1, "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'open'", 1)
        await one.execute("UPDATE app.t SET n = 2 WHERE id = 'b'")
        await sees(mesh, 1, "SELECT n FROM app.t WHERE id = 'b'", 2)
        await two.execute(f"ALTER TABLE app.t MODIFY COLUMN id {changed}")
        await sees(mesh, 1, NOTE, WAITS)
        assert actor(mesh, 1, "resolver").state == "running"
        await two.execute(f"ALTER TABLE app.t MODIFY COLUMN id {key}")
        await one.execute("UPDATE app.t SET n = 3 WHERE id = 'a'")
        await sees(mesh, 1, NOTE, "closed: overtaken by a later version")


@pytest.mark.parametrize(
    ("key", "wider"),
    [("VARCHAR(9)", "VARCHAR(300)"), ("VARBINARY(9)", "VARBINARY(20)"), ("INT", "BIGINT")],
)
async def test_a_wider_key_is_the_same_key(servers, tmp_path, often, key: str, wider: str) -> None:
    """Nobody narrows it again so that a letter can close."""
    table = f"CREATE TABLE app.t (id {key} PRIMARY KEY, n INT)"
    async with running(servers, tmp_path, table) as mesh:
        one, two = mesh.sql
        await two.execute("ALTER TABLE app.t ADD CONSTRAINT small CHECK (n < 100)")
        await one.execute("INSERT INTO app.t VALUES ('1', 500)")
        await sees(mesh, 1, "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'open'", 1)
        await mesh.everywhere(f"ALTER TABLE app.t MODIFY COLUMN id {wider}")
        await mesh.init()
        await one.execute("UPDATE app.t SET n = 3")
        await sees(mesh, 1, NOTE, "closed: overtaken by a later version")
