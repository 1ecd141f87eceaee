"""The buses of the contract suite, one after the other, and the broker that one of them needs."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from bus_harness import REGION, SOON, Harness, WanHarness
from kafka_harness import KafkaHarness

from meshnode.bus.port import BusReader, BusWriter
from meshnode.lab.broker import Broker
from meshnode.lab.kafka_jars import find_kafka, why_no_kafka

HARNESSES = {"file": Harness, "wan": WanHarness, "kafka": KafkaHarness}


@pytest.fixture(scope="session")
def kafka_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where brokers of this session keep their files; gone afterwards."""
    folder = tmp_path_factory.mktemp("kafka")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def broker(kafka_folder: Path) -> Iterator[Broker]:
    """One running Kafka for the session; a test that stops it starts it again."""
    missing = why_no_kafka()
    if missing is not None:
        pytest.skip(missing)
    made = Broker(find_kafka(), kafka_folder / "broker", die_with_parent=True)
    made.start()
    yield made
    made.kill()


@pytest.fixture(params=sorted(HARNESSES))
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    if request.param == "kafka":
        made: Harness = KafkaHarness(tmp_path, request.getfixturevalue("broker"))
    else:
        made = HARNESSES[request.param](tmp_path)
    yield made
    for bus in made.made:
        await bus.close()


@pytest.fixture
async def writer(harness: Harness) -> AsyncIterator[BusWriter]:
    made = harness.bus().writer(REGION)
    await made.open(SOON)
    yield made
    await made.close()


@pytest.fixture
async def reader(harness: Harness) -> AsyncIterator[BusReader]:
    made = harness.bus().reader(REGION)
    yield made
    await made.close()
