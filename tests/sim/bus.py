"""The topics, and the links over which regions read them.

A topic holds the records themselves; in some schedules their bytes, so that encoding
and decoding are walked too.  A reader sees a record when its link has carried it, one
way in the order of the topic, and nothing while the link is cut.
"""

from collections.abc import Callable

from meshnode.core.check import Incoming, Scanned, check, scan
from meshnode.core.plan import Work
from meshnode.core.wire import Item, Record, Sender, decode, encode

from .table import TABLES


class Link:
    """How a region reads another's topic; ``latency`` in microseconds."""

    __slots__ = ("cut", "latency")

    def __init__(self, latency: int) -> None:
        self.latency = latency
        self.cut = False


class Topic:
    """What region ``number`` has published; ``arrived`` has the time of each record."""

    def __init__(self, number: int, as_bytes: bool) -> None:
        self.sender = Sender("shop", number, str(number))
        self.records: list[Record | bytes] = []
        self.arrived: list[int] = []
        self.readers: list[Callable[[], None]] = []
        self._as_bytes = as_bytes
        self._works: dict[int, tuple[Item, Work]] = {}

    def __len__(self) -> int:
        return len(self.records)

    def append(self, record: Record, now: int) -> None:
        self.records.append(encode(record) if self._as_bytes else record)
        self.arrived.append(now)
        for reader in self.readers:
            reader()

    def record(self, place: int) -> Record:
        record = self.records[place]
        return decode(record, self.sender) if type(record) is bytes else record

    def work(self, item: Item) -> Work:
        """The item as a receiver has scanned and checked it: the same for all of them."""
        if self._as_bytes:
            return checked(item, self.sender.name)
        found = self._works.get(id(item))
        if found is None:
            found = self._works[id(item)] = (item, checked(item, self.sender.name))
        return found[1]


def checked(item: Item, name: str) -> Work:
    scanned: list[Scanned] = scan(item, TABLES, name)
    incoming: list[Incoming] = check(item, TABLES, scanned, name)
    return Work(item, scanned, incoming)
