"""The bus of a topology: which adapter, where each topic lives, and the lab's network round it."""

from pathlib import Path

from meshnode.accounts import account_of
from meshnode.bus.file import FileBus
from meshnode.bus.log import LogOptions
from meshnode.bus.port import Bus
from meshnode.lab.wan import Wan, WanBus
from meshnode.tls import client_context
from meshnode.topology import Kafka, Topology


def make_bus(topology: Topology, region: str) -> Bus:
    """The bus of the topology as ``region`` sees it."""
    bus = bare_bus(topology)
    wan = topology.bus.wan
    return bus if wan is None else WanBus(bus, region, Wan.read(Path(wan.control)))


def bare_bus(topology: Topology) -> Bus:
    """The bus of the topology without the lab's network.

    Raises Refused for a secret or a CA file that cannot be used.
    """
    if topology.bus.kind == "kafka":
        return _kafka(topology)
    settings = topology.bus
    options = LogOptions(settings.segment_bytes, settings.min_age_seconds, settings.max_bytes)
    own = {region.name: topology.bus_dir(region.name) for region in topology.regions}
    return FileBus(Path(settings.dir or "."), options, own)


def _kafka(topology: Topology) -> Bus:
    # Only here: a mesh on the file bus does without the driver's start-up time.
    from meshnode.bus.kafka import Cluster, KafkaBus, TopicSettings

    clusters = {}
    for region in topology.regions:
        place = topology.kafka_of(region.name)
        whose = f"the Kafka of region {region.name}"
        login = account_of(place.sasl, f"the user of {whose}") if place.sasl else None
        clusters[region.name] = Cluster(
            place.bootstrap,
            tls=client_context(place.tls, whose) if place.tls else None,
            user=login.user if login else None,
            password=login.password if login else None,
        )
    kafka = topology.bus.kafka or Kafka()
    settings = TopicSettings(
        replication_factor=kafka.replication_factor,
        min_insync_replicas=kafka.min_insync_replicas,
        retention_seconds=kafka.retention_seconds,
        retention_bytes=kafka.retention_bytes,
        max_message_bytes=kafka.max_message_bytes,
        compression=kafka.compression,
    )
    return KafkaBus(topology.mesh, clusters, settings)
