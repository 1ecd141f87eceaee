"""A broker that is killed, frozen, restarted or away: lag and `Retry`, and nothing else."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from bus_harness import REGION, SOON, payloads, read_until
from kafka_harness import KafkaHarness

from meshnode.bus import kafka_link
from meshnode.bus.kafka import KafkaBus
from meshnode.bus.port import ORIGIN, BusReader, BusWriter, Position
from meshnode.errors import Retry
from meshnode.lab.broker import Broker
from meshnode.limits import MIB


@pytest.fixture
async def kafka(broker: Broker, tmp_path: Path) -> AsyncIterator[KafkaHarness]:
    yield KafkaHarness(tmp_path, broker)
    broker.resume()
    broker.start()


class Progress:
    """Something that tells when it has got further."""

    def __init__(self) -> None:
        self.moved = asyncio.Event()

    async def reaches(self, test: Callable[[], bool]) -> None:
        """Return when ``test`` is true."""
        async with asyncio.timeout(SOON):
            while not test():
                self.moved.clear()
                await self.moved.wait()


class Region(Progress):
    """Appends numbers for ever, as a node does: after an error it reads what has arrived."""

    def __init__(self, bus: KafkaBus) -> None:
        super().__init__()
        self.bus = bus
        self.count = 0
        self.restarts = 0
        self.acknowledged: Position = ORIGIN

    async def run(self, until: asyncio.Event) -> None:
        writer = self.bus.writer(REGION)
        while not until.is_set():
            try:
                await self._start(writer)
                while not until.is_set():
                    some = random.Random(self.count).randrange(1, 5)
                    numbers = range(self.count, self.count + some)
                    ends = await asyncio.gather(*(writer.append(b"%d" % n) for n in numbers))
                    self.count += some
                    self.acknowledged = ends[-1]
            except Retry:
                self.restarts += 1
                self.moved.set()
                await asyncio.sleep(0.05)
        await writer.close()

    async def _start(self, writer: BusWriter) -> None:
        await writer.open(SOON)
        claim = await writer.append(b"claim")
        reader = self.bus.reader(REGION)
        for record in await read_until(reader, self.acknowledged, claim):
            if record.payload != b"claim":
                assert record.payload == b"%d" % self.count
                self.count += 1
            self.acknowledged = record.after
        await reader.close()


class Peer(Progress):
    """Reads them, and asks again after a `Retry`."""

    def __init__(self, reader: BusReader) -> None:
        super().__init__()
        self.reader = reader
        self.found: list[bytes] = []
        self.position: Position = ORIGIN
        self.retries = 0

    async def run(self) -> None:
        while True:
            try:
                records = await self.reader.read(self.position, MIB)
            except Retry:
                self.retries += 1
                self.moved.set()
                await asyncio.sleep(0.05)
                continue
            self.found += [record.payload for record in records if record.payload != b"claim"]
            self.position = records[-1].after
            self.moved.set()

    async def catches_up(self, count: int) -> None:
        await self.reaches(lambda: len(self.found) >= count)


@pytest.mark.parametrize("fault", ["kill", "stop", "freeze"])
async def test_a_broker_that_goes_away_changes_nothing_but_lag(
    kafka: KafkaHarness, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that a frozen broker counts as gone within the test.
    monkeypatch.setattr(kafka_link, "REQUEST_SECONDS", 2.0)
    monkeypatch.setattr(kafka_link, "CONNECT_SECONDS", 2.0)
    broker, bus, done = kafka.broker, kafka.bus(), asyncio.Event()
    region, peer = Region(bus), Peer(bus.reader(REGION))
    tasks = [asyncio.create_task(region.run(done)), asyncio.create_task(peer.run())]
    try:
        await peer.catches_up(region.count + 100)
        restarts, retries = region.restarts, peer.retries
        if fault == "freeze":
            broker.pause()
        elif fault == "kill":
            await broker.kill_async()
        else:
            await broker.stop_async()
        await region.reaches(lambda: region.restarts > restarts)
        await peer.reaches(lambda: peer.retries > retries)
        if fault == "freeze":
            broker.resume()
        else:
            await broker.start_async()
        await peer.catches_up(region.count + 100)
        done.set()
        await asyncio.wait_for(tasks[0], SOON)
        await peer.catches_up(region.count)
    finally:
        for task in tasks:
            task.cancel()
        failures = await asyncio.gather(*tasks, return_exceptions=True)
        await peer.reader.close()
    assert [error for error in failures if isinstance(error, Exception)] == []
    assert peer.found == [b"%d" % number for number in range(region.count)]


async def test_a_short_freeze_is_not_even_an_error(kafka: KafkaHarness) -> None:
    bus = kafka.bus()
    writer, reader = bus.writer(REGION), bus.reader(REGION)
    await writer.open(SOON)
    end = await writer.append(b"a")
    await read_until(reader, ORIGIN, end)
    reading = asyncio.create_task(reader.read(end, MIB))
    kafka.broker.pause()
    appending = asyncio.create_task(writer.append(b"b"))
    done, _ = await asyncio.wait({appending, reading}, timeout=1.5)
    assert not done
    kafka.broker.resume()
    end = await asyncio.wait_for(appending, SOON)
    records = await asyncio.wait_for(reading, SOON)
    assert payloads(records) == [b"b"]
    assert records[-1].after == end
    await reader.close()
    await writer.close()


async def test_what_a_frozen_broker_had_in_hand_lands_in_order_or_never(
    kafka: KafkaHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = kafka.bus()
    monkeypatch.setattr(kafka_link, "REQUEST_SECONDS", 1.0)
    writer = bus.writer(REGION)
    await writer.open(SOON)
    await writer.append(b"a")
    kafka.broker.pause()
    with pytest.raises(Retry, match="does not answer in time"):
        await writer.append(b"in hand")
    with pytest.raises(Retry):
        await writer.append(b"behind it")
    kafka.broker.resume()
    monkeypatch.undo()
    await writer.open(SOON)
    claim = await writer.append(b"claim")
    end = await writer.append(b"b")
    reader = bus.reader(REGION)
    found = payloads(await read_until(reader, ORIGIN, end))
    assert found in ([b"a", b"in hand", b"claim", b"b"], [b"a", b"claim", b"b"])
    assert payloads(await read_until(reader, claim, end)) == [b"b"]
    await reader.close()
    await writer.close()


async def test_a_failure_between_two_reads_is_not_the_next_ones(kafka: KafkaHarness) -> None:
    bus = kafka.bus()
    writer, reader = bus.writer(REGION), bus.reader(REGION)
    await writer.open(SOON)
    end = await writer.append(b"a")
    await read_until(reader, ORIGIN, end)
    await kafka.broker.kill_async()
    with pytest.raises(Retry, match="cannot be used"):
        await asyncio.wait_for(reader.end(), SOON)
    with pytest.raises(Retry, match="cannot be used"):
        await writer.open(SOON)
    await kafka.start_broker()
    # Its fetch has failed meanwhile, but nobody was waiting for it.
    assert await reader.end() == end
    await writer.open(SOON)
    last = await writer.append(b"b")
    assert payloads(await read_until(reader, end, last)) == [b"b"]
    await reader.close()
    await writer.close()
