"""How far a region is, as ``init`` reads it from its bookkeeping."""

import pytest
from regions import control, run, topology_of

from meshnode.mysql.schema import digest
from meshnode.ops import progress
from meshnode.ops.alignment import Progress, Reach
from meshnode.ops.install import init

LETTER = (
    "INSERT INTO meshnode.dead_letter"
    " (at, origin, seq, schema_name, table_name, ts, stamp_origin, code, cause, body, state)"
    " VALUES (NOW(), 2, 1, 'app', '{}', 1, 1, 1205, '', '', '{}')"
)
"""With its table and its state."""


@pytest.fixture
async def one(servers):
    """Region one of two; its node has not started."""
    pair = await servers(2)
    async with await control(pair[0]) as first, await control(pair[1]) as second:
        for sql in (first, second):
            await run(sql, "CREATE DATABASE app", "CREATE TABLE app.t (id INT PRIMARY KEY)")
        await init(topology_of(pair))
        yield first


async def test_what_is_read(one) -> None:
    async def read() -> Progress:
        return await progress.read(one, "app", "t", (1, 2))

    assert await read() == Progress(Reach(), {2: Reach()}, silent=True)
    now = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6))"
    since = f"(SELECT GREATEST(since_us, {now}) FROM meshnode.tables)"
    await run(
        one,
        f"UPDATE meshnode.member SET incarnation = 7, tail_seq = 8, gc_limit = {since}",
        f"UPDATE meshnode.heartbeat SET beat = 9, wall_us = {now}",
        "UPDATE meshnode.applied SET incarnation = 4, seq = 5, heard_beat = 6",
        # A region that is no member any more, another table's letter, and one that is closed.
        "INSERT INTO meshnode.applied (origin, incarnation, seq, epoch, applied_at)"
        " VALUES (3, 1, 1, 1, NOW())",
        LETTER.format("u", "open"),
        LETTER.format("t", "closed"),
    )
    assert await read() == Progress(Reach(7, 8, 9), {2: Reach(4, 5, 6)}, collects=True)
    # Tombstones are collected above the activation only.
    await one.execute(
        "UPDATE meshnode.tables SET since_us = (SELECT gc_limit FROM meshnode.member)"
        " WHERE digest = %s",
        (digest("app", "t"),),
    )
    assert not (await read()).collects
    for state in ("open", "replay"):
        await one.execute(LETTER.format("t", state))
        assert (await read()).parked
        await one.execute("DELETE FROM meshnode.dead_letter")
