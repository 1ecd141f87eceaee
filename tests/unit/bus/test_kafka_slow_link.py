"""A link that does not carry a full fetch within the time of a request: all arrives still."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO

import pytest
from aiokafka.conn import AIOKafkaConnection

from meshnode.bus import kafka_link, kafka_reader
from meshnode.bus.kafka import Cluster, KafkaBus, TopicSettings
from meshnode.bus.kafka_fetch import FETCH_BYTES, LEAST_BYTES
from meshnode.bus.kafka_link import Connection, Link
from meshnode.bus.kafka_protocol import FetchRequest, FetchResponse
from meshnode.bus.kafka_record import pack
from meshnode.bus.port import ORIGIN
from meshnode.errors import Retry
from meshnode.limits import KIB, MIB

TOPIC_ID = b"t" * 16
REQUEST_SECONDS = 0.2
HEADER = 2 + 2 + 4 + 2 + len(kafka_link.CLIENT) + 1
"""Kind, version, number, name of the client, and no tags."""


class SlowBroker:
    """Leads a topic of ``batches``; ``rate``: how many bytes of an answer arrive in a second."""

    def __init__(self, batches: list[bytes], rate: float) -> None:
        self.batches = [struct.pack(">q", at) + batch[8:] for at, batch in enumerate(batches)]
        self.rate = rate
        self.asked: list[int] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                request = await reader.readexactly(size)
                answer = request[4:8] + b"\0" + self.answer(request[HEADER:])
                await asyncio.sleep(len(answer) / self.rate)
                writer.write(struct.pack(">i", len(answer)) + answer)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    def answer(self, body: bytes) -> bytes:
        """Whole batches up to the size that is asked for, the first one in any case."""
        request = FetchRequest.decode(BytesIO(body))
        offset, most = request.topics[0][1][0][2], request.max_bytes
        self.asked.append(most)
        found = b""
        for batch in self.batches[offset:]:
            if found and len(found) + len(batch) > most:
                break
            found += batch
        partition = (0, 0, len(self.batches), len(self.batches), 0, [], -1, found, {})
        return FetchResponse(0, 0, 0, [(TOPIC_ID, [partition], {})], {}).encode()

    async def connected(self, cluster: Cluster, topic: str, seconds: float) -> Link:
        """As `wait_for_topic`."""
        limit = kafka_link.MOST_PATIENCE * REQUEST_SECONDS
        connection = AIOKafkaConnection(
            "127.0.0.1", self.port, client_id=kafka_link.CLIENT, request_timeout_ms=limit * 1000
        )

        async def versions() -> None:
            connection._versions = {1: (0, 99)}

        connection._do_version_lookup = versions
        await connection.connect()
        return Link(cluster, topic, TOPIC_ID, 1, Connection("fake:9092", connection))


@asynccontextmanager
async def slow(
    batches: list[bytes], rate: float, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[SlowBroker, KafkaBus]]:
    broker = SlowBroker(batches, rate)
    monkeypatch.setattr(kafka_link, "REQUEST_SECONDS", REQUEST_SECONDS)
    monkeypatch.setattr(kafka_reader, "wait_for_topic", broker.connected)
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield (
            broker,
            KafkaBus(
                "lab", {"osaka": Cluster(("fake:9092",))}, TopicSettings(1, 1, 1.0, -1, MIB, "none")
            ),
        )
    finally:
        server.close()


async def read_all(bus: KafkaBus, count: int, tries: int) -> list[bytes]:
    """The payloads of ``count`` records, asked for again after a Retry, with a new reader."""
    position, found = ORIGIN, []
    for _ in range(tries):
        reader = bus.reader("osaka")
        try:
            while len(found) < count:
                records = await reader.read(position, MIB)
                found += [record.payload for record in records]
                position = records[-1].after
        except Retry:
            continue
        finally:
            await reader.close()
        break
    return found


def batch(value: bytes) -> bytes:
    return pack([(None, value)], (1, 0), 0, 0)


async def test_a_slow_link_is_asked_for_what_it_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    payloads = [b"%d" % number * (32 * KIB) for number in range(10, 50)]
    rate = FETCH_BYTES / (8 * REQUEST_SECONDS)
    async with slow([batch(each) for each in payloads], rate, monkeypatch) as (broker, bus):
        assert await read_all(bus, len(payloads), tries=20) == payloads
    assert broker.asked[0] == FETCH_BYTES
    assert FETCH_BYTES >> 3 in broker.asked


async def test_a_batch_that_is_too_long_for_a_slow_link_is_given_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    payloads = [b"x" * MIB, b"y" * MIB, b"z"]
    rate = MIB / (3 * REQUEST_SECONDS)
    async with slow([batch(each) for each in payloads], rate, monkeypatch) as (broker, bus):
        assert await read_all(bus, len(payloads), tries=30) == payloads
    assert min(broker.asked) == LEAST_BYTES


async def test_a_link_that_is_fast_again_is_asked_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    payloads = [b"%d" % number * (32 * KIB) for number in range(100, 228)]
    async with slow([batch(each) for each in payloads], 1e9, monkeypatch) as (broker, bus):
        size = bus._sizes["osaka"]
        size.step = 5
        monkeypatch.setattr(kafka_link, "REQUEST_SECONDS", 30.0)
        assert await read_all(bus, len(payloads), tries=1) == payloads
    assert size.step == 0
    assert broker.asked[:6] == [FETCH_BYTES >> step for step in (5, 4, 3, 2, 1, 0)]
