"""Reads every topic from its first record and holds it against the rules of a stream.

It shares no code with the node: records are plain msgpack lists, and the rules are written here
again, from the format alone.  Besides what :mod:`meshnode.lab.topics` reads for the oracle:

- I10: no transaction is published twice, and each is of the region's own server;
- I7: an upsert is above every frontier promised before it, and, where nothing of its transaction
  was lifted, above the version that it was written over and the region's own last version of that
  key; a delete that peers may apply as it is, is above the row that it removed.  (A row
  that came and went under a newer tombstone is a delete that changes nothing, whatever its stamp.)
- I13: once a process with a higher epoch has published, no older one has;
- I5: items are numbered without gaps, save repetitions that a fault has put there.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import msgspec

from chaos.journal import Journal
from meshnode.bus.port import Bus

READ_BYTES = 8 * 2**20
READ_SECONDS = 300.0
HEARTBEAT = 1 << 1
PART = 1

Version = tuple[int, int]


@dataclass
class Stream:
    """What one topic holds; ``transactions`` are the GTIDs of whole ones, in order."""

    region: str
    records: int = 0
    claims: int = 0
    void: int = 0
    repeated: int = 0
    heartbeats: int = 0
    lifts: int = 0
    transactions: list[str] = field(default_factory=list)
    upserts: int = 0
    deletes: int = 0
    first_seq: int = 0
    last_seq: int = 0
    promised: int = 0
    highest_epoch: int = 0
    published_epoch: int = 0
    newest: dict[tuple[bytes, bytes], Version] = field(default_factory=dict)


class Rules:
    """Takes the records of one topic in order; ``repeats`` says that faults may repeat some."""

    def __init__(self, region: str, journal: Journal, repeats: bool = False) -> None:
        self.stream = Stream(region)
        self._journal = journal
        self._repeats = repeats
        self._seen: set[str] = set()
        self._open: str = ""
        self._open_entries: list[tuple[bytes, list[Any]]] = []

    def take(self, record: list[Any]) -> None:
        """One record as it stands in the topic."""
        stream = self.stream
        stream.records += 1
        epoch = record[5]
        if record[0] == "C":
            stream.claims += 1
            if epoch > stream.highest_epoch:
                stream.highest_epoch = epoch
                self._open, self._open_entries = "", []
            return
        if epoch < stream.highest_epoch:
            stream.void += 1
            if stream.published_epoch == stream.highest_epoch and not self._repeats:
                self._find("I13", f"epoch {epoch} published after {stream.published_epoch}")
            return
        stream.published_epoch = max(stream.published_epoch, epoch)
        # The promise of a frame holds for its items.
        tables, items = record[10], record[11]
        for item in items:
            self._item(tables, item)

    def _item(self, tables: list[bytes], item: list[Any]) -> None:
        stream = self.stream
        seq, kind, tx_id, last, entries, beat = (
            item[0], item[1], item[2], item[5], item[8], item[9],
        )  # fmt: skip
        if seq <= stream.last_seq:
            stream.repeated += 1
            if not self._repeats:
                self._find("I5", f"item {seq} stands behind {stream.last_seq}")
            return
        if stream.last_seq and seq != stream.last_seq + 1:
            self._find("I5", f"item {seq} follows {stream.last_seq}")
        stream.first_seq = stream.first_seq or seq
        stream.last_seq = seq
        if kind == HEARTBEAT:
            stream.heartbeats += 1
            stream.promised = max(stream.promised, beat[2])
            return
        stream.lifts += item[10]
        if kind == PART:
            if tx_id != self._open:
                self._open, self._open_entries = tx_id, []
            self._open_entries += ((tables[entry[0]], entry) for entry in entries)
            if not last:
                return
            found, self._open, self._open_entries = self._open_entries, "", []
        else:
            found = [(tables[entry[0]], entry) for entry in entries]
        if tx_id in self._seen:
            self._find("I10", f"{tx_id} is published twice, again as item {seq}")
        self._seen.add(tx_id)
        stream.transactions.append(tx_id)
        for table, entry in found:
            self._entry(seq, table, entry, exact=bool(item[6]), lifts=bool(item[10]))

    def _entry(self, seq: int, table: bytes, entry: list[Any], exact: bool, lifts: bool) -> None:
        stream = self.stream
        _, key, removed, ts, origin, base_ts, base_origin, base_row = entry[:8]
        stamp, base = (ts, origin), (base_ts, base_origin)
        if removed:
            stream.deletes += 1
        else:
            stream.upserts += 1
            if ts <= stream.promised:
                self._find("I7", f"item {seq}: upsert {stamp} below the promise {stream.promised}")
        # Of a row that was restamped meanwhile, the version before it may pass as it is.
        if stamp <= base and ((base_row and exact) if removed else not lifts):
            self._find("I7", f"item {seq}: {stamp} is not above {base}, which it replaced")
        at = (_name(table), key)
        former = stream.newest.get(at, (0, 0))
        if stamp <= former and not removed and not lifts:
            self._find("I7", f"item {seq}: {stamp} after the own {former} of the same key")
        stream.newest[at] = max(former, stamp)

    def _find(self, check: str, text: str) -> None:
        self._journal.find(check, f"stream of {self.stream.region}: {text}")


def _name(table_map: bytes) -> bytes:
    """Schema and table of a TABLE_MAP body, as they stand there."""
    schema = 9 + table_map[8]
    return table_map[8 : schema + 2 + table_map[schema + 1]]


async def read_stream(bus: Bus, region: str, rules: Rules) -> Stream:
    """Put the whole topic of ``region`` through ``rules``."""
    reader = bus.reader(region)
    try:
        async with asyncio.timeout(READ_SECONDS):
            position, end = await reader.begin(), await reader.end()
            while position != end:
                for record in await reader.read(position, READ_BYTES):
                    rules.take(msgspec.msgpack.decode(record.payload))
                    position = record.after
                    if position == end:
                        break
    finally:
        await reader.close()
    return rules.stream
