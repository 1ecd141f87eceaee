"""The rows of ``meshnode.mend``: what waits beside the stream because a key is locked.

A row is a *lift* (the version seen, the version it replaced, its image for the record of one
that is overtaken) or a *late tombstone*.  Whoever settles a version, by lifting it or by finding
that it has been overtaken, takes its row out in the same transaction: that is what makes one
record of one loss, although mender and resolver both come by.

``seen`` (0, 0) is a stamp, too: that of a row which no trigger has stamped.  So a row says apart
from it whether its stamp was seen at all; ``base_row`` has the room for that.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import orjson

from meshnode.core.change import Marker, Mended
from meshnode.core.mend import LateTombstone, Lift
from meshnode.core.stamp import ZERO, Stamp
from meshnode.mysql.records import portions, raw, text
from meshnode.mysql.rowvalues import row_values
from meshnode.mysql.session import Session

LATE = 2
"""In ``mend.base_row``: not a lift but a late tombstone that met a lock."""

UNSTAMPED = 4
"""Added to ``mend.base_row``: the row was seen, without a stamp.  Else (0, 0) is: not seen."""

_COLUMNS = (
    "digest, key_hash, row_key, seen_ts, seen_origin, base_ts, base_origin, base_row, image, at"
)


class HeldRow(NamedTuple):
    """A lift that waits; ``seen`` is ``None`` where whatever stands is to be lifted."""

    seen: Stamp | None
    base: Stamp
    base_row: bool
    image: str | None
    """JSON text."""

    @property
    def is_published(self) -> bool:
        """Whether the stream has shown the version, which only stands too low now.

        Of any other that was seen there is an image.
        """
        return self.seen is not None and self.image is None


def held_row(
    seen_ts: int, seen_origin: int, base_ts: int, base_origin: int, base_row: int, image: object
) -> HeldRow:
    """The lift that the columns of a row say; for one that is no late tombstone."""
    seen = Stamp(seen_ts, seen_origin)
    return HeldRow(
        None if seen == ZERO and not base_row & UNSTAMPED else seen,
        Stamp(base_ts, base_origin), bool(base_row & 1), None if image is None else str(image),
    )  # fmt: skip


def as_held_row(lift: Lift, charsets: Mapping[int, str]) -> HeldRow:
    """What waits when ``lift`` is put there."""
    return HeldRow(lift.seen, lift.base, lift.base_row, shown(lift, charsets))


def shown(lift: Lift, charsets: Mapping[int, str]) -> str | None:
    """The row that was seen as JSON text, for the record of an overtaken lift."""
    if lift.image is None:
        return lift.shown
    rows, start, stop = lift.image
    return orjson.dumps(row_values(lift.table.shape, rows[start:stop], charsets)).decode()


def key_hash(key: bytes, late: bool = False) -> bytes:
    """16 bytes that stand for a key of any length.

    A late tombstone and a lift of the same key may wait at the same time.
    """
    person = b"late" if late else b""
    return hashlib.blake2b(key, digest_size=16, person=person).digest()


def put(lifts: Iterable[Lift], charsets: Mapping[int, str], images: bool = True) -> Iterator[str]:
    """The statements that put lifts there, each in the place of what its key has."""
    for part in portions(_values(lift, charsets, images) for lift in lifts):
        yield f"REPLACE INTO meshnode.mend ({_COLUMNS}) VALUES {','.join(part)}"


def _values(lift: Lift, charsets: Mapping[int, str], images: bool) -> str:
    seen = lift.seen or ZERO
    flags = int(lift.base_row) | (UNSTAMPED if lift.seen == ZERO else 0)
    return (
        f"('{lift.table.digest}',{raw(key_hash(lift.key))},{raw(lift.key)},{seen.ts},"
        f"{seen.origin},{lift.base.ts},{lift.base.origin},{flags},"
        f"{text(shown(lift, charsets) if images else None)},UTC_TIMESTAMP(6))"
    )


def put_late(late: LateTombstone) -> str:
    """The statement that puts a late tombstone there, unless a greater one waits for its key.

    The origin of both is the same.
    """
    return (
        f"INSERT INTO meshnode.mend ({_COLUMNS}) VALUES ('{late.table.digest}',"
        f"{raw(key_hash(late.key, late=True))},{raw(late.key)},{late.stamp.ts},"
        f"{late.stamp.origin},0,0,{LATE},NULL,UTC_TIMESTAMP(6)) AS late ON DUPLICATE KEY UPDATE"
        " seen_ts = GREATEST(mend.seen_ts, late.seen_ts), at = late.at"
    )


def take_out(lifts: Iterable[Lift]) -> str:
    """The statement that takes the rows of these keys out."""
    return f"DELETE FROM meshnode.mend WHERE (digest, key_hash) IN ({_keys(lifts)})"


def _keys(lifts: Iterable[Lift]) -> str:
    return ",".join(f"('{lift.table.digest}',{raw(key_hash(lift.key))})" for lift in lifts)


async def locked(session: Session, lifts: Iterable[Lift]) -> dict[Marker, HeldRow]:
    """What waits of these keys, by digest and wire key, locked until the transaction ends."""
    rows = await session.query(
        "SELECT digest, HEX(row_key), seen_ts, seen_origin, base_ts, base_origin, base_row, image"
        f" FROM meshnode.mend FORCE INDEX (PRIMARY) WHERE (digest, key_hash) IN ({_keys(lifts)})"
        " FOR UPDATE"
    )
    return {(str(digest), bytes.fromhex(str(key))): held_row(*rest) for digest, key, *rest in rows}


async def all_lifts(session: Session) -> dict[Marker, Mended]:
    """What every lift that waits had replaced, where it is known which version it is about."""
    rows = await session.query(
        "SELECT digest, HEX(row_key), seen_ts, seen_origin, base_ts, base_origin, base_row"
        f" FROM meshnode.mend WHERE base_row <> {LATE}"
    )
    found: dict[Marker, Mended] = {}
    for digest, key, *rest in rows:
        lift = held_row(*rest, None)
        if lift.seen is not None:
            marker = (str(digest), bytes.fromhex(str(key)))
            found[marker] = Mended(lift.seen, lift.base, lift.base_row)
    return found


async def all_late(session: Session) -> dict[Marker, Stamp]:
    """The late tombstones that wait."""
    rows = await session.query(
        "SELECT digest, HEX(row_key), seen_ts, seen_origin FROM meshnode.mend"
        f" WHERE base_row = {LATE}"
    )
    return {
        (str(digest), bytes.fromhex(str(key))): Stamp(ts, origin)
        for digest, key, ts, origin in rows
    }
