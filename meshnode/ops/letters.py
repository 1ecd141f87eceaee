"""Dead letters: rows that could not be applied, and transactions that were skipped.

A letter is *open* until its row has reached the region: the running node replays it on
request (state ``replay``) and closes it, or opens it again with a note of why not.
A transaction that cannot be published is *skipped* on an operator's word alone; its
letter stands in the region that wrote it and is closed by a clean ``meshnode verify``,
because nothing else can tell that the other regions were made alike.

Everything here is asked of a region's own MySQL with the account ``admin``.  The node does
the work, so nothing here needs to know how rows are applied.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from meshnode import accounts
from meshnode.core.stamp import Stamp
from meshnode.errors import Refused
from meshnode.mysql import control
from meshnode.mysql.control import Control
from meshnode.ops.everywhere import Answers, ask
from meshnode.ops.status import read_body
from meshnode.ops.verdict import STANDING, ActorStatus, RegionStatus
from meshnode.topology import Topology

WAITING = ("open", "replay", "skipped")
"""States of a letter that keeps its region from being converged."""

REPLAY_SECONDS = 10.0
POLL_SECONDS = 0.2
CAUSE_CHARACTERS = 1024

_COLUMNS = (
    "id, CAST(at AS CHAR), origin, seq, tx_id, schema_name, table_name, row_key, ts,"
    " stamp_origin, code, cause, image, LENGTH(body), state, CAST(closed_at AS CHAR), note"
)
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_GTID = re.compile(rf"{_UUID}(?::[a-z_][a-z0-9_]{{0,31}})?:[1-9][0-9]{{0,18}}")


class Letter(msgspec.Struct):
    """One dead letter; times in UTC, ``code`` MySQL's number of the error, 0 if none."""

    region: str
    id: int
    at: str
    origin: int
    seq: int
    tx_id: str
    table: str | None
    key: dict[str, Any] | None
    stamp: Stamp
    code: int
    cause: str
    image: dict[str, Any] | None
    body_bytes: int
    state: str
    closed_at: str | None
    note: str


class Replayed(msgspec.Struct):
    """What became of letters that were asked to be replayed: states by id, and notes.

    The note of one that waits is empty until the node has tried.
    """

    closed: list[int] = []
    reopened: dict[int, str] = {}
    waiting: dict[int, str] = {}


async def listed(
    topology: Topology,
    *,
    regions: Sequence[str] | None = None,
    states: Sequence[str] = WAITING,
    limit: int = 100,
) -> Answers[Letter]:
    """Letters in one of ``states``, oldest first, at most ``limit`` of each region."""
    marks = ", ".join(["%s"] * len(states))
    where = f"state IN ({marks}) ORDER BY id LIMIT {int(limit)}"

    async def of(region: str) -> list[Letter]:
        async with await _connect(topology, region) as connection:
            return await _read(connection, region, where, states)

    return await ask(
        [region.name for region in topology.regions if regions is None or region.name in regions],
        of,
    )


async def one(topology: Topology, region: str, number: int) -> Letter:
    """The letter with this id in this region; Refused if there is none."""
    async with await _connect(topology, region) as connection:
        return await _one(connection, region, number)


async def replay(
    topology: Topology,
    region: str,
    number: int | None = None,
    *,
    seconds: float = REPLAY_SECONDS,
) -> Replayed:
    """Ask the node of ``region`` to replay a letter (None: all open ones), and wait for it.

    After ``seconds`` the rest is reported as waiting; the node still does it when it runs.
    Refused: no such letter, or one that cannot be replayed.
    """
    async with await _connect(topology, region) as connection:
        if number is None:
            rows = await connection.rows(
                "SELECT id FROM meshnode.dead_letter WHERE state IN ('open', 'replay')"
            )
            numbers = [int(row[0]) for row in rows]
        else:
            _require_replayable(await _one(connection, region, number))
            numbers = [number]
        if not numbers:
            return Replayed()
        among = ", ".join(map(str, numbers))
        await connection.execute(
            "UPDATE meshnode.dead_letter SET state = 'replay', note = ''"
            f" WHERE state = 'open' AND id IN ({among})"
        )
        end = time.monotonic() + seconds
        while True:
            rows = await connection.rows(
                f"SELECT id, state, note FROM meshnode.dead_letter WHERE id IN ({among})"
            )
            waiting = {int(each): note for each, state, note in rows if state == "replay"}
            if not waiting or time.monotonic() >= end:
                return Replayed(
                    closed=[int(each) for each, state, _ in rows if state == "closed"],
                    reopened={int(each): note for each, state, note in rows if state == "open"},
                    waiting=waiting,
                )
            await asyncio.sleep(POLL_SECONDS)


async def skip(topology: Topology, region: str, tx: str, *, force: bool = False) -> bool:
    """Tell the node of ``region`` not to publish the transaction ``tx``; False if it was told.

    Refused: not a GTID; not executed on this server; or (without ``force``) the tailer is not
    halted at this very transaction.
    """
    gtid = normalized(tx)
    own = topology.region(region)
    async with await _connect(topology, region) as connection:
        known = await connection.value(
            "SELECT COUNT(*) FROM meshnode.dead_letter"
            " WHERE origin = %s AND seq = 0 AND tx_id = %s",
            (own.id, gtid),
        )
        if known:
            return False
        if not await connection.value("SELECT GTID_SUBSET(%s, @@GLOBAL.gtid_executed)", (gtid,)):
            raise Refused(
                f"transaction {gtid} was not executed on the MySQL of region {region}",
                "take the GTID from the reason of the halted tailer (`meshnode status`)",
            )
        tailer = await _tailer(connection)
        halted = tailer is not None and tailer.state in STANDING
        if not force and not (tailer and halted and _names(tailer.reason, gtid)):
            says = f"it is {tailer.state}: {tailer.reason}" if tailer else "its node is not heard"
            raise Refused(
                f"the tailer of region {region} is not halted at {gtid} ({says})",
                "skip the transaction that `meshnode status` names; --force skips this one anyway",
            )
        cause = tailer.reason if tailer and _names(tailer.reason, gtid) else "skipped with --force"
        await connection.execute(
            "INSERT INTO meshnode.dead_letter (at, origin, seq, tx_id, ts, stamp_origin, code,"
            " cause, body, state, note) VALUES (UTC_TIMESTAMP(6), %s, 0, %s, 0, 0, 0, %s, '',"
            " 'skipped', 'skipped by an operator')",
            (own.id, gtid, cause[:CAUSE_CHARACTERS]),
        )
        return True


def normalized(tx: str) -> str:
    """The GTID of one transaction as the server prints it; Refused for anything else."""
    gtid = tx.strip().lower()
    if not _GTID.fullmatch(gtid):
        raise Refused(
            f"{tx!r} is not the GTID of one transaction",
            "write it as <server uuid>:<number> or <server uuid>:<tag>:<number>",
        )
    return gtid


def _names(reason: str, gtid: str) -> bool:
    """Whether the reason names this transaction, not one that begins so, nor a set with it."""
    alone = rf"(?<!,)(?<!,\s){re.escape(gtid)}(?![0-9]|[-:][0-9a-z_]|,\s*{_UUID})"
    return re.search(alone, reason.lower()) is not None


def _require_replayable(letter: Letter) -> None:
    if letter.state in ("open", "replay"):
        return
    if letter.state == "skipped":
        raise Refused(
            f"letter {letter.id} of region {letter.region} is a skipped transaction:"
            " there is nothing to replay",
            "make the regions alike by hand and run `meshnode verify`, which closes it",
        )
    raise Refused(
        f"letter {letter.id} of region {letter.region} is {letter.state} already"
        f" ({letter.note or 'no note'})"
    )


async def _tailer(connection: Control) -> ActorStatus | None:
    body = await connection.value(
        "SELECT h.body FROM meshnode.heartbeat h JOIN meshnode.member m ON m.region = h.region"
    )
    shown = RegionStatus("", 0, "")
    read_body(body, shown)
    return next((actor for actor in shown.actors if actor.name == "tailer"), None)


async def _connect(topology: Topology, region: str) -> Control:
    login = accounts.secrets(topology, region, "admin")
    return await control.connect(topology.region(region), login)


async def _one(connection: Control, region: str, number: int) -> Letter:
    found = await _read(connection, region, "id = %s", [number])
    if not found:
        raise Refused(
            f"region {region} has no dead letter {number}",
            f"see `meshnode dead-letters list --region {region} --state all`",
        )
    return found[0]


async def _read(
    connection: Control, region: str, where: str, parameters: Sequence[object]
) -> list[Letter]:
    rows = await connection.rows(
        f"SELECT {_COLUMNS} FROM meshnode.dead_letter WHERE {where}", parameters
    )
    return [_letter(region, row) for row in rows]


def _letter(region: str, row: tuple) -> Letter:
    number, at, origin, seq, tx_id, schema, table, key, ts, stamp_origin = row[:10]
    code, cause, image, size, state, closed_at, note = row[10:]
    return Letter(
        region=region,
        id=int(number),
        at=at,
        origin=int(origin),
        seq=int(seq),
        tx_id=tx_id,
        table=None if table is None else f"{schema}.{table}",
        key=None if key is None else orjson.loads(key),
        stamp=Stamp(int(ts), int(stamp_origin)),
        code=int(code),
        cause=cause,
        image=None if image is None else orjson.loads(image),
        body_bytes=int(size),
        state=state,
        closed_at=closed_at,
        note=note,
    )
