"""Latency and rate of links that change while a node runs."""

import asyncio

from meshnode.bus.port import ORIGIN, Record
from meshnode.lab.wan import Wan, WanBus, write_cuts, write_latency, write_rates


class Topic:
    """A bus whose one topic has records from the start and gets no more."""

    def __init__(self, sizes: list[int]) -> None:
        self.records = [
            Record(b"x" * size, bytes([at]) if at else ORIGIN, bytes([at + 1]))
            for at, size in enumerate(sizes)
        ]

    def reader(self, region: str) -> "Topic":
        return self

    async def read(self, position: bytes, max_bytes: int) -> list[Record]:
        at = position[0] if position else 0
        if at == len(self.records):
            await asyncio.Event().wait()
        return self.records[at : at + 1]

    async def close(self) -> None: ...


async def arrivals(bus: WanBus, count: int) -> list[float]:
    """Loop times at which the first ``count`` records came, from the first call on."""
    loop = asyncio.get_running_loop()
    reader, began, position = bus.reader("a"), loop.time(), ORIGIN
    found: list[float] = []
    while len(found) < count:
        for record in await reader.read(position, 1):
            found.append(loop.time() - began)
            position = record.after
    await reader.close()
    return found


async def test_a_latency_of_the_control_file_holds_for_the_next_records(tmp_path) -> None:
    control = tmp_path / "wan.json"
    write_cuts(control, ())
    bus = WanBus(Topic([10]), "b", Wan({("a", "b"): 1e9}, jitter=0.0, control=control))
    write_latency(control, {("a", "b"): 50.0})
    (first,) = await arrivals(bus, 1)
    assert first >= 0.05
    write_latency(control, {("a", "b"): 300.0})
    (second,) = await arrivals(bus, 1)
    assert second >= 0.3


async def test_a_slow_link_carries_its_bytes_one_after_the_other(tmp_path) -> None:
    control = tmp_path / "wan.json"
    write_cuts(control, ())
    write_rates(control, {("a", "b"): 10_000.0})
    came = await arrivals(WanBus(Topic([1000, 2000]), "b", Wan(control=control)), 2)
    assert came[0] >= 0.1 and came[1] >= 0.3
    # Fast again: at the old rate it would take more than an hour.
    write_rates(control, {})
    await arrivals(WanBus(Topic([50_000_000]), "b", Wan(control=control)), 1)
