"""The heart's session: the server's clock, its open transactions, and the row of the heartbeat."""

from collections.abc import Set

from meshnode import limits
from meshnode.errors import Retry
from meshnode.faultpoints import fault
from meshnode.mysql.mending import CLOCK
from meshnode.mysql.records import raw, text
from meshnode.mysql.session import Session
from meshnode.mysql.store_session import StoreSession
from meshnode.store.values import Tail


class HeartSession(StoreSession):
    """What the heart of region ``own`` says; ``threads`` are the node's own sessions."""

    def __init__(self, session: Session, own: int, threads: Set[int]) -> None:
        super().__init__(session)
        self.own = own
        self.threads = threads

    async def promised(self) -> int:
        """The frontier that stands in the heartbeat row."""
        found = await self.session.value(
            f"SELECT frontier FROM meshnode.heartbeat WHERE region = {self.own}"
        )
        return int(str(found or 0))

    async def clock(self) -> int:
        """The server's time in microseconds since 1970."""
        return int(str((await self.session.query(CLOCK))[0][0]))

    async def oldest_open(self, now: int) -> int | None:
        """When the oldest client transaction began, in microseconds since 1970."""
        own = ",".join(map(str, sorted(self.threads))) or "0"
        # trx_started is in the time zone of the server's host, whatever the session's is.
        try:
            rows = await self.session.query(
                "SELECT /*+ SET_VAR(time_zone = 'SYSTEM') */"
                " TIMESTAMPDIFF(MICROSECOND, MIN(trx_started), NOW(6))"
                " FROM information_schema.innodb_trx"
                f" WHERE trx_mysql_thread_id NOT IN ({own}) AND trx_mysql_thread_id <> 0"
            )
        except Retry:
            # 3854: a client's statement with a 4-byte character cannot be shown (9.7.4).
            if self.session.closed:
                raise
            return now - limits.FRONTIER_OPEN_TX_US
        age = rows[0][0] if rows else None
        return None if age is None else now - max(0, int(str(age)))

    async def beat(self, epoch: int, tail: Tail, now: int, promise: int, body: str) -> bool:
        """Write the tail and the beat, in one transaction, under ``epoch``."""
        async with self.session.transaction():
            await self.session.query(
                f"UPDATE meshnode.member SET tail_position = {raw(tail.position)},"
                f" tail_seq = {tail.seq}, tail_gtids = {text(tail.gtids)},"
                f" tail_frontier = {tail.frontier}, tail_epoch = {tail.epoch},"
                f" tail_tx_id = {text(tail.tx_id)}, tail_commit_us = {tail.commit_us}"
                f" WHERE epoch = {epoch}"
            )
            if self.session.found != 1:
                return False
            await self.session.query(
                f"UPDATE meshnode.heartbeat SET beat = beat + 1, wall_us = {now},"
                f" frontier = {promise}, body = {text(body)}"
                f" WHERE region = {self.own}"
            )
            fault("heart.tail")
        return True

    async def tell(self, epoch: int, now: int, body: str) -> None:
        """Write a beat with the frontier that stands there, if ``member`` has ``epoch``."""
        async with self.session.transaction():
            rows = await self.session.query(
                f"SELECT 1 FROM meshnode.member WHERE epoch = {epoch} FOR UPDATE"
            )
            if rows:
                await self.session.query(
                    f"UPDATE meshnode.heartbeat SET beat = beat + 1, wall_us = {now},"
                    f" body = {text(body)} WHERE region = {self.own}"
                )
