"""Answers to COMMIT that are lost on their way: done or not, the client cannot tell."""

import asyncio
import random
from collections.abc import AsyncIterator

from chaos.faults.kinds import kind
from chaos.mesh import Mesh
from chaos.plan import Fault
from meshnode.lab.wire_proxy import Fate

BURY_SECONDS = 0.5
"""How long the server's side of a lost connection lives on with its locks."""


@kind("commit.lost")
async def lost(mesh: Mesh, fault: Fault) -> AsyncIterator[None]:
    """Of the node's COMMITs at one server a ``share`` is lost: the answer, the COMMIT itself, or
    either, with the connection."""
    (region,) = fault.target
    proxy = mesh.proxies[region]
    draw = random.Random(f"{fault.start} {region}")
    share, program = fault.number("share", 0.05), str(fault.options.get("program", "meshnode"))

    def decide(name: str, sent: bytes) -> Fate:
        if not name.startswith(program) or draw.random() >= share:
            return Fate.PASSES
        return draw.choice((Fate.ANSWER_LOST, Fate.ZOMBIE, Fate.CUT))

    async def bury() -> None:
        while True:
            await asyncio.sleep(BURY_SECONDS)
            proxy.bury()

    before, proxy.decide = proxy.decide, decide
    burying = asyncio.create_task(bury())
    try:
        yield
    finally:
        proxy.decide = before
        burying.cancel()
        proxy.bury()
