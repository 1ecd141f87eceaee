"""A key whose type was changed while tombstones are held that the new type has no room for."""

import pytest
from regions import column, control, run, topology_of

from meshnode.errors import Refused
from meshnode.mysql import schema
from meshnode.ops.install import init


@pytest.mark.parametrize(
    ("before", "after", "keys", "code"),
    [
        ("VARCHAR(9) COLLATE utf8mb4_bin", "VARCHAR(9) COLLATE utf8mb4_0900_ai_ci", "aA", 1062),
        ("INT", "TINYINT", ["300"], 1264),
        ("VARCHAR(9)", "VARCHAR(3)", ["abcdef"], 1265),
        ("ENUM('a', 'b')", "ENUM('a')", "b", 1265),
    ],
)
async def test_it_is_said_what_to_wait_for(servers, before, after, keys, code) -> None:
    (server,) = await servers(1)
    topology = topology_of([server])
    async with await control(server) as one:
        await run(one, "CREATE DATABASE app", f"CREATE TABLE app.t (id {before} PRIMARY KEY)")
        await init(topology)
        for key in keys:
            await one.execute("INSERT INTO app.t VALUES (%s)", (key,))
        await run(one, "DELETE FROM app.t", f"ALTER TABLE app.t MODIFY id {after}")
        with pytest.raises(Refused, match=r"app\.t: .* tombstones that are still held") as refused:
            await init(topology)
        assert str(code) in str(refused.value)
        assert "let the nodes of all regions run" in refused.value.remedy
        assert "run `meshnode init` again" in refused.value.remedy
        tombstones = schema.tombstone_table("app", "t")
        assert len(await column(one, f"SELECT id FROM {tombstones}")) == len(keys)
        await one.execute(f"DELETE FROM {tombstones}")
        await init(topology)
        assert (await init(topology)).statements == []
