"""What the Kafka bus does beyond the contract: topics, chunks, limits, ages, on a real broker."""

import asyncio
import dataclasses
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.protocol.admin import AlterConfigsRequest, CreateTopicsRequest
from bus_harness import REGION, SOON, payloads, read_until
from kafka_harness import SETTINGS, KafkaHarness

from meshnode.bus import kafka_writer
from meshnode.bus.kafka import Cluster, KafkaBus
from meshnode.bus.kafka_link import TOPIC_RESOURCE, connect, find_topic
from meshnode.bus.kafka_record import Place, cut
from meshnode.bus.port import ORIGIN, PositionAhead, RetentionPassed, TopicRewritten
from meshnode.errors import Fenced, Halt, Refused, Retry
from meshnode.lab.broker import Broker
from meshnode.limits import KIB, MIB


@pytest.fixture
async def kafka(broker: Broker, tmp_path: Path) -> AsyncIterator[KafkaHarness]:
    yield KafkaHarness(tmp_path, broker)


async def create(kafka: KafkaHarness, partitions: int, settings: dict[str, str]) -> None:
    connection = await connect(kafka.cluster)
    new = (kafka.topic, partitions, 1, [], list(settings.items()))
    answer = await connection.ask(CreateTopicsRequest([new], 10_000, False))
    connection.close()
    assert answer.topic_errors[0][1] == 0
    while True:
        try:
            link = await find_topic(kafka.cluster, kafka.topic)
        except (Refused, Retry) as error:
            if isinstance(error, Refused):
                return  # it is there, with too many partitions
        else:
            if link is not None:
                link.close()
                return


async def alter(kafka: KafkaHarness, settings: dict[str, str]) -> None:
    connection = await connect(kafka.cluster)
    change = (TOPIC_RESOURCE, kafka.topic, list(settings.items()))
    answer = await connection.ask(AlterConfigsRequest([change]))
    connection.close()
    assert answer.resources[0][0] == 0


async def test_the_topic_is_created_as_the_topology_wants_it(kafka: KafkaHarness) -> None:
    writer = kafka.bus().writer(REGION)
    await writer.open(SOON)
    link = await find_topic(kafka.cluster, kafka.topic)
    assert link is not None
    settings = await link.settings()
    assert {name: settings[name] for name in SETTINGS.wanted()} == SETTINGS.wanted()
    assert settings["message.timestamp.type"] == "LogAppendTime"
    link.close()
    await writer.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cleanup.policy": "compact"}, "cleanup.policy is compact"),
        ({"message.timestamp.type": "CreateTime"}, "message.timestamp.type is CreateTime"),
        ({"max.message.bytes": "100000"}, "max.message.bytes is 100000"),
        ({"retention.ms": "1000"}, "retention.ms is 1000"),
        ({"retention.bytes": "1000"}, "retention.bytes is 1000"),
    ],
)
async def test_a_topic_of_another_shape_is_refused(
    kafka: KafkaHarness, wrong: dict[str, str], said: str
) -> None:
    await create(kafka, 1, {**SETTINGS.wanted(), **wrong})
    writer = kafka.bus().writer(REGION)
    with pytest.raises(Refused, match=rf"{kafka.topic} .*{said}.*kafka-configs.sh"):
        await writer.open(SOON)
    await alter(kafka, SETTINGS.wanted())
    await writer.open(SOON)
    await writer.close()


async def test_a_topic_with_more_partitions_is_refused_by_both_sides(kafka: KafkaHarness) -> None:
    await create(kafka, 3, SETTINGS.wanted())
    bus = kafka.bus()
    with pytest.raises(Refused, match="3 partitions"):
        await bus.writer(REGION).open(SOON)
    with pytest.raises(Refused, match="3 partitions"):
        await asyncio.wait_for(bus.reader(REGION).read(ORIGIN, MIB), SOON)


async def test_more_replicas_than_brokers_are_refused(kafka: KafkaHarness) -> None:
    settings = dataclasses.replace(SETTINGS, replication_factor=3)
    with pytest.raises(Refused, match="replication_factor"):
        await kafka.bus(settings=settings).writer(REGION).open(SOON)


async def test_a_limit_lowered_under_a_running_writer_is_told(kafka: KafkaHarness) -> None:
    writer, reader = kafka.bus().writer(REGION), kafka.bus().reader(REGION)
    await writer.open(SOON)
    await writer.append(b"a")
    await alter(kafka, {**SETTINGS.wanted(), "max.message.bytes": "10000"})
    payload = random.Random(1).randbytes(20_000)
    taken = 0
    with pytest.raises(Halt, match=r"max\.message\.bytes"):
        while True:  # the broker takes the new limit up when it has heard of it
            await writer.append(payload)
            taken += 1
    # Small as it is: a record never follows one that failed.
    with pytest.raises(Halt, match=r"max\.message\.bytes"):
        await writer.append(b"small")
    await alter(kafka, SETTINGS.wanted())
    await writer.open(SOON)
    end = await writer.append(b"b")
    assert payloads(await read_until(reader, ORIGIN, end)) == [b"a", *[payload] * taken, b"b"]
    await reader.close()
    await writer.close()


async def test_what_a_predecessor_still_sends_lands_before_the_first_append_or_never(
    kafka: KafkaHarness,
) -> None:
    first, second = kafka.bus().writer(REGION), kafka.bus().writer(REGION)
    reader = kafka.bus().reader(REGION)
    await first.open(SOON)
    await first.append(b"a")
    await second.open(SOON)
    await first.append(b"late")
    await second.append(b"claim")
    for _ in range(2):
        with pytest.raises(Fenced, match="one node for each region"):
            await first.append(b"too late")
    end = await second.append(b"b")
    assert payloads(await read_until(reader, ORIGIN, end)) == [b"a", b"late", b"claim", b"b"]
    # The first one may of course come back, and then shuts the second one out.
    await first.open(SOON)
    end = await first.append(b"c")
    with pytest.raises(Fenced):
        await second.append(b"too late")
    assert await reader.end() == end
    for one in (first, second, reader):
        await one.close()


async def test_a_writer_renews_its_fence_and_never_takes_it_from_its_successor(
    kafka: KafkaHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_writer, "RENEW_SECONDS", 0.0)
    first, second = kafka.bus().writer(REGION), kafka.bus().writer(REGION)
    reader = kafka.bus().reader(REGION)
    await first.open(SOON)
    ends = [await first.append(b"%d" % number) for number in range(5)]
    assert payloads(await read_until(reader, ORIGIN, ends[-1])) == [b"%d" % n for n in range(5)]
    await second.open(SOON)
    with pytest.raises(Fenced, match="one node for each region"):
        await first.append(b"too late")
    end = await second.append(b"next")
    assert payloads(await read_until(reader, ends[-1], end)) == [b"next"]
    for one in (first, second, reader):
        await one.close()


async def test_a_writer_that_dies_within_a_long_record_leaves_nothing(kafka: KafkaHarness) -> None:
    bus = kafka.bus()
    writer, reader = bus.writer(REGION), bus.reader(REGION)
    await writer.open(SOON)
    before = await writer.append(b"a")
    for count in (1, 2):
        assert writer._line is not None
        for chunk in cut(random.Random(1).randbytes(30 * KIB), 10 * KIB)[:count]:
            await writer._line.send([chunk], 0)
        assert await reader.end() == before
        assert await writer.open(SOON) == before
    end = await writer.append(b"b")
    assert payloads(await read_until(reader, before, end)) == [b"b"]
    assert payloads(await read_until(bus.reader(REGION), ORIGIN, end)) == [b"a", b"b"]
    await reader.close()
    await writer.close()


async def test_records_at_the_limits_of_messages_and_batches(kafka: KafkaHarness) -> None:
    settings = dataclasses.replace(SETTINGS, max_message_bytes=64 * KIB, compression="none")
    bus = kafka.bus(settings=settings)
    writer, reader = bus.writer(REGION), bus.reader(REGION)
    await writer.open(SOON)
    room, source = writer._room, random.Random(2)
    sizes = [room - 1, room, room + 1, 0, 2 * room, 2 * room + 1, 7 * room - 1, 1, *[500] * 300]
    sent = [source.randbytes(size) for size in sizes]
    ends = await asyncio.gather(*map(writer.append, sent))
    records = await read_until(reader, ORIGIN, ends[-1])
    assert payloads(records) == sent
    assert [record.after for record in records] == ends
    await reader.close()
    await writer.close()


async def test_how_old_the_oldest_unread_record_is(kafka: KafkaHarness) -> None:
    bus = kafka.bus()
    writer, reader = bus.writer(REGION), bus.reader(REGION)
    assert await reader.unread_age(ORIGIN, time.time()) is None
    await writer.open(SOON)
    assert await reader.unread_age(ORIGIN, time.time()) is None
    before = time.time()
    ends = [await writer.append(b"%d" % number) for number in range(3)]
    for position in (ORIGIN, ends[0], ends[1]):
        # The broker writes whole milliseconds, by the clock of this machine.
        age = await reader.unread_age(position, time.time() + 1000)
        assert age is not None
        assert 1000 <= age + 0.001 <= time.time() + 1000.002 - before
    assert await reader.unread_age(ends[2], time.time()) is None
    await kafka.forget(writer, ends[1])
    with pytest.raises(RetentionPassed, match=r"retention\.ms"):
        await reader.unread_age(ends[0], time.time())
    await kafka.delete_topic()
    assert await reader.unread_age(ends[0], time.time()) is None
    await writer.open(SOON)
    with pytest.raises(TopicRewritten):
        await reader.unread_age(ends[0], time.time())
    await writer.close()


async def test_a_topic_emptied_behind_a_reader_that_waits(kafka: KafkaHarness) -> None:
    bus = kafka.bus()
    writer, reader = bus.writer(REGION), bus.reader(REGION)
    await writer.open(SOON)
    end = await writer.append(b"a")
    assert payloads(await read_until(reader, ORIGIN, end)) == [b"a"]
    waiting = asyncio.create_task(reader.read(end, MIB))
    await kafka.forget(writer, end)
    assert await reader.begin() == await reader.end()
    last = await writer.append(b"b")
    assert payloads(await asyncio.wait_for(waiting, SOON)) == [b"b"]
    # A position that nothing stands before any more goes on all the same.
    begin = await reader.begin()
    assert payloads(await read_until(bus.reader(REGION), begin, last)) == [b"b"]
    await reader.close()
    await writer.close()


async def test_a_position_far_beyond_the_end_is_refused(kafka: KafkaHarness) -> None:
    bus = kafka.bus()
    writer = bus.writer(REGION)
    await writer.open(SOON)
    ends = [await writer.append(b"%d" % number) for number in range(5)]
    link = await find_topic(kafka.cluster, kafka.topic)
    assert link is not None
    link.close()
    place = Place.decode(ends[-1], link.topic_id, kafka.topic)
    for offset in (6, 7, 1000):
        with pytest.raises(PositionAhead, match="ends at offset 5"):
            beyond = place._replace(offset=offset).encode()
            await asyncio.wait_for(bus.reader(REGION).read(beyond, MIB), SOON)
    await writer.close()


async def test_each_region_has_its_own_kafka_and_one_address_of_several_is_enough(
    kafka: KafkaHarness,
) -> None:
    port = kafka.broker.port
    # The first does not answer; the second is another name than the broker gives itself.
    here = Cluster(("127.0.0.1:1", f"localhost:{port}"))
    bus = KafkaBus(kafka.mesh, {REGION: here, "lagos": Cluster(("127.0.0.1:1",))}, SETTINGS)
    writer, reader = bus.writer(REGION), bus.reader(REGION)
    await writer.open(SOON)
    end = await writer.append(b"a")
    assert payloads(await read_until(reader, ORIGIN, end)) == [b"a"]
    with pytest.raises(Retry, match=r"127\.0\.0\.1:1 cannot be used"):
        await bus.writer("lagos").open(SOON)
    with pytest.raises(Retry, match=r"127\.0\.0\.1:1 cannot be used"):
        await asyncio.wait_for(bus.reader("lagos").read(ORIGIN, MIB), SOON)
    await reader.close()
    await writer.close()
