"""Clocks that step by an hour, forward and back, while clients write.

The wall clock of one region's server is stepped; that of the other is right.  Stamps never fall
behind what they replace, so who has seen a version can write over it, whatever the clocks say.
Skew decides only between writes that did not see each other, and their losers are on record.
"""

import time

from crash_load import TABLES, under_load
from crash_steps import audited, connector, judge
from mesh import NAMES
from steps import PLAIN, sees, until

from meshnode.lab.skewed import CLOCK, Clock

HOUR = 3600
NEAR = 60.0
"""Seconds that separate "now" from "an hour away"."""

WRITES = 30


async def ahead(sql) -> float:
    """Seconds by which the triggers' clock of a server is ahead of this machine's."""
    return int(await sql.value(CLOCK)) / 1e6 - time.time()


async def stepped(clock: Clock, sql, seconds: int) -> None:
    """Step the clock and wait until the triggers count by it."""
    clock.step(seconds)

    async def there() -> bool:
        return abs(await ahead(sql) - seconds) < NEAR

    await until(there, f"UUID() is {seconds} s ahead")


async def level(mesh) -> None:
    """Wait until what is published now is applied, and nothing was lifted meanwhile.

    Not by the wall times of heartbeats, which steps of the clock make meaningless.
    """
    while True:
        lifts = mesh.count("lifts")
        for at, sql in enumerate(mesh.sql):
            beat = await sql.value("SELECT beat FROM meshnode.heartbeat")

            async def passed(sql=sql, beat=beat) -> bool:
                return await sql.value("SELECT beat FROM meshnode.heartbeat") > beat + 2

            await until(passed, f"heartbeats of {NAMES[at]}; {mesh.states()}")
            other, last = mesh.sql[1 - at], mesh.nodes[at][0].board.tail.seq

            async def applied(other=other, at=at, last=last) -> bool:
                return last <= await other.value(
                    "SELECT seq FROM meshnode.applied WHERE origin = %s", (at + 1,)
                )

            await until(applied, f"what {NAMES[at]} published is applied; {mesh.states()}")
        held = [await sql.value("SELECT COUNT(*) FROM meshnode.mend") for sql in mesh.sql]
        if lifts == mesh.count("lifts") and not any(held):
            return


async def test_a_clock_that_steps_an_hour_forward_and_back(throwaway, tmp_path) -> None:
    """Converged; later writes of one region stand over its own from the future; lifts are counted.

    Needed: ``GREATEST(clock, OLD + 1)``, lifting over tombstones and above what was promised, and
    a frontier that does not follow a clock that runs ahead of its peers.
    """
    clock = Clock(tmp_path / "clock")
    lent = [await throwaway(), await throwaway()]
    await lent[0].stop_async()
    clock.drives(lent[0])
    await lent[0].start_async()
    async with audited(lent, tmp_path, PLAIN, *TABLES) as mesh:
        one, two = mesh.sql
        assert abs(await ahead(one)) < NEAR and abs(await ahead(two)) < NEAR
        async with under_load(NAMES[:2], connector(mesh)) as loads:

            async def some_load() -> None:
                wanted = [len(load.acknowledged) + WRITES for load in loads]
                await until(
                    lambda: all(
                        len(load.acknowledged) >= least
                        for load, least in zip(loads, wanted, strict=True)
                    ),
                    "clients write",
                    60,
                )

            await some_load()
            await one.execute(
                "INSERT INTO app.t (id, v) VALUES (1, 'before'), (2, 'before'), (3, 'before')"
            )
            await sees(mesh, 1, "SELECT COUNT(*) FROM app.t", 3)

            await stepped(clock, one, HOUR)
            await one.execute("UPDATE app.t SET v = 'ahead' WHERE id IN (1, 3)")
            await one.execute("DELETE FROM app.t WHERE id = 2")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 3", "ahead")
            # Who has seen the version from the future writes over it.
            await two.execute("UPDATE app.t SET v = 'seen' WHERE id = 3")
            await sees(mesh, 0, "SELECT v FROM app.t WHERE id = 3", "seen")
            await some_load()

            await stepped(clock, one, 0)
            await one.execute("UPDATE app.t SET v = 'later' WHERE id = 1")
            await one.execute("INSERT INTO app.t (id, v) VALUES (2, 'back')")
            await one.execute("INSERT INTO app.t (id, v) VALUES (4, 'new')")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "later")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 2", "back")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 4", "new")
            await some_load()
            await stepped(clock, one, -HOUR)
            await one.execute("UPDATE app.t SET v = 'behind' WHERE id = 1")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "behind")
            await some_load()
            await stepped(clock, one, 0)
        await level(mesh)
        rows = [row[:2] for row in await mesh.same("app.t")]
        assert rows == [(1, "behind"), (2, "back"), (3, "seen"), (4, "new")]
        assert mesh.count("lifts") > 0
        await judge(mesh, loads)
