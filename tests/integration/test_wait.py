"""``lab wait`` and ``status`` after a clock that ran ahead was put right."""

from regions import HOUR_US
from steps import PLAIN, running, until

from meshnode.lab.rounds import wait
from meshnode.ops.status import look


async def test_a_beat_from_the_future_does_not_stand_for_those_that_follow(
    servers, tmp_path
) -> None:
    """Beats are told apart by number: wall times of a clock that was set back repeat."""
    async with running(servers, tmp_path, PLAIN) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        # What region two would have noted while the clock of region one was an hour ahead.
        await mesh.stop(1)
        mesh.isolate(0)
        await two.execute(f"UPDATE meshnode.applied SET heard_us = heard_us + {HOUR_US}")
        mesh.start(1)
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
        verdict = await wait(mesh.topology, 4)
        assert not verdict.complete
        assert any("two waits for one's beat" in reason for reason in verdict.reasons)
        mesh.cut()
        assert (await wait(mesh.topology, 60)).complete
        assert await two.value("SELECT v FROM app.t WHERE id = 1") == "x"

        async def lag() -> bool:
            pairs = (await look(mesh.topology)).pairs
            return all(pair.lag is not None and 0 <= pair.lag < 60 for pair in pairs)

        await until(lag, "the lag is that of the newest beat")
