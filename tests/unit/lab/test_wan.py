"""Latency and cuts between regions."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from meshnode.bus.file import FileBus
from meshnode.bus.port import ORIGIN, BusReader, BusWriter, Position, Record, RetentionPassed
from meshnode.errors import Refused
from meshnode.lab.wan import (
    AHEAD_BYTES,
    Wan,
    WanBus,
    default_latency,
    read_cuts,
    write_cuts,
)
from meshnode.limits import KIB, MIB

SOON = 60.0
QUIET = 0.15
"""Seconds in which nothing may come over a cut link: several looks at the control file."""

MakeReader = Callable[[Wan], BusReader]


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[FileBus]:
    made = FileBus(tmp_path / "bus")
    yield made
    await made.close()


@pytest.fixture
async def writer(bus: FileBus) -> AsyncIterator[BusWriter]:
    made = bus.writer("osaka")
    await made.open(SOON)
    yield made
    await made.close()


@pytest.fixture
async def dublin(bus: FileBus) -> AsyncIterator[MakeReader]:
    """Makes readers of osaka's topic in dublin."""
    made: list[BusReader] = []

    def make(wan: Wan) -> BusReader:
        made.append(WanBus(bus, "dublin", wan).reader("osaka"))
        return made[-1]

    yield make
    for reader in made:
        await reader.close()


@pytest.fixture
def control(tmp_path: Path) -> Path:
    return tmp_path / "wan.json"


def put(path: Path, content: str) -> None:
    path.write_text(content)


def slow(milliseconds: float, **more: float) -> Wan:
    return Wan({("osaka", "dublin"): milliseconds}, **more)  # type: ignore[arg-type]


async def read_payloads(reader: BusReader, position: Position, count: int) -> list[bytes]:
    found: list[Record] = []
    while len(found) < count:
        found += await asyncio.wait_for(reader.read(position, MIB), SOON)
        position = found[-1].after
    return [record.payload for record in found]


async def test_a_record_comes_after_the_latency_and_not_before(
    writer: BusWriter, dublin: MakeReader
) -> None:
    reader = dublin(slow(80, jitter=0.0))
    loop, position = asyncio.get_running_loop(), ORIGIN
    for _ in range(3):
        before = loop.time()
        await writer.append(b"far away")
        (record,) = await asyncio.wait_for(reader.read(position, MIB), SOON)
        assert loop.time() - before >= 0.080
        position = record.after


async def test_latency_does_not_thin_the_stream_out(writer: BusWriter, dublin: MakeReader) -> None:
    reader = dublin(slow(300))
    await writer.append_many([b"%d" % number for number in range(1000)])
    loop, position, count = asyncio.get_running_loop(), ORIGIN, 0
    before = loop.time()
    while count < 1000:
        records = await asyncio.wait_for(reader.read(position, 1), SOON)
        assert records[0].payload == b"%d" % count
        position, count = records[-1].after, count + len(records)
    # One after the other they would take 300 s.
    assert 0.27 <= loop.time() - before < SOON


async def test_jitter_never_changes_the_order(writer: BusWriter, dublin: MakeReader) -> None:
    reader = dublin(slow(20, jitter=1.0))
    sent = [b"%d" % number for number in range(60)]
    reading = asyncio.create_task(read_payloads(reader, ORIGIN, len(sent)))
    for payload in sent:
        await writer.append(payload)
    assert await reading == sent


async def test_the_own_topic_is_near(bus: FileBus) -> None:
    wan = WanBus(bus, "osaka", Wan({("osaka", "osaka"): 1e9}))
    writer = wan.writer("osaka")
    await writer.open(SOON)
    await writer.append(b"here")
    reader = wan.reader("osaka")
    assert await read_payloads(reader, ORIGIN, 1) == [b"here"]
    await reader.close()
    await writer.close()


async def test_a_cut_link_gives_nothing_until_it_is_healed(
    writer: BusWriter, dublin: MakeReader, control: Path
) -> None:
    reader = dublin(Wan(control=control))
    end = await writer.append(b"before")
    assert await read_payloads(reader, ORIGIN, 1) == [b"before"]
    reading = asyncio.create_task(read_payloads(reader, end, 2))
    write_cuts(control, [("osaka", "dublin")])
    await writer.append(b"during")
    done, _ = await asyncio.wait({reading}, timeout=QUIET)
    assert not done
    await writer.append(b"still")
    write_cuts(control, [])
    assert await asyncio.wait_for(reading, SOON) == [b"during", b"still"]


async def test_a_cut_holds_what_is_on_its_way(
    writer: BusWriter, dublin: MakeReader, control: Path
) -> None:
    latency = {("osaka", "dublin"): 200.0}
    reader = dublin(Wan(latency, jitter=0.0, control=control))
    reading = asyncio.create_task(read_payloads(reader, ORIGIN, 1))
    await writer.append(b"on its way")
    done, _ = await asyncio.wait({reading}, timeout=0.05)
    write_cuts(control, [("osaka", "dublin")])
    done, _ = await asyncio.wait({reading}, timeout=0.2 + QUIET)
    assert not done
    healed = asyncio.get_running_loop().time()
    os.unlink(control)
    assert await reading == [b"on its way"]
    assert asyncio.get_running_loop().time() - healed >= 0.2 - 0.03


async def test_a_cut_is_one_way_and_of_one_link(
    bus: FileBus, writer: BusWriter, dublin: MakeReader, control: Path
) -> None:
    write_cuts(control, [("dublin", "osaka"), ("osaka", "lagos")])
    await writer.append(b"a")
    assert await read_payloads(dublin(Wan(control=control)), ORIGIN, 1) == [b"a"]
    lagos = WanBus(bus, "lagos", Wan(control=control)).reader("osaka")
    waiting = [
        asyncio.create_task(call) for call in (lagos.read(ORIGIN, 1), lagos.begin(), lagos.end())
    ]
    done, _ = await asyncio.wait(waiting, timeout=QUIET)
    assert not done
    write_cuts(control, [])
    await asyncio.wait_for(asyncio.gather(*waiting), SOON)
    await lagos.close()


async def test_a_cancelled_read_loses_nothing_on_its_way(
    writer: BusWriter, dublin: MakeReader
) -> None:
    reader = dublin(slow(30))
    sent = [b"%d" % number for number in range(20)]
    await writer.append_many(sent)
    for _ in range(10):
        reading = asyncio.create_task(reader.read(ORIGIN, 1))
        await asyncio.wait({reading}, timeout=0.001)
        reading.cancel()
        await asyncio.wait({reading})
    assert await read_payloads(reader, ORIGIN, len(sent)) == sent


async def test_another_position_starts_from_there(writer: BusWriter, dublin: MakeReader) -> None:
    reader = dublin(slow(5))
    ends = await writer.append_many([b"a", b"b", b"c"])
    assert await read_payloads(reader, ORIGIN, 3) == [b"a", b"b", b"c"]
    assert await read_payloads(reader, ends[0], 2) == [b"b", b"c"]
    assert await read_payloads(reader, ORIGIN, 3) == [b"a", b"b", b"c"]


BOUND = AHEAD_BYTES // (64 * KIB)


class CountingReader:
    """Gives records of 64 KiB without end, or an error after ``good`` of them."""

    def __init__(self, good: int | None = None) -> None:
        self.given = 0
        self.good = good
        self.full = asyncio.Event()

    async def read(self, position: Position, max_bytes: int) -> list[Record]:
        number = int(position or b"0")
        if number == self.good:
            raise RetentionPassed("gone")
        self.given += 1
        if self.given >= BOUND:
            self.full.set()
        await asyncio.sleep(0)
        return [Record(bytes(64 * KIB), position, b"%d" % (number + 1))]

    async def begin(self) -> Position:
        return ORIGIN

    async def end(self) -> Position:
        raise AssertionError("not asked for")

    async def close(self) -> None:
        pass


class OneReaderBus:
    def __init__(self, reader: CountingReader) -> None:
        self._reader = reader

    def writer(self, region: str) -> BusWriter:
        raise AssertionError("not asked for")

    def reader(self, region: str) -> CountingReader:
        return self._reader

    async def close(self) -> None:
        pass


async def test_what_is_on_its_way_is_bounded(control: Path) -> None:
    inner = CountingReader()
    write_cuts(control, [("osaka", "dublin")])
    reader = WanBus(OneReaderBus(inner), "dublin", Wan(control=control)).reader("osaka")
    reading = asyncio.create_task(reader.read(ORIGIN, 1))
    await asyncio.wait_for(inner.full.wait(), SOON)
    await asyncio.wait({reading}, timeout=QUIET)
    assert inner.given == BOUND
    write_cuts(control, [])
    (record,) = await asyncio.wait_for(reading, SOON)
    position = record.after
    for _ in range(3 * BOUND):
        (record,) = await asyncio.wait_for(reader.read(position, 1), SOON)
        position = record.after
        assert inner.given <= int(position) + BOUND
    await reader.close()


async def test_an_error_comes_behind_the_records_before_it() -> None:
    inner = CountingReader(good=3)
    reader = WanBus(OneReaderBus(inner), "dublin", slow(5)).reader("osaka")
    assert len(await read_payloads(reader, ORIGIN, 3)) == 3
    for _ in range(2):
        with pytest.raises(RetentionPassed):
            await asyncio.wait_for(reader.read(b"3", 1), SOON)
    inner.good = None
    assert len(await read_payloads(reader, b"3", 1)) >= 1
    await reader.close()


async def test_a_half_written_control_file_changes_nothing(
    writer: BusWriter, dublin: MakeReader, control: Path
) -> None:
    write_cuts(control, [("osaka", "dublin")])
    reading = asyncio.create_task(dublin(Wan(control=control)).read(ORIGIN, 1))
    await writer.append(b"a")
    done, _ = await asyncio.wait({reading}, timeout=QUIET)
    put(control, '{"cut": ["osa')
    done, _ = await asyncio.wait({reading}, timeout=QUIET)
    assert not done
    put(control, '{"cut": []}')
    await asyncio.wait_for(reading, SOON)


@pytest.mark.parametrize("content", [{}, [], {"cut": "a->b"}, {"cut": ["a"]}, {"cut": [7]}])
async def test_a_control_file_that_says_something_else_is_refused(
    content: object, dublin: MakeReader, control: Path
) -> None:
    put(control, json.dumps(content))
    with pytest.raises(Refused, match=str(control)):
        await asyncio.wait_for(dublin(Wan(control=control)).read(ORIGIN, 1), SOON)


def test_cuts_are_read_as_written(control: Path) -> None:
    assert read_cuts(control) == frozenset()
    write_cuts(control, [("a", "b"), ("c", "d-e")])
    assert read_cuts(control) == {("a", "b"), ("c", "d-e")}


@pytest.mark.parametrize("count", [2, 8, 11])
def test_every_pair_has_a_latency_by_default(count: int) -> None:
    names = [f"r{number}" for number in range(count)]
    latency = default_latency(names)
    assert set(latency) == {(a, b) for a in names for b in names if a != b}
    assert all(0 < milliseconds < 200 for milliseconds in latency.values())
    assert all(latency[a, b] == latency[b, a] for a, b in latency)


def test_the_same_seed_draws_the_same_latencies() -> None:
    def draws(seed: int) -> list[float]:
        bus = WanBus(OneReaderBus(CountingReader()), "dublin", slow(10, seed=seed))
        link = bus.reader("osaka")._link  # type: ignore[attr-defined]
        return [link.draw() for _ in range(100)]

    assert draws(1) == draws(1) != draws(2)
    assert all(0.009 <= seconds <= 0.011 for seconds in draws(1))
