"""How verify walks a table: ranges, halves, bounds of memory, and what settles or moves."""

import asyncio
import contextlib
from contextlib import AsyncExitStack

import pytest
from verified import found, regions_of, told

from meshnode.mysql import catalog
from meshnode.mysql.keyvalues import KeyReader
from meshnode.ops import verify_rows


@pytest.fixture
async def stack():
    async with AsyncExitStack() as opened:
        yield opened


async def test_composite_keys_are_halved_down_to_the_row(
    servers, stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_rows, "RANGE_ROWS", 500)
    monkeypatch.setattr(verify_rows, "LIST_ROWS", 7)
    regions = await regions_of(stack, await servers(2))
    await regions.table(
        "composite", "v INT, b VARCHAR(20) COLLATE utf8mb4_0900_ai_ci, a INT, PRIMARY KEY (a, b)"
    )
    await regions.everywhere(
        "INSERT INTO app.composite (v, a, b, _mesh_ts, _mesh_origin)"
        " WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 2999)"
        " SELECT /*+ SET_VAR(cte_max_recursion_depth = 5000) */"
        " i, i DIV 1000, CONCAT('k', i MOD 1000), 7, 1 FROM n"
    )
    first = await regions.verify()
    assert first.identical
    assert found(first, "composite").rows == 3000
    await regions.sql[1].execute("DELETE FROM app.composite WHERE a = 1 AND b = 'K500'")
    await regions.sql[0].execute("UPDATE app.composite SET v = -1 WHERE a = 2 AND b = 'k7'")
    await regions.insert("composite", "0, 'zz', 9", at=1)
    assert told(found(await regions.verify(), "composite")) == {
        "b='k500', a=1": "missing in two",
        "b='k7', a=2": "different values under one stamp",
        "b='zz', a=9": "missing in one",
    }


async def test_a_range_of_a_composite_key_is_a_range_of_its_index(servers, stack) -> None:
    """Without that, each range would be a scan of the whole table."""
    regions = await regions_of(stack, await servers(1))
    await regions.table(
        "ranged", "a INT, b VARCHAR(9), c DATETIME(6), x INT, PRIMARY KEY (c, a, b)"
    )
    table = await catalog.read(regions.sql[0], "app", "ranged")
    keys = KeyReader(table, set())
    low, high = ((1, "61", "2026-01-01 00:00:00.5"), (2, "62", "2026-01-02 00:00:00"))
    plan = await regions.sql[0].value(
        "EXPLAIN FORMAT=TREE SELECT COUNT(x) FROM app.ranged FORCE INDEX (PRIMARY)"
        f" WHERE {keys.between(low, high)}"
    )
    assert "Index range scan on ranged using PRIMARY over (c = '2026-01-01 00:00:00.500000'" in plan


async def test_more_differences_than_can_be_followed_are_counted(
    servers, stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_rows, "RANGE_ROWS", 100)
    monkeypatch.setattr(verify_rows, "LIST_ROWS", 10)
    monkeypatch.setattr(verify_rows, "KEEP_KEYS", 50)
    monkeypatch.setattr(verify_rows, "KEEP_RANGES", 3)
    regions = await regions_of(stack, await servers(2))
    await regions.table("many", "id INT PRIMARY KEY")
    await regions.sql[0].execute(
        "INSERT INTO app.many (id, _mesh_ts, _mesh_origin)"
        " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
        " SELECT i, 7, 1 FROM n"
    )
    result = found(await regions.verify(settle=0, listed=5), "many")
    assert len(result.differences) == 5
    assert 50 <= result.differing <= 60
    ranges, rows = result.unlisted
    assert ranges >= 1
    assert rows == 1000 - result.differing


async def test_what_settles_is_no_difference(servers, stack) -> None:
    regions = await regions_of(stack, await servers(2))
    await regions.table("late", "id INT PRIMARY KEY, v INT")
    await regions.insert("late", "1, 1", at=0)
    seen = asyncio.Event()

    def then_it_arrives(line: str) -> None:
        seen.set()

    async def arrive() -> None:
        await seen.wait()
        await regions.insert("late", "1, 1", at=1)

    arrival = asyncio.create_task(arrive())
    verdict = await regions.verify(settle=20, report=then_it_arrives)
    await arrival
    assert verdict.identical


async def test_what_keeps_changing_is_moving(servers, stack) -> None:
    regions = await regions_of(stack, await servers(2))
    await regions.table("hot", "id INT PRIMARY KEY, v INT")
    await regions.insert("hot", "1, 1", "2, 2")
    await regions.sql[1].execute("UPDATE app.hot SET v = 3 WHERE id = 2")

    async def write() -> None:
        while True:
            await regions.sql[0].execute("UPDATE app.hot SET _mesh_ts = _mesh_ts + 1 WHERE id = 1")

    writer = asyncio.create_task(write())
    try:
        result = found(await regions.verify(settle=1), "hot")
    finally:
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer
    assert result.moving == 1
    assert told(result) == {"id=2": "different values under one stamp"}


async def test_moving_keys_give_way_to_what_was_never_looked_into(
    servers, stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_rows, "RANGE_ROWS", 2)
    monkeypatch.setattr(verify_rows, "LIST_ROWS", 1)
    monkeypatch.setattr(verify_rows, "KEEP_KEYS", 1)
    monkeypatch.setattr(verify_rows, "RESTLESS", 1)
    regions = await regions_of(stack, await servers(2))
    await regions.table("hot", "id INT PRIMARY KEY, v INT")
    await regions.insert("hot", *(f"{n}, {n}" for n in range(1, 9)))
    await regions.sql[1].execute("UPDATE app.hot SET v = 0 WHERE id = 1")

    def move(line: str) -> None:
        # Called at each look: the last key, which is looked into first, never stays.
        moves.append(asyncio.create_task(regions.sql[0].execute(change)))

    change = "UPDATE app.hot SET _mesh_ts = _mesh_ts + 1 WHERE id = 8"
    moves: list[asyncio.Task] = []
    await regions.sql[0].execute(change)
    result = found(await regions.verify(settle=3, report=move), "hot")
    await asyncio.gather(*moves)
    assert told(result) == {"id=1": "different values under one stamp"}
    assert result.moving == 1
    assert result.unlisted == (0, 0)
