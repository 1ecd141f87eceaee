"""The heart: one row a second, written through MySQL so that it takes its place in the binlog.

The beat carries the wall time, what this region has applied of each other, and
the frontier.  In the same transaction the newest acknowledged frame goes into
``meshnode.member``, under the epoch: where a successor starts to read.

A stream that cannot be claimed must not be silent about it: from the moment that the
region's epoch is this node's, the heart writes beats that say how the actors are
and promise nothing new.
"""

import asyncio
from collections.abc import Callable

import orjson

from meshnode import __version__, limits
from meshnode.accounts import Account
from meshnode.actors.board import Board
from meshnode.actors.kernel import Actor, State
from meshnode.actors.sessions import session_of
from meshnode.core.frontier import frontier
from meshnode.errors import Fenced, Retry
from meshnode.mysql.mending import CLOCK
from meshnode.mysql.records import raw, text
from meshnode.mysql.session import Session
from meshnode.topology import Region


class Heart(Actor):
    """Writes the heartbeat of ``region`` every ``seconds``."""

    def __init__(
        self,
        region: Region,
        login: Account,
        board: Board,
        seconds: float,
        digest: Callable[[], str],
        states: Callable[[], list[State]],
    ) -> None:
        super().__init__("heart")
        self.region = region
        self.login = login
        self.board = board
        self.seconds = seconds
        self.digest = digest
        self.states = states

    async def run(self) -> None:
        """Beat until cancelled; Fenced when the epoch is not ours any more."""
        while not await self._claimed_soon():
            if self.board.epoch:
                await self._tell_until_claimed()
        loop = asyncio.get_running_loop()
        async with session_of(self.region, self.login, "heart", self.board) as session:
            self.board.promised = max(
                self.board.promised,
                int(str(await session.value(
                    f"SELECT frontier FROM meshnode.heartbeat WHERE region = {self.region.id}"
                ) or 0)),
            )  # fmt: skip
            self.running()
            due = loop.time()
            while True:
                await self.beat(session)
                due = max(due + self.seconds, loop.time())
                await asyncio.sleep(due - loop.time())

    async def _claimed_soon(self) -> bool:
        """Whether the region is claimed, now or before the next beat is due."""
        try:
            await asyncio.wait_for(self.board.claimed(), self.seconds)
        except TimeoutError:
            return False
        return True

    async def _tell_until_claimed(self) -> None:
        self.state.set("waiting", "the stream is not claimed yet: see the tailer")
        async with session_of(self.region, self.login, "heart", self.board) as session:
            while not await self._claimed_soon():
                await self._tell(session)

    async def _tell(self, session: Session) -> None:
        """Write a beat with the frontier that stands there, if the region is still this node's."""
        now = int(str((await session.query(CLOCK))[0][0]))
        self.board.clock_read(now)
        await session.query("BEGIN")
        try:
            rows = await session.query(
                f"SELECT 1 FROM meshnode.member WHERE epoch = {self.board.epoch} FOR UPDATE"
            )
            if rows:
                await session.query(
                    f"UPDATE meshnode.heartbeat SET beat = beat + 1, wall_us = {now},"
                    f" body = {text(self._body())} WHERE region = {self.region.id}"
                )
            await session.query("COMMIT")
        except BaseException:
            if not session.closed:
                await session.rollback()
            raise

    async def beat(self, session: Session) -> None:
        """Write one heartbeat."""
        board = self.board
        now = int(str((await session.query(CLOCK))[0][0]))
        board.clock_read(now)
        oldest = await self._oldest_open(session, now)
        heard = [peer.heard_us for peer in board.peers.values() if peer.heard_us]
        promise = frontier(now, oldest, max(heard, default=None), board.promised)
        # Raised before the row is written: a lift meanwhile must already clear it.
        board.promised = promise
        # While the stream is claimed anew, the tail is still that of the epoch before: told
        # as the new one's, a successor would take the frames behind it for void.
        tail = board.tail
        epoch = board.epoch
        await session.query("BEGIN")
        try:
            await session.query(
                f"UPDATE meshnode.member SET tail_position = {raw(tail.position)},"
                f" tail_seq = {tail.seq}, tail_gtids = {text(tail.gtids)},"
                f" tail_frontier = {tail.frontier}, tail_epoch = {tail.epoch}"
                f" WHERE epoch = {epoch}"
            )
            if session.found != 1:
                # The statement may have waited behind this node's own new claim.
                if board.raising or board.epoch != epoch:
                    raise Retry("the node is claiming its stream anew")
                raise Fenced(
                    f"region {self.region.name}: meshnode.member no longer has epoch {epoch}",
                    "another node of this region took over: run only one",
                )
            await session.query(
                f"UPDATE meshnode.heartbeat SET beat = beat + 1, wall_us = {now},"
                f" frontier = {promise}, body = {text(self._body())}"
                f" WHERE region = {self.region.id}"
            )
            await session.query("COMMIT")
            board.beat_us = now
        except BaseException:
            if not session.closed:
                await session.rollback()
            raise

    async def _oldest_open(self, session: Session, now: int) -> int | None:
        """When the oldest client transaction began, in microseconds since 1970."""
        own = ",".join(map(str, sorted(self.board.threads))) or "0"
        # trx_started is in the time zone of the server's host, whatever the session's is.
        try:
            rows = await session.query(
                "SELECT /*+ SET_VAR(time_zone = 'SYSTEM') */"
                " TIMESTAMPDIFF(MICROSECOND, MIN(trx_started), NOW(6))"
                " FROM information_schema.innodb_trx"
                f" WHERE trx_mysql_thread_id NOT IN ({own}) AND trx_mysql_thread_id <> 0"
            )
        except Retry:
            # 3854: a client's statement with a 4-byte character cannot be shown (9.7.4).
            if session.closed:
                raise
            return now - limits.FRONTIER_OPEN_TX_US
        age = rows[0][0] if rows else None
        return None if age is None else now - max(0, int(str(age)))

    def _body(self) -> str:
        board = self.board
        return orjson.dumps(
            {
                "v": 1,
                "node": __version__,
                "digest": self.digest(),
                "applied": {
                    str(origin): [peer.seq, peer.frontier, peer.position.hex(), peer.heard_us]
                    for origin, peer in board.peers.items()
                },
                "counts": dict(board.counts),
                "retention": board.retention,
                "retention_left": {
                    str(origin): round(peer.retention_left, 1)
                    for origin, peer in board.peers.items()
                    if peer.retention_left is not None
                },
                "actors": [
                    {
                        "name": state.name, "state": state.state, "reason": state.reason,
                        "remedy": state.remedy, "since": round(state.since, 3),
                        "restarts": state.restarts,
                    }
                    for state in self.states()
                ],
            }
        ).decode()  # fmt: skip
