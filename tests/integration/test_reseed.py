"""``docs/OPERATING.md``, 'A region that must be re-seeded', while the others work on."""

from pathlib import Path

import msgspec
import pytest
from mesh import NAMES, Mesh, mesh_of
from steps import QUICK, actor_of, converged, forget_topic, until

from meshnode.accounts import Account
from meshnode.bus.segment import list_segments
from meshnode.errors import Refused, Retry
from meshnode.limits import KIB
from meshnode.mysql import control
from meshnode.mysql.schema import tombstone_table
from meshnode.ops import install, rejoin
from meshnode.ops.doctor import examine, refusals
from meshnode.ops.status import look
from meshnode.ops.verify import verify
from meshnode.topology import Region

ROWS = 60
TABLE = "CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(8000) CHARACTER SET latin1, n INT)"
INSERT = "INSERT INTO app.t VALUES (%s, %s, 0)"


async def first_records_are_gone(mesh: Mesh) -> None:
    """The bus has forgotten what every member had applied, as it does in the course of time."""
    if mesh.topology.bus.kind != "file":
        return

    async def gone() -> bool:
        for at in (0, 1):
            gardener = actor_of(mesh, at, "gardener")
            await gardener.retain()
        folders = [Path(mesh.topology.bus.dir) / name for name in NAMES[:2]]
        return all(list_segments(folder)[0] > 0 for folder in folders)

    await until(gone, "the first records are gone")


def small_segments(mesh: Mesh) -> None:
    bus = mesh.topology.bus
    if bus.kind == "file":
        bus = msgspec.structs.replace(bus, segment_bytes=64 * KIB, min_age_seconds=0.0)
        mesh.topology = msgspec.structs.replace(mesh.topology, bus=bus)


async def test_a_region_is_seeded_again_while_the_others_work_on(servers, tmp_path) -> None:
    """Needed: positions and tombstones of the seed, and that peers forget the former stream.

    Without them the region's streams halt at records that are gone, or those of its peers
    at a stream that was begun anew.
    """
    async with mesh_of(await servers(3), tmp_path, limits=QUICK) as mesh:
        small_segments(mesh)
        one, two, three = mesh.sql
        await mesh.everywhere("CREATE DATABASE app", TABLE)
        await mesh.init()
        mesh.start()
        for key in range(ROWS):
            await mesh.sql[key % 3].execute(INSERT, (key, "x" * 6000))
        await mesh.settle()
        await first_records_are_gone(mesh)

        # 1. Its node stops, and no client writes there.
        await mesh.stop(2)
        await two.execute("DELETE FROM app.t WHERE id = 1")
        await one.execute("UPDATE app.t SET n = 1 WHERE id = 2")
        await mesh.settle(regions=(0, 1))
        # 2. Its tables are emptied, and schema meshnode goes.
        await three.execute("TRUNCATE app.t")
        await three.execute("DROP DATABASE meshnode")
        # 3. Its topic goes.  Until it is gone, the others keep their place in it.
        places = "SELECT position FROM meshnode.applied WHERE origin = 3"
        place = await one.value(places)
        with pytest.raises(Refused, match="its topic is still there"):
            await mesh.init(seed_from="one")
        assert await one.value(places) == place
        await forget_topic(mesh, "three")
        # 4. It is filled from a full region, and the others go on.
        await one.execute(INSERT, (1000, "while it is away"))
        tombs = f"SELECT * FROM {tombstone_table('app', 't')} ORDER BY id"
        before = await one.rows(tombs)
        promised = "SELECT frontier FROM meshnode.applied WHERE origin = 3"
        known = max([await sql.value(promised) for sql in (one, two)])
        assert (await mesh.init(seed_from="one")).complete
        assert await three.rows(tombs) == before != []
        # Others have collected tombstones because of it.
        assert await three.value("SELECT frontier FROM meshnode.heartbeat") == known > 0
        assert await three.value("SELECT tail_frontier FROM meshnode.member") == known
        assert refusals(await examine(mesh.topology, "three", lab=True)) == []
        await two.execute("UPDATE app.t SET n = 2 WHERE id = 3")
        await one.execute("DELETE FROM app.t WHERE id = 4")
        # 5. Its node starts.
        mesh.start(2)
        for at, sql in enumerate(mesh.sql):
            await sql.execute(INSERT, (2000 + at, "from all"))
        rows = {row[0]: row[2] for row in await converged(mesh)}
        assert len(rows) == ROWS - 2 + 1 + 3
        assert (rows[2], rows[3]) == (1, 2) and not {1, 4} & rows.keys()
        await until_converged(mesh)
        assert (await verify(mesh.topology)).settled

        # All of it holds for the next start, too.
        await mesh.stop()
        mesh.start()
        await three.execute("UPDATE app.t SET n = 9 WHERE id < 10")
        await converged(mesh)


async def until_converged(mesh: Mesh) -> None:
    async def holds() -> bool:
        return (await look(mesh.topology)).converged

    await until(holds, "status says converged")


async def test_init_again_moves_no_position(servers, tmp_path) -> None:
    """What was lifted in the first run lies behind the positions: moved on, it would be lost."""
    async with mesh_of(await servers(2), tmp_path, limits=QUICK) as mesh:
        one, two = mesh.sql
        await emptied(mesh)
        await mesh.init(seed_from="one")
        places = "SELECT origin, seq, position, incarnation FROM meshnode.applied"
        first = await two.rows(places)
        assert first[0][1] > 0
        tail = "SELECT tail_seq FROM meshnode.member"
        passed = await one.value(tail)

        async def further() -> bool:
            return await one.value(tail) > passed + 1

        await until(further, "the seed has published more")
        await mesh.init(seed_from="one")
        assert await two.rows(places) == first
        mesh.start(1)
        assert [row[0] for row in await converged(mesh)] == [1]


async def test_rows_of_before_are_lifted_whatever_the_clock_of_the_fresh_server(
    servers, tmp_path, monkeypatch
) -> None:
    """They are in a stretch of the streams that the region never reads, and so come no other way.

    The run before was broken off, and the dates of its tables are below the rows' stamps, as by a
    clock that is behind.
    """
    async with mesh_of(await servers(2), tmp_path, limits=QUICK) as mesh:
        await emptied(mesh)

        async def broken_off(*_: object) -> None:
            raise Retry("connection lost")

        with monkeypatch.context() as patch:
            patch.setattr(install, "_compare", broken_off)
            with pytest.raises(Retry):
                await mesh.init(seed_from="one")
        await mesh.everywhere(
            "UPDATE meshnode.tables SET created_at = created_at - INTERVAL 1 DAY, since_us = 0"
        )
        assert (await mesh.init(seed_from="one")).complete
        mesh.start(1)
        assert [row[0] for row in await converged(mesh)] == [1]
        # Once it reads for itself, a newer row is the stream's again.
        assert not await rejoin.reads_from_a_snapshot(mesh.sql[1])


async def test_a_region_of_a_running_mesh_is_not_activated_without_a_seed(
    servers, tmp_path
) -> None:
    """It would read from the first records, which may be gone, and could not be seeded any more."""
    async with mesh_of(await servers(2), tmp_path, limits=QUICK) as mesh:
        two = mesh.sql[1]
        await emptied(mesh)
        for options in ({}, {"regions": ["two"]}, {"seed_from": "two"}, {"dry_run": True}):
            with pytest.raises(Refused) as refused:
                await mesh.init(**options)
            assert "--all --seed-from REGION`, REGION one of one" in refused.value.remedy
        await two.execute("INSERT INTO app.t (id) VALUES (7)")
        with pytest.raises(Refused, match=r"rows in app\.t"):
            await mesh.init(seed_from="one")
        assert not await two.rows("SHOW DATABASES LIKE 'meshnode'")
        await two.execute("TRUNCATE app.t")

        # What is done to the regions that work is told, and beforehand.
        reset = "UPDATE `meshnode`.`applied` SET incarnation = 0"
        for dry_run in (True, False):
            result = await mesh.init(seed_from="one", dry_run=dry_run)
            first = next(sql for name, sql in result.statements if name == "one")
            assert first.startswith(reset)
        mesh.start(1)
        assert [row[0] for row in await converged(mesh)] == [1]


async def test_a_region_that_was_never_in_the_mesh_may_bring_rows(servers, tmp_path) -> None:
    """Nodes were started while another region was still to be set up."""
    async with mesh_of(await servers(2), tmp_path, limits=QUICK) as mesh:
        one, two = mesh.sql
        await mesh.everywhere("CREATE DATABASE app", TABLE)
        await one.execute(INSERT, (1, "x"))
        await two.execute(INSERT, (2, "x"))
        await mesh.init(regions=["one"])
        mesh.start(0)
        started = "SELECT incarnation FROM meshnode.member"
        await until(lambda: one.value(started), "its node has started")
        with pytest.raises(Refused, match="cannot begin with the first records"):
            await mesh.init(regions=["two"])
        assert (await mesh.init(seed_from="one")).complete
        mesh.start(1)
        assert [row[0] for row in await converged(mesh)] == [1, 2]


async def test_one_that_was_activated_without_a_seed_and_never_started_is_seeded(
    servers, tmp_path, monkeypatch
) -> None:
    """By a run for itself alone, from where no other region could be reached."""
    async with mesh_of(await servers(2), tmp_path, limits=QUICK) as mesh:
        await emptied(mesh)
        with monkeypatch.context() as patch:
            connect = control.connect

            async def only_two(region: Region, login: Account) -> control.Control:
                if region.name != "two":
                    raise Retry("cannot be reached", "mend the network")
                return await connect(region, login)

            patch.setattr(control, "connect", only_two)
            told: list[str] = []
            await mesh.init(regions=["two"], report=told.append)
            assert any("cannot be asked there" in line for line in told)
        assert (await mesh.init(seed_from="one")).complete
        assert await rejoin.reads_from_a_snapshot(mesh.sql[1])
        mesh.start(1)
        assert [row[0] for row in await converged(mesh)] == [1]


async def emptied(mesh: Mesh) -> None:
    """The steps 1 to 3 with the second of two regions; there is one row, and region one works."""
    one, two = mesh.sql
    await mesh.everywhere("CREATE DATABASE app", TABLE)
    await mesh.init()
    mesh.start()
    await one.execute(INSERT, (1, "x"))
    await mesh.settle()
    await mesh.stop(1)
    await two.execute("TRUNCATE app.t")
    await two.execute("DROP DATABASE meshnode")
    await forget_topic(mesh, "two")


async def test_regions_that_have_not_begun_read_from_the_first_record(servers, tmp_path) -> None:
    async with mesh_of(await servers(2), tmp_path) as mesh:
        await mesh.everywhere("CREATE DATABASE app", TABLE)
        await mesh.sql[0].execute(INSERT, (1, "x"))
        await mesh.init(seed_from="one")
        for sql in mesh.sql:
            assert await sql.rows("SELECT seq, position FROM meshnode.applied") == [(0, b"")]


async def test_an_empty_server_takes_the_place_of_one_that_is_gone(servers, tmp_path) -> None:
    *pair, empty = await servers(3)
    async with mesh_of(pair, tmp_path, limits=QUICK) as mesh:
        await mesh.everywhere("CREATE DATABASE app", TABLE)
        await mesh.init()
        mesh.start()
        await mesh.sql[0].execute(INSERT, (1, "one"))
        await mesh.sql[1].execute(INSERT, (2, "two"))
        await mesh.settle()
        await mesh.stop(1)
        await mesh.sql[1].close()
        async with mesh_of([empty], tmp_path) as new:
            await new.everywhere("CREATE DATABASE app", TABLE)
            address = new.topology.regions[0].mysql
        first, second = mesh.topology.regions
        regions = (first, msgspec.structs.replace(second, mysql=address))
        mesh.topology = msgspec.structs.replace(mesh.topology, regions=regions)
        mesh.servers[1] = empty
        mesh.sql[1] = await mesh.session(1)
        await forget_topic(mesh, "two")
        assert (await mesh.init(seed_from="one")).complete
        mesh.start(1)
        await mesh.sql[1].execute(INSERT, (3, "two again"))
        assert [row[:2] for row in await converged(mesh)] == [
            (1, "one"), (2, "two"), (3, "two again")
        ]  # fmt: skip
