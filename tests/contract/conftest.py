"""The buses of the contract suite, one after the other."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bus_harness import HARNESSES, REGION, SOON, Harness

from meshnode.bus.port import BusReader, BusWriter


@pytest.fixture(params=sorted(HARNESSES))
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
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
