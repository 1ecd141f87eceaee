"""``meshnode init`` on real servers: with data, twice, under traffic, and out again."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from msgspec import structs
from regions import column, control, run, sessions, topology_of

from meshnode.errors import Refused
from meshnode.mysql import schema
from meshnode.ops.install import init, uninstall
from meshnode.topology import Limits


async def test_fresh_tables_get_everything_once(servers) -> None:
    pair = await servers(2)
    topology = topology_of(pair)
    async with AsyncExitStack() as stack:
        both = await sessions(stack, pair)
        for one in both:
            await run(
                one,
                "CREATE DATABASE app",
                "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)",
                "CREATE TABLE app.u (a VARCHAR(9), b INT, v INT, PRIMARY KEY (b, a))",
            )
        first = await init(topology)
        assert first.tables == ("app.t", "app.u") and first.complete
        again = await init(topology)
        assert again.statements == [] and again.complete
        for number, one in enumerate(both, start=1):
            assert await one.rows("SELECT mesh, region, name FROM meshnode.member") == [
                ("test", number, ("one", "two")[number - 1])
            ]
            assert await one.rows("SELECT origin, seq, epoch FROM meshnode.applied") == [
                (3 - number, 0, 0)
            ]
            assert await column(one, "SELECT region FROM meshnode.heartbeat") == [number]
            names = await one.rows("SELECT schema_name, table_name, state FROM meshnode.tables")
            assert sorted(names) == [("app", "t", "active"), ("app", "u", "active")]
            uuid = await one.value("SELECT @@server_uuid")
            assert uuid in await one.value("SELECT since_gtids FROM meshnode.tables LIMIT 1")
            await run(one, "INSERT INTO app.t VALUES (1, 1)", "DELETE FROM app.t")
            tombstones = schema.tombstone_table("app", "t")
            assert await column(one, f"SELECT _mesh_origin FROM {tombstones}") == [number]


async def test_order_is_all_regions_before_the_next_step(servers) -> None:
    pair = await servers(2)
    async with AsyncExitStack() as stack:
        for one in await sessions(stack, pair):
            await run(one, "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY)")
        done = (await init(topology_of(pair))).statements

    def places(word: str) -> list[int]:
        return [place for place, (_, text) in enumerate(done) if word in text]

    order = [
        "CREATE DATABASE",
        "ADD COLUMN",
        "BEFORE INSERT",
        "AFTER DELETE",
        "`meshnode`.`tables` (digest, schema_name",
    ]
    assert all(len(places(word)) == 2 for word in order)
    assert max(places("ADD COLUMN")) < min(places("CREATE TRIGGER"))
    assert max(places("CREATE TRIGGER")) < min(places(order[-1]))
    for region in ("one", "two"):
        triggers = [text for name, text in done if name == region and "CREATE TRIGGER" in text]
        assert ["` BEFORE " in text for text in triggers] == [True, True, False, False]


async def test_dry_run_changes_nothing_and_prints_what_init_runs(servers) -> None:
    pair = await servers(2)
    topology = topology_of(pair)
    lines: list[str] = []
    async with AsyncExitStack() as stack:
        both = await sessions(stack, pair)
        for one in both:
            await run(one, "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY)")
        planned = await init(topology, dry_run=True, report=lines.append)
        assert await column(both[0], "SHOW DATABASES LIKE 'meshnode'") == []
        assert any("CREATE TRIGGER" in line for line in lines)
        real = await init(topology)
        same = [text for _, text in real.statements if "since_" not in text]
        assert [text for _, text in planned.statements if "since_" not in text] == same
        assert len(planned.statements) == len(real.statements)


async def test_uninstall_leaves_the_server_as_it_was(servers) -> None:
    (server,) = await servers(1)
    topology = topology_of([server])
    async with await control(server) as one:
        await run(
            one,
            "CREATE DATABASE app",
            "CREATE TABLE app.t (id INT PRIMARY KEY, v INT DEFAULT 5 INVISIBLE, KEY (v),"
            " g INT AS (v + 1))",
            "CREATE TABLE app.mine (id INT PRIMARY KEY, _mesh_ts VARCHAR(9))",
            "INSERT INTO app.t (id, v) VALUES (1, 1), (2, NULL)",
            "CREATE TRIGGER app.theirs BEFORE INSERT ON app.t FOR EACH ROW SET NEW.v = 9",
        )
        topology = topology_of([server], "app.t")
        texts = [await one.row(f"SHOW CREATE TABLE app.{table}") for table in ("t", "mine")]
        rows = await one.rows("SELECT id, v FROM app.t")
        await init(topology)
        await run(one, "UPDATE app.t SET v = 3 WHERE id = 1", "UPDATE app.t SET v = 1 WHERE id = 1")
        await uninstall(topology)
        assert [await one.row(f"SHOW CREATE TABLE app.{table}") for table in ("t", "mine")] == texts
        assert await one.rows("SELECT id, v FROM app.t") == rows
        assert await column(one, "SHOW DATABASES LIKE 'meshnode'") == []
        assert [row[0] for row in await one.rows("SHOW TRIGGERS FROM app")] == ["theirs"]
        assert (await uninstall(topology)).statements == []


async def test_uninstall_refuses_under_a_running_node(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as one:
        await run(one, "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY)")
        await init(topology_of([server]))
        await run(one, "UPDATE meshnode.heartbeat SET wall_us = UNIX_TIMESTAMP() * 1000000")
        with pytest.raises(Refused, match="stop the node and wait 10 s"):
            await uninstall(topology_of([server]))
        # A node with a slow pulse is heard seldom.
        await run(one, "UPDATE meshnode.heartbeat SET wall_us = wall_us - 40000000")
        slow = structs.replace(topology_of([server]), limits=Limits(heartbeat_seconds=60))
        with pytest.raises(Refused, match="stop the node and wait 180 s"):
            await uninstall(slow)
        assert await column(one, "SHOW DATABASES LIKE 'meshnode'") == ["meshnode"]


async def test_init_goes_on_where_it_was_broken_off(servers) -> None:
    pair = await servers(2)
    topology = topology_of(pair)
    async with AsyncExitStack() as stack:
        both = await sessions(stack, pair)
        for one in both:
            await run(
                one,
                "CREATE DATABASE app",
                "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)",
                "INSERT INTO app.t VALUES (1, 1)",
            )
        whole = len((await init(topology, dry_run=True)).statements)

        class Broken(Exception):
            pass

        runs = 0
        while True:
            seen = 0

            def break_off(line: str) -> None:
                nonlocal seen
                # Of the statements, not of what init looks at meanwhile.
                seen += line.startswith(("one: ", "two: "))
                if seen == 2:
                    raise Broken

            runs += 1
            assert runs <= whole, "each run must get at least one statement further"
            try:
                await init(topology, report=break_off)
                break
            except Broken:
                pass
        assert runs > 20
        assert (await init(topology)).statements == []
        for one in both:
            assert len(await one.rows("SHOW TRIGGERS FROM app")) == 4


async def test_altered_triggers_are_replaced_and_come_last_again(servers) -> None:
    (server,) = await servers(1)
    topology = topology_of([server])
    names = [schema.trigger_name(role, "app", "t") for role in schema.TriggerRole]
    async with await control(server) as one:
        await run(one, "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)")
        await init(topology)
        await run(
            one,
            f"DROP TRIGGER app.{names[0]}",
            f"CREATE TRIGGER app.{names[0]} BEFORE INSERT ON app.t FOR EACH ROW SET NEW.v = 1",
            "CREATE TRIGGER app.theirs BEFORE UPDATE ON app.t FOR EACH ROW SET NEW._mesh_ts = 5",
            f"DROP TRIGGER app.{names[3]}",
        )
        again = await init(topology)
        assert len(again.statements) == 3
        assert (await init(topology)).statements == []
        await run(one, "INSERT INTO app.t VALUES (1, 5)", "UPDATE app.t SET v = 6")
        assert await one.value("SELECT _mesh_ts > 1000 AND v = 6 FROM app.t") == 1


async def test_triggers_are_made_anew_by_who_is_to_own_them(servers) -> None:
    """They run with their owner's rights: without that account no client could write."""
    (server,) = await servers(1)
    topology = topology_of([server])
    async with await control(server) as one:
        await run(one, "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)")
        await init(topology)
        created = [
            (name, (await one.row(f"SHOW CREATE TRIGGER app.{name}"))[2])
            for name in (schema.trigger_name(role, "app", "t") for role in schema.TriggerRole)
        ]
        await run(one, "CREATE USER former", "GRANT ALL ON *.* TO former")
        await run(one, "USE app", f"SET sql_mode = '{schema.TRIGGER_SQL_MODE}'")
        for name, text in created:
            theirs = text.replace(text.partition(" TRIGGER ")[0], "CREATE DEFINER=former", 1)
            await run(one, f"DROP TRIGGER app.{name}", theirs)
        assert len((await init(topology)).statements) == 4
        assert (await init(topology)).statements == []
        await run(one, "DROP USER former", "INSERT INTO app.t VALUES (1, 5)", "DELETE FROM app.t")


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ("a INT", "no primary key"),
        ("a INT NOT NULL UNIQUE", "no primary key"),
        ("a FLOAT PRIMARY KEY", "does not compare exactly"),
        ("a INT, b DOUBLE, PRIMARY KEY (a, b)", "does not compare exactly"),
        ("a VARCHAR(20), PRIMARY KEY (a(5))", "first 5 characters"),
        ("a BLOB, PRIMARY KEY (a(50))", "first 50"),
        ("a INT PRIMARY KEY) ENGINE=MyISAM COMMENT=('", "engine is MyISAM"),
        ("a INT PRIMARY KEY, _mesh_ts INT", "not the mesh's"),
        ("a INT PRIMARY KEY, _mesh_origin TINYINT UNSIGNED", "not the mesh's"),
    ],
)
async def test_what_cannot_be_replicated_is_refused_before_anything_changes(
    servers, definition: str, reason: str
) -> None:
    (server,) = await servers(1)
    async with await control(server) as one:
        text = f"CREATE TABLE app.bad ({definition})".replace(" COMMENT=(')", "")
        await run(one, "CREATE DATABASE app", "CREATE TABLE app.good (id INT PRIMARY KEY)", text)
        with pytest.raises(Refused, match=reason) as refused:
            await init(topology_of([server]))
        assert "app.bad in one" in str(refused.value) and "app.good" not in str(refused.value)
        assert await column(one, "SHOW DATABASES LIKE 'meshnode'") == []


async def test_tables_that_differ_between_regions_are_refused(servers) -> None:
    pair = await servers(2)
    async with AsyncExitStack() as stack:
        both = await sessions(stack, pair)
        for number, one in enumerate(both):
            await run(
                one,
                "CREATE DATABASE app",
                f"CREATE TABLE app.t (id INT PRIMARY KEY, v INT {'UNSIGNED' * number})",
                f"CREATE TABLE app.w (id INT PRIMARY KEY{', w INT' * number})",
            )
        await run(both[0], "CREATE TABLE app.only (id INT PRIMARY KEY)")
        with pytest.raises(Refused) as refused:
            await init(topology_of(pair))
        assert "missing in two" in str(refused.value)
        assert "column `v`" in str(refused.value)
        # Its columns would stand before the stamps, and no row could be filled up with them.
        assert "app.w has more columns here" in str(refused.value)


async def test_a_server_of_another_region_is_refused(servers) -> None:
    pair = await servers(2)
    async with AsyncExitStack() as stack:
        for one in await sessions(stack, pair):
            await run(one, "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY)")
        await init(topology_of(pair))
        with pytest.raises(Refused, match="belongs to region 2"):
            await init(topology_of([pair[1], pair[0]]))


async def test_one_region_alone_does_its_part_and_says_what_is_left(servers) -> None:
    pair = await servers(2)
    topology = topology_of(pair)
    async with AsyncExitStack() as stack:
        both = await sessions(stack, pair)
        for one in both:
            await run(one, "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY)")
        await run(both[0], "INSERT INTO app.t VALUES (1)")
        result = await init(topology, ["one"])
        assert "regions two: run init there" in result.left[0] and not result.complete
        assert await column(both[1], "SHOW DATABASES LIKE 'meshnode'") == []
        assert (await init(topology)).lifted == {"app.t": 1}


async def test_columns_that_cannot_come_instantly(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as one:
        await run(
            one,
            "CREATE DATABASE app",
            "CREATE TABLE app.zipped (id INT PRIMARY KEY, v TEXT) ROW_FORMAT=COMPRESSED",
            "INSERT INTO app.zipped VALUES (1, 'x')",
        )
        before = await one.row("SHOW CREATE TABLE app.zipped")
        assert (await init(topology_of([server]))).complete
        await uninstall(topology_of([server]))
        assert await one.row("SHOW CREATE TABLE app.zipped") == before


@pytest.mark.parametrize(
    "definition",
    [
        "v TEXT, FULLTEXT KEY (v)",
        "v POINT NOT NULL SRID 0, SPATIAL KEY (v)) ROW_FORMAT=COMPRESSED COMMENT=('",
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_table_that_must_be_copied_is_refused_before_anything_changes(
    servers, definition: str, dry_run: bool
) -> None:
    """A copy stops the writers for as long as it takes: the operator chooses when."""
    (server,) = await servers(1)
    topology = topology_of([server])
    async with await control(server) as one:
        made = f"CREATE TABLE app.words (id INT PRIMARY KEY, {definition})"
        await run(
            one,
            "CREATE DATABASE app",
            "CREATE TABLE app.good (id INT PRIMARY KEY)",
            made.replace(" COMMENT=(')", ""),
        )
        with pytest.raises(Refused, match="must be copied") as refused:
            await init(topology, dry_run=dry_run)
        assert await column(one, "SHOW DATABASES LIKE 'meshnode'") == []
        assert await column(one, "SHOW COLUMNS FROM app.good") == ["id"]
        assert (await init(topology_of([server], "app.good"))).complete
        told = str(refused.value)
        await run(one, told[told.index("ALTER") : told.index(";", told.index("ALTER"))])
        assert (await init(topology)).complete


async def test_a_table_out_of_instant_changes_gets_its_columns_beside_the_writers(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as one:
        await run(
            one,
            "CREATE DATABASE app",
            "CREATE TABLE app.t (id INT PRIMARY KEY, v TEXT, FULLTEXT KEY words (v))",
            "ALTER TABLE app.t DROP INDEX words",  # leaves a hidden column, which forbids INSTANT
        )
        assert (await init(topology_of([server]))).complete


async def test_a_key_that_was_widened_widens_its_tombstones(servers) -> None:
    (server,) = await servers(1)
    topology = topology_of([server])
    async with await control(server) as one:
        await run(one, "CREATE DATABASE app", "CREATE TABLE app.t (id VARCHAR(5) PRIMARY KEY)")
        await init(topology)
        await run(one, "ALTER TABLE app.t MODIFY id VARCHAR(50)")
        assert len((await init(topology)).statements) == 1
        await run(one, f"INSERT INTO app.t VALUES ('{'x' * 50}')", "DELETE FROM app.t")
        tombstones = schema.tombstone_table("app", "t")
        assert await column(one, f"SELECT LENGTH(id) FROM {tombstones}") == [50]
        await run(one, "ALTER TABLE app.t ADD COLUMN b INT, DROP PRIMARY KEY, ADD PRIMARY KEY (b)")
        with pytest.raises(Refused, match="its primary key is not that of its tombstone table"):
            await init(topology)


async def test_init_waits_for_a_client_without_stopping_the_others(servers, monkeypatch) -> None:
    (server,) = await servers(1)
    waited: list[str] = []
    async with AsyncExitStack() as stack:
        one, idle = await sessions(stack, [server, server])
        await run(
            one,
            "CREATE DATABASE app",
            "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)",
            "SET GLOBAL lock_wait_timeout = 1",
        )
        monkeypatch.setattr("meshnode.mysql.control.LOCK_WAIT_SECONDS", 1)
        monkeypatch.setattr(
            "meshnode.mysql.control._SESSION",
            "SET SESSION lock_wait_timeout = 1, time_zone = '+00:00'",
        )
        await run(idle, "START TRANSACTION", "SELECT * FROM app.t")

        def report(line: str) -> None:
            if "waiting" in line:
                waited.append(line)
                if len(waited) == 2:
                    twice.set()

        twice = asyncio.Event()

        async def release() -> None:
            await twice.wait()
            # While init waits, another client gets through.
            async with await control(server) as client:
                await run(client, "SET lock_wait_timeout = 30", "INSERT INTO app.t VALUES (1, 1)")
            await run(idle, "COMMIT")

        async with asyncio.TaskGroup() as group:
            group.create_task(release())
            result = await init(topology_of([server]), report=report)
        assert result.complete and "1205" in waited[0] and "app" in waited[0]
