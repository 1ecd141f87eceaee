"""How a starting process becomes the one node of its region.

A frame of a dead predecessor can still land after its successor has read the
end of the topic.  So the order is fixed: kill the account's other sessions and
raise the epoch in ``member`` and in every ``applied`` row in one transaction,
which fences every apply of the predecessor; append a claim with that epoch,
which makes every later frame of the predecessor void; then read forward to the
own claim and go on after the last item that counts; and last compare with what
the server has executed and purged.

A process claims its stream again whenever its origin side starts anew.  Then only ``member``
is raised: the rows of ``applied`` tell processes apart, not their claims.

Whose the region is, MySQL alone says.  A bus that fences goes by who opened last, and that may
be a process that is superseded and does not know it yet.
"""

from collections.abc import Sequence

from meshnode.bus.port import ORIGIN, BusReader, BusWriter, Position
from meshnode.core.epoch import is_successors
from meshnode.core.gtid import GtidSet
from meshnode.core.ledger import Ledger, Published
from meshnode.core.wire import VERSION, Claim, Sender, decode, encode
from meshnode.errors import Fenced, LostCommits, Refused, Retry
from meshnode.store.port import Claiming
from meshnode.store.values import History, Joined, Member, Tail

READ_BYTES = 4 * 1024 * 1024


async def raise_epoch(session: Claiming, applies: int, ours: set[int]) -> int:
    """Fence whoever wrote before; the new epoch.

    ``ours`` has the epochs that this process may have set, and those that it found there,
    and gets the new one; it is empty before the first try.  Later another epoch is that of a
    successor, whose start killed this process's sessions: raising it once more would fence
    the successor.  Raises Fenced then.

    ``applies`` is the epoch under which this process applies, 0 before its first claim.  Before
    that one the account's other sessions are killed, so that none of them holds the rows (what they
    had not committed is rolled back by the server), and their applies are fenced.  Later claims are
    about what the own origin side wrote: the own appliers go on, and none waits for a long
    transaction of theirs.
    """

    def found(epoch: int, applied: int) -> None:
        if is_successors(epoch, ours, applied, applies):
            raise Fenced(
                f"{session.server}: another process has raised the epoch to {epoch}",
                "run one node for each region",
            )

    def committing(epoch: int) -> None:
        # The answer to the COMMIT may be lost: both are ours then.  Before, what fails is rolled
        # back for certain, and the next one to set this epoch may be a successor.
        ours.update((epoch - 1, epoch))

    if not applies:
        await session.end_others()
    return await session.raise_epoch(not applies, found, committing)


async def append_claim(writer: BusWriter, member: Member) -> Position:
    """Claim the stream under ``member.epoch``; the position after the claim."""
    claim = Claim(VERSION, member.mesh, member.region, member.incarnation, member.epoch)
    return await append(writer, encode(claim))


async def append(writer: BusWriter, payload: bytes) -> Position:
    """Append ``payload``; Retry where the bus shuts this process out.

    The next claim then ends this process if it is superseded, and else takes the topic back.
    """
    try:
        return await writer.append(payload)
    except Fenced as error:
        raise Retry(error.what, error.remedy) from error


async def read_own_end(
    reader: BusReader, member: Member, sender: Sender, end: Position
) -> tuple[Ledger, Position]:
    """Fold the own topic from the newest tail known to ``end``; the ledger and the position.

    Raises what the bus raises when the topic ends before the tail: frames that
    were acknowledged are gone, and going on would lose or double their content.
    """
    tail = member.tail
    ledger = Ledger(
        sender.name, member.incarnation, tail.seq, tail.epoch,
        resume=tail.gtids, promised=tail.frontier,
        newest=noted(tail),
    )  # fmt: skip
    position = tail.position or ORIGIN
    while position != end:
        for record in await reader.read(position, READ_BYTES):
            ledger.take(decode(record.payload, sender))
            position = record.after
            if position == end:
                break
    return ledger, position


def check_position(server: str, history: History, resume: GtidSet, region: str) -> None:
    """Refuse to go on from ``resume`` where the server cannot.

    Transactions that were published but that the server has not executed are
    commits it lost, unless it is about to commit them; purged ones that were not published can
    never be.
    """
    lost = lost_commits(resume, GtidSet(history.executed), history.owned)
    if lost:
        raise LostCommits(server, region, str(lost))
    gone = GtidSet(history.purged).subtract(resume)
    if gone:
        raise Refused(
            f"{server} has purged transactions that {region} has not published: {gone}",
            "docs/OPERATING.md, 'A purged position'",
        )


def lost_commits(published: GtidSet, executed: GtidSet, owned: str) -> GtidSet:
    """What of ``published`` the server lacks; ``owned`` was asked for before ``executed``.

    A server shows a transaction to those who read its log when that is synced, and only then
    commits it: with a semi-synchronous replica far away that can take long.
    """
    return published.subtract(executed).subtract(GtidSet.of_owned(owned))


def noted(tail: Tail) -> Published | None:
    """The newest transaction that was published when ``tail`` was noted."""
    return Published(tail.tx_id, tail.commit_us) if tail.tx_id else None


def to_be_found(newest: Published | None, resume: GtidSet, purged: GtidSet) -> Published | None:
    """``newest``, the last of ``resume``, where the server's log can still show it.

    A server that lost commits gives their numbers to others, so that soon it has executed all
    that was published.  What it logged under the newest number tells.
    """
    if newest is None or not newest.commit_us or newest.tx_id not in resume:
        return None
    return None if newest.tx_id in purged else newest


def first_position(history: History, tables: Sequence[Joined]) -> GtidSet:
    """Where a stream that was never published begins: where its first table joined."""
    if not tables:
        return GtidSet(history.executed)
    return min((GtidSet(joined.since) for joined in tables), key=len)
