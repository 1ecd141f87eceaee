"""The bus on Apache Kafka: one topic ``<mesh>.<region>`` for each region, one partition each.

    kafka_link      reaching a cluster and the broker that leads a topic
    kafka_topic     creating and checking topics
    kafka_record    records as messages, positions
    kafka_writer    appending, fencing        kafka_reader    fetching ahead, proving positions
    kafka_errors    what brokers answer       kafka_protocol  requests that aiokafka lacks
    kafka_fetch     how much a fetch asks for

All regions may share one Kafka (a star), or each may have its own, from which
its peers read (a mesh): only addresses differ.  No consumer groups, no
transactions, nothing kept at the broker but the records: positions live in
MySQL next to the rows they stand for.
"""

import re
from collections import defaultdict
from collections.abc import Mapping

from meshnode.bus.kafka_fetch import FetchSize
from meshnode.bus.kafka_link import Cluster
from meshnode.bus.kafka_reader import KafkaReader
from meshnode.bus.kafka_topic import TopicSettings, inspect_topic
from meshnode.bus.kafka_writer import KafkaWriter
from meshnode.errors import Refused

__all__ = ["Cluster", "KafkaBus", "TopicSettings"]

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


class KafkaBus:
    """The topics of ``mesh``; see `meshnode.bus.port.Bus`.

    ``clusters`` names for each region the Kafka that holds its topic.
    """

    def __init__(self, mesh: str, clusters: Mapping[str, Cluster], settings: TopicSettings) -> None:
        self._mesh = mesh
        self._clusters = dict(clusters)
        self._settings = settings
        self._sizes: defaultdict[str, FetchSize] = defaultdict(FetchSize)

    def writer(self, region: str) -> KafkaWriter:
        return KafkaWriter(*self._topic(region), self._settings)

    def reader(self, region: str) -> KafkaReader:
        return KafkaReader(*self._topic(region), self._sizes[region])

    async def inspect(self, region: str) -> bool:
        return await inspect_topic(*self._topic(region), self._settings)

    async def close(self) -> None:
        """Nothing: each reader and writer has connections of its own."""

    def _topic(self, region: str) -> tuple[Cluster, str]:
        """The cluster and the topic of ``region``.  Errors: `Refused`."""
        topic = f"{self._mesh}.{region}"
        if not _TOPIC.fullmatch(topic):
            raise Refused(
                f"{topic!r} cannot name a topic of Kafka",
                "name mesh and regions with letters, digits, '.', '_' and '-'",
            )
        if region not in self._clusters:
            raise Refused(f"no Kafka is named for region {region}", "name it in the topology file")
        return self._clusters[region], topic
