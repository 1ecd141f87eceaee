"""A real Kafka under the contract suite: one broker for the session, a mesh name for each test."""

import asyncio
import contextlib
import itertools
import shutil
from pathlib import Path

from aiokafka.protocol.admin import DeleteRecordsRequest, DeleteTopicsRequest
from bus_harness import REGION, Harness

from meshnode.bus.kafka import Cluster, KafkaBus, TopicSettings
from meshnode.bus.kafka_link import connect, find_topic
from meshnode.bus.kafka_record import Place
from meshnode.bus.port import BusWriter, Position
from meshnode.errors import Retry
from meshnode.lab.broker import Broker
from meshnode.limits import MIB

SETTINGS = TopicSettings(
    replication_factor=1,
    min_insync_replicas=1,
    retention_seconds=3600.0,
    retention_bytes=-1,
    max_message_bytes=1 * MIB,
    compression="zstd",
)
"""Messages of 1 MiB, as most brokers have it: longer records must come through all the same."""

WAIT_MS = 10_000
_numbers = itertools.count(1)


class KafkaHarness(Harness):
    """A Kafka bus with topics of its own at ``broker``."""

    expression = (
        "KafkaBus({mesh!r}, {{name: Cluster(({bootstrap!r},)) for name in ('osaka', 'lagos')}},"
        " {settings!r})"
    )

    def __init__(self, directory: Path, broker: Broker) -> None:
        super().__init__(directory)
        self.broker = broker
        self.mesh = f"mesh{next(_numbers)}"
        self.topic = f"{self.mesh}.{REGION}"
        self.cluster = Cluster((broker.bootstrap,))

    def bus(self, segment_bytes: int = 0, settings: TopicSettings = SETTINGS) -> KafkaBus:
        made = KafkaBus(self.mesh, dict.fromkeys((REGION, "lagos"), self.cluster), settings)
        self.made.append(made)
        return made

    async def start_broker(self) -> None:
        """Start the broker again, until it leads the topic."""
        await self.broker.start_async()
        while True:
            try:
                link = await find_topic(self.cluster, self.topic)
                assert link is not None
                with contextlib.closing(link):
                    await link.offsets()
                return
            except Retry:
                await asyncio.sleep(0.05)

    async def copy_topic(self) -> Path:
        await self.broker.stop_async()
        copy = Path(shutil.copytree(self._files(), self.directory / "backup"))
        await self.start_broker()
        return copy

    async def put_back(self, copy: Path) -> None:
        await self.broker.stop_async()
        shutil.rmtree(self._files())
        shutil.move(copy, self._files())
        await self.start_broker()

    async def delete_topic(self) -> None:
        connection = await connect(self.cluster)
        answer = await connection.ask(DeleteTopicsRequest([self.topic], WAIT_MS))
        connection.close()
        assert answer.topic_error_codes == [(self.topic, 0)]
        while (link := await find_topic(self.cluster, self.topic)) is not None:
            link.close()

    async def forget(self, writer: BusWriter, position: Position) -> None:
        link = await find_topic(self.cluster, self.topic)
        assert link is not None
        offset = Place.decode(position, link.topic_id, self.topic).offset
        answer = await link.ask(DeleteRecordsRequest([(self.topic, [(0, offset)])], WAIT_MS))
        link.close()
        # For versions with tagged fields the answer has them too.
        assert answer.topics[0][1][0][:3] == (0, offset, 0)

    def source(self) -> str:
        return self.expression.format(
            mesh=self.mesh, bootstrap=self.broker.bootstrap, settings=SETTINGS
        )

    def _files(self) -> Path:
        return self.broker.directory / "data" / f"{self.topic}-0"
