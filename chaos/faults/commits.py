"""Answers to COMMIT that are lost on their way: done or not, the client cannot tell."""

import asyncio
import random
import time
from collections.abc import AsyncIterator

from chaos.faults.kinds import kind
from chaos.mesh import Mesh
from chaos.plan import Fault
from meshnode.lab.wire_proxy import Fate

LONGEST_SECONDS = 120.0
BURY_SECONDS = 0.5
"""How long the server's side of a lost connection lives on with its locks."""


@kind("commit.lost")
async def lost(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """Of the node's COMMITs at one server a ``share`` is lost: the answer, the COMMIT itself, or
    either, with the connection; ``least`` of them, if it takes a while longer."""
    (region,) = fault.target
    proxy = mesh.proxies[region]
    draw = random.Random(f"{fault.start} {region}")
    share, program = fault.number("share", 0.05), str(fault.options.get("program", "meshnode"))

    met = 0

    def decide(name: str, sent: bytes) -> Fate:
        nonlocal met
        if not name.startswith(program) or draw.random() >= share:
            return Fate.PASSES
        met += 1
        return draw.choice((Fate.ANSWER_LOST, Fate.ZOMBIE, Fate.CUT))

    async def bury() -> None:
        while True:
            await asyncio.sleep(BURY_SECONDS)
            proxy.bury()

    before, proxy.decide = proxy.decide, decide
    burying = asyncio.create_task(bury())
    try:
        yield
        end = time.monotonic() + LONGEST_SECONDS
        while met < fault.number("least") and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(BURY_SECONDS)
    finally:
        proxy.decide = before
        burying.cancel()
        proxy.bury()
