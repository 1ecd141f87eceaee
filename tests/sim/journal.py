"""What clients were told and what each region showed: the oracle's own notes.

It knows values, stamps and histories, no decisions: nothing of ``meshnode`` is used.
Every commit of every region is shown to it when its locks go, and what must hold at
any moment is judged there; the rest in :mod:`.oracle` when the schedule is over.
"""

from collections import defaultdict
from typing import NamedTuple

WORDS, ROWS, MEMBER = 500, 1000, 2000
"""Where rows of the second table begin among a region's records, where rows end, and its row of
``member``."""

PART, UPSERT = 1, 0

Key = tuple[int, int]
"""Region and key."""

Version = tuple[int, int]


def number(wire: bytes) -> int:
    """The key that ``wire`` names: eight bytes, or the digits at the end of a word."""
    return int(wire[-3:]) if wire[1:5].lower() == b"word" else int.from_bytes(wire, "little")


class Wrong(AssertionError):
    """A schedule went in a way that the promises exclude; ``check`` names the promise."""

    def __init__(self, text: str, check: str) -> None:
        super().__init__(text)
        self.check = check


class Write(NamedTuple):
    """An acknowledged write.

    ``seen``: how many values its region had shown at the key.  ``stamped``: a trigger gave
    it a version of its own.  ``final``: its transaction left it there.  ``tx``: the place of
    the transaction in the binlog.  ``partial``: its image was not logged in full.
    """

    region: int
    key: int
    seen: int
    stamped: bool
    final: bool
    tx: int
    partial: bool


class Told(NamedTuple):
    """What a client did: values it made, deletes with the stamps they may get."""

    made: list[tuple[int, int, bool]]
    deleted: list[tuple[int, Version]]


class Taken(NamedTuple):
    """What an apply transaction took: its origin, its items, the stamps it set aside."""

    origin: int
    items: list
    parked: list[tuple[int, Version]]


class Loser(NamedTuple):
    """A conflict record; ``value`` is that of the loser's image, None for a delete's."""

    key: int
    value: int | None
    stamp: Version


class Journal:
    """Everything the oracle is told while the schedule runs."""

    def __init__(self) -> None:
        self.values = 0
        self.commits = 0
        self.writes: dict[int, Write] = {}
        self.deletes: dict[tuple[int, Version], tuple[int, int]] = {}
        self.acked_deletes: list[tuple[int, int, int]] = []
        self.shown: dict[Key, list[int]] = defaultdict(list)
        self.records: dict[int, set[int]] = defaultdict(set)
        self.overwritten: set[int] = set()
        self.unseen: set[Key] = set()
        self.collected: dict[Key, Version] = {}
        self.applied: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
        self.needed: dict[Key, Version] = {}
        self.claimed: dict[int, int] = defaultdict(int)
        self.holder: dict[int, object] = {}
        """The process of each region that was the last to take it over."""
        self.published: set[tuple[int, int, int, int]] = set()
        """Region, key and stamp of each row that a stream has shown whole."""
        self.since: dict[tuple[int, bool], int] = {}
        """Where each region's stream begins in its binlog, without words and with them."""
        self.owed: list[tuple[int, int, str]] = []
        self.lines: list[tuple[int, int, str]] | None = None

    def streamed(self, region: int, key: int, place: int) -> bool:
        """Whether a transaction of ``region`` came when the table of ``key`` had joined."""
        return place > self.since.get((region, key >= WORDS), 0)

    def new_value(self) -> int:
        self.values += 1
        return self.values

    def commit(self, database, tx) -> None:
        """A transaction of ``database`` has become visible."""
        self.commits += 1
        region, records, kind = database.number, database.records, tx.kind
        for lost in tx.conflicts:
            if lost.value is not None:
                self.records[region].add(lost.value)
        before: dict[int, tuple | None] = {}
        """The rows that were written, as they were."""
        touched: dict[int, None] = {}
        for record, old in tx.undo:
            if record < 0:
                touched[~record] = None
            elif record < ROWS:
                touched[record] = None
                if record not in before:
                    before[record] = old
        keys = list(touched)
        if self.lines is not None and (keys or tx.conflicts or kind not in ("fence", "beat")):
            self._tell(database, tx, keys)
        if kind == "client":
            for key in keys:
                # No trigger may have seen it; what the tailer makes of it is judged at the end.
                self.needed.pop((region, key), None)
            for key, old in before.items():
                row = records.get(key)
                if row is not None and (old is None or old[1] != row[1]):
                    self.rewritten(region, key, row[0])
        elif kind == "apply" or kind == "replay":
            self._apply(database, tx, before)
        elif kind == "takeover":
            self.holder[region] = tx.node
        elif kind == "late tombstone":
            self._buried(region, tx, before, records)
        elif kind == "lift":
            self._lifted(region, before, records)
        elif kind == "gc":
            for record, old in tx.undo:
                at = (region, ~record)
                self.collected[at] = max(self.collected.get(at, old), old)
                if self.needed.get((region, ~record), old) <= old:
                    self.needed.pop((region, ~record), None)
        if kind != "client":
            for key, old in before.items():
                row = records.get(key)
                if row is not None and (old is None or old[1] != row[1]):
                    self.shown[region, key].append(row[1])
        for key in keys:
            self.check(database, key)

    def landed(self, database, record) -> None:
        """A record of ``database``'s region has reached its topic."""
        region = database.number
        if not hasattr(record, "items"):
            self.claimed[region] = max(record.epoch, self.claimed[region])
        elif record.epoch >= self.claimed[region]:
            for item in record.items:
                for entry in () if item.kind == PART else item.entries:
                    if entry.outcome == UPSERT:
                        key = number(entry.key)
                        self.published.add((region, key, entry.ts, entry.origin))
                        self.check(database, key)

    def check(self, database, key: int) -> None:
        """What holds of a key in every region at every moment."""
        records, owner = database.records, database.owners
        if key in owner or ~key in owner:
            return
        row, tomb = records.get(key), records.get(~key)
        if row is not None and tomb is not None and row[0] < tomb:
            foreign = row[0][1] not in (database.number, 0)
            if (database.number, key, *row[0]) in self.published:
                raise Wrong(
                    f"region {database.number}: row {row} of key {key} was published as it is, and"
                    f" stands beside the newer tombstone {tomb}",
                    "resurrection",
                )
            if foreign and row[1] in self.writes and self.writes[row[1]].region != database.number:
                raise Wrong(
                    f"region {database.number}: row {row} of key {key} stands beside the newer"
                    f" tombstone {tomb}",
                    "resurrection",
                )
        need = self.needed.get((database.number, key))
        if need is not None and max(row[0] if row else (0, 0), tomb or (0, 0)) < need:
            raise Wrong(
                f"region {database.number}: version {need} of key {key} was applied, but the"
                f" key has row {row} and tombstone {tomb}",
                "position ahead of data",
            )

    def rewritten(self, region: int, key: int, stamp: Version) -> None:
        """A client's row may have the stamp of one that was published, but is not yet itself."""
        self.published.discard((region, key, *stamp))

    # What each kind of transaction means

    def client(self, database, tx) -> None:
        """A client's transaction is in the binlog; it still has its locks."""
        region, told = database.number, tx.notes
        place = tx.place
        partial = tx.logged.partial
        last = {key: value for key, value, _ in told.made}
        for key, value, stamped in told.made:
            row = database.records.get(key)
            final = last[key] == value and row is not None and row[1] == value
            shown = self.shown[region, key]
            self.writes[value] = Write(region, key, len(shown), stamped, final, place, partial)
            shown.append(value)
            if partial:
                self.unseen.add((region, key))
        for record, old in tx.undo:
            if 0 <= record < ROWS and old is not None:
                self.overwritten.add(old[1])
        for key, stamp in told.deleted:
            self.deletes[key, tuple(stamp)] = (region, len(self.shown[region, key]))
            if partial:
                # Nobody knows the stamp that went; the commit says when.
                stamp = (tx.logged.commit_us + 1, region)
                self.deletes[key, stamp] = (region, len(self.shown[region, key]))
            if key not in database.records:
                self.acked_deletes.append((region, key, place))

    def _apply(self, database, tx, before) -> None:
        region, (origin, items, parked) = database.number, tx.notes
        if tx.node is not self.holder[region]:
            raise Wrong(
                f"region {region}: the process of epoch {tx.node.apply_epoch} applied items of"
                f" {origin} when another had taken over", "replaced process",
            )  # fmt: skip
        done, needed = self.applied[region, origin], self.needed
        entries: dict[int, set[Version]] = defaultdict(set)
        for item in items:
            if tx.kind == "apply":
                if item.seq in done:
                    raise Wrong(
                        f"region {region} applied item {item.seq} of {origin} twice",
                        "applied twice",
                    )
                done[item.seq] = self.commits
            for entry in item.entries:
                key = number(entry.key)
                stamp = (entry.ts, entry.origin)
                entries[key].add(stamp)
                if parked and (key, stamp) in parked:
                    continue
                if stamp > needed.get((region, key), (0, 0)):
                    needed[region, key] = stamp
        if not before:
            return
        recorded = {lost.value for lost in tx.conflicts}
        tombs: dict[int, Version | None] = {}
        for record, tomb in tx.undo:
            if record < 0:
                tombs.setdefault(~record, tomb)
        for key, old in before.items():
            row = database.records.get(key)
            if row == old:
                continue
            if row is not None and tuple(row[0]) not in entries[key]:
                raise Wrong(
                    f"region {region}: row {row} of key {key} is of no item of {origin}",
                    "data ahead of position",
                )
            tomb = database.plain(None, ~key)
            self._rises(region, key, old, tombs.get(key, tomb), row, tomb)
            if old is not None and (row is None or row[1] != old[1]) and old[1] not in recorded:
                self._replaced(database, key, old, row)

    def _rises(self, region: int, key: int, old, old_tomb, row, tomb) -> None:
        """An apply transaction changes a row: the version of the key must be greater then."""
        before = max(old[0] if old else (0, 0), old_tomb or (0, 0))
        after = max(row[0] if row else (0, 0), tomb or (0, 0))
        if after > before or (old is None and row is not None and row[0] == old_tomb):
            return
        raise Wrong(
            f"region {region}: key {key} with row {old} and tombstone {old_tomb} was changed to"
            f" row {row} and tombstone {tomb}", "version rises",
        )  # fmt: skip

    def _replaced(self, database, key: int, old, row) -> None:
        """An apply transaction took ``old`` away without a record: had the winner seen it?"""
        region, value = database.number, old[1]
        write = self.writes.get(value)
        if write is None:
            return
        tomb = database.plain(None, ~key)
        if row is not None:
            winner = self.writes.get(row[1])
            by = f"write {row[1]}"
            knew = winner and (winner.region, winner.seen)
        else:
            by = f"the delete {tomb}"
            knew = None if tomb is None else self.deletes.get((key, tuple(tomb)))
        if knew and value in self.shown[knew[0], key][: knew[1]]:
            return
        version = tomb if row is None else row[0]
        if version is not None and version[1] == old[0][1] and value in self.shown[version[1], key]:
            # Two versions of one region: it had both, and the record if one is owed.
            return
        what = f"region {region}: write {value} of key {key} gave way to {by} without a record"
        if write.region == region and not write.stamped:
            # It looks like the version that it replaced; whoever lifts it finds it gone.
            self.owed.append((region, value, what))
            return
        raise Wrong(what, "unrecorded loss")

    def _lifted(self, region: int, before, records) -> None:
        """A lift is about a row that a client here wrote, where its image was logged in full."""
        for key, old in before.items():
            write = None if old is None else self.writes.get(old[1])
            foreign = old is not None and old[0][1] not in (0, region)
            if foreign and write and write.region != region and (region, key) not in self.unseen:
                raise Wrong(
                    f"region {region} lifted row {old} of key {key}, which region {write.region}"
                    f" wrote, to {records.get(key)}",
                    "foreign row lifted",
                )

    def _buried(self, region: int, tx, before, records) -> None:
        recorded = {lost.value for lost in tx.conflicts}
        for key, old in before.items():
            if old is None or key in records:
                continue
            if old[1] not in recorded:
                raise Wrong(
                    f"region {region}: a late tombstone took row {old} of key {key}"
                    " without a record",
                    "unrecorded loss",
                )
            if old[0][1] in (0, region):
                raise Wrong(
                    f"region {region}: a late tombstone took row {old} of key {key}, which a"
                    " client wrote after the delete",
                    "newer row taken",
                )

    # For a reader

    def _tell(self, database, tx, keys: list[int]) -> None:
        parts = []
        for key in sorted(keys):
            row, tomb = database.records.get(key), database.records.get(~key)
            shown = "no row" if row is None else f"row {row[1]} @{row[0]}"
            parts.append(f"key {key}: {shown}" + (f", tombstone @{tomb}" if tomb else ""))
        if tx.kind in ("apply", "replay") and tx.notes.items:
            items = tx.notes.items
            parts.insert(0, f"of {tx.notes.origin}: items {items[0].seq}..{items[-1].seq}")
        if tx.logged.beat is not None:
            parts.append(f"promises {tx.logged.beat.frontier}")
        if tx.logged.cuts:
            parts.append("in parts")
        parts += (f"record: write {lost.value} of key {lost.key} lost" for lost in tx.conflicts)
        self.tell(database.number, f"{tx.kind}: " + "; ".join(parts))

    def tell(self, region: int, line: str) -> None:
        """A line of the timeline, if somebody wants one."""
        if self.lines is not None:
            self.lines.append((self.clock(), region, line))

    clock = staticmethod(lambda: 0)
