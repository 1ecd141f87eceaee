"""The buses and the stores of the contract suites, and the servers that some of them need."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bus_harness import REGION, SOON, Harness, WanHarness
from kafka_harness import KafkaHarness
from memory_harness import MemoryHarness
from store_harness import PEERS, Memory, Region_, real_region

from meshnode.bus.port import BusReader, BusWriter
from meshnode.lab.broker import Broker
from meshnode.lab.kafka_jars import find_kafka, why_no_kafka
from meshnode.lab.servers import Server, find_mysqld
from meshnode.mysql import bookkeeping

HARNESSES = {"file": Harness, "wan": WanHarness, "memory": MemoryHarness, "kafka": KafkaHarness}


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


@pytest.fixture(scope="session")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server whose table ``shop.t`` is replicated, with rows for the peers."""
    from mesh import mesh_of
    from server_pool import ServerPool

    pool = ServerPool(find_mysqld())
    try:
        (server,) = pool.take(1)

        async def prepare() -> None:
            folder = tmp_path_factory.mktemp("store")
            async with mesh_of([server], folder, "shop.*") as mesh:
                await mesh.everywhere(
                    "CREATE DATABASE shop",
                    "CREATE TABLE shop.t (id BIGINT NOT NULL PRIMARY KEY, v VARBINARY(60))",
                )
                await mesh.init()
                for peer in PEERS:
                    await mesh.sql[0].execute(bookkeeping.INSERT_APPLIED, (peer,))

        # A loop of its own: that of the test is running.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: asyncio.run(prepare())).result()
        yield server
    finally:
        pool.close()


@pytest.fixture(params=["memory", "mysql"])
async def region(request: pytest.FixtureRequest) -> AsyncIterator[Region_]:
    """A region with no rows, one store after the other."""
    if request.param == "memory":
        made: Region_ = Memory()
    else:
        made = await real_region(request.getfixturevalue("store_server"))
    yield made
    await made.close()
