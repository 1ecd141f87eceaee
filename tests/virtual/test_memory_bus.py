"""The faults of the bus in memory: they happen, and a seed repeats them.

What it promises in quiet weather is shown by the suite of the port (``tests/contract``).
"""

import asyncio
import random

import pytest

from meshnode.bus.port import ORIGIN
from meshnode.errors import Fenced, Retry

from .bus import MemoryBus, RoughLink, Topics
from .loop import VirtualLoop

EAST = "east"


def contents(topics: Topics) -> list[bytes]:
    return list(topics.topics[EAST].payloads)


def zombie(seed: int) -> tuple[list[bytes], str]:
    """A writer dies with two records on their way, and a successor claims the topic."""
    source = random.Random(seed)
    topics = Topics(source)
    told: list[str] = []

    async def first() -> None:
        writer = MemoryBus(topics, RoughLink(source, 1.0)).writer(EAST)
        await writer.open(1)
        await writer.append(b"a")
        await writer.append_many([b"b", b"c"])
        told.append("acknowledged")

    async def second() -> None:
        writer = MemoryBus(topics, RoughLink(source, 1.0)).writer(EAST)
        await writer.open(1)
        await writer.append(b"claim")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        process = loop.spawn("first", first())
        while EAST not in topics.topics or not topics.topics[EAST].payloads:
            await topics.change()
        await asyncio.sleep(0.3)
        process.kill()
        await second()
        await asyncio.sleep(60)

    VirtualLoop(seed).run(main())
    return contents(topics), "".join(told)


def test_a_dead_writer_s_records_may_land_until_its_successor_has_appended() -> None:
    ends = [zombie(seed) for seed in range(60)]
    assert ends == [zombie(seed) for seed in range(60)]
    found = {tuple(records) for records, _ in ends}
    assert {record[-1] for record in found} == {b"claim"}, "nothing of it lands behind the claim"
    assert found == {
        (b"a", b"claim"), (b"a", b"b", b"claim"), (b"a", b"b", b"c", b"claim"),
    }  # fmt: skip


def test_a_lost_answer_breaks_the_writer_whether_the_record_landed_or_not() -> None:
    landed = set()
    for seed in range(40):
        source = random.Random(seed)
        topics = Topics(source)

        async def main(topics: Topics = topics, source: random.Random = source) -> None:
            link = RoughLink(source)
            writer = MemoryBus(topics, link).writer(EAST)
            await writer.open(1)
            await writer.append(b"a")
            link.loss = 0.5
            with pytest.raises(Retry):
                while True:
                    await writer.append(b"b")
            link.loss = 0.0
            with pytest.raises(Retry):
                await writer.append(b"c")
            # Opened again, it goes on from what the topic says.
            end = await writer.open(1)
            assert await MemoryBus(topics, link).reader(EAST).end() == end
            await writer.append(b"d")

        VirtualLoop(seed).run(main())
        records = contents(topics)
        assert records[0] == b"a" and records[-1] == b"d" and b"c" not in records
        landed.add(records.count(b"b"))
    assert {0, 1} <= landed


def test_an_older_writer_is_told() -> None:
    topics = Topics(random.Random(1))

    async def main() -> None:
        first, second = (MemoryBus(topics).writer(EAST) for _ in range(2))
        await first.open(1)
        await first.append(b"a")
        await second.open(1)
        await first.append(b"between the opening and the first append")
        await second.append(b"claim")
        for _ in range(2):
            with pytest.raises(Fenced):
                await first.append(b"late")

    VirtualLoop(1).run(main())
    assert contents(topics)[-1] == b"claim"


def test_a_topic_that_is_cut_off_is_read_when_it_is_back() -> None:
    topics = Topics(random.Random(1))

    async def main() -> None:
        writer = MemoryBus(topics).writer(EAST)
        await writer.open(1)
        await writer.append(b"a")
        link = RoughLink(random.Random(2))
        reader = MemoryBus(topics, link).reader(EAST)
        link.cut.add(EAST)
        with pytest.raises(Retry):
            await reader.read(ORIGIN, 100)
        link.cut.clear()
        assert [record.payload for record in await reader.read(ORIGIN, 100)] == [b"a"]

    VirtualLoop(1).run(main())
