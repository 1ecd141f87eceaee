"""The files of one topic of the file bus: what is in them, and how to read it.

A topic is a directory. Its records stand one after the other in **segments**;
the *offset* of a frame counts the bytes of all frames before it since the topic
was made, so it stays true when old segments go. A segment is named by the
offset it begins at.

    topic                      who this topic is: its incarnation, 16 random bytes
    lock                       flock of the one writer, and its pid
    end                        the end mark: up to here everything is durable
    00000000000000000000.log   segment header, then frames

    segment header  magic 8, incarnation 16, base u64, made u64 (us since 1970), crc u32, zero u32
    frame           magic 4, crc u32, length u32, zero u32, offset u64, payload
    end mark        magic 4, crc u32, incarnation 16, boot 16, last u64, end u64, crc u32, zero u32

Integers are little-endian. The CRC of a frame covers its own offset, so a frame
that was copied elsewhere does not pass; those of the segment header and the end
mark carry the incarnation.

The **end mark** is overwritten in place, and a reader may see half of two
marks: then its CRC is wrong and it looks again. ``boot`` says in which life of
the machine it was written. After a loss of power the file may hold an older
mark than the last one shown, but never one beyond what is durable, because it
is written after the fsync. So a mark of an earlier boot may be trusted as a
lower bound, and not as the end. Before segments go it is made durable: a mark
older than the oldest of them would be that of a topic that lost its records.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from meshnode.bus.port import ORIGIN, Corrupt, Position, Record, TopicRewritten
from meshnode.limits import FRAME_MAX_BYTES, MIB

SEGMENT_HEADER = struct.Struct("<8s16sQQII")
FRAME_HEADER = struct.Struct("<4sIIIQ")
MARK = struct.Struct("<4sI16s16sQQII")
PLACE = struct.Struct("<B16sQQI")

_SEGMENT_MAGIC = b"MESHSEG1"
_FRAME_MAGIC = b"MFR1"
_MARK_MAGIC = b"MEM1"
_PLACE_VERSION = 1
_CHECKED_FROM = 8
"""The CRC of a frame or a mark covers everything behind its own field."""

READ_CHUNK = 1 * MIB
_MARK_LOOKS = 100

REMEDY_CORRUPT = (
    "restore this file from a copy of the topic; without one, stop all nodes, remove the "
    "topic's directory and fill the regions that had not read beyond it from another region"
)


class Place(NamedTuple):
    """The place after the frame that begins at ``last`` and has this CRC.

    At the very beginning of what is kept there is no such frame: then ``last``
    equals ``end`` and ``crc`` is 0.
    """

    incarnation: bytes
    last: int
    end: int
    crc: int

    def encode(self) -> Position:
        return PLACE.pack(_PLACE_VERSION, *self)

    @classmethod
    def decode(cls, position: Position, incarnation: bytes) -> "Place":
        """Read a position of the topic with this incarnation; raises `TopicRewritten`."""
        if position == ORIGIN:
            return cls(incarnation, 0, 0, 0)
        if len(position) != PLACE.size or position[0] != _PLACE_VERSION:
            raise TopicRewritten(
                f"position {position.hex()} was not made by a file bus",
                "check that this node's bus settings are those it ran with before",
            )
        place = cls(*PLACE.unpack(position)[1:])
        if place.incarnation != incarnation:
            raise TopicRewritten(
                f"the topic is {incarnation.hex()} now and was {place.incarnation.hex()} "
                "when this position was stored",
                "put the old topic directory back, or fill this region from another one",
            )
        return place


class Mark(NamedTuple):
    """The end mark: the place up to which all is durable, and the boot it was written in."""

    place: Place
    boot: bytes

    def encode(self) -> bytes:
        incarnation, last, end, crc = self.place
        body = MARK.pack(b"", 0, incarnation, self.boot, last, end, crc, 0)[_CHECKED_FROM:]
        return _MARK_MAGIC + struct.pack("<I", zlib.crc32(body)) + body


def current_boot() -> bytes:
    """Return 16 bytes that differ from one boot of the machine to the next."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
        return bytes.fromhex(text.strip().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)


class MarkFile:
    """The file of the end mark, kept open for reading: a reader looks very often."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go, so that the next look opens what its path leads to then."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def load(self) -> Mark | None:
        """Read the mark; None if there is no file or its content is not a mark."""
        if self._fd < 0:
            try:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
        for _ in range(_MARK_LOOKS):
            data = os.pread(self._fd, MARK.size, 0)
            if len(data) == MARK.size and data[:4] == _MARK_MAGIC:
                _, crc, incarnation, boot, last, end, last_crc, _ = MARK.unpack(data)
                if zlib.crc32(data[_CHECKED_FROM:]) == crc:
                    return Mark(Place(incarnation, last, end, last_crc), boot)
        return None


def load_mark(path: Path) -> Mark | None:
    """Read the end mark once; see `MarkFile.load`."""
    return MarkFile(path).load()


def frame_header(payload: bytes, offset: int) -> tuple[bytes, int]:
    """Return the header of the frame at ``offset`` that carries ``payload``, and its CRC."""
    body = FRAME_HEADER.pack(b"", 0, len(payload), 0, offset)[_CHECKED_FROM:]
    crc = zlib.crc32(payload, zlib.crc32(body))
    return _FRAME_MAGIC + struct.pack("<I", crc) + body, crc


def segment_path(directory: Path, base: int) -> Path:
    return directory / f"{base:020d}.log"


def list_segments(directory: Path) -> list[int]:
    """Return the bases of the segments there are, ascending."""
    names = (name for name in os.listdir(directory) if name.endswith(".log"))
    return sorted(int(name[:-4]) for name in names if name[:-4].isdigit())


def segment_header(incarnation: bytes, base: int, made_us: int) -> bytes:
    body = SEGMENT_HEADER.pack(_SEGMENT_MAGIC, incarnation, base, made_us, 0, 0)[:-8]
    return body + struct.pack("<II", zlib.crc32(body), 0)


class Segment:
    """One open segment file. It closes when nobody holds it: readers share it with threads."""

    def __init__(self, directory: Path, base: int, incarnation: bytes, writable: bool) -> None:
        """Open it and check its header; raises FileNotFoundError, `Corrupt`."""
        self.path = segment_path(directory, base)
        self.base = base
        self.incarnation = incarnation
        self.fd = -1
        self.fd = os.open(self.path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        data = os.pread(self.fd, SEGMENT_HEADER.size, 0)
        if len(data) < SEGMENT_HEADER.size:
            raise self.corrupt(0, "its header is cut off")
        magic, owner, self_base, made_us, crc, _ = SEGMENT_HEADER.unpack(data)
        if magic != _SEGMENT_MAGIC or zlib.crc32(data[:-8]) != crc:
            raise self.corrupt(0, "its header is damaged")
        if owner != incarnation or self_base != base:
            raise self.corrupt(0, "it belongs to another topic or another place")
        self.made_us: int = made_us

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def corrupt(self, file_offset: int, why: str) -> Corrupt:
        return Corrupt(f"{self.path} at byte {file_offset}: {why}", REMEDY_CORRUPT)

    def file_offset(self, offset: int) -> int:
        return offset - self.base + SEGMENT_HEADER.size

    def end(self) -> int:
        """Return the offset at which the file ends (torn or not)."""
        return self.base + os.fstat(self.fd).st_size - SEGMENT_HEADER.size

    def read(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes, fewer only at the end of the file."""
        data = os.pread(self.fd, length, self.file_offset(offset))
        if len(data) == length or not data:
            return data
        parts = [data]
        missing = length - len(data)
        while missing:
            more = os.pread(self.fd, missing, self.file_offset(offset + length - missing))
            if not more:
                break
            parts.append(more)
            missing -= len(more)
        return b"".join(parts)

    def frame_at(self, offset: int, limit: int) -> Place | None:
        """Check the frame at ``offset`` chunk by chunk; None if it is not whole or not true."""
        header = self.read(offset, FRAME_HEADER.size)
        length = self._length(header, 0, offset, limit)
        if length is None:
            return None
        crc = zlib.crc32(header[_CHECKED_FROM:])
        at, end = offset + FRAME_HEADER.size, offset + FRAME_HEADER.size + length
        while at < end:
            chunk = self.read(at, min(READ_CHUNK, end - at))
            if not chunk:
                return None
            crc = zlib.crc32(chunk, crc)
            at += len(chunk)
        if crc != int.from_bytes(header[4:8], "little"):
            return None
        return Place(self.incarnation, offset, end, crc)

    def holds(self, place: Place) -> bool:
        """Say whether the frame before ``place`` is the one the place names (header only)."""
        header = self.read(place.last, FRAME_HEADER.size)
        length = self._length(header, 0, place.last, place.end)
        return (
            length is not None
            and place.last + FRAME_HEADER.size + length == place.end
            and int.from_bytes(header[4:8], "little") == place.crc
        )

    def records(self, place: Place, limit: int, max_bytes: int) -> list[Record]:
        """Read whole frames from ``place`` on, none beyond the offset ``limit``.

        Payloads add up to at most ``max_bytes`` and `READ_CHUNK`, save that the
        first comes whole. An empty list means that the file ends here.
        Raises `Corrupt`: everything before ``limit`` was acknowledged once.
        """
        offset = place.end
        wanted = min(limit - offset, max(max_bytes, 0) + FRAME_HEADER.size, READ_CHUNK)
        data = self.read(offset, wanted)
        if not data:
            return []
        length = self._length(data, 0, offset, limit)
        if length is None:
            raise self.corrupt(self.file_offset(offset), "no valid frame begins here")
        if FRAME_HEADER.size + length > len(data):
            return [self._long_record(place, data[: FRAME_HEADER.size], length)]
        found: list[Record] = []
        view, at, start = memoryview(data), 0, place.encode()
        while length is not None:
            payload_at = at + FRAME_HEADER.size
            frame_end = payload_at + length
            if frame_end > len(data):
                break
            try:
                place = self._next_place(place, view[at:payload_at], view[payload_at:frame_end])
            except Corrupt:
                if found:
                    break  # the good ones first; the next read begins here and raises
                raise
            after = place.encode()
            found.append(Record(data[payload_at:frame_end], start, after))
            start, at = after, frame_end
            length = self._length(data, at, offset + at, limit)
        return found

    def _long_record(self, place: Place, header: bytes, length: int) -> Record:
        """Read a frame longer than a chunk, its payload only once in memory."""
        payload = self.read(place.end + FRAME_HEADER.size, length)
        if len(payload) < length:
            raise self.corrupt(self.file_offset(place.end), "the file ends within this frame")
        after = self._next_place(place, header, payload)
        return Record(payload, place.encode(), after.encode())

    def _next_place(
        self, before: Place, header: bytes | memoryview, payload: bytes | memoryview
    ) -> Place:
        crc = zlib.crc32(payload, zlib.crc32(header[_CHECKED_FROM:]))
        if crc != int.from_bytes(header[4:8], "little"):
            raise self.corrupt(self.file_offset(before.end), "the CRC of this frame is wrong")
        end = before.end + len(header) + len(payload)
        return Place(self.incarnation, before.end, end, crc)

    def _length(self, data: bytes, at: int, offset: int, limit: int) -> int | None:
        """Return the payload length of the frame at ``data[at:]``, None if it is no header."""
        if len(data) - at < FRAME_HEADER.size:
            return None
        magic, _, length, zero, self_offset = FRAME_HEADER.unpack_from(data, at)
        if magic != _FRAME_MAGIC or zero or self_offset != offset or length > FRAME_MAX_BYTES:
            return None
        return length if offset + FRAME_HEADER.size + length <= limit else None
