"""What every bus promises of its positions, its writers and what it forgets."""

import asyncio
import hashlib
import os
import random
import signal

import pytest
from bus_harness import REGION, SOON, Harness, payloads, read_until

from meshnode.bus.port import (
    ORIGIN,
    BusReader,
    BusWriter,
    PositionAhead,
    RetentionPassed,
    TopicRewritten,
    WriterBusy,
)
from meshnode.limits import MIB


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
    child = await harness.start_child(f"digest({len(sent)})")
    for payload in sent:
        await writer.append(payload)
    said, _ = await asyncio.wait_for(child.communicate(), SOON)
    assert said.decode().strip() == hashlib.sha256(b"".join(sent)).hexdigest()


async def test_there_is_one_writer(harness: Harness, reader: BusReader) -> None:
    child = await harness.start_child("hold()")
    writer = harness.bus().writer(REGION)
    try:
        end = await writer.open(0.0)
    except WriterBusy as busy:
        # It waits for the first one, and says for whom.
        assert str(child.pid) in str(busy)
        opening = asyncio.create_task(writer.open(SOON))
        done, _ = await asyncio.wait({opening}, timeout=0.1)
        assert not done
        os.kill(child.pid, signal.SIGKILL)
        end = await opening
        waited = True
    else:
        # Or it shuts the first one out, for good.
        waited = False
    assert payloads(await read_until(reader, ORIGIN, end)) == [b"from the child"]
    await writer.append(b"next")
    said, _ = await asyncio.wait_for(child.communicate(b"\n"), SOON)
    assert said == (b"" if waited else b"fenced\nfenced\n")
    last = await writer.append(b"last")
    assert payloads(await read_until(reader, end, last)) == [b"next", b"last"]
    await writer.close()


async def test_what_some_have_not_applied_is_kept(harness: Harness) -> None:
    bus = harness.bus(segment_bytes=1000)
    writer, reader = bus.writer(REGION), bus.reader(REGION)
    await writer.open(SOON)
    ends = [await writer.append(bytes(400)) for _ in range(30)]
    for applied, floor in (
        ([ends[10], ends[20], None], ends[29]), ([], ends[29]), ([ends[29], ends[10]], ends[29]),
        ([ends[29], ends[29]], ends[10]), ([ends[29], ends[29]], None),
    ):  # fmt: skip
        await writer.retain(applied, floor, now=4e9)
        assert len(await read_until(reader, ends[10], ends[-1])) == 19
    await writer.close()
    await reader.close()


async def test_what_is_forgotten_is_refused_and_the_rest_stays(harness: Harness) -> None:
    bus = harness.bus(segment_bytes=1000)
    writer, reader = bus.writer(REGION), bus.reader(REGION)
    await writer.open(SOON)
    ends = [await writer.append(bytes(400)) for _ in range(30)]
    assert len(await read_until(reader, ORIGIN, ends[-1])) == 30
    await harness.forget(writer, ends[10])
    # What a member said long ago frees nothing.
    for early in (ends[1], ORIGIN):
        assert (await writer.retain([early, ends[20]], ends[29], now=4e9)).dropped_bytes == 0
    assert len(await read_until(reader, ends[10], ends[-1])) == 19
    begin = await reader.begin()
    oldest = len(await read_until(reader, begin, ends[-1]))
    assert 19 <= oldest < 30
    fresh = bus.reader(REGION)
    for gone in (ORIGIN, ends[0]):
        with pytest.raises(RetentionPassed):
            await asyncio.wait_for(fresh.read(gone, MIB), SOON)
    # Whoever has read everything goes on, whatever is left.
    await harness.forget(writer, ends[-1])
    end = await writer.append(b"next")
    assert payloads(await read_until(fresh, ends[-1], end)) == [b"next"]
    assert payloads(await read_until(reader, ends[-1], end)) == [b"next"]
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
    await harness.delete_topic()
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
    copy = await harness.copy_topic()
    await writer.open(SOON)
    lost = await writer.append(b"lost")
    assert len(await read_until(reader, ORIGIN, lost)) == 2
    await writer.close()
    await harness.put_back(copy)
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
