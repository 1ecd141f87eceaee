"""The log against a model: appends, crashes, losses of power and retention in any order."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from topic_files import append_unacknowledged, newest_segment, open_log, read_all

from meshnode.bus.file import FileBus
from meshnode.bus.log import LogOptions
from meshnode.bus.port import ORIGIN, Position, RetentionPassed
from meshnode.bus.segment import SEGMENT_HEADER, load_mark

OPTIONS = LogOptions(segment_bytes=300, keep_seconds=0.0)
SIZES = st.lists(st.integers(0, 200), min_size=1, max_size=6)


class LogModel(RuleBasedStateMachine):
    """``records`` is what must be readable, ``dropped`` how many of them may be gone."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.topic = self.directory / "osaka"
        self.log = open_log(self.topic, OPTIONS)
        self.records: list[tuple[bytes, Position]] = []
        self.dropped = 0
        self.marks = [self.mark_bytes()]
        self.number = 0

    def teardown(self) -> None:
        self.log.close()
        shutil.rmtree(self.directory)

    def mark_bytes(self) -> bytes:
        return (self.topic / "end").read_bytes()

    def payloads(self, sizes: list[int]) -> list[bytes]:
        made = []
        for size in sizes:
            self.number += 1
            made.append(b"%d " % self.number + b"x" * size)
        return made

    def reopen(self) -> None:
        self.log.close()
        self.log = open_log(self.topic, OPTIONS)

    @rule(sizes=SIZES)
    def append(self, sizes: list[int]) -> None:
        payloads = self.payloads(sizes)
        self.records += zip(payloads, self.log.append(payloads), strict=True)
        self.marks.append(self.mark_bytes())

    @rule()
    def restart(self) -> None:
        self.reopen()

    @rule(sizes=SIZES, torn=st.integers(0, 500))
    def crash_within_an_append(self, sizes: list[int], torn: int) -> None:
        """Frames reach the file, the mark does not move, and the newest bytes are missing."""
        self.log.close()
        payloads = self.payloads(sizes)
        append_unacknowledged(self.topic, payloads)
        before = load_mark(self.topic / "end")
        assert before is not None
        path = newest_segment(self.topic)
        floor = max(before.place.end - int(path.stem), 0) + SEGMENT_HEADER.size
        os.truncate(path, max(floor, path.stat().st_size - torn))
        self.log = open_log(self.topic, OPTIONS)
        # Whatever prefix of them was whole may have been kept.
        found = asyncio.run(self.read_from(self.records[-1][1] if self.records else ORIGIN))
        assert [payload for payload, _ in found] == payloads[: len(found)]
        self.records += found
        self.marks.append(self.mark_bytes())

    @rule(back=st.integers(0, 3))
    def lose_power(self, back: int) -> None:
        """The file holds an older mark, of an earlier boot; everything acknowledged is there."""
        self.log.close()
        (self.topic / "end").write_bytes(self.marks[-1 - min(back, len(self.marks) - 1)])
        mark = load_mark(self.topic / "end")
        assert mark is not None
        (self.topic / "end").write_bytes(mark._replace(boot=b"another boot....").encode())
        self.log = open_log(self.topic, OPTIONS)

    @precondition(lambda self: len(self.records) > 0)
    @rule(part=st.floats(0, 1))
    def forget(self, part: float) -> None:
        applied = int(part * (len(self.records) - 1))
        done = self.log.retain([self.records[applied][1]], self.records[-1][1], now=4e9)
        assert done.lost_bytes == 0
        if done.dropped_bytes:
            self.dropped = max(self.dropped, applied + 1)
            self.marks = [self.mark_bytes()]  # made durable before the first segment went

    @invariant()
    def readers_see_every_record(self) -> None:
        kept = asyncio.run(read_all(self.topic))
        every = [payload for payload, _ in self.records]
        assert kept == every[len(every) - len(kept) :]
        assert len(kept) >= len(every) - self.dropped
        assert bool(kept) == bool(every), "the newest record stays"

    @precondition(lambda self: len(self.records) > 0)
    @rule(part=st.floats(0, 1))
    def positions_stay_true(self, part: float) -> None:
        at = int(part * (len(self.records) - 1))
        try:
            found = asyncio.run(self.read_from(self.records[at][1]))
        except RetentionPassed:
            assert at < self.dropped
        else:
            assert found == self.records[at + 1 :]

    async def read_from(self, position: Position) -> list[tuple[bytes, Position]]:
        bus = FileBus(self.directory)
        reader = bus.reader("osaka")
        found: list[tuple[bytes, Position]] = []
        end = await reader.end()
        if position == ORIGIN:
            position = await reader.begin()
        while position != end:
            for record in await reader.read(position, 400):
                found.append((record.payload, record.after))
                position = record.after
        await bus.close()
        return found


LogModel.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
test_log_model = LogModel.TestCase
