"""Rules between the keys of ``[bus]``, ``[bus.kafka]`` and each region's ``bus``.

Theory of operation.  ``kind`` decides which keys mean something: a key of the
other kind is a mistake that would otherwise be found on the day of a failover,
so it is a problem and never passed over.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from meshnode.strict_toml import Problem

if TYPE_CHECKING:
    from meshnode.topology import AccountSource, Bus, BusAddress, Kafka, Region, Tls


def check(bus: "Bus", regions: list[tuple[str, "Region"]]) -> Iterator[Problem]:
    """What is wrong with the bus; ``regions`` with their keys."""
    if bus.kind == "file":
        yield from _file(bus)
    else:
        yield from _kafka(bus)
    for key, region in regions:
        if region.bus is not None:
            yield from _own(f"{key}.bus", bus.kind, region.bus)
    if bus.kind == "kafka" and not (bus.kafka and bus.kafka.bootstrap):
        lacking = [
            region.name for _, region in regions if not (region.bus and region.bus.bootstrap)
        ]
        if lacking:
            yield Problem(
                "bus.kafka.bootstrap",
                f"no Kafka is named for {', '.join(lacking)}",
                'write bootstrap = ["host:port"] under [bus.kafka] for one Kafka of all, or '
                'bus = { bootstrap = ["host:port"] } in each region',
            )


def password_source(key: str, source: "AccountSource") -> Iterator[Problem]:
    """The rule that a user's password has exactly one source."""
    if (source.password_env is None) == (source.password_file is None):
        has = "no source" if source.password_env is None else "two sources"
        yield Problem(
            key,
            f"user {source.user!r} has {has} for its password",
            'write exactly one of password_env = "NAME" and password_file = "path"',
        )


def _file(bus: "Bus") -> Iterator[Problem]:
    if bus.dir is None:
        yield Problem("bus.dir", 'is missing with kind = "file"', 'write dir = "path"')
    if bus.kafka is not None:
        yield Problem(
            "bus.kafka",
            'has no meaning with kind = "file"',
            'delete the table, or write kind = "kafka"',
        )
    if bus.max_bytes < 2 * bus.segment_bytes:
        yield Problem(
            "bus.max_bytes",
            f"is below two segments of bus.segment_bytes = {bus.segment_bytes}",
            "raise max_bytes or lower segment_bytes: the newest segment is never dropped",
            str(bus.max_bytes),
        )


def _kafka(bus: "Bus") -> Iterator[Problem]:
    if bus.dir is not None:
        yield Problem(
            "bus.dir", 'has no meaning with kind = "kafka"', "delete it; Kafka keeps its own logs"
        )
    kafka = bus.kafka
    if kafka is None:
        return
    yield from _access("bus.kafka", kafka)
    if kafka.min_insync_replicas > kafka.replication_factor:
        yield Problem(
            "bus.kafka.min_insync_replicas",
            f"is above replication_factor = {kafka.replication_factor}: nothing could be published",
            "lower it or raise replication_factor",
            str(kafka.min_insync_replicas),
        )


def _own(key: str, kind: str, own: "BusAddress") -> Iterator[Problem]:
    if kind == "file":
        if own.bootstrap or own.tls or own.sasl:
            yield Problem(key, 'names a Kafka, but bus.kind is "file"', 'write dir = "path" alone')
        elif own.dir is None:
            yield Problem(key, "names nothing", 'write dir = "path", or delete it')
        return
    if own.dir is not None:
        yield Problem(
            f"{key}.dir",
            'has no meaning with bus.kind = "kafka"',
            'write bootstrap = ["host:port"] instead',
        )
    yield from _access(key, own)


def _access(key: str, access: "Kafka | BusAddress") -> Iterator[Problem]:
    if access.sasl is not None:
        yield from password_source(f"{key}.sasl", access.sasl)
    tls: Tls | None = access.tls
    if tls is not None and tls.ca is not None and tls.verify == "none":
        yield Problem(f"{key}.tls.ca", 'is not looked at with verify = "none"', "delete one")
    for number, broker in enumerate(access.bootstrap):
        if int(broker.rpartition(":")[2]) > 65535:
            yield Problem(
                f"{key}.bootstrap[{number}]", "has no such port", "ports are 1 to 65535", broker
            )
