"""``BINLOG`` and a table that was changed since its shape was compared."""

import pytest
from regions import address

from meshnode.accounts import Account
from meshnode.core.stamp import Stamp
from meshnode.errors import Halt
from meshnode.mysql import catalog, restamp
from meshnode.mysql.control import connect_to
from meshnode.mysql.session import connect
from meshnode.topology import Region

TABLE = (
    "CREATE TABLE app.t (id INT PRIMARY KEY, v INT, _mesh_ts BIGINT UNSIGNED NOT NULL DEFAULT 0,"
    " _mesh_origin TINYINT UNSIGNED NOT NULL DEFAULT 0)"
)


async def test_rows_that_no_longer_fit_blame_no_account_alone(servers) -> None:
    (server,) = await servers(1)
    login = Account(server.user, server.password)
    async with await connect_to(address(server), login, server="one") as sql:
        await sql.execute("CREATE DATABASE app")
        await sql.execute(TABLE)
        await sql.execute("INSERT INTO app.t VALUES (1, 1, 0, 0)")
        before = await catalog.shape(sql, "app", "t")
        await sql.execute("ALTER TABLE app.t MODIFY id VARCHAR(10)")
        session = await connect(Region(1, "one", address(server)), login, "test")
        try:
            await session.query(restamp.format_description())
            await session.query("SET gtid_next = 'AUTOMATIC'")
            row = ((1).to_bytes(4, "little"), Stamp(7, 2))
            with pytest.raises(Halt) as halted:
                await session.query(restamp.restamp(before, [row]))
            assert "1105" in halted.value.what, halted.value
            assert "a table was changed at this moment" in halted.value.what
            # It goes on by itself when the definition fits.
            await session.rollback()
            await sql.execute("ALTER TABLE app.t MODIFY id INT")
            await session.query(restamp.restamp(before, [row]))
        finally:
            session.close()
        assert await sql.rows("SELECT _mesh_ts, _mesh_origin FROM app.t") == [(7, 2)]
