"""The gardener: drops tombstones that nobody can need, old records, and read segments.

Tombstones go by stability, never by age: when their time is below what every
other member has promised here, and below the own promise as it stands in the
published stream.  A parked row holds its origin's promise down.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence

from meshnode.actors.board import Board
from meshnode.actors.kernel import Actor
from meshnode.actors.watcher import View
from meshnode.bus.port import BusWriter, Position, Retained, TopicRewritten
from meshnode.core.frontier import gc_limit
from meshnode.errors import Busy
from meshnode.faultpoints import fault
from meshnode.store.port import Gardening, Store
from meshnode.topology import Region

log = logging.getLogger(__name__)

ROUND_SECONDS = 10.0
CHUNK_ROWS = 1000


class Gardener(Actor):
    """Keeps the bookkeeping of ``region`` from growing."""

    def __init__(
        self, view: View, region: Region, store: Store, writer: BusWriter, board: Board
    ) -> None:
        super().__init__("gardener")
        self.view = view
        self.region = region
        self.store = store
        self.writer = writer
        self.board = board
        self.begun: dict[int, int] = {}
        """The incarnation of each peer's stream when it was last looked at."""
        self._left = ""

    async def run(self) -> None:
        """Make a round every ten seconds."""
        await self.board.claimed()
        async with self.store.gardening() as session:
            self.running()
            while True:
                await self.round(session)
                await asyncio.sleep(ROUND_SECONDS)

    async def round(self, session: Gardening) -> None:
        """One round; each step is safe to repeat.

        What meets a lock is left to the next round: a client may hold it for hours.
        """
        self._left = ""
        await self._unless_held(self.drop_tombstones(session))
        await self._unless_held(self.forget_records(session))
        await self.forget_former(session)
        await self.retain()
        self.state.set("running", self._left)

    async def _unless_held(self, step: Awaitable[None]) -> None:
        try:
            await step
        except Busy as error:
            self._left = f"leaves locked rows to the next round: {error.what}"

    async def drop_tombstones(self, session: Gardening) -> None:
        """Delete stable tombstones in small transactions; note the limit before the first."""
        peers = await session.frontiers()
        members = {peer.id for peer in self.view.now.peers(self.region.name)}
        known = {origin: frontier for origin, frontier in peers.items() if origin in members}
        if set(known) != members:
            return
        parked = await session.parked()
        limit = gc_limit(known.values(), self.board.tail.frontier, parked)
        if not limit:
            return
        for digest, since in (await session.activations()).items():
            await self._unless_held(self._drop(session, digest, since, limit))

    async def _drop(self, session: Gardening, digest: str, since: int, limit: int) -> None:
        """Those of one table."""
        if not await session.any_stable(digest, since, limit):
            return
        await session.note_limit(limit)
        fault("gardener.drop")
        while True:
            gone = await session.drop_stable(digest, since, limit, CHUNK_ROWS)
            self.board.counts["gc_tombstones"] += gone
            if gone < CHUNK_ROWS:
                break
            await asyncio.sleep(0)

    async def forget_records(self, session: Gardening) -> None:
        """Delete closed letters and conflict records beyond their time, in chunks."""
        await session.forget(self.view.now.limits.keep_closed_days, CHUNK_ROWS)

    async def forget_former(self, session: Gardening) -> None:
        """Forget what a peer has said whose stream is another one since, or has to begin.

        It was seeded again, and reads on from where its seed was: that may be behind what it
        had read before.
        """
        for origin, incarnation in (await session.incarnations()).items():
            if not incarnation or self.begun.get(origin) != incarnation:
                self.board.acknowledged.pop(origin, None)
            self.begun[origin] = incarnation

    async def retain(self) -> None:
        """Let the bus forget what every member has applied of the own stream.

        But for what follows the tail that was noted last: a successor reads on from there, and
        peers from the first part of a transaction whose last one is still to come.  Also while
        the stream cannot be claimed: on a full disk no claim succeeds before something has gone.
        """
        members = self.view.now.peers(self.region.name)
        applied: list[Position | None] = [self.board.acknowledged.get(peer.id) for peer in members]
        floor = self.board.noted or None
        try:
            retained = await self.writer.retain(applied, floor, time.time())
        except TopicRewritten:
            # Said before this region was seeded again, of its former topic.  Were it
            # this topic that is another one, the floor would be refused as well.
            members = []
            retained = await self.writer.retain([None], floor, time.time())
        self._tell_lost(retained, members)

    def _tell_lost(self, retained: Retained, members: Sequence[Region]) -> None:
        """Say so when the bus had to forget what some of ``members`` have not said to have."""
        if not retained.lost_bytes:
            return
        self.board.counts["retention_lost_bytes"] += retained.lost_bytes
        behind = [members[number].name for number in retained.behind if number < len(members)]
        log.warning(
            "the topic of region %s has reached [bus] max_bytes: %d bytes are deleted that %s had"
            " not said to have applied; remedy: whoever then halts with 'retention passed' must be"
            " re-seeded (docs/OPERATING.md, 'A region that must be re-seeded'); raise max_bytes to"
            " allow for longer absence",
            self.region.name,
            retained.lost_bytes,
            ", ".join(behind) or "some region",
        )
