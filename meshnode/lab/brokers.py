"""The Kafka brokers of a lab: one for all regions, or one in each.

Theory of operation.  A broker is a folder below the lab's ``brokers``; which there
are is read from there, as with servers and nodes, so any later command finds
them.  A broker of all regions is called ``kafka``, a region's own like the region.
"""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from meshnode.errors import Refused
from meshnode.lab.broker import DESCRIPTION, Broker
from meshnode.lab.kafka_jars import find_kafka
from meshnode.topology import Bus, BusAddress, Kafka

BusKind = Literal["file", "kafka", "kafka-mesh"]
BUS_KINDS: tuple[BusKind, ...] = ("file", "kafka", "kafka-mesh")
SHARED = "kafka"


class Brokers:
    """The brokers below the folder ``directory``, none if it is absent."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def all(self) -> dict[str, Broker]:
        """The brokers there are, by name, running or not."""
        found = sorted(self.directory.glob(f"*/{DESCRIPTION}"))
        return {path.parent.name: Broker.open(path.parent) for path in found}

    @property
    def kind(self) -> BusKind:
        """What carries the streams of this lab."""
        found = self.all()
        if not found:
            return "file"
        return "kafka" if SHARED in found else "kafka-mesh"

    def named(self, name: str | None) -> list[Broker]:
        """The broker of this name, or all; Refused if there is none."""
        found = self.all()
        if not found:
            raise Refused("this lab has no Kafka", "start one with `meshnode lab up --bus kafka`")
        if name is None:
            return list(found.values())
        if name not in found:
            raise Refused(f"this lab has no broker {name!r}", f"name one of: {', '.join(found)}")
        return [found[name]]

    async def make(
        self, names: Iterable[str], die_with_parent: bool, report: Callable[[str], None]
    ) -> dict[str, Broker]:
        """Start new brokers called ``names``, one after the other: a start fills two processors."""
        kafka = await asyncio.to_thread(find_kafka)
        made = {}
        for name in names:
            broker = Broker(kafka, self.directory / name, die_with_parent=die_with_parent)
            await broker.start_async()
            report(f"  {name}: Kafka {kafka.version} on port {broker.port}")
            made[name] = broker
        return made

    async def resume(self, die_with_parent: bool) -> None:
        """Start what does not run."""
        for broker in self.all().values():
            broker.die_with_parent = die_with_parent
            await broker.start_async()

    async def end(self, keep: bool) -> None:
        """End all; cleanly only if their data stays."""
        brokers = self.all().values()
        await asyncio.gather(
            *(broker.stop_async() if keep else broker.kill_async() for broker in brokers)
        )


def names_for(kind: BusKind, regions: Iterable[str]) -> list[str]:
    """How the brokers of such a lab are called; none for the file bus."""
    if kind == "kafka":
        return [SHARED]
    return list(regions) if kind == "kafka-mesh" else []


def settings(brokers: dict[str, Broker]) -> Bus:
    """The ``[bus]`` of a topology with these brokers, each alone in its Kafka."""
    shared = brokers.get(SHARED)
    kafka = Kafka(
        bootstrap=(shared.bootstrap,) if shared else (),
        replication_factor=1,
        min_insync_replicas=1,
    )
    return Bus(kind="kafka", kafka=kafka)


def address_of(region: str, brokers: dict[str, Broker]) -> BusAddress | None:
    """The ``bus`` of a region with its own broker, else None."""
    own = brokers.get(region)
    return BusAddress(bootstrap=(own.bootstrap,)) if own else None
