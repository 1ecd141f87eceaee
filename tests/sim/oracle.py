"""The end of a schedule judged from the topics alone: plain maxima over raw records.

Records are taken apart as lists and images cut by hand; nothing of ``meshnode`` is
used, so that a fault there cannot hide itself here.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from .journal import PART, UPSERT, Journal, Write, Wrong, number

IMAGE = 22
Version = tuple[int, int]


def raw(record: Any) -> list:
    """A record as lists, whether the topic kept its bytes or not."""
    if type(record) is bytes:
        return msgspec.msgpack.decode(record)
    return msgspec.to_builtins(record, builtin_types=(bytes,))


def items(topic: list) -> Iterator[list[list]]:
    """The items that count, each transaction's parts together.

    Of an epoch not outlived, numbered without gaps, parts complete.  Parts that a claim
    made void keep their numbers.
    """
    highest = last = 0
    held: list[list] = []
    for payload in topic:
        record = raw(payload)
        epoch = record[5]
        if record[0] == "C":
            if epoch > highest:
                highest, held = epoch, []
            continue
        if epoch < highest:
            continue
        if epoch > highest:
            raise Wrong(f"frame of epoch {epoch}, claimed is {highest}", "claims")
        for item in record[11]:
            if item[0] != last + 1:
                raise Wrong(f"item {item[0]} follows {last}", "numbers")
            last = item[0]
            held.append(item)
            if item[1] != PART or item[5]:
                yield held
                held = []


def last_values(item: list) -> dict[int, int]:
    """The value of the last image of each key in an item."""
    found = {}
    for _, kind, rows in item[7]:
        images = [rows[at : at + IMAGE] for at in range(0, len(rows), IMAGE)]
        for image in images[1::2] if kind == 1 else images if kind == 0 else ():
            found[number(image[1:9])] = int.from_bytes(image[9:13], "little")
    return found


class Published:
    """What the topics say, in the oracle's own words."""

    def __init__(self, topics: dict[int, list]) -> None:
        self.upserts: dict[int, tuple[Version, int | None]] = {}
        self.removals: dict[int, Version] = {}
        self.values: set[tuple[int, int]] = set()
        self.touched: set[tuple[str, int]] = set()
        self.groups: dict[int, list[list[int]]] = {}
        self.versions: set[tuple[int, Version]] = set()
        self.rows_replaced: list[tuple[int, int, Version]] = []
        for region, topic in topics.items():
            self._read(region, topic)

    def _read(self, region: int, topic: list) -> None:
        promise, finished = 0, set()
        groups = self.groups[region] = []
        for group in items(topic):
            groups.append([item[0] for item in group])
            tx_id = group[0][2]
            if tx_id in finished:
                raise Wrong(
                    f"region {region} published transaction {tx_id} twice", "published twice"
                )
            finished.add(tx_id)
            for place, item in enumerate(group):
                if item[2] != tx_id or (item[1] == PART and item[4] != place):
                    raise Wrong(
                        f"region {region}: the parts of {tx_id} are torn", "half transaction"
                    )
                beat = item[9]
                if beat is not None:
                    if beat[2] < promise:
                        raise Wrong(f"region {region}: the promise fell to {beat[2]}", "promise")
                    promise = beat[2]
                self._item(region, item, promise)

    def _item(self, region: int, item: list, promise: int) -> None:
        values = last_values(item)
        for _, wire, outcome, ts, origin, base_ts, base_origin, base_row in item[8]:
            key, stamp = number(wire), (ts, origin)
            self.touched.add((item[2], key))
            self.versions.add((key, stamp))
            if base_row and base_ts:
                if stamp <= (base_ts, base_origin):
                    raise Wrong(
                        f"region {region}: {stamp} of key {key} is not above the row"
                        f" {(base_ts, base_origin)} that it replaced",
                        "not above its base",
                    )
                self.rows_replaced.append((region, key, (base_ts, base_origin)))
            if origin != region:
                raise Wrong(f"region {region} published stamp {stamp}", "foreign stamp published")
            if outcome != UPSERT:
                self.removals[key] = max(self.removals.get(key, (0, 0)), stamp)
                continue
            if ts <= promise:
                raise Wrong(
                    f"region {region} promised {promise}, then published {stamp}", "promise"
                )
            value = values[key]
            self.values.add((region, value))
            known = self.upserts.get(key)
            if known is None or stamp > known[0]:
                self.upserts[key] = (stamp, value)
            elif known[0] == stamp and known[1] != value:
                # Harmless below a tombstone: an insert, a delete, and an insert at one time.
                self.upserts[key] = (stamp, None)


def judge(
    topics: dict[int, list],
    regions: dict[int, tuple[dict, dict]],
    journal: Journal,
    baseline: dict[int, tuple],
) -> None:
    """Raise :class:`Wrong` unless every region holds the winner of every key.

    ``regions`` gives rows ``{key: ((ts, origin), value)}`` and tombstones, ``baseline`` the
    rows that stood in all of them before anything was published.
    """
    published = Published(topics)
    for key, (stamp, value) in baseline.items():
        published.upserts.setdefault(key, (tuple(stamp), value))
    removals = published.removals
    winners = {
        key: version
        for key, version in published.upserts.items()
        if version[0] >= removals.get(key, (0, 0))
    }
    for region, (rows, tombs) in regions.items():
        if rows != winners:
            different = {
                key: (rows.get(key), winners.get(key))
                for key in rows.keys() | winners.keys()
                if rows.get(key) != winners.get(key)
            }
            raise Wrong(f"region {region} (has, should have): {different}", "final state")
        for key, stamp in tombs.items():
            # Below a row a tombstone may be the region's own affair: the delete was followed by
            # an insert in one transaction, and the row says it all.
            # A low one may come when a higher one has been collected.
            told = removals.get(key, (0, 0))
            gone = journal.collected.get((region, key), (0, 0))
            if key not in rows and told not in (stamp, gone):
                raise Wrong(
                    f"region {region}: tombstone {stamp} of {key}, not {told}", "final tombstones"
                )
            if key in rows and stamp > rows[key][0]:
                raise Wrong(
                    f"region {region}: tombstone {stamp} above row {rows[key]} of {key}",
                    "resurrection",
                )
    _judge_applied(published, journal, list(regions))
    _judge_acknowledged(published, journal)
    _judge_bases(published, topics, journal)


def _judge_applied(published: Published, journal: Journal, regions: list[int]) -> None:
    """Every item was applied once everywhere, and the parts of a transaction together."""
    for origin, groups in published.groups.items():
        for region in regions:
            if region == origin:
                continue
            done = journal.applied[region, origin]
            for group in groups:
                commits = {done.get(seq) for seq in group}
                if None in commits:
                    raise Wrong(
                        f"region {region} never applied items {group} of {origin}", "never applied"
                    )
                if len(commits) > 1:
                    raise Wrong(
                        f"region {region} applied half of items {group} of {origin}",
                        "half transaction",
                    )


def _looks_like_its_successor(journal: Journal, write: Write) -> bool:
    """Whether a client wrote over it without a trigger: the two look like one version.

    So do all writes without triggers to rows that never had a stamp, also when a row of another
    region stood there in between.
    """
    after = journal.shown[write.region, write.key][write.seen + 1 :]
    for value in after if not write.stamped else after[:1]:
        later = journal.writes.get(value)
        if later is not None and later.region == write.region and not later.stamped:
            return True
    return False


def _judge_acknowledged(published: Published, journal: Journal) -> None:
    """No acknowledged write is in neither stream nor record."""
    for value, write in journal.writes.items():
        if not write.final or write.partial or (write.region, value) in published.values:
            continue
        if not journal.streamed(write.region, write.key, write.tx):
            # Before the table joined: init has compared what was left of it.
            continue
        if value in journal.records[write.region]:
            continue
        if not write.stamped and value in journal.overwritten:
            # Without a stamp of its own it looks like the version that a client put in its place.
            continue
        if _looks_like_its_successor(journal, write):
            continue
        raise Wrong(
            f"region {write.region}: write {value} of key {write.key} is in neither stream"
            " nor record",
            "neither in stream nor record",
        )
    for region, key, place in journal.acked_deletes:
        if not journal.streamed(region, key, place):
            continue
        if (f"{region}:{place}", key) not in published.touched:
            raise Wrong(
                f"region {region}: the delete of key {key} in transaction {place} was not"
                " published",
                "neither in stream nor record",
            )
    for region, value, what in journal.owed:
        write = journal.writes[value]
        if write.partial or (region, value) in published.values:
            continue
        if not journal.streamed(region, write.key, write.tx):
            continue
        if _looks_like_its_successor(journal, write):
            continue
        if value not in journal.records[region]:
            raise Wrong(what, "unrecorded loss")


def _judge_bases(published: Published, topics: dict[int, list], journal: Journal) -> None:
    """A row that an item says it has replaced is one that some stream has shown.

    Who began anew has forgotten which rows were overtaken before they could be published.
    Where an image did not show its stamp, or rows are older than the mesh, nobody can know; and
    rows without a stamp cannot be told apart.
    """
    for region, key, base in published.rows_replaced:
        if (key, base) in published.versions or (region, key) in journal.unseen:
            continue
        if any(not journal.streamed(each, key, 1) for each in topics):
            continue
        if _began_anew(topics[region]):
            continue
        raise Wrong(
            f"region {region}: an item replaced row {base} of key {key}, which nobody has shown",
            "base never shown",
        )


def _began_anew(topic: list) -> bool:
    """Whether a topic has more than one claim."""
    return sum(raw(payload)[0] == "C" for payload in topic) > 1
