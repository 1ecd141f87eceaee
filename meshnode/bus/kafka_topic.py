"""The topic of one region: made explicitly, and checked at every start of its writer.

The mesh's promises rest on the topic's shape.  More partitions than one have no
order; ``compact`` forgets history; times set by the producer let an old record
expire at once; a message limit below ours refuses a frame in the middle of the
night.  So the writer creates the topic with all of it spelt out, and refuses one
that somebody made or altered otherwise, naming each setting to change.  Settings
that only give more (longer retention, larger messages) are fine.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Literal

from aiokafka.protocol.admin import CreateTopicsRequest

from meshnode.bus.kafka_errors import LEADER_NOT_AVAILABLE, TOPIC_EXISTS, refusal
from meshnode.bus.kafka_link import LOOK_AGAIN_SECONDS, Cluster, Link, connect, find_topic
from meshnode.errors import Refused, Retry

CREATE_SECONDS = 15.0
"""A topic that was created has a leader within this time."""

FOREVER = -1


@dataclass(frozen=True)
class TopicSettings:
    """What a region's topic must be like.

    ``retention_seconds`` and ``retention_bytes`` (-1: no limit) say how long a record is kept
    at least; ``max_message_bytes`` is the largest message, not the largest record: a longer one
    is cut into several.  Of the compressions ``zstd`` is the one to take: ``lz4`` packs no better
    and needs several times its CPU.
    """

    replication_factor: int
    min_insync_replicas: int
    retention_seconds: float
    retention_bytes: int
    max_message_bytes: int
    compression: Literal["zstd", "lz4", "none"]

    def wanted(self) -> dict[str, str]:
        """The settings of a new topic, by Kafka's names."""
        return {
            "cleanup.policy": "delete",
            "message.timestamp.type": "LogAppendTime",
            "unclean.leader.election.enable": "false",
            "min.insync.replicas": str(self.min_insync_replicas),
            "max.message.bytes": str(self.max_message_bytes),
            "retention.ms": str(round(self.retention_seconds * 1000)),
            "retention.bytes": str(self.retention_bytes),
        }


async def open_topic(cluster: Cluster, topic: str, settings: TopicSettings) -> Link:
    """Connect to the leader of ``topic``, creating it where there is none.

    Errors: `Refused` for a topic of another shape, `Retry`.
    """
    link = await find_topic(cluster, topic)
    if link is None:
        await _create(cluster, topic, settings)
        link = await _led(cluster, topic)
    try:
        await _check(link, settings)
    except BaseException:
        link.close()
        raise
    return link


async def inspect_topic(cluster: Cluster, topic: str, settings: TopicSettings) -> bool:
    """Look at ``topic`` as `open_topic` does, and create nothing; whether it exists.

    Errors: `Refused`, `Retry`.
    """
    link = await find_topic(cluster, topic)
    if link is None:
        return False
    with contextlib.closing(link):
        await _check(link, settings)
    return True


async def _check(link: Link, settings: TopicSettings) -> None:
    problems = compare(await link.settings(), link.replicas, settings)
    if problems:
        raise Refused(
            f"topic {link.topic} at {link.cluster} is not as the topology file wants it: "
            + "; ".join(problems),
            "change it with kafka-configs.sh --alter --entity-type topics --entity-name "
            f"{link.topic} --add-config <setting>=<value>, or change the topology file",
        )


def compare(found: dict[str, str], replicas: int, settings: TopicSettings) -> list[str]:
    """What is wrong with a topic that has the settings ``found``; empty if nothing is."""
    wanted = settings.wanted()
    problems = [
        f"{name} is {found.get(name)}, must be {wanted[name]}"
        for name in (
            "cleanup.policy", "message.timestamp.type", "unclean.leader.election.enable"
        )
        if found.get(name) != wanted[name]
    ]  # fmt: skip
    for name in ("min.insync.replicas", "max.message.bytes"):
        if int(found.get(name, 0)) < int(wanted[name]):
            problems.append(f"{name} is {found.get(name)}, must be at least {wanted[name]}")
    for name in ("retention.ms", "retention.bytes"):
        have, want = int(found.get(name, 0)), int(wanted[name])
        if have != FOREVER and (want == FOREVER or have < want):
            least = f"at least {want} or" if want != FOREVER else "none, which is"
            problems.append(f"{name} is {have}, must be {least} {FOREVER}")
    if replicas < settings.replication_factor:
        problems.append(
            f"it has {replicas} replicas, must have {settings.replication_factor} "
            "(kafka-reassign-partitions.sh)"
        )
    return problems


async def _led(cluster: Cluster, topic: str) -> Link:
    """Connect to a topic that was just created, as soon as its leader serves it."""
    deadline = asyncio.get_running_loop().time() + CREATE_SECONDS
    while True:
        link, led = None, False
        try:
            link = await find_topic(cluster, topic)
            if link is None:
                raise refusal(LEADER_NOT_AVAILABLE, str(cluster), topic)
            await link.offsets()
            led = True
            return link
        except Retry:
            if asyncio.get_running_loop().time() >= deadline:
                raise
        finally:
            if link is not None and not led:
                link.close()
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


async def _create(cluster: Cluster, topic: str, settings: TopicSettings) -> None:
    connection = await connect(cluster)
    try:
        new = (topic, 1, settings.replication_factor, [], list(settings.wanted().items()))
        answer = await connection.ask(CreateTopicsRequest([new], 15_000, False))
    finally:
        connection.close()
    _, code, said = answer.topic_errors[0]
    if code and code != TOPIC_EXISTS:
        raise refusal(code, str(cluster), topic, said)
