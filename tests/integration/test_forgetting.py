"""Records of conflicts are kept for their time, by clocks that can be trusted."""

from steps import actor_of, running, until

AGES = (0, 29, 31, 400)
INSERT = (
    "INSERT INTO meshnode.conflict_log (at, schema_name, table_name, row_key, kind, certainty,"
    " policy, reason, winner_ts, winner_origin, loser_ts, loser_origin, origin, seq, tx_id)"
    " VALUES (UTC_TIMESTAMP(6) - INTERVAL %s DAY, 'app', 't', '{}', 'seed', 'certain', '', '',"
    " 2, 1, 1, 1, 1, 0, '')"
)
LEFT = "SELECT COUNT(*) FROM meshnode.conflict_log"


async def forget(mesh) -> None:
    """What the gardener of the first region does every ten seconds."""
    gardener = actor_of(mesh, 0, "gardener")
    async with gardener.store.gardening() as session:
        await gardener.forget_records(session)


async def test_a_clock_far_ahead_forgets_nothing(servers, tmp_path) -> None:
    """The own clock is 60 days ahead of what the peer was last heard to say.

    Needed: the older of both clocks.  By the own one alone every record would be gone within ten
    seconds of such a step, also those of a minute ago.
    """
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await mesh.settle()
        for days in AGES:
            await one.execute(INSERT, (days,))
        await mesh.stop(1)
        heard = await one.value("SELECT heard_us FROM meshnode.applied")
        # The applier would write its own idea of it with the next heartbeat: there is none.
        await one.execute("UPDATE meshnode.applied SET heard_us = heard_us - 60 * 86400000000")
        await forget(mesh)
        assert await one.value(LEFT) == 3, "what is beyond its time by the peer's clock, too"
        await one.execute("UPDATE meshnode.applied SET heard_us = %s", (heard,))
        await forget(mesh)
        assert await one.value(LEFT) == 2
        mesh.start(1)
        await until(lambda: len(mesh.nodes) == 2, "both nodes")
        await mesh.settle()
