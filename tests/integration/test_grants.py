"""The printed grants: enough for each account's work, and no more."""

from contextlib import AsyncExitStack

import pytest
from healthy import ACCOUNTS, healthy
from regions import control, run

from meshnode.core.stamp import Stamp
from meshnode.errors import Refused
from meshnode.mysql import catalog, restamp
from meshnode.mysql.control import code_of
from meshnode.ops import grants
from meshnode.ops.doctor import examine, refusals
from meshnode.ops.install import init


async def test_printed_grants_are_enough_and_no_more(servers) -> None:
    """The three accounts do their work with these grants, and apply not more than it."""
    async with AsyncExitStack() as stack:
        (server,) = await servers(1)
        topology, (root,) = await healthy(stack, [server])
        text = grants.render(topology, "one", ["app"])
        assert "secret" not in text and text.count("CREATE USER") == 3
        for statement in text.split(";\n"):
            plain = "\n".join(line for line in statement.splitlines() if line[:2] != "--").strip()
            if plain:
                await run(root, plain)
        await grants.create_accounts(root, ACCOUNTS, ["app"])
        assert refusals(await examine(topology, "one")) == []
        apply = await stack.enter_async_context(await control(server, *ACCOUNTS["apply"]))
        await run(
            apply,
            "SET rbr_exec_mode = STRICT",
            "SET gtid_next = 'AUTOMATIC'",
            "UPDATE meshnode.applied SET seq = 1 WHERE origin = 9",
            "SELECT COUNT(*) FROM information_schema.innodb_trx",
        )
        for forbidden in (
            "SET sql_log_bin = 0",
            "SET GLOBAL max_connections = 99",
            "DROP TABLE app.t",
            "CREATE TABLE app.x (a INT)",
            "SELECT * FROM mysql.user",
            "KILL 1",
        ):
            with pytest.raises(Refused):
                await apply.execute(forbidden)


async def test_the_accounts_write_rows_with_these_grants_and_no_others(servers) -> None:
    async with AsyncExitStack() as stack:
        pair = await servers(2)
        topology, both = await healthy(stack, pair)
        await run(both[0], "CREATE TABLE app.u (id INT PRIMARY KEY, v INT)")
        await run(both[1], "CREATE TABLE app.u (id INT PRIMARY KEY, v INT)")
        await run(both[1], "INSERT INTO app.u VALUES (1, 1)")
        assert (await init(topology)).lifted == {"app.u": 1}
        # The second wall: BINLOG by apply is held to its table grants.
        one = both[1]
        await run(one, "CREATE DATABASE other", "CREATE TABLE other.u LIKE app.u")
        await run(one, "INSERT INTO other.u VALUES (1, 1)")
        apply = await stack.enter_async_context(await control(pair[1], *ACCOUNTS["apply"]))
        await apply.execute(restamp.format_description().decode())
        await apply.execute("SET gtid_next = 'AUTOMATIC'")
        rows = [((1).to_bytes(4, "little"), Stamp(7, 2))]
        mine = await catalog.shape(one, "app", "u")
        await apply.execute(restamp.restamp(mine, rows).decode())
        assert await one.rows("SELECT _mesh_ts, _mesh_origin FROM app.u") == [(7, 2)]
        foreign = await catalog.shape(one, "other", "u")
        with pytest.raises(Refused) as refused:
            await apply.execute(restamp.restamp(foreign, rows).decode())
        assert code_of(refused.value) == 1105
        assert await one.rows("SELECT _mesh_ts, _mesh_origin FROM other.u") == [(0, 0)]


async def test_schema_names_in_grants_are_names_not_patterns(servers) -> None:
    (server,) = await servers(1)
    async with await control(server) as root:
        await run(root, "CREATE DATABASE a_b", "CREATE DATABASE axb", "CREATE TABLE axb.t (a INT)")
        await grants.create_accounts(root, {"apply": ACCOUNTS["apply"]}, ["a_b"])
        async with await control(server, *ACCOUNTS["apply"]) as apply:
            with pytest.raises(Refused):
                await apply.rows("SELECT * FROM axb.t")
