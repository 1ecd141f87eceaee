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

from meshnode import __version__
from meshnode.actors.board import Board
from meshnode.actors.kernel import Actor, State, within
from meshnode.core.frontier import frontier
from meshnode.errors import Fenced, Retry
from meshnode.store.port import Beating, Store
from meshnode.topology import Region


class Heart(Actor):
    """Writes the heartbeat of ``region`` every ``seconds()``."""

    def __init__(
        self,
        region: Region,
        store: Store,
        board: Board,
        seconds: Callable[[], float],
        digest: Callable[[], str],
        states: Callable[[], list[State]],
    ) -> None:
        super().__init__("heart")
        self.region = region
        self.store = store
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
        async with self.store.beating() as session:
            self.board.promised = max(self.board.promised, await session.promised())
            self.running()
            due = loop.time()
            while True:
                await self.beat(session)
                due = max(due + self.seconds(), loop.time())
                await asyncio.sleep(due - loop.time())

    async def _claimed_soon(self) -> bool:
        """Whether the region is claimed, now or before the next beat is due."""
        return await within(self.seconds(), self.board.claimed())

    async def _tell_until_claimed(self) -> None:
        self.state.set("waiting", "the stream is not claimed yet: see the tailer")
        async with self.store.beating() as session:
            while not await self._claimed_soon():
                await self._tell(session)

    async def _tell(self, session: Beating) -> None:
        """Write a beat with the frontier that stands there, if the region is still this node's."""
        now = await session.clock()
        self.board.clock_read(now)
        await session.tell(self.board.epoch, now, self._body())

    async def beat(self, session: Beating) -> None:
        """Write one heartbeat."""
        board = self.board
        now = await session.clock()
        board.clock_read(now)
        oldest = await session.oldest_open(now)
        heard = [peer.heard_us for peer in board.peers.values() if peer.heard_us]
        promise = frontier(now, oldest, max(heard, default=None), board.promised)
        # Raised before the row is written: a lift meanwhile must already clear it.
        board.promised = promise
        # While the stream is claimed anew, the tail is still that of the epoch before: told
        # as the new one's, a successor would take the frames behind it for void.
        tail = board.tail
        epoch = board.epoch
        if await session.beat(epoch, tail, now, promise, self._body()):
            board.beat_us, board.noted = now, tail.position
            return
        # The statement may have waited behind this node's own new claim.
        if board.raising or board.epoch != epoch:
            raise Retry("the node is claiming its stream anew")
        raise Fenced(
            f"region {self.region.name}: meshnode.member no longer has epoch {epoch}",
            "another node of this region took over: run only one",
        )

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
