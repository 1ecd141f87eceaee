"""How long it takes until a peer's stream is lost here: the retention that is left.

A broker forgets records by their age, read or not.  What this region has not applied of a
peer's topic by then is gone, and that stream halts for good.  This actor asks how
old the oldest unread record is, apart from the applier, which may be the very one
that stands still.  A bus that keeps what is unread has nothing to say.
"""

import asyncio
import time
from collections.abc import Sequence

from meshnode.actors.board import Board
from meshnode.actors.kernel import Actor
from meshnode.bus.port import Bus, BusReader, RetentionPassed
from meshnode.errors import MeshError
from meshnode.topology import Region

ROUND_SECONDS = 15.0
ANSWER_SECONDS = 10.0


class Retention(Actor):
    """Watches the topics of ``peers``, which keep a record for ``seconds``."""

    def __init__(self, peers: Sequence[Region], seconds: float, bus: Bus, board: Board) -> None:
        super().__init__("retention")
        self.peers = peers
        self.seconds = seconds
        self.bus = bus
        self.board = board
        board.retention = seconds

    async def run(self) -> None:
        """Ask every fifteen seconds."""
        await self.board.claimed()
        readers = {peer.id: self.bus.reader(peer.name) for peer in self.peers}
        try:
            self.running()
            while True:
                for peer, reader in readers.items():
                    await self.look(peer, reader)
                await asyncio.sleep(ROUND_SECONDS)
        finally:
            for reader in readers.values():
                await reader.close()

    async def look(self, peer: int, reader: BusReader) -> None:
        """Note what is left for ``peer``; nothing when it cannot be known now."""
        progress = self.board.peers[peer]
        if not progress.position:
            return
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                age = await reader.unread_age(progress.position, time.time())
        except RetentionPassed:
            progress.retention_left = 0.0
        except (MeshError, TimeoutError):
            # The applier shows why; a figure of before would look like one of now.
            progress.retention_left = None
        else:
            progress.retention_left = max(0.0, self.seconds - (age or 0.0))
