"""How a starting process becomes the one node of its region.

A frame of a dead predecessor can still land after its successor has read the
end of the topic.  So the order is fixed: kill the account's other sessions and
raise the epoch in ``member`` and in every ``applied`` row in one transaction,
which fences every apply of the predecessor; append a claim with that epoch,
which makes every later frame of the predecessor void; then read forward to the
own claim and go on after the last item that counts; and last compare with what
the server has executed and purged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from meshnode.bus.port import ORIGIN, BusReader, BusWriter, Position
from meshnode.core.ledger import Ledger
from meshnode.core.wire import VERSION, Claim, Sender, decode, encode
from meshnode.errors import Fenced, MeshError, Refused
from meshnode.mysql.gtid import GtidSet
from meshnode.mysql.records import text
from meshnode.mysql.session import Session

READ_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Member:
    """The row of ``meshnode.member``: who this region is, and how far its stream is known."""

    mesh: str
    region: int
    server_uuid: str
    incarnation: int
    epoch: int
    tail_position: Position
    tail_seq: int
    tail_gtids: str
    tail_frontier: int
    tail_epoch: int


async def read_member(session: Session) -> Member:
    """The member row; Refused when the region was never initialised."""
    rows = await session.query(
        "SELECT mesh, region, server_uuid, incarnation, epoch, HEX(tail_position), tail_seq,"
        " tail_gtids, tail_frontier, tail_epoch FROM meshnode.member"
    )
    if not rows:
        raise Refused(
            f"{session.server} has no row in meshnode.member",
            "run `meshnode init` for this region",
        )
    row = rows[0]
    return Member(
        str(row[0]), row[1], str(row[2]), row[3], row[4], bytes.fromhex(str(row[5] or "")),
        row[6], str(row[7]), row[8], row[9],
    )  # fmt: skip


async def raise_epoch(session: Session, kill: str | None, ours: set[int]) -> int:
    """Fence the predecessor; the new epoch.

    ``ours`` has the epochs that this process found and tried to set, and gets the new
    one; it is empty before the first try.  Later another epoch is that of a successor,
    whose start killed this process's sessions: raising it once more would fence the
    successor.  Raises Fenced then.

    Other sessions of the account ``kill`` (``None``: of nobody) are killed first,
    so that none of them holds the rows; what they had not committed is rolled
    back by the server.
    """
    others: Sequence[tuple] = ()
    if kill is not None:
        others = await session.query(
            "SELECT id FROM information_schema.processlist"
            f" WHERE user = {text(kill)} AND id <> CONNECTION_ID()"
        )
    for (thread,) in others:
        try:
            await session.query(f"KILL {int(thread)}")
        except MeshError:
            # It ended by itself in between.
            continue
    await session.query("BEGIN")
    try:
        await session.query(
            "UPDATE meshnode.member SET epoch = epoch + 1, incarnation ="
            " IF(incarnation = 0, CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED),"
            " incarnation)"
        )
        epoch = int(str(await session.value("SELECT epoch FROM meshnode.member")))
        if ours and epoch - 1 not in ours:
            raise Fenced(
                f"{session.server}: another process has raised the epoch to {epoch - 1}",
                "run one node for each region",
            )
        # The answer to the COMMIT may be lost: both are ours then.
        ours.update((epoch - 1, epoch))
        await session.query(f"UPDATE meshnode.applied SET epoch = {epoch}")
        await session.query("COMMIT")
    except BaseException:
        if not session.closed:
            await session.rollback()
        raise
    return epoch


async def append_claim(writer: BusWriter, member: Member) -> Position:
    """Claim the stream under ``member.epoch``; the position after the claim."""
    claim = Claim(VERSION, member.mesh, member.region, member.incarnation, member.epoch)
    return await writer.append(encode(claim))


async def read_own_end(
    reader: BusReader, member: Member, sender: Sender, end: Position
) -> tuple[Ledger, Position]:
    """Fold the own topic from the newest tail known to ``end``; the ledger and the position.

    Raises what the bus raises when the topic ends before the tail: frames that
    were acknowledged are gone, and going on would lose or double their content.
    """
    ledger = Ledger(
        sender.name, member.incarnation, member.tail_seq, member.tail_epoch,
        resume=member.tail_gtids, promised=member.tail_frontier,
    )  # fmt: skip
    position = member.tail_position or ORIGIN
    while position != end:
        for record in await reader.read(position, READ_BYTES):
            ledger.take(decode(record.payload, sender))
            position = record.after
            if position == end:
                break
    return ledger, position


async def check_position(session: Session, resume: GtidSet, region: str) -> None:
    """Refuse to go on from ``resume`` where the server cannot.

    Transactions that were published but that the server has not executed are
    commits it lost; purged ones that were not published can never be.
    """
    executed = GtidSet(str(await session.value("SELECT @@GLOBAL.gtid_executed")))
    purged = GtidSet(str(await session.value("SELECT @@GLOBAL.gtid_purged")))
    lost = resume.subtract(executed)
    if lost:
        raise Refused(
            f"{session.server} has lost commits that {region} has published: {lost}",
            "docs/OPERATING.md, 'A server that lost commits': its peers have them",
        )
    gone = purged.subtract(resume)
    if gone:
        raise Refused(
            f"{session.server} has purged transactions that {region} has not published: {gone}",
            "docs/OPERATING.md, 'A purged position'",
        )


class Decisions(NamedTuple):
    """What operators have decided about a stream.

    ``tables``: ``schema, table, gtid_executed before it joined`` of every replicated
    table; ``skipped``: transactions to be left out.
    """

    tables: list[tuple[str, str, GtidSet]]
    skipped: list[str]


async def read_decisions(session: Session, region: int) -> Decisions:
    """What holds for the stream of ``region`` now."""
    rows = await session.query(
        "SELECT tx_id FROM meshnode.dead_letter"
        f" WHERE origin = {region} AND seq = 0 AND state IN ('skipped', 'closed') ORDER BY tx_id"
    )
    return Decisions(await joined_tables(session), [str(tx_id) for (tx_id,) in rows])


async def joined_tables(session: Session) -> list[tuple[str, str, GtidSet]]:
    """``schema, table, gtid_executed before it joined`` of every replicated table."""
    rows = await session.query(
        "SELECT schema_name, table_name, since_gtids FROM meshnode.tables WHERE state = 'active'"
        " ORDER BY schema_name, table_name"
    )
    return [(str(schema), str(table), GtidSet(str(since))) for schema, table, since in rows]


async def first_position(session: Session, tables: Sequence[tuple[str, str, GtidSet]]) -> GtidSet:
    """Where a stream that was never published begins: where its first table joined."""
    if not tables:
        return GtidSet(str(await session.value("SELECT @@GLOBAL.gtid_executed")))
    return min((since for _, _, since in tables), key=len)
