"""The check of the bus: can this region write its own topic, and read those of its peers.

It only looks: it makes no topic and no folder, and fences nobody.  What an operator has to
set (a password, a certificate, the shape of a topic) is refused where it is about
the region's own topic, because the node could publish nothing; a peer's trouble is a
warning, because everything else goes on.  A Kafka that is away is a warning in both cases:
the node waits for it.
"""

import asyncio

from meshnode.bus.port import Bus
from meshnode.buses import bare_bus
from meshnode.errors import MeshError, Refused
from meshnode.ops.checks import Context, Finding, Level, check

ANSWER_SECONDS = 20.0


@check("bus", "the bus can be reached and logged in to, and its topics are as they must be")
async def bus(context: Context) -> list[Finding]:
    made = bare_bus(context.topology)
    own = context.region.name
    peers = [peer.name for peer in context.topology.peers(own)]
    try:
        found = await asyncio.gather(*(_topic(context, made, name) for name in (own, *peers)))
    finally:
        await made.close()
    # A Kafka that several regions share has its trouble once.
    first = {(each.finding, each.remedy): each for each in reversed(found) if each is not None}
    return [each for each in found if each is not None and first[each.finding, each.remedy] is each]


async def _topic(context: Context, made: Bus, region: str) -> Finding | None:
    subject = f"topic of {region}"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await made.inspect(region)
    except Refused as error:
        level = Level.REFUSE if region == context.region.name else Level.WARN
        return context.finding("bus", level, subject, error.what, error.remedy)
    except MeshError as error:
        return context.finding("bus", Level.WARN, subject, error.what, error.remedy)
    except TimeoutError:
        return context.finding(
            "bus",
            Level.WARN,
            subject,
            f"the bus has not answered within {ANSWER_SECONDS:g} s",
            "see that its broker runs and is not overloaded; the node waits for it",
        )
    return None
