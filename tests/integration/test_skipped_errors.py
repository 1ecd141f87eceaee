"""Why a server that skips errors is refused: its ``BINLOG`` leaves rows out and says nothing."""

import pytest
from regions import address

from meshnode.accounts import Account
from meshnode.core.stamp import Stamp
from meshnode.errors import Refused, RowError
from meshnode.mysql import catalog, restamp, session
from meshnode.mysql.control import Control, connect_to
from meshnode.topology import Region

TABLE = (
    "CREATE TABLE app.t (id INT PRIMARY KEY, _mesh_ts BIGINT UNSIGNED NOT NULL DEFAULT 0,"
    " _mesh_origin TINYINT UNSIGNED NOT NULL DEFAULT 0, UNIQUE KEY (_mesh_ts))"
)


async def apply_three(server, sql: Control) -> list[tuple]:
    """Restamp rows 1 to 3 in one event, where row 2 cannot have its stamp; all rows after it."""
    await sql.execute("CREATE DATABASE app")
    await sql.execute(TABLE)
    await sql.execute("INSERT INTO app.t VALUES (1, 1, 1), (2, 2, 1), (3, 3, 1), (9, 8, 1)")
    shape = await catalog.shape(sql, "app", "t")
    login = Account(server.user, server.password)
    applying = await session.connect(Region(1, "one", address(server)), login, "test")
    try:
        await applying.query(restamp.format_description())
        await applying.query("SET gtid_next = 'AUTOMATIC'")
        rows = [(key.to_bytes(4, "little"), Stamp(ts, 2)) for key, ts in ((1, 7), (2, 8), (3, 9))]
        await applying.query(restamp.restamp(shape, rows))
    finally:
        applying.close()
    return await sql.rows("SELECT id, _mesh_ts FROM app.t ORDER BY id")


@pytest.mark.parametrize("skipped", ["OFF", "1062"])
@pytest.mark.parametrize("rule", ["on", "off"])
async def test_a_row_that_cannot_stand_is_an_error(throwaway, monkeypatch, skipped, rule) -> None:
    """Off: sessions do not ask for the setting, and rows 2 and 3 are lost without a word."""
    if rule == "off":
        monkeypatch.setattr(session, "require_asserted", lambda *_: None)
    server = await throwaway({"replica_skip_errors": skipped})
    login = Account(server.user, server.password)
    async with await connect_to(address(server), login, server="one") as sql:
        if skipped == "OFF":
            with pytest.raises(RowError, match="1062"):
                await apply_three(server, sql)
        elif rule == "on":
            with pytest.raises(Refused, match="replica_skip_errors is '1062'"):
                await apply_three(server, sql)
        else:
            assert await apply_three(server, sql) == [(1, 7), (2, 2), (3, 3), (9, 8)]
