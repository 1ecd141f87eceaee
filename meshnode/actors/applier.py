"""The applier: writes one peer's transactions into the local MySQL.

Theory of operation.  ``meshnode.applied`` says how far the peer's stream is applied; its row
moves in the transactions that write the data.  So every start is the same, after a
crash, an error or a COMMIT whose answer was lost: read the row, read the topic on from
there (`meshnode.actors.intake`), and apply what comes (`meshnode.actors.apply_loop`).  Both
end together, and with them session and reader.
"""

from meshnode.actors.apply_loop import ApplyLoop
from meshnode.actors.board import Board
from meshnode.actors.fitting import Fitting
from meshnode.actors.intake import Intake, PeerStream, Ready
from meshnode.actors.kernel import Actor, Mailbox, together
from meshnode.actors.watcher import View
from meshnode.actors.writing import PeerWriter
from meshnode.bus.port import Bus, BusReader
from meshnode.core.wire import Sender, decode
from meshnode.errors import Halt
from meshnode.store.port import Applying, Store
from meshnode.topology import Region


class Applier(Actor):
    """Applies the stream of ``peer`` in ``region``; ``loop`` is there while it does."""

    def __init__(
        self,
        view: View,
        region: Region,
        peer: Region,
        store: Store,
        bus: Bus,
        board: Board,
    ) -> None:
        super().__init__(f"applier {peer.name}")
        self.view = view
        self.region = region
        self.peer = peer
        self.store = store
        self.bus = bus
        self.board = board
        self.sender = Sender(view.now.mesh, peer.id, peer.name)
        self.loop: ApplyLoop | None = None
        # What is known of a peer is shown before its stream is read.
        board.peer(peer.id)

    async def run(self) -> None:
        """Apply from the stored position on until something fails."""
        await self.board.claimed()
        async with self.store.applying(self.name) as session:
            reader = self.bus.reader(self.peer.name)
            try:
                loop = self.loop = await self._loop(session, reader)
                self.board.queues["incoming", self.peer.name] = loop.inbox
                self.running()
                await together(loop.intake.run(), loop.run())
            finally:
                self.loop = None
                # Before the reader: the store lets go of the rows at once.
                session.close()
                await reader.close()

    async def _loop(self, session: Applying, reader: BusReader) -> ApplyLoop:
        """All that applies the stream from where the database stands."""
        stored = await session.progress(self.peer.id)
        if stored is None:
            raise Halt(
                f"{session.server} has no row for {self.peer.name} in meshnode.applied",
                "run `meshnode init` for this region",
            )
        if not stored.incarnation:
            stored = stored._replace(incarnation=await self._first_incarnation(reader))
        await self.board.pauses.refresh(session)
        stream = PeerStream(self.sender, stored.incarnation, self.store.table_of)
        inbox: Mailbox[Ready] = Mailbox(1)
        intake = Intake(stream, reader, stored, inbox, self.board, self.state)
        fitting = Fitting(session, self.view, self.board)
        writer = PeerWriter(self.region, self.peer, session, fitting, self.board, stored)
        return ApplyLoop(self.view, self.bus, intake, writer, self.state)

    async def _first_incarnation(self, reader: BusReader) -> int:
        """The incarnation of a stream that was never read: its first record says it."""
        self.state.set("waiting", f"{self.peer.name} has not published anything yet")
        records = await reader.read(b"", 1)
        return decode(records[0].payload, self.sender).incarnation
