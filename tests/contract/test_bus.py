"""What every bus promises of its records (see `meshnode/bus/port.py`)."""

import asyncio
import contextlib
import random

from bus_harness import REGION, SOON, Harness, payloads, read_until

from meshnode.bus.port import ORIGIN, POSITION_MAX_BYTES, BusReader, BusWriter
from meshnode.errors import Retry
from meshnode.limits import MIB


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


async def test_a_look_changes_nothing(harness: Harness) -> None:
    """Not before the topic exists, and not under its writer."""
    bus = harness.bus()
    assert not await asyncio.wait_for(bus.inspect(REGION), SOON)
    writer, reader = bus.writer(REGION), bus.reader(REGION)
    waiting = asyncio.create_task(reader.begin())
    assert not await asyncio.wait_for(bus.inspect(REGION), SOON)
    assert not waiting.done(), "the look has made the topic"
    await writer.open(SOON)
    assert await asyncio.wait_for(bus.inspect(REGION), SOON)
    end = await writer.append(b"a")
    with contextlib.suppress(Retry):  # of a topic that is just being made
        await asyncio.wait_for(waiting, SOON)
    assert payloads(await read_until(reader, ORIGIN, end)) == [b"a"]
    await reader.close()
    await writer.close()
