"""What every bus promises, said once for all of them (see `meshnode/bus/port.py`).

A bus joins by adding a `Harness` to `HARNESSES`. Records are written and read by
other processes too, so a harness also gives the Python expression that makes
its bus.
"""

import asyncio
import hashlib
import os
import random
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from meshnode.bus.file import FileBus
from meshnode.bus.log import LogOptions
from meshnode.bus.port import (
    ORIGIN,
    POSITION_MAX_BYTES,
    Bus,
    BusReader,
    BusWriter,
    Position,
    PositionAhead,
    Record,
    RetentionPassed,
    TopicRewritten,
    WriterBusy,
)
from meshnode.lab.wan import Wan, WanBus
from meshnode.limits import MIB

REGION = "osaka"
SOON = 20.0
"""Seconds after which a test has failed that waits for something certain."""


class Harness:
    """The file bus in a directory of its own."""

    expression = "FileBus(Path({directory!r}))"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: list[Bus] = []

    def bus(self, segment_bytes: int = 64 * MIB) -> Bus:
        made = self.wrapped(
            FileBus(self.directory, LogOptions(segment_bytes=segment_bytes, keep_seconds=0.0))
        )
        self.made.append(made)
        return made

    def wrapped(self, bus: Bus) -> Bus:
        return bus

    def copy_topic(self) -> Path:
        """Take a copy of the topic as it is now, as a backup would."""
        return Path(shutil.copytree(self.directory / REGION, self.directory / "backup"))

    def put_back(self, copy: Path) -> None:
        shutil.rmtree(self.directory / REGION)
        shutil.move(copy, self.directory / REGION)

    def delete_topic(self) -> None:
        shutil.rmtree(self.directory / REGION)

    def source(self) -> str:
        return self.expression.format(directory=str(self.directory))


class WanHarness(Harness):
    """The file bus behind a network without latency."""

    expression = "WanBus(FileBus(Path({directory!r})), 'dublin', Wan())"

    def wrapped(self, bus: Bus) -> Bus:
        return WanBus(bus, "dublin", Wan())


HARNESSES: dict[str, Callable[[Path], Harness]] = {"file": Harness, "wan": WanHarness}


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


async def read_until(reader: BusReader, position: Position, end: Position) -> list[Record]:
    """Read everything from ``position`` to ``end``."""
    found: list[Record] = []
    while position != end:
        found += await asyncio.wait_for(reader.read(position, MIB), SOON)
        position = found[-1].after
    return found


def payloads(records: list[Record]) -> list[bytes]:
    return [record.payload for record in records]


CHILD = """
import asyncio, hashlib, sys
from pathlib import Path
from meshnode.bus.file import FileBus
from meshnode.bus.port import ORIGIN
from meshnode.lab.wan import Wan, WanBus

async def hold():
    writer = bus.writer("osaka")
    await writer.open(20)
    await writer.append(b"from the child")
    print("holds", flush=True)
    await asyncio.Event().wait()

async def digest(count):
    reader, position, digest = bus.reader("osaka"), ORIGIN, hashlib.sha256()
    print("reads", flush=True)
    while count:
        for record in await reader.read(position, 1 << 20):
            digest.update(record.payload)
            position, count = record.after, count - 1
    print(digest.hexdigest(), flush=True)
    await reader.close()

async def main():
    global bus
    bus = {source}
    await {call}
    await bus.close()

asyncio.run(main())
"""


async def start_child(harness: Harness, call: str) -> asyncio.subprocess.Process:
    """Run a coroutine of `CHILD` in another process; return when it has said that it is ready."""
    program = CHILD.format(source=harness.source(), call=call)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    ready = await asyncio.wait_for(child.stdout.readline(), SOON)
    assert ready in (b"holds\n", b"reads\n")
    return child


async def test_records_are_read_in_the_order_of_their_appends(
    writer: BusWriter, reader: BusReader
) -> None:
    for number in range(20):
        end = await writer.append(b"%d" % number)
    assert payloads(await read_until(reader, ORIGIN, end)) == [b"%d" % n for n in range(20)]


async def test_concurrent_appends_keep_the_order_in_which_they_started(
    writer: BusWriter, reader: BusReader
) -> None:
    ends = await asyncio.gather(*(writer.append(b"%d" % number) for number in range(500)))
    records = await read_until(reader, ORIGIN, ends[-1])
    assert payloads(records) == [b"%d" % number for number in range(500)]
    assert [record.after for record in records] == ends


async def test_append_many_returns_the_position_after_each(
    writer: BusWriter, reader: BusReader
) -> None:
    ends = await writer.append_many([b"a", b"", b"c"])
    assert payloads(await read_until(reader, ends[0], ends[2])) == [b"", b"c"]
    assert await writer.append_many([]) == []


async def test_a_record_is_readable_when_append_returns(
    writer: BusWriter, reader: BusReader, harness: Harness
) -> None:
    position = ORIGIN
    for number in range(20):
        after = await writer.append(b"%d" % number)
        assert await harness.bus().reader(REGION).end() == after
        records = await asyncio.wait_for(reader.read(position, MIB), SOON)
        assert payloads(records) == [b"%d" % number]
        position = after


async def test_a_cancelled_append_leaves_the_others_in_order(
    writer: BusWriter, reader: BusReader
) -> None:
    tasks = [asyncio.create_task(writer.append(b"%d" % number)) for number in range(10)]
    await asyncio.sleep(0)
    tasks[4].cancel()
    await asyncio.wait(tasks)
    end = await writer.append(b"10")
    found = payloads(await read_until(reader, ORIGIN, end))
    assert [name for name in found if name != b"4"] == [b"%d" % n for n in range(11) if n != 4]


async def test_records_of_every_size_come_whole(writer: BusWriter, reader: BusReader) -> None:
    source = random.Random(7)
    sizes = [0, 1, 40 * MIB, 1, 65536, 65537, MIB - 24, MIB - 23, MIB, 3 * MIB + 5, 0]
    sent = [source.randbytes(size) for size in sizes]
    for payload in sent[:6]:
        end = await writer.append(payload)
    end = (await writer.append_many(sent[6:]))[-1]
    assert payloads(await read_until(reader, ORIGIN, end)) == sent


async def test_a_read_takes_what_it_may_but_at_least_one(
    writer: BusWriter, reader: BusReader
) -> None:
    await writer.append_many([bytes(1000)] * 10)
    assert 1 <= len(await reader.read(ORIGIN, 3999)) <= 3
    assert len(await reader.read(ORIGIN, 1)) == 1
    assert len(await reader.read(ORIGIN, 0)) == 1


async def test_an_empty_read_waits_and_wakes(writer: BusWriter, reader: BusReader) -> None:
    position = ORIGIN
    for number in range(5):
        waiting = asyncio.create_task(reader.read(position, MIB))
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        assert not done
        end = await writer.append(b"%d" % number)
        (record,) = await asyncio.wait_for(waiting, SOON)
        assert record == (b"%d" % number, record.start, end)
        position = end


async def test_a_cancelled_read_loses_nothing(writer: BusWriter, reader: BusReader) -> None:
    sent = [b"%d" % number * 5000 for number in range(300)]

    async def append_all() -> None:
        for payload in sent:
            await writer.append(payload)

    appending = asyncio.create_task(append_all())
    found: list[bytes] = []
    position, impatience, cancelled = ORIGIN, random.Random(1), 0
    while len(found) < len(sent):
        reading = asyncio.create_task(reader.read(position, 50_000))
        for _ in range(impatience.randrange(6)):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait({reading})
        if reading.cancelled():
            cancelled += 1
            if cancelled % 10:
                continue
            records = await asyncio.wait_for(reader.read(position, 50_000), SOON)
        else:
            records = reading.result()
        found += payloads(records)
        position = records[-1].after
    await appending
    assert found == sent
    assert cancelled


async def test_a_position_reads_the_same_records_again(
    writer: BusWriter, reader: BusReader
) -> None:
    end = (await writer.append_many([b"a", b"b", b"c"]))[-1]
    a, b, c = await read_until(reader, ORIGIN, end)
    assert (await reader.read(b.start, MIB))[0] == b
    assert (await reader.read(a.after, MIB))[0] == b
    assert payloads(await reader.read(a.start, MIB)) == [b"a", b"b", b"c"]
    assert c.after == end
    assert all(len(place) <= POSITION_MAX_BYTES for record in (a, b, c) for place in record[1:])


async def test_two_readers_read_everything_each(writer: BusWriter, harness: Harness) -> None:
    bus = harness.bus()
    first, second = bus.reader(REGION), bus.reader(REGION)
    reading = [
        asyncio.create_task(asyncio.wait_for(one.read(ORIGIN, MIB), SOON))
        for one in (first, second)
    ]
    await asyncio.sleep(0)
    end = await writer.append(b"both")
    assert [payloads(await one) for one in reading] == [[b"both"], [b"both"]]
    assert await first.end() == await second.end() == end
    await first.close()
    await second.close()


async def test_begin_and_end(writer: BusWriter, reader: BusReader) -> None:
    assert await reader.begin() == await reader.end()
    end = await writer.append(b"a")
    assert await reader.end() == end
    assert payloads(await reader.read(await reader.begin(), MIB)) == [b"a"]


async def test_regions_do_not_mix(writer: BusWriter, harness: Harness) -> None:
    bus = harness.bus()
    other = bus.writer("lagos")
    await other.open(SOON)
    await writer.append(b"osaka")
    end = await other.append(b"lagos")
    reader = bus.reader("lagos")
    assert payloads(await read_until(reader, ORIGIN, end)) == [b"lagos"]
    with pytest.raises(TopicRewritten):
        await asyncio.wait_for(bus.reader(REGION).read(end, MIB), SOON)
    await reader.close()
    await other.close()


async def test_every_read_waits_for_a_topic_that_is_not_there_yet(
    harness: Harness, reader: BusReader
) -> None:
    waiting = [
        asyncio.create_task(call)
        for call in (reader.read(ORIGIN, MIB), reader.begin(), reader.end())
    ]
    done, _ = await asyncio.wait(waiting, timeout=0.1)
    assert not done
    writer = harness.bus().writer(REGION)
    begin = await writer.open(SOON)
    await writer.append(b"first")
    records = await asyncio.wait_for(waiting[0], SOON)
    assert payloads(records) == [b"first"]
    assert await asyncio.wait_for(waiting[1], SOON) == begin
    assert await asyncio.wait_for(waiting[2], SOON) in (begin, records[0].after)
    await writer.close()


async def test_positions_survive_a_new_writer(harness: Harness, reader: BusReader) -> None:
    writer = harness.bus().writer(REGION)
    await writer.open(SOON)
    ends = await writer.append_many([b"a", b"b"])
    await writer.close()
    for name in (b"c", b"d"):
        again = harness.bus().writer(REGION)
        assert await again.open(SOON) == ends[-1]
        ends.append(await again.append(name))
        await again.close()
    for number, end in enumerate(ends[:-1]):
        fresh = harness.bus().reader(REGION)
        rest = [b"a", b"b", b"c", b"d"][number + 1 :]
        assert payloads(await read_until(fresh, end, ends[-1])) == rest
        await fresh.close()


async def test_a_writer_can_be_opened_and_closed_again(harness: Harness) -> None:
    writer = harness.bus().writer(REGION)
    end = await writer.open(SOON)
    for number in range(3):
        assert await writer.open(SOON) == end
        end = await writer.append(b"%d" % number)
        await writer.close()
        await writer.close()


async def test_a_reader_in_another_process(writer: BusWriter, harness: Harness) -> None:
    source = random.Random(3)
    sent = [source.randbytes(source.choice((10, 300, 70_000))) for _ in range(200)]
    child = await start_child(harness, f"digest({len(sent)})")
    for payload in sent:
        await writer.append(payload)
    said, _ = await asyncio.wait_for(child.communicate(), SOON)
    assert said.decode().strip() == hashlib.sha256(b"".join(sent)).hexdigest()


async def test_a_second_writer_waits_until_the_first_is_dead(
    harness: Harness, reader: BusReader
) -> None:
    child = await start_child(harness, "hold()")
    writer = harness.bus().writer(REGION)
    with pytest.raises(WriterBusy, match=str(child.pid)):
        await writer.open(0.0)
    opening = asyncio.create_task(writer.open(SOON))
    done, _ = await asyncio.wait({opening}, timeout=0.1)
    assert not done
    os.kill(child.pid, signal.SIGKILL)
    end = await opening
    await child.wait()
    assert payloads(await read_until(reader, ORIGIN, end)) == [b"from the child"]
    assert payloads(await read_until(reader, end, await writer.append(b"next"))) == [b"next"]
    await writer.close()


async def test_what_all_have_applied_may_go_and_the_rest_stays(harness: Harness) -> None:
    bus = harness.bus(segment_bytes=1000)
    writer, reader = bus.writer(REGION), bus.reader(REGION)
    await writer.open(SOON)
    ends = [await writer.append(bytes(400)) for _ in range(30)]
    await writer.retain([ends[10], ends[20], None], now=4e9)
    await writer.retain([], now=4e9)
    assert len(await read_until(reader, ORIGIN, ends[-1])) == 30
    done = await writer.retain([ends[10], ends[20]], now=4e9)
    assert done.dropped_bytes > 0
    assert done.lost_bytes == 0
    assert len(await read_until(reader, ends[10], ends[-1])) == 19
    begin = await reader.begin()
    oldest = len(await read_until(reader, begin, ends[-1]))
    assert 19 <= oldest < 30
    fresh = bus.reader(REGION)
    for gone in (ORIGIN, ends[0]):
        with pytest.raises(RetentionPassed):
            await asyncio.wait_for(fresh.read(gone, MIB), SOON)
    await writer.retain([ends[-1]], now=4e9)
    last = await asyncio.wait_for(fresh.read(ends[-2], MIB), SOON)
    assert [record.after for record in last] == [ends[-1]]
    for one in (writer, reader, fresh):
        await one.close()


async def test_a_topic_made_anew_is_refused(harness: Harness, reader: BusReader) -> None:
    writer = harness.bus().writer(REGION)
    await writer.open(SOON)
    end = await writer.append(b"old")
    await read_until(reader, ORIGIN, end)
    waiting = asyncio.create_task(reader.read(end, MIB))
    await asyncio.sleep(0)
    await writer.close()
    harness.delete_topic()
    await writer.open(SOON)
    await writer.append(b"new")
    with pytest.raises(TopicRewritten):
        await asyncio.wait_for(waiting, SOON)
    with pytest.raises(TopicRewritten):
        await asyncio.wait_for(reader.read(end, MIB), SOON)
    assert payloads(await asyncio.wait_for(reader.read(ORIGIN, MIB), SOON)) == [b"new"]
    await writer.close()


async def test_a_topic_that_lost_records_is_refused(harness: Harness, reader: BusReader) -> None:
    writer = harness.bus().writer(REGION)
    await writer.open(SOON)
    kept = await writer.append(b"kept")
    await writer.close()
    copy = harness.copy_topic()
    await writer.open(SOON)
    lost = await writer.append(b"lost")
    assert len(await read_until(reader, ORIGIN, lost)) == 2
    await writer.close()
    harness.put_back(copy)
    assert await writer.open(SOON) == kept
    with pytest.raises(PositionAhead):
        await asyncio.wait_for(reader.read(lost, MIB), SOON)
    # Other records in their place do not make the old position right again.
    await writer.append(b"else")
    with pytest.raises(TopicRewritten):
        await asyncio.wait_for(reader.read(lost, MIB), SOON)
    end = await writer.append(b"more")
    with pytest.raises(TopicRewritten):
        await asyncio.wait_for(reader.read(lost, MIB), SOON)
    assert payloads(await read_until(reader, kept, end)) == [b"else", b"more"]
    await writer.close()


@pytest.mark.parametrize("position", [b"\x00", b"7", bytes(37), bytes(255)])
async def test_a_position_of_something_else_is_refused(
    writer: BusWriter, reader: BusReader, position: bytes
) -> None:
    await writer.append(b"a")
    with pytest.raises(TopicRewritten):
        await asyncio.wait_for(reader.read(position, MIB), SOON)
