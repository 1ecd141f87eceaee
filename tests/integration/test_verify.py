"""``meshnode verify`` on real servers: identical tables pass, every planted difference is named."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from type_samples import SAMPLES, Sample
from verified import found, regions_of, regions_with, told

from meshnode.errors import Refused, Retry
from meshnode.ops import verify_rows
from meshnode.ops.verify_view import View, key_text


@pytest.fixture
async def stack():
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of two rows, so that even a small table has boundaries and halves."""
    monkeypatch.setattr(verify_rows, "RANGE_ROWS", 2)
    monkeypatch.setattr(verify_rows, "LIST_ROWS", 1)


WIDE = 8
"""Types in one table: as many tables as types would take minutes to make."""


async def test_every_value_of_every_type_is_told_from_the_next(
    servers, stack, small_ranges
) -> None:
    """Each row holds one value; the region that has the next one instead must be found out."""
    regions = await regions_of(stack, await servers(2))
    expected = {}
    for start in range(0, len(SAMPLES), WIDE):
        samples = SAMPLES[start : start + WIDE]
        name = f"types_{start}"
        columns = ", ".join(f"c{at} {sample.type}" for at, sample in enumerate(samples))
        await regions.table(name, f"id VARCHAR(99) PRIMARY KEY, {columns}")
        here, there = [], []
        for at, sample in enumerate(samples):
            values = ["NULL", *sample.values]
            for number, value in enumerate(values):
                cells = ["NULL"] * len(samples)
                cells[at] = value
                here.append(f"'{sample.name} {number}', {', '.join(cells)}")
                cells[at] = values[(number + 1) % len(values)]
                there.append(f"'{sample.name} {number}', {', '.join(cells)}")
        expected[name] = len(here)
        await regions.insert(name, *here)
        verdict = await regions.verify(selects=lambda _, table, name=name: table == name)
        assert verdict.settled, View(regions.topology).lines(verdict)
        assert found(verdict, name).rows == len(here)
        await regions.sql[1].execute(f"DELETE FROM app.{name}")
        await regions.insert(name, *there, at=1)
    verdict = await regions.verify(settle=0, listed=1000)
    for name, rows in expected.items():
        result = found(verdict, name)
        assert result.differing == rows, (name, told(result))
        assert set(told(result).values()) == {"different values under one stamp"}


async def test_every_key_type_is_walked(servers, stack, small_ranges) -> None:
    """One key of each is missing in one region; with ranges of two keys, it alone is named."""
    regions = await regions_of(stack, await servers(2))
    samples = [sample for sample in SAMPLES if _can_be_key(sample)]
    assert len(samples) > 50
    for at, sample in enumerate(samples):
        missing_at = at % 2
        await regions.table(sample.name, f"v {sample.type}, x INT, PRIMARY KEY (v)")
        rows = [f"{value}, {number}" for number, value in enumerate(sample.values)]
        await regions.insert(sample.name, *rows, at=1 - missing_at)
        await regions.insert(sample.name, *rows[1:], at=missing_at)
    verdict = await regions.verify(settle=0)
    for at, sample in enumerate(samples):
        result = found(verdict, sample.name)
        assert result.differing == 1, sample.name
        (difference,) = result.differences
        assert regions_with(difference) == {"one" if at % 2 else "two"}, sample.name


def _can_be_key(sample: Sample) -> bool:
    return sample.key and not sample.type.startswith(("FLOAT", "DOUBLE", "CHAR(0)"))


async def test_planted_differences_are_named(servers, stack) -> None:
    regions = await regions_of(stack, await servers(3))
    await regions.table(
        "planted",
        "id INT PRIMARY KEY, t VARCHAR(20) COLLATE utf8mb4_0900_ai_ci, p VARCHAR(20)"
        " COLLATE utf8mb4_general_ci, d DOUBLE, f FLOAT, j JSON",
    )
    one, two, three = regions.sql
    for number in range(1, 21):
        await regions.insert("planted", f"{number}, 'a', 'b', 0, 0, '1'")
    change = "UPDATE app.planted SET {} WHERE id = {}"
    plant = {
        1: (two, change.format("t = 'other'", 1)),
        2: (two, change.format("_mesh_ts = 101", 2)),
        3: (two, change.format("_mesh_origin = 2", 3)),
        4: (three, "DELETE FROM app.planted WHERE id = 4"),
        5: (one, change.format("t = NULL", 5)),
        6: (two, change.format("t = 'A'", 6)),
        7: (two, change.format("p = 'b '", 7)),
        8: (two, change.format("d = -0e0", 8)),
        9: (two, change.format("f = -0e0", 9)),
        10: (two, change.format("d = 5e-324", 10)),
        11: (two, change.format("f = 1e-45", 11)),
        12: (two, change.format("j = '2'", 12)),
        13: (two, change.format("j = '1.0'", 13)),
        14: (two, change.format("j = CAST(CAST(1 AS DECIMAL(5,0)) AS JSON)", 14)),
        15: (two, change.format("j = 'null'", 15)),
        16: (two, change.format("j = '\"1\"'", 16)),
        17: (two, change.format("j = '[1]'", 17)),
    }
    await regions.everywhere(change.format("t = ''", 5))
    # MySQL calls some of these values equal and would not write them over each other.
    await regions.everywhere("UPDATE app.planted SET j = NULL WHERE id = 15")
    await two.execute("UPDATE app.planted SET j = NULL WHERE id BETWEEN 12 AND 17")
    await two.execute("UPDATE app.planted SET d = 1, f = 1 WHERE id IN (8, 9)")
    for connection, statement in plant.values():
        assert await connection.execute(statement) == 1, statement
    await two.execute("UPDATE app.planted SET f = 0 WHERE id = 8")
    await two.execute("UPDATE app.planted SET d = 0 WHERE id = 9")
    await regions.insert("planted", "21, 'a', 'b', 0, 0, '1'", at=2)
    verdict = await regions.verify()
    expected = {f"id={n}": "different values under one stamp" for n in plant}
    expected |= {"id=2": "different stamps", "id=3": "different stamps"}
    expected |= {"id=4": "missing in three", "id=21": "missing in one, two"}
    assert told(found(verdict, "planted")) == expected
    assert not verdict.identical


async def test_tombstones_are_part_of_the_state(servers, stack) -> None:
    regions = await regions_of(stack, await servers(2))
    await regions.table("graves", "id INT PRIMARY KEY, v INT")
    await regions.insert("graves", "1, 1", "2, 2", "3, 3")
    await regions.bury("graves", "10", 500, 1)  # the same everywhere
    await regions.bury("graves", "11", 500, 1, at=0)  # missing in two
    await regions.bury("graves", "12", 500, 1, at=0)
    await regions.bury("graves", "12", 500, 2, at=1)  # of another origin
    await regions.bury("graves", "13", 500, 1, at=0)
    await regions.bury("graves", "13", 501, 1, at=1)  # of another time
    await regions.bury("graves", "1", 99, 1, at=0)  # below its row: of no account
    await regions.bury("graves", "2", 100, 1, at=0)  # as old as its row: the row wins
    await regions.bury("graves", "3", 100, 2, at=1)  # newer than the row beside it
    await regions.insert("graves", "14, 1", at=0)
    await regions.bury("graves", "14", 900, 1, at=1)
    await regions.bury("graves", "15", 50, 1, at=0)  # below the limit of collection in two
    await regions.sql[1].execute("UPDATE meshnode.member SET gc_limit = 50")
    verdict = await regions.verify()
    assert told(found(verdict, "graves")) == {
        "id=11": "missing in two",
        "id=12": "different stamps",
        "id=13": "different stamps",
        "id=3": "a tombstone newer than its row in two",
        "id=14": "a row in some regions, a tombstone in others",
    }


async def test_a_tombstone_may_spell_its_key_differently(servers, stack) -> None:
    regions = await regions_of(stack, await servers(2))
    await regions.table("names", "n VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT")
    await regions.bury("names", "'A '", 500, 1, at=0)
    await regions.bury("names", "'a'", 500, 1, at=1)
    assert (await regions.verify()).identical
    # A row is another matter: what it holds is what applications read.
    await regions.insert("names", "'B', 1", at=0)
    await regions.insert("names", "'b', 1", at=1)
    assert list(told(found(await regions.verify(), "names")).values()) == [
        "different values under one stamp"
    ]


async def test_orphans_are_named(servers, stack) -> None:
    regions = await regions_of(stack, await servers(2))
    await regions.table("parent", "a INT, b INT, PRIMARY KEY (a, b)")
    await regions.table(
        "child",
        "id INT PRIMARY KEY, a INT, b INT, boss INT,"
        " CONSTRAINT to_parent FOREIGN KEY (a, b) REFERENCES parent (a, b),"
        " CONSTRAINT to_boss FOREIGN KEY (boss) REFERENCES child (id)",
    )
    await regions.insert("parent", "1, 1")
    await regions.everywhere("SET foreign_key_checks = 0")
    await regions.insert("child", "1, 1, 1, NULL", "2, NULL, 5, 1", "3, 1, 2, 1", "4, 1, 1, 77")
    result = found(await regions.verify(), "child")
    assert result.differing == 0
    assert result.orphan_count == 2
    told_orphans = {
        (key_text(result.table, row.values), row.foreign_key, row.parent, row.regions)
        for row in result.orphans
    }
    assert told_orphans == {
        ("id=3", "to_parent", "app.parent", ("one", "two")),
        ("id=4", "to_boss", "app.child", ("one", "two")),
    }


async def test_a_table_that_is_not_everywhere_is_a_problem(servers, stack) -> None:
    regions = await regions_of(stack, await servers(2))
    for name in ("dropped", "inactive", "reshaped", "wider"):
        await regions.table(name, "id INT PRIMARY KEY, v INT")
        await regions.insert(name, "1, 1")
    one, two = regions.sql
    await two.execute("DROP TABLE app.dropped")
    await two.execute("DELETE FROM meshnode.tables WHERE table_name = 'inactive'")
    await two.execute("ALTER TABLE app.reshaped MODIFY v BIGINT")
    await two.execute("ALTER TABLE app.wider ADD COLUMN w INT DEFAULT 5 AFTER v")
    verdict = await regions.verify()
    assert found(verdict, "dropped").problem.startswith("does not exist in two: ")
    assert "not replicated in two" in found(verdict, "inactive").problem
    assert "differs between one and two" in found(verdict, "reshaped").problem
    assert found(verdict, "wider").identical
    assert "without w" in found(verdict, "wider").note
    assert not verdict.identical
    await one.execute("UPDATE app.wider SET v = 2")
    assert found(await regions.verify(), "wider").differing == 1


SKIPPED = (
    "INSERT INTO meshnode.dead_letter (at, origin, seq, tx_id, ts, stamp_origin, code, cause,"
    " body, state) VALUES (UTC_TIMESTAMP(6), 1, 0, %s, 0, 0, 0, 'told to', '', 'skipped')"
)


async def test_a_clean_verify_closes_skipped_letters(servers, stack) -> None:
    regions = await regions_of(stack, await servers(2))
    await regions.table("good", "id INT PRIMARY KEY")
    await regions.table("bad", "id INT PRIMARY KEY")
    await regions.insert("bad", "1", at=0)
    await regions.sql[0].execute(SKIPPED, ("u:5",))
    state = "SELECT state, note FROM meshnode.dead_letter"
    assert not (await regions.verify()).identical
    assert await regions.sql[0].row(state) == ("skipped", "")
    partly = await regions.verify(selects=lambda _, table: table == "good")
    assert partly.identical
    assert partly.closed == 0
    assert await regions.sql[0].row(state) == ("skipped", "")
    await regions.insert("bad", "1", at=1)
    verdict = await regions.verify()
    assert verdict.closed == 1
    assert await regions.sql[0].row(state) == ("closed", "verified")


async def test_a_letter_that_was_written_meanwhile_stays(servers, stack) -> None:
    """Its transaction may have left its traces behind where all had been compared already."""
    regions = await regions_of(stack, await servers(2))
    await regions.table("late", "id INT PRIMARY KEY")
    await regions.insert("late", "1", at=0)
    await regions.sql[0].execute(SKIPPED, ("u:5",))
    looked = asyncio.Event()

    async def meanwhile() -> None:
        await looked.wait()
        await regions.sql[0].execute(SKIPPED, ("u:6",))
        await regions.insert("late", "1", at=1)

    work = asyncio.create_task(meanwhile())
    verdict = await regions.verify(settle=20, report=lambda line: looked.set())
    await work
    assert verdict.settled
    assert verdict.closed == 1
    states = await regions.sql[0].rows("SELECT tx_id, state FROM meshnode.dead_letter ORDER BY id")
    assert [tuple(row) for row in states] == [("u:5", "closed"), ("u:6", "skipped")]


async def test_without_a_replicated_table_nothing_is_said_and_closed(servers, stack) -> None:
    regions = await regions_of(stack, await servers(2))
    await regions.sql[0].execute(SKIPPED, ("u:5",))
    with pytest.raises(Refused, match="no table is replicated in any region") as refused:
        await regions.verify()
    assert "init --all" in refused.value.remedy
    assert await regions.sql[0].value("SELECT state FROM meshnode.dead_letter") == "skipped"


async def test_names_of_64_characters_and_quotes(servers, stack) -> None:
    regions = await regions_of(stack, await servers(2))
    name = "qu'ote " + "x" * 57
    await regions.table(name, "`k ' % %s` INT PRIMARY KEY, `d` INT, `r` INT")
    await regions.insert(name, "1, 1, 1")
    await regions.insert(name, "2, 1, 1", at=0)
    assert told(found(await regions.verify(), name)) == {"k ' % %s=2": "missing in two"}


async def test_a_long_value_is_compared_to_its_end(servers, stack) -> None:
    regions = await regions_of(stack, await servers(2))
    await regions.table("long", "id INT PRIMARY KEY, v LONGTEXT")
    await regions.insert("long", "1, CONCAT(REPEAT('x', 3000000), 'a')", at=0)
    await regions.insert("long", "1, CONCAT(REPEAT('x', 3000000), 'b')", at=1)
    assert found(await regions.verify(), "long").differing == 1


async def test_the_words_name_key_region_and_stamp(servers, stack) -> None:
    regions = await regions_of(stack, await servers(2))
    await regions.table("shown", "id INT PRIMARY KEY")
    await regions.insert("shown", "1", at=0)
    lines = View(regions.topology).lines(await regions.verify(settle=0))
    assert lines[0] == "app.shown id=1: missing in two"
    assert lines[1].startswith("    one: row 100.1 (1970-01-01 00:00:00Z one) hash ")
    assert lines[2] == "    two: missing"
    assert lines[-1] == "NOT identical: 1 tables, 1 rows in 2 regions"


async def test_without_bookkeeping_or_server_nothing_is_said(servers, throwaway) -> None:
    from regions import topology_of

    from meshnode.ops.verify import verify

    shared = (await servers(1))[0]
    own = await throwaway()
    topology = topology_of([shared, own])
    with pytest.raises(Refused, match="no schema meshnode"):
        await verify(topology)
    own.stop()
    with pytest.raises(Retry, match="two"):
        await verify(topology)


async def test_tables_that_init_has_not_seen_are_named(servers, stack) -> None:
    regions = await regions_of(stack, await servers(2))
    await regions.table("known", "id INT PRIMARY KEY")
    await regions.sql[1].execute("CREATE TABLE app.forgotten (id INT PRIMARY KEY)")
    verdict = await regions.verify()
    assert verdict.identical
    assert verdict.unreplicated == ("app.forgotten",)
    assert any("app.forgotten" in line for line in View(regions.topology).lines(verdict))
