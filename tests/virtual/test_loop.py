"""The virtual loop: time without waiting, orders from a seed, processes that die anywhere."""

import asyncio
import socket

import pytest

from .loop import NoRealWorld, Process, Stuck, VirtualLoop, outside, process_of_this_step

HOUR = 3600.0


async def take_turns(said: list[str], name: str, turns: int) -> None:
    for turn in range(turns):
        said.append(f"{name}{turn}")
        await asyncio.sleep(0)


def order_of(seed: int) -> list[str]:
    said: list[str] = []

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for name in "abcd":
                group.create_task(take_turns(said, name, 5))

    VirtualLoop(seed).run(main())
    return said


def test_hours_pass_at_once_and_in_order() -> None:
    loop = VirtualLoop(1)
    rung: list[float] = []

    async def ring(after: float) -> None:
        await asyncio.sleep(after)
        rung.append(loop.time() - begun)

    async def main() -> None:
        await asyncio.gather(*(ring(hours * HOUR) for hours in (5, 1, 100, 3)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(HOUR):
                await asyncio.Event().wait()

    begun = loop.time()
    loop.run(main())
    assert rung == [HOUR, 3 * HOUR, 5 * HOUR, 100 * HOUR]
    assert loop.time() - begun == 101 * HOUR


def test_a_seed_gives_one_order_and_another_seed_another() -> None:
    assert order_of(1) == order_of(1)
    orders = {tuple(order_of(seed)) for seed in range(20)}
    assert len(orders) > 15
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(order_of(1)))}


def test_a_group_that_is_cancelled_ends_in_the_order_of_the_seed() -> None:
    """A task group keeps its tasks in a set: their addresses must not decide."""

    def ends(seed: int, ballast: int) -> list[int]:
        ended: list[int] = []
        kept = [bytearray(each) for each in range(ballast)]

        async def wait(number: int) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(number)

        async def group_of() -> None:
            async with asyncio.TaskGroup() as group:
                for number in range(8):
                    group.create_task(wait(number))

        async def main() -> None:
            task = asyncio.create_task(group_of())
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.wait([task])

        VirtualLoop(seed).run(main())
        assert len(kept) == ballast
        return ended

    for seed in range(5):
        assert ends(seed, 0) == ends(seed, 1000)


def test_plain_callbacks_keep_their_order() -> None:
    said: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in range(50):
            loop.call_soon(said.append, number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    for seed in range(5):
        said.clear()
        VirtualLoop(seed).run(main())
        assert said == list(range(50))


def test_waiting_for_what_cannot_come_is_an_error_that_names_who_waits() -> None:
    async def main() -> None:
        waiting = asyncio.create_task(asyncio.Event().wait(), name="the applier")
        await waiting

    with pytest.raises(Stuck, match="the applier"):
        VirtualLoop(1).run(main())


def test_there_is_no_world_outside() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(NoRealWorld):
            await asyncio.open_connection("localhost", 3306)
        with pytest.raises(NoRealWorld):
            await asyncio.to_thread(print)
        with socket.socket() as wire, pytest.raises(NoRealWorld):
            await loop.sock_connect(wire, ("localhost", 3306))
        with socket.socket() as wire, pytest.raises(NoRealWorld):
            await loop.create_server(asyncio.Protocol, sock=wire)

    VirtualLoop(1).run(main())


@pytest.mark.parametrize("how", ["cancelled", "killed"])
def test_a_process_ends_at_any_await(how: str) -> None:
    """Cancelled, its ``finally`` runs; killed, nothing of it does, and its server goes on."""
    reached: set[int] = set()
    for victim in range(1, 12):
        said: list[str] = []
        serving: list[asyncio.Task] = []

        async def serve(said: list[str] = said) -> None:
            await asyncio.sleep(HOUR)
            said.append("served")

        async def helper(said: list[str] = said) -> None:
            try:
                await asyncio.sleep(1)
                await asyncio.sleep(1)
            finally:
                said.append("helper ended")

        async def work(said=said, serve=serve, helper=helper, serving=serving) -> None:
            loop = asyncio.get_running_loop()
            serving.append(loop.create_task(serve(), context=outside()))
            assert process_of_this_step() is not None
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(helper())
                    group.create_task(helper())
                said.append("done")
            finally:
                said.append("ended")

        loop = VirtualLoop(victim)
        steps = 0

        def strike(process: Process, task: asyncio.Task, victim: int = victim) -> None:
            nonlocal steps
            steps += 1
            if steps == victim:
                reached.add(victim)
                if how == "killed":
                    process.kill()
                else:
                    process.task.cancel()

        async def main(loop: VirtualLoop = loop, said: list[str] = said, work=work) -> None:
            loop.adversary = strike
            loop.spawn("node", work())
            await asyncio.sleep(2 * HOUR)
            said.append("judged")

        loop.run(main())
        before = said[: said.index("judged")]
        if victim not in reached:
            assert "done" in before
        elif how == "killed":
            assert "ended" not in before and "done" not in before
            # Only the step of each process that was never begun leaves no server.
            assert victim == 1 or "served" in before
        else:
            assert "done" not in before
            assert victim == 1 or "ended" in before
    assert len(reached) > 5
