"""The embedded bus: topics are directories on one machine, shared by all its nodes.

    <directory>/<region>/    one topic; `segment` has its files, `log` its writer

The writer runs `TopicLog` in a thread of its own, so the event loop never waits
for a disk. While one fsync runs, further appends wait and are then written
together: the more writers wait, the more share one fsync.

A reader looks at the end mark, reads whole frames up to it with few large
preads, and where there are none waits for the mark's file to change. It keeps
nothing but an open segment, so any read may be cancelled or repeated. Before it
trusts a position it has not just handed out itself, it checks that the frame
before it is the one the position names.
"""

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from meshnode.bus.appends import Appends
from meshnode.bus.log import LogOptions, TopicLog
from meshnode.bus.port import (
    Corrupt,
    Position,
    PositionAhead,
    Record,
    Retained,
    RetentionPassed,
    TopicRewritten,
    WriterBusy,
)
from meshnode.bus.segment import (
    REMEDY_CORRUPT,
    Mark,
    MarkFile,
    Place,
    Segment,
    current_boot,
    list_segments,
)
from meshnode.bus.watch import FileWatcher
from meshnode.errors import Refused, Retry
from meshnode.limits import KIB, MIB

GROUP_BYTES = 8 * MIB
"""Appends that wait together share an fsync up to this size."""

LOCK_LOOK_SECONDS = 0.02
"""How often a waiting writer tries the lock."""

LOOK_AGAIN_SECONDS = 1.0
"""How often an idle reader looks whether the topic is still the same directory."""

INLINE_READ_BYTES = 64 * KIB
"""With no more than this to read, the event loop is faster than a thread."""

_READ_THREADS = 4


class FileBus:
    """The topics under one directory; see `meshnode.bus.port.Bus`.

    ``elsewhere`` names the directory of regions whose topic lives under another one.
    """

    def __init__(
        self,
        directory: Path,
        options: LogOptions | None = None,
        elsewhere: Mapping[str, Path] | None = None,
    ) -> None:
        self._directory = directory
        self._elsewhere = elsewhere or {}
        self._options = options or LogOptions()
        self._watcher = FileWatcher()
        self._threads = ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="bus-read")

    def writer(self, region: str) -> "FileWriter":
        return FileWriter(self._topic(region), self._options)

    def reader(self, region: str) -> "FileReader":
        return FileReader(self._topic(region), self._watcher, self._threads)

    async def inspect(self, region: str) -> bool:
        there = topic = self._topic(region)
        while not there.exists():  # the writer makes what is missing
            there = there.parent
        if not (there.is_dir() and os.access(there, os.R_OK | os.W_OK | os.X_OK)):
            what = "is not a folder that this user may write" if there.is_dir() else "is no folder"
            raise Refused(
                f"topic {topic}: {there} {what}",
                "name another folder in the topology file (bus.dir), or let this user write there",
            )
        return (topic / "topic").exists()

    async def close(self) -> None:
        self._watcher.close()
        self._threads.shutdown(wait=False)

    def _topic(self, region: str) -> Path:
        if not region or "/" in region or "\0" in region or region.startswith("."):
            raise Refused(f"region name {region!r} cannot name a directory", "rename the region")
        return self._elsewhere.get(region, self._directory) / region


class FileWriter:
    """The writer of one topic; see `meshnode.bus.port.BusWriter`."""

    def __init__(self, topic: Path, options: LogOptions) -> None:
        self._topic = topic
        self._options = options
        self._allowance = options.allowance()
        self._log: TopicLog | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._appends: Appends | None = None

    async def open(self, timeout: float) -> Position:
        await self.close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        log = TopicLog(self._topic, self._options, self._allowance)
        while True:
            try:
                log.try_lock()
                break
            except WriterBusy:
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(LOCK_LOOK_SECONDS)
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"bus-write-{self._topic.name}")
        try:
            end = await loop.run_in_executor(thread, log.open)
        except BaseException:
            # Cancelled, it may still be at work: the same thread closes it afterwards.
            thread.submit(log.close)
            thread.shutdown(wait=False)
            raise
        self._log, self._thread = log, thread

        async def send(payloads: list[bytes]) -> list[Position]:
            return await loop.run_in_executor(thread, log.append, payloads)

        self._appends = Appends(str(self._topic), send, GROUP_BYTES)
        return end

    async def append(self, payload: bytes) -> Position:
        return (await self.append_many([payload]))[0]

    async def append_many(self, payloads: Sequence[bytes]) -> list[Position]:
        if self._appends is None:
            raise RuntimeError(f"{self._topic}: append without an open writer")
        return await self._appends.put(payloads)

    async def retain(
        self, applied: Iterable[Position | None], floor: Position | None, now: float
    ) -> Retained:
        if self._log is None:
            return Retained(0, 0, 0)
        work = partial(self._log.retain, list(applied), floor, now)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        appends, thread, log = self._appends, self._thread, self._log
        self._appends = self._thread = self._log = None
        if appends is not None and thread is not None and log is not None:
            # Whoever is cancelled here must not leave the lock held.
            await asyncio.shield(asyncio.create_task(self._finish(appends, thread, log)))

    async def _finish(self, appends: Appends, thread: ThreadPoolExecutor, log: TopicLog) -> None:
        await appends.finish()
        await asyncio.get_running_loop().run_in_executor(thread, log.close)
        thread.shutdown(wait=False)


class FileReader:
    """A reader of one topic; see `meshnode.bus.port.BusReader`."""

    def __init__(self, topic: Path, watcher: FileWatcher, threads: ThreadPoolExecutor) -> None:
        self._topic = topic
        self._mark_file = MarkFile(topic / "end")
        self._look_again = 0.0
        self._watcher = watcher
        self._threads = threads
        self._boot = current_boot()
        self._segment: Segment | None = None
        self._handed_out: Position | None = None

    async def read(self, position: Position, max_bytes: int) -> list[Record]:
        loop = asyncio.get_running_loop()
        while True:
            mark = self._mark()
            if mark is None or not self._is_before(position, mark):
                await self._mark_moved(position)
                continue
            place = Place.decode(position, mark.place.incarnation)
            work = partial(self._load, position, place, mark.place.end, max_bytes)
            try:
                if mark.place.end - place.end <= INLINE_READ_BYTES:
                    records = work()
                else:
                    records = await loop.run_in_executor(self._threads, work)
            except OSError as error:
                raise self._unreadable(error) from error
            self._handed_out = records[-1].after
            return records

    async def begin(self) -> Position:
        mark = await self._first_mark()
        try:
            bases = list_segments(self._topic)
        except OSError as error:
            raise self._unreadable(error) from error
        if not bases:
            raise Corrupt(f"{self._topic} has an end mark and no segments", REMEDY_CORRUPT)
        return Place(mark.place.incarnation, bases[0], bases[0], 0).encode()

    async def end(self) -> Position:
        return (await self._first_mark()).place.encode()

    async def unread_age(self, position: Position, now: float) -> float | None:
        """None: what some member has not applied is not forgotten for its age."""
        return None

    async def close(self) -> None:
        self._segment = None
        self._mark_file.close()

    # -- the end mark ----------------------------------------------------------

    def _mark(self) -> Mark | None:
        now = asyncio.get_running_loop().time()
        if now >= self._look_again:
            # The files may have been replaced: trust nothing that was opened or checked before.
            self._mark_file.close()
            self._segment = self._handed_out = None
            self._look_again = now + LOOK_AGAIN_SECONDS
        try:
            return self._mark_file.load()
        except OSError as error:
            raise self._unreadable(error) from error

    async def _first_mark(self) -> Mark:
        while (mark := self._mark()) is None:
            await self._watcher.arm(self._mark_file.path, LOOK_AGAIN_SECONDS)
        return mark

    async def _mark_moved(self, position: Position) -> None:
        """Return when the mark may lie beyond ``position``."""
        waiter = self._watcher.arm(self._mark_file.path, LOOK_AGAIN_SECONDS)
        try:
            mark = self._mark()
            if mark is None or not self._is_before(position, mark):
                await waiter
        finally:
            waiter.cancel()

    def _is_before(self, position: Position, mark: Mark) -> bool:
        """Say whether there is anything to read from here; raises `TopicRewritten`."""
        place, end = Place.decode(position, mark.place.incarnation), mark.place
        if place.end < end.end:
            return True
        # A mark from before the last boot may be old: its writer has yet to recover.
        if place.end > end.end and mark.boot == self._boot:
            raise PositionAhead(
                f"{self._topic} ends at {end.end}, and {place.end} was read before",
                "the topic has lost records: put its files back, or fill this region from another",
            )
        both_name_a_frame = place.last < place.end and end.last < end.end
        if place.end == end.end and both_name_a_frame and place != end:
            raise self._rewritten(place)
        return False

    # -- records ---------------------------------------------------------------

    def _load(self, position: Position, place: Place, limit: int, max_bytes: int) -> list[Record]:
        """Read records; blocks. There is at least one: the mark lies beyond ``place``."""
        if position != self._handed_out and place.last < place.end:
            segment = self._segment_at(place.last, place.incarnation)
            if segment is not None and not segment.holds(place):
                raise self._rewritten(place)
        segment = self._segment
        if (
            segment is None
            or segment.base > place.end
            or not (records := segment.records(place, limit, max_bytes))
        ):
            # None open yet, or read to its end: then the next one begins here.
            segment = self._segment_at(place.end, place.incarnation)
            if segment is None:
                raise RetentionPassed(
                    f"{self._topic}: the record at {place.end} is no longer kept",
                    "fill this region from another one; keep more (max_bytes) to allow for "
                    "longer absence",
                )
            records = segment.records(place, limit, max_bytes)
        if not records:
            at = segment.file_offset(place.end)
            raise segment.corrupt(at, f"the file ends, and the topic only at {limit}")
        self._segment = segment
        return records

    def _segment_at(self, offset: int, incarnation: bytes) -> Segment | None:
        """Open the segment that holds ``offset``; None if it is no longer kept."""
        while True:
            bases = [base for base in list_segments(self._topic) if base <= offset]
            if not bases:
                return None
            try:
                return Segment(self._topic, bases[-1], incarnation, writable=False)
            except FileNotFoundError:
                continue  # removed since it was listed

    def _rewritten(self, place: Place) -> TopicRewritten:
        return TopicRewritten(
            f"{self._topic}: another record than the one read before ends at {place.end}",
            "put the old files of the topic back, or fill this region from another one",
        )

    def _unreadable(self, error: OSError) -> Retry:
        return Retry(f"{self._topic}: {error}", "check the file system and its permissions")
