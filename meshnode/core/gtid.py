"""Sets of GTIDs: text, the binary form of a request, and the few operations a reader needs.

A set holds, for each *source* (``uuid`` or ``uuid:tag``), disjoint half-open
intervals in ascending order.  A stream adds the next number of one source again
and again, so ``add`` first tries to move the end of the last interval.

The binary form is that of COM_BINLOG_DUMP_GTID and PREVIOUS_GTIDS, of which there
are two.  The tagged one is used as soon as there is a tag: a server that is sent the
plain one believes that it has to send every tagged transaction again.
"""

import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator

_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\Z")
_TAG = re.compile(r"[a-z_][a-z0-9_]{0,31}\Z")
_INTERVAL = re.compile(r"([0-9]+)(?:\s*-\s*([0-9]+))?\Z")
_OWNER = re.compile(r"#[0-9]+")
_MAX = (1 << 63) - 1

Interval = list[int]
"""[first, one after the last]"""


class GtidSet:
    """A mutable set of GTIDs; unhashable on purpose."""

    __slots__ = ("_sources",)
    __hash__ = None

    def __init__(self, text: str = "") -> None:
        """Reads MySQL's text form, e.g. ``uuid:1-264:abc_tag:1-4,uuid2:7``."""
        self._sources: dict[str, list[Interval]] = {}
        for part in text.split(","):
            if part.strip():
                self._read_part(part)

    def _read_part(self, part: str) -> None:
        head, *items = [item.strip().lower() for item in part.split(":")]
        if not _UUID.match(head) or not items:
            raise ValueError(f"GTID set part {part.strip()!r} does not start with 'uuid:'")
        digits = head.replace("-", "")
        parts = digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]
        uuid = source = "-".join(parts)
        for item in items:
            numbers = _INTERVAL.match(item)
            if numbers:
                first, last = int(numbers[1]), int(numbers[2] or numbers[1])
                if not 0 < first <= _MAX or last > _MAX:
                    raise ValueError(f"GTID interval {item!r} is out of range")
                if first <= last:
                    self._include(source, first, last + 1)
            elif _TAG.match(item):
                source = f"{uuid}:{item}"
            else:
                raise ValueError(f"GTID set part {part.strip()!r}: {item!r} is no interval or tag")

    @classmethod
    def of_owned(cls, text: str) -> "GtidSet":
        """Reads ``@@gtid_owned``, where each number names its thread: ``uuid:7#21:8#22``."""
        return cls(_OWNER.sub("", text))

    def add(self, gtids: Iterable[tuple[str, int]]) -> None:
        """Adds GTIDs, each a source and a number; cheaply where they are in a row."""
        for source, number in gtids:
            intervals = self._sources.get(source)
            if intervals and intervals[-1][1] == number:
                intervals[-1][1] = number + 1
            else:
                self._include(source, number, number + 1)

    def _include(self, source: str, start: int, stop: int) -> None:
        intervals = self._sources.setdefault(source, [])
        low = bisect_right(intervals, start, key=lambda interval: interval[0])
        if low and intervals[low - 1][1] >= start:
            low -= 1
        high = low
        while high < len(intervals) and intervals[high][0] <= stop:
            start, stop = min(start, intervals[high][0]), max(stop, intervals[high][1])
            high += 1
        intervals[low:high] = [[start, stop]]

    def __contains__(self, gtid: str) -> bool:
        source, _, number = gtid.rpartition(":")
        value = int(number)
        intervals = self._sources.get(source.lower(), ())
        place = bisect_right(intervals, value, key=lambda interval: interval[0])
        return place > 0 and value < intervals[place - 1][1]

    def intervals(self) -> Iterator[tuple[str, int, int]]:
        """(source, first, last) in MySQL's order: by UUID, then by tag."""
        for source in sorted(self._sources):
            for start, stop in self._sources[source]:
                yield source, start, stop - 1

    def __len__(self) -> int:
        """How many GTIDs the set holds."""
        return sum(last - first + 1 for _, first, last in self.intervals())

    def __bool__(self) -> bool:
        return bool(self._sources)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GtidSet):
            return NotImplemented
        return self._sources == other._sources

    def copy(self) -> "GtidSet":
        twin = GtidSet()
        twin._sources = {
            source: [list(interval) for interval in intervals]
            for source, intervals in self._sources.items()
        }
        return twin

    def subtract(self, other: "GtidSet") -> "GtidSet":
        """The GTIDs that ``other`` does not hold."""
        result = GtidSet()
        for source, intervals in self._sources.items():
            rest = []
            holes = other._sources.get(source, ())
            for start, stop in intervals:
                for hole_start, hole_stop in holes:
                    if hole_stop <= start or hole_start >= stop:
                        continue
                    if start < hole_start:
                        rest.append([start, hole_start])
                    start = hole_stop
                if start < stop:
                    rest.append([start, stop])
            if rest:
                result._sources[source] = rest
        return result

    def issubset(self, other: "GtidSet") -> bool:
        return not self.subtract(other)

    def __str__(self) -> str:
        parts: list[str] = []
        previous_uuid = previous_source = ""
        for source, first, last in self.intervals():
            uuid, _, tag = source.partition(":")
            if uuid != previous_uuid:
                parts.append(f",{uuid}" if parts else uuid)
                previous_source = uuid
            if source != previous_source:
                parts.append(f":{tag}")
            parts.append(f":{first}" if first == last else f":{first}-{last}")
            previous_uuid, previous_source = uuid, source
        return "".join(parts)

    def __repr__(self) -> str:
        return f"GtidSet({str(self)!r})"

    def encode(self) -> bytes:
        """The binary form, tagged if any source has a tag."""
        tagged = any(":" in source for source in self._sources)
        count = len(self._sources)
        parts = [
            b"\x01" + count.to_bytes(6, "little") + b"\x01"
            if tagged
            else count.to_bytes(8, "little")
        ]
        for source in sorted(self._sources):
            uuid, _, tag = source.partition(":")
            parts.append(bytes.fromhex(uuid.replace("-", "")))
            if tagged:
                parts.append(bytes((len(tag) * 2,)) + tag.encode("ascii"))
            intervals = self._sources[source]
            parts.append(len(intervals).to_bytes(8, "little"))
            parts += [struct.pack("<qq", start, stop) for start, stop in intervals]
        return b"".join(parts)
