"""Transactions that meet on one key, step by step in an order that a test gives.

A script is a list of steps.  After each step everything settles: every step that was begun is
over, or it waits for a lock.  A step that waits stays where it is while the others go on; an
error ends its script with a rollback.  So an order has one outcome, on whichever store.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from store_harness import Region_, fence

from meshnode.core.plan import Ancestry, Plan, Work, make_plan
from meshnode.errors import Busy, MeshError, Replan, Retry, RowError
from meshnode.store.port import Applying

SECONDS = 20.0
KINDS = (Busy, Replan, RowError, Retry)


class Script:
    """Named steps, one after the other; ``outcome`` says how it ended."""

    def __init__(
        self,
        steps: Sequence[tuple[str, Callable[[], Awaitable[Any]]]],
        rollback: Callable[[], Awaitable[None]],
    ) -> None:
        self.steps = list(steps)
        self.rollback = rollback
        self.outcome = ""
        self._step = ""
        self.task: asyncio.Task | None = None

    def begin_next(self) -> None:
        """Begin the next step, if the former one is over and there is one."""
        if self.task is None and not self.outcome:
            self._step, work = self.steps.pop(0)
            self.task = asyncio.ensure_future(work())

    @property
    def is_over(self) -> bool:
        """Whether the present step has ended and nobody has looked at it yet."""
        return self.task is not None and self.task.done()

    async def take_answer(self) -> None:
        """Note how a step that is over has ended."""
        if self.task is None or not self.task.done():
            return
        task, self.task = self.task, None
        try:
            task.result()
        except MeshError as error:
            kind = next(kind for kind in KINDS if isinstance(error, kind))
            self.outcome = f"{kind.__name__} at {self._step}"
            await self.rollback()
        else:
            if not self.steps:
                self.outcome = "committed"


async def run(region: Region_, scripts: Sequence[Script], order: Sequence[int]) -> list[str]:
    """Run ``scripts`` in ``order`` (places in ``scripts``), then to their ends; their outcomes."""
    for who in order:
        scripts[who].begin_next()
        await _settle(region, scripts)
    while not all(script.outcome for script in scripts):
        for script in scripts:
            script.begin_next()
            await _settle(region, scripts)
    return [script.outcome for script in scripts]


async def _settle(region: Region_, scripts: Sequence[Script]) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            for script in scripts:
                await script.take_answer()
            under_way = sum(script.task is not None for script in scripts)
            quiet = not under_way or await region.waiters() == under_way
            # What has ended while that question was under way is taken first.
            if quiet and not any(script.is_over for script in scripts):
                return
            await asyncio.sleep(0)


async def apply_script(
    region: Region_, session: Applying, origin: int, work: Work, looks: bool = True
) -> Script:
    """An apply transaction of one item; without ``looks`` it does not look after its write."""
    stored = await session.progress(origin)
    assert stored is not None
    planned: list[Plan] = []

    async def begin() -> None:
        assert await session.begin(region.format, fence(stored.seq + 1, stored.seq, origin))

    async def lock() -> None:
        state = await session.lock([work], False, False)
        planned.append(make_plan([work], state, Ancestry(100, 1)))

    async def write() -> None:
        await session.write(planned[0])

    async def look() -> None:
        if looks:
            await session.look(planned[0])

    return Script(
        [("begin", begin), ("lock", lock), ("write", write), ("look", look),
         ("commit", session.commit)],
        session.rollback,
    )  # fmt: skip


def client_script(client: Any, *statements: tuple[str, int]) -> Script:
    """A client's transaction: ``(statement, key)`` each."""

    def step(what: str, key: int) -> Callable[[], Awaitable[None]]:
        if what == "delete":
            return lambda: client.delete(key)
        return lambda: getattr(client, what)(key, "client")

    steps = [(what, step(what, key)) for what, key in statements]
    return Script([("begin", client.begin), *steps, ("commit", client.commit)], client.rollback)
