"""``meshnode init --seed-from``: what it overrules stands in the losing region's conflict log."""

from contextlib import AsyncExitStack

from regions import run, sessions, topology_of

from meshnode.core.stamp import ZERO
from meshnode.ops import conflicts
from meshnode.ops.install import init

TABLE = (
    "CREATE TABLE app.t (id VARCHAR(9) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, v VARCHAR(9),"
    " j JSON, b BLOB)"
)


async def test_each_row_that_a_seed_overrules_is_recorded_where_it_stands(servers) -> None:
    trio = await servers(3)
    topology = topology_of(trio)
    async with AsyncExitStack() as stack:
        three = await sessions(stack, trio)
        for one in three:
            await run(
                one,
                "CREATE DATABASE app",
                TABLE,
                "INSERT INTO app.t VALUES ('a', 'like', NULL, NULL), ('b', 'mine', '[1]', 0x00FF)",
            )
        # Region two spells the key in another way; three has the row of the seed, and its own.
        await run(three[1], "UPDATE app.t SET id = 'B', v = 'o''ther', b = NULL WHERE id = 'b'")
        await run(three[2], "INSERT INTO app.t VALUES ('c', 'alone', NULL, NULL)")
        assert (await init(topology)).refused
        assert (await conflicts.newest(topology)).found == []

        result = await init(topology, seed_from="one")
        assert result.complete and result.lifted == {"app.t": 1}
        assert result.overruled == {"app.t": {"two": 1}}
        (found,) = (await conflicts.newest(topology)).found
        assert (found.region, found.table, found.key) == ("two", "app.t", {"id": "B"})
        assert (found.kind, found.certainty, found.policy) == ("seed", "certain", "seed-from")
        assert found.loser == ZERO and found.origin == 1
        winner = await three[0].row("SELECT _mesh_ts, _mesh_origin FROM app.t WHERE id = 'b'")
        assert winner == tuple(found.winner)
        assert found.loser_image == {
            "id": "B", "v": "o'ther", "j": "[1]", "b": None, "_mesh_ts": 0, "_mesh_origin": 0,
        }  # fmt: skip
        assert found.winner_image["v"] == "mine" and found.winner_image["b"] == "0x00ff"
        assert (await init(topology, seed_from="one")).overruled == {}


async def test_a_row_that_is_locked_is_recorded_only_when_it_is_lifted(
    servers, monkeypatch
) -> None:
    pair = await servers(2)
    topology = topology_of(pair)
    monkeypatch.setattr("meshnode.ops.install_data.LIFT_ATTEMPTS", 1)
    async with AsyncExitStack() as stack:
        both = await sessions(stack, pair)
        for number, one in enumerate(both):
            await run(
                one,
                "CREATE DATABASE app",
                "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)",
                f"INSERT INTO app.t VALUES (1, {number}), (2, {number})",
            )
        await init(topology)
        await run(both[0], "START TRANSACTION", "SELECT * FROM app.t WHERE id = 1 FOR UPDATE")
        result = await init(topology, seed_from="one")
        assert result.overruled == {"app.t": {"two": 1}} and not result.complete
        assert [found.key for found in (await conflicts.newest(topology)).found] == [{"id": 2}]
        await run(both[0], "ROLLBACK")
        assert (await init(topology, seed_from="one")).overruled == {"app.t": {"two": 1}}
        assert {found.key["id"] for found in (await conflicts.newest(topology)).found} == {1, 2}


async def test_without_a_record_no_row_is_lifted(servers) -> None:
    """The lift commits after the record: who cannot write one does not overrule."""
    pair = await servers(2)
    topology = topology_of(pair)
    async with AsyncExitStack() as stack:
        both = await sessions(stack, pair)
        for number, one in enumerate(both):
            await run(
                one,
                "CREATE DATABASE app",
                "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)",
                f"INSERT INTO app.t VALUES (1, {number})",
            )
        await init(topology)
        await run(
            both[1],
            "CREATE TRIGGER meshnode.never BEFORE INSERT ON meshnode.conflict_log FOR EACH ROW"
            " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no room'",
        )
        try:
            await init(topology, seed_from="one")
        except Exception as error:
            assert "no room" in str(error)
        else:
            raise AssertionError("the row was overruled without a record")
        assert await both[0].value("SELECT _mesh_ts FROM app.t") == 0
