"""A wide-area network for the lab: latency and cuts between regions, around any bus.

A region's own topic is next door; those of the others are far away. A reader of
another region reads ahead, notes when each record came, and hands it over when
the one-way latency of that link has passed. Reading ahead goes on meanwhile, so
latency delays records and does not thin the stream out, up to `AHEAD_BYTES` on
the way at a time.

**Cuts** are listed in a control file, written by the lab and by fault plans:

    {"cut": ["osaka->dublin", "dublin->osaka"], "latency_ms": {"osaka->dublin": 106}}

`from->to` stops what region ``from`` publishes on its way to region ``to``.
Latencies stand there too, and ``bytes_per_second`` of links that are slow; a change of
either holds for the records that come after it.
While a link is cut its reader gets nothing, not even an error; after healing it
gets everything, one latency later. A missing file means that nothing is cut. A
file that cannot be read as JSON is half written: what was known stays true.

Latencies are drawn from a generator seeded with the link, so a run can be
repeated; order within a link always stays.
"""

import asyncio
import contextlib
import json
import os
import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshnode.bus.port import Bus, BusReader, BusWriter, Position, Record
from meshnode.errors import Refused
from meshnode.limits import MIB

AHEAD_BYTES = 4 * MIB
"""Payload bytes that one link holds on their way; it bounds memory and bandwidth x latency."""

HEAL_LOOK_SECONDS = 0.02
"""How often a reader on a cut link looks whether it is healed."""

_SITES = (
    (0, 35, 58, 38, 44, 93, 72, 108),
    (35, 0, 88, 68, 74, 112, 53, 70),
    (58, 88, 0, 92, 98, 150, 128, 155),
    (38, 68, 92, 0, 12, 61, 106, 130),
    (44, 74, 98, 12, 0, 56, 112, 126),
    (93, 112, 150, 61, 56, 0, 63, 77),
    (72, 53, 128, 106, 112, 63, 0, 54),
    (108, 70, 155, 130, 126, 77, 54, 0),
)
"""One-way milliseconds between eight sites: Virginia, Oregon, Sao Paulo, Dublin, Frankfurt,
Mumbai, Tokyo, Sydney."""

SAME_SITE_MS = 0.5


def default_latency(regions: Sequence[str]) -> dict[tuple[str, str], float]:
    """Give each pair ``(from, to)`` a plausible one-way latency in milliseconds.

    The first eight regions get a site each, further ones share them.
    """
    places = {name: number % len(_SITES) for number, name in enumerate(regions)}
    return {
        (a, b): float(_SITES[places[a]][places[b]]) or SAME_SITE_MS
        for a in regions
        for b in regions
        if a != b
    }


def write_cuts(path: Path, cuts: Iterable[tuple[str, str]]) -> None:
    """Put the cut links ``(from, to)`` into the control file, all at once."""
    content = _content(path)
    _replace(path, content | {"cut": sorted(f"{a}->{b}" for a, b in cuts)})


def write_latency(path: Path, latency_ms: Mapping[tuple[str, str], float]) -> None:
    """Put one-way latencies into the control file, for nodes that start afterwards."""
    named = {f"{a}->{b}": value for (a, b), value in latency_ms.items()}
    _replace(path, {"cut": []} | _content(path) | {"latency_ms": named})


def write_rates(path: Path, rates: Mapping[tuple[str, str], float]) -> None:
    """Put the bytes a second of slow links into the control file; others are fast."""
    named = {f"{a}->{b}": value for (a, b), value in rates.items()}
    _replace(path, {"cut": []} | _content(path) | {"bytes_per_second": named})


def _content(path: Path) -> dict[str, Any]:
    """What the control file holds; empty if there is none."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError:
        # Half written by somebody else: what the caller writes now is the truth.
        return {}
    if not isinstance(content, dict):
        raise Refused(f"{path} is no control file", 'write {"cut": ["a->b"]}')
    return content


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(content) + "\n")
    os.replace(new, path)


def read_cuts(path: Path) -> frozenset[tuple[str, str]]:
    """Read the control file; empty if there is none.

    Raises `json.JSONDecodeError` if it is half written, `Refused` if it says something else.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return frozenset()
    try:
        links = [tuple(link.split("->")) for link in content["cut"]]
        return frozenset((a, b) for a, b in links)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{path} is no control file: {error!r}", 'write {"cut": ["a->b"]}') from error


def _numbers(path: Path) -> dict[str, dict[str, float]]:
    """Latencies and rates in the control file, by link."""
    content = _content(path)
    try:
        return {
            name: {link: float(value) for link, value in content.get(name, {}).items()}
            for name in ("latency_ms", "bytes_per_second")
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise Refused(
            f"the numbers in {path} cannot be used: {error!r}",
            'write {"cut": [], "latency_ms": {"a->b": 35}}',
        ) from error


@dataclass(frozen=True)
class Wan:
    """The network: one-way latencies in milliseconds by ``(from, to)``; a missing pair has none.

    ``jitter`` is the greatest relative deviation of a latency, 0..1.
    """

    latency_ms: Mapping[tuple[str, str], float] = field(default_factory=dict)
    jitter: float = 0.1
    seed: int = 0
    control: Path | None = None

    @classmethod
    def read(cls, control: Path) -> "Wan":
        """The network that a control file describes; it goes on to say what is cut.

        Raises `Refused` if the file says something else.
        """
        try:
            named = _content(control).get("latency_ms", {})
            pairs = {tuple(link.split("->")): float(value) for link, value in named.items()}
            return cls({(a, b): value for (a, b), value in pairs.items()}, control=control)
        except (ValueError, TypeError, AttributeError) as error:
            raise Refused(
                f"the latencies in {control} cannot be used: {error!r}",
                'write {"cut": [], "latency_ms": {"a->b": 35}}',
            ) from error


class WanBus:
    """A bus as seen from region ``here`` across the network."""

    def __init__(self, inner: Bus, here: str, wan: Wan) -> None:
        self._inner = inner
        self._here = here
        self._wan = wan
        self._cuts = _Cuts(wan.control)

    def writer(self, region: str) -> BusWriter:
        return self._inner.writer(region)

    def reader(self, region: str) -> BusReader:
        inner = self._inner.reader(region)
        if region == self._here:
            return inner
        return WanReader(inner, _Link(region, self._here, self._wan, self._cuts))

    async def inspect(self, region: str) -> bool:
        return await self._inner.inspect(region)

    async def close(self) -> None:
        await self._inner.close()


class WanReader:
    """Reads another region's topic over a link; see `meshnode.bus.port.BusReader`."""

    def __init__(self, inner: BusReader, link: "_Link") -> None:
        self._inner = inner
        self._link = link
        self._ahead: _Ahead | None = None

    async def read(self, position: Position, max_bytes: int) -> list[Record]:
        ahead = self._ahead
        if ahead is None or ahead.next != position:
            await self._stop()
            ahead = self._ahead = _Ahead(self._inner, self._link, position)
        try:
            return await ahead.take(max_bytes)
        except Exception:
            await self._stop()
            raise

    async def begin(self) -> Position:
        await self._link.open()
        return await self._inner.begin()

    async def end(self) -> Position:
        await self._link.open()
        return await self._inner.end()

    async def unread_age(self, position: Position, now: float) -> float | None:
        await self._link.open()
        return await self._inner.unread_age(position, now)

    async def close(self) -> None:
        await self._stop()
        await self._inner.close()

    async def _stop(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await ahead.stop()


class _Cuts:
    """The cut links by the control file, read again when it has changed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._cuts: frozenset[tuple[str, str]] = frozenset()
        self._numbers: dict[str, dict[str, float]] = {}

    def __contains__(self, link: tuple[str, str]) -> bool:
        self._look()
        return link in self._cuts

    def number(self, name: str, link: tuple[str, str], default: float) -> float:
        """What the control file says under ``name`` of a link."""
        self._look()
        return self._numbers.get(name, {}).get("->".join(link), default)

    def _look(self) -> None:
        if self._path is None:
            return
        try:
            stat = os.stat(self._path)
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except FileNotFoundError:
            seen = None
        if seen != self._seen:
            with contextlib.suppress(json.JSONDecodeError):
                self._cuts = read_cuts(self._path)
                self._numbers = _numbers(self._path)
                self._seen = seen


class _Link:
    """One direction between two regions: how long a record takes, and whether it is cut."""

    def __init__(self, source: str, here: str, wan: Wan, cuts: _Cuts) -> None:
        self._ends = (source, here)
        self._cuts = cuts
        self._latency_ms = wan.latency_ms.get(self._ends, 0.0)
        self._free_at = float("-inf")
        self._jitter = wan.jitter
        self._random = random.Random(f"{wan.seed} {source}->{here}")
        self.healed_at = float("-inf")
        """Loop time at which the link was last seen to have healed."""

    @property
    def cut(self) -> bool:
        return self._ends in self._cuts

    def draw(self) -> float:
        """Return the seconds that the next record takes."""
        seconds = self._cuts.number("latency_ms", self._ends, self._latency_ms) / 1000
        return seconds * (1 + self._jitter * self._random.uniform(-1, 1))

    def sent(self, now: float, size: int) -> float:
        """Return the loop time at which a record of ``size`` bytes has left a slow link's start."""
        rate = self._cuts.number("bytes_per_second", self._ends, 0.0)
        if not rate:
            return now
        self._free_at = max(self._free_at, now) + size / rate
        return self._free_at

    async def open(self) -> None:
        """Return when the link is not cut."""
        while self.cut:
            await asyncio.sleep(HEAL_LOOK_SECONDS)
            self.healed_at = asyncio.get_running_loop().time()


class _Ahead:
    """Records on their way over one link, from one position on."""

    def __init__(self, inner: BusReader, link: _Link, position: Position) -> None:
        self.next = position
        self._inner = inner
        self._link = link
        self._way: deque[tuple[float, float, Record]] = deque()
        self._bytes = 0
        self._failure: Exception | None = None
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._fetch(position))

    async def take(self, max_bytes: int) -> list[Record]:
        """Return the records that have arrived by now, waiting for one; then the failure."""
        loop = asyncio.get_running_loop()
        while True:
            await self._link.open()
            if self._way:
                wait = self._due(*self._way[0][:2]) - loop.time()
                if wait <= 0:
                    return self._arrived(loop.time(), max_bytes)
                # A cut may begin meanwhile, so look at the link again before handing over.
                await asyncio.sleep(min(wait, HEAL_LOOK_SECONDS))
                continue
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    def _due(self, came: float, takes: float) -> float:
        return max(came, self._link.healed_at) + takes

    def _arrived(self, now: float, max_bytes: int) -> list[Record]:
        # No await in here: whoever is cancelled has either taken all of it or nothing.
        found: list[Record] = []
        size = 0
        while self._way:
            came, takes, record = self._way[0]
            size += len(record.payload)
            if self._due(came, takes) > now or (found and size > max_bytes):
                break
            self._way.popleft()
            self._bytes -= len(record.payload)
            found.append(record)
        self.next = found[-1].after
        self._changed.set()
        return found

    async def _fetch(self, position: Position) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                while self._bytes >= AHEAD_BYTES:
                    self._changed.clear()
                    await self._changed.wait()
                for record in await self._inner.read(position, AHEAD_BYTES - self._bytes):
                    came = self._link.sent(loop.time(), len(record.payload))
                    self._way.append((came, self._link.draw(), record))
                    self._bytes += len(record.payload)
                    position = record.after
                self._changed.set()
        except Exception as error:
            self._failure = error
            self._changed.set()
