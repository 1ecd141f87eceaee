"""Whether the node of a region may start by a topology.

Theory of operation.  A process that starts asks :func:`away`: what the doctor refuses ends it, and
for a MySQL that is away it waits.  A node that runs already is not given up for a changed file
that could not take its place: :func:`require_start` refuses everything that a start would
refuse or wait for, while the former settings still hold.  And where topics are reached
by other brokers than before, the very topics must be there in which this region's positions
are (:func:`require_same_topics`): another Kafka, or a copy, is another history.
"""

import asyncio
import os
import time
from collections.abc import Mapping

from meshnode.bus.port import Bus, Position, RetentionPassed
from meshnode.errors import MeshError, Refused
from meshnode.ops.checks import Finding
from meshnode.ops.doctor import examine, refusals
from meshnode.topology import Topology

ANSWER_SECONDS = 20.0


def lab_allowed() -> bool:
    """Whether a lab has overridden the durability checks, loudly, by the environment."""
    return os.environ.get("MESHNODE_LAB") == "1"


async def away(topology: Topology, region: str) -> str | None:
    """Which server a start has to wait for; None if it may go on.

    Raises Refused with everything else that the doctor refuses.
    """
    refused = refusals(await examine(topology, region, lab=lab_allowed()))
    servers = [finding for finding in refused if finding.check == "connection"]
    if len(servers) < len(refused):
        raise _refusal(region, refused)
    return servers[0].finding if servers else None


async def require_start(topology: Topology, region: str) -> None:
    """Raise Refused where a start would be refused, or would have to wait."""
    refused = refusals(await examine(topology, region, lab=lab_allowed()))
    if refused:
        raise _refusal(region, refused)


def _refusal(region: str, refused: list[Finding]) -> Refused:
    return Refused(
        f"the doctor refuses region {region}: "
        + "; ".join(
            f"{finding.check}: {finding.subject}: {finding.finding}" for finding in refused
        ),
        refused[0].remedy + "; `meshnode doctor` shows everything",
    )


async def require_same_topics(bus: Bus, places: Mapping[str, Position]) -> None:
    """Raise Refused unless ``bus`` has, for each region, the topic to which its position belongs.

    Cancelled or refused, it has changed nothing.
    """
    for region, position in places.items():
        reader = bus.reader(region)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                # Waits where there is no such topic; of a position it only says that it is right.
                await reader.end()
                await reader.unread_age(position, time.time())
        except RetentionPassed:
            continue  # the same topic: the applier says what this means
        except TimeoutError:
            raise _elsewhere(region, "it is not there, or does not answer") from None
        except MeshError as error:
            raise _elsewhere(region, error.what) from error
        finally:
            await reader.close()


def _elsewhere(region: str, why: str) -> Refused:
    return Refused(
        f"at the new address the topic of region {region} cannot be followed: {why}",
        "name brokers of the same Kafka, or put the old ones back: another Kafka, or a copy of the"
        " topics, is another history",
    )
