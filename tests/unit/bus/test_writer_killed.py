"""A writer that is killed again and again, under the eyes of a reader."""

import asyncio
import random
import sys
from pathlib import Path

from topic_files import REGION, SOON

from meshnode.bus.file import FileBus
from meshnode.bus.port import ORIGIN

KILLS = 20

WRITER = """
import asyncio, random, sys
from pathlib import Path
from meshnode.bus.file import FileBus
from meshnode.bus.log import LogOptions

async def main():
    bus = FileBus(Path(sys.argv[1]), LogOptions(segment_bytes=1 << 20))
    writer, reader = bus.writer(sys.argv[2]), bus.reader(sys.argv[2])
    end = await writer.open(20)
    position, number = await reader.begin(), 0
    while position != end:
        records = await reader.read(position, 1 << 20)
        position, number = records[-1].after, number + len(records)

    async def send(number):
        await writer.append(random.Random(number).randbytes(size(number)))
        print(number, flush=True)

    while True:
        await asyncio.gather(*(send(n) for n in range(number, number + 8)))
        number += 8

def size(number):
    return random.Random(-number).choice((1, 40, 3000, 70_000, 200_000))

asyncio.run(main())
"""


def expected(number: int) -> bytes:
    size = random.Random(-number).choice((1, 40, 3000, 70_000, 200_000))
    return random.Random(number).randbytes(size)


async def test_what_was_acknowledged_is_there_and_nothing_torn_is_ever_seen(
    tmp_path: Path,
) -> None:
    bus = FileBus(tmp_path)
    reader = bus.reader(REGION)
    seen = 0
    moved = asyncio.Condition()

    async def watch() -> None:
        nonlocal seen
        position = ORIGIN
        while True:
            for record in await reader.read(position, 1 << 20):
                assert record.payload == expected(seen), f"record {seen} is another one"
                position = record.after
                seen += 1
            async with moved:
                moved.notify_all()

    watching = asyncio.create_task(watch())
    when = random.Random(5)
    acknowledged = -1
    for _ in range(KILLS):
        writer = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WRITER, str(tmp_path), REGION), stdout=asyncio.subprocess.PIPE
        )
        assert writer.stdout is not None
        for _ in range(when.randrange(1, 40)):
            said = await asyncio.wait_for(writer.stdout.readline(), SOON)
            acknowledged = max(acknowledged, int(said))
        await asyncio.sleep(when.random() * 0.01)
        writer.kill()
        rest, _ = await writer.communicate()
        # The last line may be cut by the kill.
        acknowledged = max([acknowledged, *map(int, rest.split(b"\n")[:-1])])

    async def all_seen() -> None:
        async with moved:
            await moved.wait_for(lambda: seen > acknowledged)

    waiting = asyncio.create_task(all_seen())
    await asyncio.wait({waiting, watching}, timeout=SOON, return_when=asyncio.FIRST_COMPLETED)
    assert waiting.done(), f"{acknowledged} was acknowledged, and {seen} are there: {watching}"
    watching.cancel()
    await asyncio.wait({watching})
    assert watching.cancelled()
    await bus.close()
