"""A COMMIT whose answer never comes: done or not, nobody can say (T16).

A proxy stands between each node and its server.  The client of a lost answer must find out
from the server, and only there: what it does next must be right in both cases.
"""

import asyncio
import contextlib
import random

import pytest
from crash_load import TABLES, under_load
from crash_steps import audited, background, connector, ended, judge
from mesh import NAMES
from steps import converged, sees, until

from meshnode.lab.applied_audit import chained
from meshnode.lab.wire_proxy import Fate, proxied
from meshnode.mysql.schema import TriggerRole, trigger_name

ZOMBIE_SECONDS = 60.0
"""More than a session of a node may be idle before its server ends it."""

ENOUGH = {"applier": 10, "heart": 4, "mender": 8}
"""Lost answers of each kind of session that a test of all of them waits for."""

LOST_CLAIMS = 4
"""The pauses between so many are longer than the pulse: a beat falls in between."""


@contextlib.asynccontextmanager
async def through_proxies(servers, folder, *tables: str):
    """A running mesh of two regions, and the proxies between its nodes and its servers."""
    lent = await servers(2)
    async with proxied(lent[0]) as one, proxied(lent[1]) as two:
        async with audited([one, two], folder, *tables) as mesh:
            yield mesh, (one, two)


@pytest.mark.parametrize("fate", [Fate.ANSWER_LOST, Fate.ZOMBIE, Fate.CUT])
async def test_one_lost_answer(servers, tmp_path, fate) -> None:
    """The row of ``meshnode.applied`` says whether it was done; it is done once.

    Needed: the position in the transaction of the data, read anew before anything is tried
    again.  Whoever does the batch again without asking has applied it twice.
    """
    async with through_proxies(servers, tmp_path) as (mesh, (_, two)):
        one, other = mesh.sql
        position = "SELECT seq FROM meshnode.applied WHERE origin = 1"
        held = await other.value(position)

        def decide(program: str, sent: bytes) -> Fate:
            if program == "meshnode applier one" and b"conflict_log" in sent and not two.met:
                return fate
            return Fate.PASSES

        # The update of row 2 loses in the other region: what is applied twice is recorded twice.
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x'), (2, 'x')")
        await converged(mesh)
        mesh.isolate(0)
        await one.execute("UPDATE app.t SET n = n + 1 WHERE id = 1")
        await one.execute("UPDATE app.t SET v = 'early' WHERE id = 2")
        await other.execute("UPDATE app.t SET v = 'late' WHERE id = 2")
        two.decide = decide
        mesh.cut()
        await until(lambda: two.met, "a COMMIT of the applier")
        await one.execute("UPDATE app.t SET n = n + 1 WHERE id = 1")
        await sees(mesh, 1, "SELECT n FROM app.t WHERE id = 1", 2, ZOMBIE_SECONDS)
        rows = await converged(mesh)
        assert [row[:3] for row in rows] == [(1, "x", 2), (2, "late", 0)]
        await chained(other, "two")
        assert held < await other.value(position)
        assert await other.value("SELECT COUNT(*) FROM meshnode.conflict_log") == 1


async def test_a_claim_whose_answer_is_lost(servers, tmp_path) -> None:
    """The node has raised its own epoch and does not know it: it claims again, and lives on.

    Needed: while a claim is under way, or has failed nobody knows where, an epoch that is not
    the node's may still be its own.  Otherwise its heart takes it for a successor's and ends it.
    """
    async with through_proxies(servers, tmp_path) as (mesh, (proxy, _)):
        one = mesh.sql[0]
        before = await one.value("SELECT epoch FROM meshnode.member")

        def decide(program: str, sent: bytes) -> Fate:
            if program == "meshnode mender" and proxy.met.total() < LOST_CLAIMS:
                return Fate.ANSWER_LOST
            return Fate.PASSES

        proxy.decide = decide
        proxy.drop("meshnode mender")
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
        await until(lambda: proxy.met.total() == LOST_CLAIMS, "claims whose answer is lost")
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "x")
        await converged(mesh)
        assert not ended(mesh)
        after = await one.value("SELECT epoch FROM meshnode.member")
        assert after == before + LOST_CLAIMS + 1


async def test_answers_that_are_lost_again_and_again(servers, tmp_path) -> None:
    """Of every session of both nodes: appliers, heart, lifts, the claim itself.

    A table without triggers is there so that lifts commit, too: each of its rows is
    published only by the lift's own transaction.
    """
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    bare = "CREATE TABLE app.bare (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(20))"
    async with through_proxies(servers, tmp_path, *TABLES, bare) as (mesh, proxies):
        for at, sql in enumerate(mesh.sql):
            await sql.execute("SET GLOBAL auto_increment_increment = 2")
            await sql.execute(f"SET GLOBAL auto_increment_offset = {at + 1}")
            await sql.execute(
                f"DROP TRIGGER app.`{trigger_name(TriggerRole.BEFORE_INSERT, 'app', 'bare')}`"
            )

        def met(word: str) -> int:
            return sum(
                count
                for proxy in proxies
                for (program, _), count in proxy.met.items()
                if word in program
            )

        def spared(program: str) -> bool:
            """Who met enough of them: a stream that is always claimed anew gives appliers none."""
            return any(word in program and met(word) >= count for word, count in ENOUGH.items())

        def decide(program: str, sent: bytes) -> Fate:
            if not program.startswith("meshnode") or spared(program) or chance.random() > 0.2:
                return Fate.PASSES
            return chance.choice([Fate.ANSWER_LOST, Fate.CUT, Fate.ZOMBIE])

        written = [0, 0]

        async def insert(at: int) -> None:
            async with await mesh.session(at) as client:
                while True:
                    await client.execute("INSERT INTO app.bare (v) VALUES (%s)", (NAMES[at],))
                    written[at] += 1
                    await asyncio.sleep(0.05)  # a client's pace

        async def bury() -> None:
            while True:
                await asyncio.sleep(0.3)  # the server notices after a while
                for proxy in proxies:
                    proxy.bury()

        async with background(insert(0), insert(1), bury()):
            async with under_load(NAMES[:2], connector(mesh)) as loads:
                for proxy in proxies:
                    proxy.decide = decide
                await until(
                    lambda: all(met(word) >= count for word, count in ENOUGH.items()),
                    f"lost answers of every kind (seed {seed})",
                    90,
                )
                for proxy in proxies:
                    proxy.decide = lambda program, sent: Fate.PASSES
        for proxy in proxies:
            proxy.bury()
        await judge(mesh, loads, f"seed {seed}")
        for at, sql in enumerate(mesh.sql):
            assert written[at] <= await sql.value(
                "SELECT COUNT(*) FROM app.bare WHERE v = %s", (NAMES[at],)
            )
        assert mesh.count("lifts") > 0
