"""The check of the past: what the server still has of what the region has published, and the rest.

The end of the region's own topic says up to where its binary log is published.  What is
published must be in ``gtid_executed``, or about to be, and the newest of it must be the same
transaction in the log, or the server has lost commits: then it gives the same GTIDs to others,
and no node may start.  What is not published must still be in the binary log: else the node
starts, and applies what its peers publish, but its tailer halts.  The node makes the same
comparison when it has claimed the topic; this one claims nothing.

Where the topic cannot be read (the checks of the bus, or the tailer, say why) the newest tail that
is noted in ``member`` stands for its end.  It lags behind, so that only lost commits can be told
from it.
"""

import asyncio

from meshnode import accounts
from meshnode.actors.takeover import (
    first_position,
    lost_commits,
    noted,
    read_own_end,
    to_be_found,
)
from meshnode.buses import bare_bus
from meshnode.core.gtid import GtidSet
from meshnode.core.ledger import Published
from meshnode.core.wire import Sender
from meshnode.errors import Halt, LostCommits, MeshError
from meshnode.mysql.memberrow import JOINED, MEMBER, joined_of, member_of
from meshnode.mysql.published import require_published
from meshnode.ops.checks import Context, Finding, Level, check
from meshnode.ops.doctor_bus import ANSWER_SECONDS
from meshnode.store.values import History, Member

_TAIL = (
    "tail_position", "tail_seq", "tail_gtids", "tail_frontier", "tail_epoch", "tail_tx_id",
    "tail_commit_us",
)  # fmt: skip


@check("published-history", "the server has what it has published, and the log of the rest")
async def published_history(context: Context) -> list[Finding]:
    if not set(_TAIL) <= set(context.bookkeeping.get("member", ())):
        return []  # the check of the bookkeeping says so
    row = await context.control.row(MEMBER)
    if row is None:
        return []
    member = member_of(row)
    # Purged before the end of the topic is looked for, executed after it: a node may be running.
    purged = _set(await context.control.value("SELECT @@GLOBAL.gtid_purged"))
    found: list[Finding] = []
    published, newest = member.tail.gtids, noted(member.tail)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            published, newest = await _published(context, member)
    except (MeshError, TimeoutError) as error:
        found = _unread(context, error)
        purged = GtidSet()
    owned = str(await context.control.value("SELECT @@GLOBAL.gtid_owned"))
    executed = _set(await context.control.value("SELECT @@GLOBAL.gtid_executed"))
    start = GtidSet(published)
    if not published:
        joined = joined_of(await context.control.rows(JOINED))
        start = first_position(History(str(executed), ""), joined)
    lost = lost_commits(start, executed, owned)
    found += history(context.region.name, start, lost, purged)
    # Of a topic that was not read nothing is said to be purged, but the log may have gone.
    purged = _set(await context.control.value("SELECT @@GLOBAL.gtid_purged"))
    wanted = to_be_found(newest, start, purged)
    if wanted is not None:
        found += await _other_owner(context, start, wanted)
    return found


async def _other_owner(context: Context, start: GtidSet, newest: Published) -> list[Finding]:
    """The finding that ``newest`` is another transaction now, if it is."""
    region = context.region
    login = accounts.secrets(context.topology, region.name, "tail")
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await require_published(region, login, start, newest)
    except LostCommits as error:
        finding = f"has {newest.tx_id}, which is published, and it is another transaction now"
        return [
            context.finding(
                "published-history", Level.REFUSE, "gtid_executed",
                f"{finding}: the server has lost commits", error.remedy,
            )
        ]  # fmt: skip
    except (MeshError, TimeoutError):
        return []  # the node's tailer asks again, and waits for the answer
    return []


def _unread(context: Context, error: MeshError | TimeoutError) -> list[Finding]:
    """What to say of the topic where it cannot be read; why the bus is away, its own check says."""
    if isinstance(error, Halt):
        finding, remedy = f"{error.what}: the node's tailer will halt", error.remedy
    elif isinstance(error, TimeoutError):
        finding = (
            f"its end was not read within {ANSWER_SECONDS:g} s: whether transactions were purged"
            " that are not published is not known"
        )
        remedy = "run doctor again when the bus is less busy"
    else:
        return []
    topic = f"topic of {context.region.name}"
    return [context.finding("published-history", Level.WARN, topic, finding, remedy)]


async def _published(context: Context, member: Member) -> tuple[str, Published | None]:
    """Up to where the binary log is published, by the end of the topic, and the newest of it.

    '' if nothing is.
    """
    before = member.tail.gtids, noted(member.tail)
    if not member.incarnation:
        return before
    own = context.region
    bus = bare_bus(context.topology)
    try:
        if not await bus.inspect(own.name):
            return before
        reader = bus.reader(own.name)
        try:
            sender = Sender(context.topology.mesh, own.id, own.name)
            ledger, _ = await read_own_end(reader, member, sender, await reader.end())
        finally:
            await reader.close()
    finally:
        await bus.close()
    return ledger.resume, ledger.newest


def _set(value: object) -> GtidSet:
    return GtidSet(str(value).replace("\n", ""))


def history(region: str, published: GtidSet, lost: GtidSet, purged: GtidSet) -> list[Finding]:
    """Compare what the region's topic says was published with what the server has.

    ``published`` is the resume position at the end of the topic, ``lost`` what the server lacks
    of it, ``purged`` its ``gtid_purged``.
    """
    found = []
    if lost:
        found.append(
            Finding(
                "published-history",
                Level.REFUSE,
                region,
                "gtid_executed",
                f"lacks {lost}, which is published: the server has lost commits",
                "peers have those rows; docs/OPERATING.md, 'A server that lost commits', says how "
                "to get them back",
            )
        )
    gone = purged.subtract(published)
    if gone:
        found.append(
            Finding(
                "published-history",
                Level.WARN,
                region,
                "gtid_purged",
                f"covers {gone}, which is not published: those changes are gone from the binlog, "
                "and the node's tailer will halt",
                "docs/OPERATING.md, 'A purged position', says how to bring the region back",
            )
        )
    return found
