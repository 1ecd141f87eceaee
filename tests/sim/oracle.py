"""The end of a schedule judged from the topics alone: plain maxima over raw records.

Records are unpacked as lists and images cut by hand; nothing of ``meshnode`` is
used, so that a fault there cannot hide itself here.
"""

from collections.abc import Iterator

import msgspec

IMAGE = 22
PART, UPSERT = 1, 0


class Wrong(AssertionError):
    """A schedule ended in a way that the promises exclude."""


def items(topic: list[bytes]) -> Iterator[list]:
    """The items that count: of an epoch not outlived, numbered without gaps, parts complete."""
    highest = last = 0
    held: list[list] = []
    for payload in topic:
        record = msgspec.msgpack.decode(payload)
        epoch = record[5]
        if record[0] == "C":
            if epoch > highest:
                highest, held = epoch, []
            continue
        if epoch < highest:
            continue
        if epoch > highest:
            raise Wrong(f"frame of epoch {epoch}, claimed is {highest}")
        for item in record[11]:
            if item[0] != last + 1:
                raise Wrong(f"item {item[0]} follows {last}")
            last = item[0]
            held.append(item)
            if item[1] != PART or item[5]:
                yield from held
                held = []


def last_values(item: list) -> dict[bytes, int]:
    """The value of the last image of each key in an item."""
    found = {}
    for _, kind, rows in item[7]:
        images = [rows[at : at + IMAGE] for at in range(0, len(rows), IMAGE)]
        for image in images[1::2] if kind == 1 else images if kind == 0 else ():
            found[image[1:9]] = int.from_bytes(image[9:13], "little")
    return found


def judge(topics: dict[int, list[bytes]], regions: dict[int, tuple[dict, dict]]) -> None:
    """Raise :class:`Wrong` unless every region holds the winner of every key.

    ``regions`` gives rows ``{key: ((ts, origin), value)}`` and tombstones.
    """
    upserts: dict[int, tuple] = {}
    removals: dict[int, tuple] = {}
    for region, topic in topics.items():
        promise, finished = 0, set()
        for item in items(topic):
            tx_id, beat = item[2], item[9]
            if item[5]:
                if tx_id in finished:
                    raise Wrong(f"region {region} published transaction {tx_id} twice")
                finished.add(tx_id)
            values = last_values(item)
            if beat is not None:
                promise = max(promise, beat[2])
            for _, wire, outcome, ts, origin, *_ in item[8]:
                key, stamp = int.from_bytes(wire, "little"), (ts, origin)
                if origin != region:
                    raise Wrong(f"region {region} published stamp {stamp}")
                if outcome != UPSERT:
                    removals[key] = max(removals.get(key, (0, 0)), stamp)
                    continue
                if ts <= promise:
                    raise Wrong(f"region {region} promised {promise}, then published {stamp}")
                known = upserts.get(key)
                if known is None or stamp > known[0]:
                    upserts[key] = (stamp, values[wire])
                elif known[0] == stamp and known[1] != values[wire]:
                    # Harmless below a tombstone: an insert, a delete, and an insert at one time.
                    upserts[key] = (stamp, None)
    winners = {
        key: version for key, version in upserts.items() if version[0] >= removals.get(key, (0, 0))
    }
    for region, (rows, tombs) in regions.items():
        if rows != winners:
            different = {
                key: (rows.get(key), winners.get(key))
                for key in rows.keys() | winners.keys()
                if rows.get(key) != winners.get(key)
            }
            raise Wrong(f"region {region} (has, should have): {different}")
        for key, stamp in tombs.items():
            # Below a row a tombstone may be the region's own affair: the delete was followed by
            # an insert in one transaction, and the row says it all.
            if key not in rows and removals.get(key, (0, 0)) != stamp:
                raise Wrong(f"region {region}: tombstone {stamp} of {key}, not {removals.get(key)}")
            if key in rows and stamp > rows[key][0]:
                raise Wrong(f"region {region}: tombstone {stamp} above row {rows[key]} of {key}")
