"""The origin's session: the member row and its epoch, what operators decided, the binary log."""

from collections.abc import Callable, Sequence

from meshnode.core.gtid import GtidSet
from meshnode.core.ledger import Published
from meshnode.core.mend import Restamped
from meshnode.errors import MeshError, Refused
from meshnode.mysql.assemble import Assembler
from meshnode.mysql.control import Login
from meshnode.mysql.lookups import Lookups
from meshnode.mysql.maps import TableMaps
from meshnode.mysql.memberrow import (
    ANOTHER_SERVER_REMEDY,
    JOINED,
    MEMBER,
    SERVER,
    another_server,
    joined_of,
    member_of,
)
from meshnode.mysql.mender_session import MenderSession
from meshnode.mysql.notices import Notices
from meshnode.mysql.records import text
from meshnode.mysql.session import Session
from meshnode.mysql.stream import open_stream
from meshnode.store.values import Decisions, History, Log, Member
from meshnode.topology import Region


class ClaimingSession(MenderSession):
    """What the origin of ``region`` says as ``user``; ``tail`` is the account for the log."""

    def __init__(
        self,
        session: Session,
        region: Region,
        user: str,
        tail: Login,
        lookups: Lookups,
        restamped: Restamped,
    ) -> None:
        super().__init__(session, region.id, lookups, restamped)
        self.region = region
        self.user = user
        self.tail = tail

    async def member(self) -> Member:
        """The member row; Refused when the region was never initialised."""
        rows = await self.session.query(MEMBER)
        if not rows:
            raise Refused(
                f"{self.server} has no row in meshnode.member",
                "run `meshnode init` for this region",
            )
        return member_of(rows[0])

    async def end_others(self) -> None:
        """Kill the account's other sessions; one may end by itself in between."""
        others = await self.session.query(
            "SELECT id FROM information_schema.processlist"
            f" WHERE user = {text(self.user)} AND id <> CONNECTION_ID()"
        )
        for (thread,) in others:
            try:
                await self.session.query(f"KILL {int(thread)}")
            except MeshError:
                continue

    async def raise_epoch(
        self, appliers: bool, found: Callable[[int, int], None], committing: Callable[[int], None]
    ) -> int:
        """Raise the epoch in ``member``, with ``appliers`` also in ``applied``; the new one.

        Refused where another server answers under the address: its log is not the region's.
        """
        async with self.session.transaction():
            for own, known in await self.session.query(SERVER):
                if own != known:
                    what = another_server(str(own), str(known))
                    raise Refused(f"{self.server}: server_uuid {what}", ANOTHER_SERVER_REMEDY)
            await self.session.query(
                "UPDATE meshnode.member SET epoch = epoch + 1, incarnation ="
                " IF(incarnation = 0, CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED),"
                " incarnation)"
            )
            epoch = int(str(await self.session.value("SELECT epoch FROM meshnode.member")))
            applied = await self.session.value(
                "SELECT COALESCE(MAX(epoch), 0) FROM meshnode.applied"
            )
            found(epoch - 1, int(str(applied)))
            if appliers:
                await self.session.query(f"UPDATE meshnode.applied SET epoch = {epoch}")
            committing(epoch)
        return epoch

    async def decisions(self) -> Decisions:
        """The tables that are active, and the transactions that are to be skipped."""
        skipped = await self.session.query(
            "SELECT tx_id FROM meshnode.dead_letter"
            f" WHERE origin = {self.own} AND seq = 0 AND state IN ('skipped', 'closed')"
            " ORDER BY tx_id"
        )
        joined = joined_of(await self.session.query(JOINED))
        return Decisions(joined, [str(tx_id) for (tx_id,) in skipped])

    async def history(self) -> History:
        """What the server has executed and purged, and what it commits just now."""
        # First: what ends in between is executed then.
        owned = await self.session.value("SELECT @@GLOBAL.gtid_owned")
        rows = await self.session.query("SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged")
        return History(*map(str, rows[0]), str(owned))

    async def open_log(
        self,
        after: str,
        newest: Published | None,
        tables: Sequence[tuple[str, str]],
        skipped: Sequence[str],
        part_bytes: Callable[[], int],
    ) -> Log:
        """A dump of everything that the server logged and ``after`` does not contain.

        ``newest`` of it is looked at before.
        """
        any_case = bool(await self.session.value("SELECT @@lower_case_table_names"))
        maps = TableMaps(tables, self.lookups.charsets, any_case)
        notices = Notices(self.region.name, self.own)
        assembler = Assembler(maps, notices, part_bytes, skipped, newest)
        passed = GtidSet(after)
        if newest is not None:
            passed = passed.subtract(GtidSet(newest.tx_id))
        return Log(await open_stream(self.region, self.tail, passed), assembler, maps.known)
