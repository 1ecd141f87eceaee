"""The writing side of one topic of the file bus, as plain blocking calls.

One thread of one process at a time: `TopicLog.open` takes an exclusive flock
and holds it for life. An append writes whole frames, makes them durable, and
only then moves the end mark, so no reader ever sees what a crash can take back.

**Recovery.** Everything before the end mark was acknowledged: if it is not
there, whole and true, the topic is corrupt and is not opened. Behind the mark
stand frames of an append that was never acknowledged: whole ones are kept (the
writer's owner reads the end of its topic and goes on after them), the first one
that is not whole is cut off with all that follows. What is kept is made durable
before the mark covers it. Within one boot it is *written again* first: after a
failed fsync the kernel calls such pages clean, and a second fsync would
promise what is only in memory.

**Segments.** The next segment is made only when all frames of the one before
are durable, so only the newest can be torn.

**Failures.** After any error the log takes no more appends: a record must not
follow one that failed. Opening it again recovers.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshnode.bus.allowance import Allowance
from meshnode.bus.port import BusBroken, BusFull, Corrupt, Position, Retained, WriterBusy
from meshnode.bus.segment import (
    FRAME_HEADER,
    READ_CHUNK,
    REMEDY_CORRUPT,
    Mark,
    Place,
    Segment,
    current_boot,
    frame_header,
    list_segments,
    load_mark,
    segment_header,
    segment_path,
)
from meshnode.errors import Retry
from meshnode.limits import (
    BUS_KEEP_SECONDS,
    BUS_MAX_BYTES,
    BUS_SEGMENT_BYTES,
    KIB,
)

_INCARNATION_BYTES = 16
_JOINED_UP_TO = 64 * KIB
"""Payloads up to this size are copied together into one write."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class LogOptions:
    """Sizes in bytes, times in seconds. ``sync`` and ``clock`` are replaced by tests only."""

    segment_bytes: int = BUS_SEGMENT_BYTES
    keep_seconds: float = BUS_KEEP_SECONDS
    max_bytes: int = BUS_MAX_BYTES
    sync: Callable[[int], None] = os.fdatasync
    clock: Callable[[], float] = time.time

    def allowance(self) -> Allowance:
        """Make the allowance of a topic, for as long as its region has this owner."""
        # Whoever stands where a stretch begins needs the segment around that place as well.
        return Allowance(self.max_bytes - self.segment_bytes, self.max_bytes)


class TopicLog:
    """The one writer of the topic in ``directory``; every method blocks."""

    def __init__(
        self, directory: Path, options: LogOptions, allowance: Allowance | None = None
    ) -> None:
        self.directory = directory
        self._options = options
        self._allowance = allowance or options.allowance()
        self._boot = current_boot()
        self._lock_fd = -1
        self._mark_fd = -1
        self._incarnation = b""
        self._place = Place(b"", 0, 0, 0)
        self._segment: Segment | None = None
        self._failure: Exception | None = None

    # -- opening ---------------------------------------------------------------

    def try_lock(self) -> None:
        """Take the flock or raise `WriterBusy` at once; repeatable."""
        if self._lock_fd >= 0:
            return
        path = self.directory / "lock"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._translated(error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise WriterBusy(
                f"{path} is held by process {holder}", "stop that process, or wait for its end"
            ) from error
        except OSError as error:
            os.close(fd)
            raise self._translated(error) from error
        with contextlib.suppress(OSError):  # A full disk may not take it, and the lock holds.
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
        self._lock_fd = fd

    def open(self) -> Position:
        """Recover the topic, or make it; return its end. The lock must be held."""
        try:
            self._incarnation = self._load_or_make_incarnation()
            mark = load_mark(self.directory / "end")
            self._recover(mark)
            self._mark_fd = self._open_mark()
            self._move_mark()
            self._sync(self._mark_fd)
        except OSError as error:
            raise self._translated(error) from error
        return self._place.encode()

    def close(self) -> None:
        """Give the lock back; repeatable."""
        self._segment = None
        for fd in (self._mark_fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._mark_fd = self._lock_fd = -1

    def _load_or_make_incarnation(self) -> bytes:
        path = self.directory / "topic"
        try:
            incarnation = path.read_bytes()
        except FileNotFoundError:
            if list_segments(self.directory):
                raise Corrupt(f"{path} is missing beside segments", REMEDY_CORRUPT) from None
            incarnation = secrets.token_bytes(_INCARNATION_BYTES)
            self._make_file(path, incarnation)
            # Both may have been made by `try_lock`.
            self._sync_directory(self.directory.parent)
            self._sync_directory(self.directory.parent.parent)
        if len(incarnation) != _INCARNATION_BYTES:
            raise Corrupt(f"{path} has {len(incarnation)} bytes, not 16", REMEDY_CORRUPT)
        return incarnation

    def _open_mark(self) -> int:
        path = self.directory / "end"
        if not path.exists():
            self._make_file(path, Mark(self._place, self._boot).encode())
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    # -- recovery --------------------------------------------------------------

    def _recover(self, mark: Mark | None) -> None:
        bases = list_segments(self.directory)
        durable = self._durable(mark, bases)
        if not bases and durable.end == 0:
            self._place = durable
            self._segment = self._make_segment(0)
            return
        if not bases or bases[0] > durable.end:
            raise self._lost(durable)
        # Start one frame before the mark: it must be the one the mark names.
        start = durable.last if durable.last >= bases[0] else durable.end
        place = Place(self._incarnation, start, start, 0)
        segments: list[Segment] = []
        for base in bases[max(i for i, base in enumerate(bases) if base <= start) :]:
            segment = Segment(self.directory, base, self._incarnation, writable=True)
            if segments and base != place.end:
                raise segment.corrupt(0, f"the segment before it ends at {place.end}")
            segments.append(segment)
            end = segment.end()
            while place.end < end and (frame := segment.frame_at(place.end, end)):
                if place.end == durable.last < durable.end and frame != durable:
                    at = segment.file_offset(place.end)
                    raise segment.corrupt(at, "the end mark names another frame here")
                place = frame
            if place.end == end:
                continue
            if base != bases[-1] or place.end < durable.end or place.end > end:
                raise segment.corrupt(segment.file_offset(place.end), "the frame is damaged")
            os.ftruncate(segment.fd, segment.file_offset(place.end))
        if place.end < durable.end:
            raise self._lost(durable)
        self._make_durable(segments, durable, rewrite=mark is None or mark.boot == self._boot)
        self._place, self._segment = place, segments[-1]

    def _durable(self, mark: Mark | None, bases: Sequence[int]) -> Place:
        """Return the place up to which everything was acknowledged, as far as is known."""
        if mark is None:
            oldest = bases[0] if bases else 0
            return Place(self._incarnation, oldest, oldest, 0)
        if mark.place.incarnation != self._incarnation:
            raise Corrupt(f"{self.directory / 'end'} belongs to another topic", REMEDY_CORRUPT)
        return mark.place

    def _make_durable(self, segments: Sequence[Segment], durable: Place, rewrite: bool) -> None:
        for segment in segments:
            at, end = max(durable.end, segment.base), segment.end()
            while rewrite and at < end:
                chunk = segment.read(at, min(READ_CHUNK, end - at))
                self._write(segment.fd, segment.file_offset(at), chunk)
                at += len(chunk)
            self._sync(segment.fd)
        self._sync_directory(self.directory)

    def _lost(self, durable: Place) -> Corrupt:
        return Corrupt(
            f"{self.directory}: the frames up to {durable.end} were acknowledged, and are gone",
            "put the segments back; if they are lost for good, remove the file 'end' to go on "
            "without them: regions that had read them will refuse this topic",
        )

    # -- appending -------------------------------------------------------------

    def append(self, payloads: Sequence[bytes]) -> list[Position]:
        """Append frames with one fsync; return the position after each.

        Errors: `BusFull`, `BusBroken`; after either, every later call repeats it.
        """
        if self._failure is not None:
            raise self._failure
        try:
            return self._append(payloads)
        except OSError as error:
            self._failure = self._translated(error)
            raise self._failure from error
        except BusBroken as error:
            self._failure = error
            raise

    def _append(self, payloads: Sequence[bytes]) -> list[Position]:
        segment = self._segment
        assert segment is not None, "append before open"
        place = self._place
        if place.end - segment.base >= self._options.segment_bytes:
            segment = self._segment = self._make_segment(place.end)
        at = segment.file_offset(place.end)
        positions: list[Position] = []
        joined = bytearray()
        for payload in payloads:
            header, crc = frame_header(payload, place.end)
            end = place.end + FRAME_HEADER.size + len(payload)
            place = Place(self._incarnation, place.end, end, crc)
            positions.append(place.encode())
            joined += header
            if len(payload) <= _JOINED_UP_TO:
                joined += payload
            if len(joined) > READ_CHUNK or len(payload) > _JOINED_UP_TO:
                at = self._write_joined(segment.fd, at, joined)
            if len(payload) > _JOINED_UP_TO:
                at = self._write(segment.fd, at, payload)
        self._write_joined(segment.fd, at, joined)
        self._sync(segment.fd)
        self._place = place
        self._move_mark()
        return positions

    def _write_joined(self, fd: int, at: int, joined: bytearray) -> int:
        at = self._write(fd, at, bytes(joined))
        joined.clear()
        return at

    def _write(self, fd: int, at: int, data: bytes) -> int:
        """Write all of ``data`` at ``at``; return where it ends."""
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, at)
            at += written
            view = view[written:]
        return at

    def _move_mark(self) -> None:
        os.pwrite(self._mark_fd, Mark(self._place, self._boot).encode(), 0)

    def _sync(self, fd: int) -> None:
        try:
            self._options.sync(fd)
        except OSError as error:
            raise BusBroken(
                f"{self.directory}: fsync failed: {error}",
                "check the disk, then start the node again: it goes on after the last frame "
                "that is durable",
            ) from error

    def _translated(self, error: OSError) -> BusFull | BusBroken:
        if error.errno in _NO_ROOM:
            return BusFull(f"{self.directory}: no room: {error}", "free or add disk space")
        return BusBroken(f"{self.directory}: {error}", "mend the file system, then start again")

    # -- files -----------------------------------------------------------------

    def _make_segment(self, base: int) -> Segment:
        made_us = int(self._options.clock() * 1_000_000)
        header = segment_header(self._incarnation, base, made_us)
        self._make_file(segment_path(self.directory, base), header)
        return Segment(self.directory, base, self._incarnation, writable=True)

    def _make_file(self, path: Path, content: bytes) -> None:
        """Make a file that is there with all its content or not at all, durably."""
        new = path.with_name(path.name + ".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            self._write(fd, 0, content)
            self._sync(fd)
        finally:
            os.close(fd)
        os.rename(new, path)
        self._sync_directory(path.parent)

    def _sync_directory(self, directory: Path) -> None:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._sync(fd)
        finally:
            os.close(fd)

    # -- retention -------------------------------------------------------------

    def retain(
        self, applied: Iterable[Position | None], floor: Position | None, now: float
    ) -> Retained:
        """Remove old segments; see `BusWriter.retain`.

        Raises `TopicRewritten`, `Retry`, `BusBroken`.
        A segment may go when a newer one holds a frame, so the newest frame
        stays. Its age counts from when the next segment was made.
        """
        offsets = [self._offset(position) for position in applied]
        limit = self._offset(floor)
        done = min([*offsets, limit]) if offsets else 0
        if floor is not None:
            self._allowance.note(limit, self._place.end)
        bases = list_segments(self.directory)
        ends = [*bases[1:], self._place.end]
        first, kept = bases[0], self._place.end - bases[0]
        dropped = lost = 0
        for base, end in zip(bases, ends, strict=True):
            if end >= self._place.end or end > limit:
                break
            over = self._allowance.counted(base, self._place.end) > self._options.max_bytes
            if not over and (end > done or not self._is_old(end, now)):
                break
            if not dropped:
                # An older mark on the disk would ask for what is about to go.
                self._sync(self._mark_fd)
            try:
                os.unlink(segment_path(self.directory, base))
            except OSError as error:
                raise Retry(f"{self.directory}: {error}", "check its permissions") from error
            first, kept = end, kept - (end - base)
            dropped += end - base
            lost += max(0, end - max(base, done))
        if dropped:
            self._sync_directory(self.directory)
        behind = [number for number, offset in enumerate(offsets) if offset < first]
        return Retained(kept, dropped, lost, tuple(behind) if lost else ())

    def _offset(self, position: Position | None) -> int:
        return 0 if position is None else Place.decode(position, self._incarnation).end

    def _is_old(self, next_base: int, now: float) -> bool:
        following = Segment(self.directory, next_base, self._incarnation, writable=False)
        return now - following.made_us / 1_000_000 >= self._options.keep_seconds
