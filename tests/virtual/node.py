"""One region's node over the fakes: real actors, and stand-ins for what says SQL itself.

Real are the supervisor, the appliers (with intake, straight way and parking), the heart, the
gardener, the tailer, the mender, the publisher, the claim and the reading of the own end.
Stand-ins do in a few lines what ``origin`` and ``resolver`` do with statements of their own: the
epoch, and the keys that were held back.
"""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

from meshnode.actors.applier import Applier
from meshnode.actors.board import Board, Tail
from meshnode.actors.gardener import Gardener
from meshnode.actors.heart import Heart
from meshnode.actors.kernel import Actor, Mailbox, State, Supervisor, together
from meshnode.actors.mender import Mender
from meshnode.actors.publisher import publish
from meshnode.actors.tailer import tail
from meshnode.actors.takeover import Member, append_claim, read_own_end
from meshnode.core.mend import Examiner, Fate, LateTombstone, Lift, Reason
from meshnode.core.stamp import ZERO
from meshnode.core.wire import Beat, Sender
from meshnode.errors import Busy, Fenced
from meshnode.mysql.gtid import GtidSet
from meshnode.mysql.notices import Notices
from meshnode.topology import MysqlAddress, Region, Replicate, Topology

from .applying import Applied, applied_name
from .bus import MemoryBus
from .database import Database
from .housekeeping import HEARTBEAT, MEMBER, MemberRow
from .mending import MemoryMending
from .session import MemorySession
from .store import MemoryStore
from .stream import FORMAT, MemoryAssembler, MemoryStream

INCARNATION = 7
NAMES = ("one", "two", "three")


def topology_of(regions: int) -> Topology:
    return Topology(
        mesh="shop",
        replicate=Replicate(tables=("shop.*",)),
        bus=None,
        regions=tuple(
            Region(id=at + 1, name=NAMES[at], mysql=MysqlAddress(NAMES[at]))
            for at in range(regions)
        ),
    )


def install(database: Database, topology: Topology, own: int) -> None:
    """The bookkeeping as ``init`` leaves it."""
    database.records[MEMBER] = MemberRow()
    database.records[HEARTBEAT] = Beat(0, 0, 0, "{}")
    for region in topology.regions:
        if region.id != own:
            database.records[applied_name(region.id)] = Applied()


class Origin(Actor):
    """Claims the stream and publishes it: ``actors/origin.py`` without its statements."""

    def __init__(self, node: "VirtualNode") -> None:
        super().__init__("tailer")
        self.node = node
        self.sender = Sender("shop", node.region.id, node.region.name)

    async def run(self) -> None:
        node = self.node
        session = MemoryMending(node.store, node.region.id, node.board.restamped)
        async with node.store.opened(session) as mending:
            await self._run(mending)

    async def _run(self, mending: MemoryMending) -> None:
        node, board = self.node, self.node.board
        member = await self._raise_epoch(mending)
        writer = node.writer
        await writer.open(30.0)
        end = await append_claim(writer, member)
        reader = node.bus.reader(node.region.name)
        ledger, _ = await read_own_end(reader, member, self.sender, end)
        board.raising = False
        if ledger.epoch != member.epoch:
            raise Fenced("the stream was claimed above this node's epoch", "")
        board.tail = Tail(end, ledger.seq, ledger.resume, ledger.promised, member.epoch)
        board.promised = max(board.promised, ledger.promised)
        board.claim()
        resume = GtidSet(ledger.resume)
        known = dict(node.store.database.tables)
        notices = Notices(node.region.name, node.region.id)
        assembler = MemoryAssembler(node.region.id, known, notices)
        examiner = Examiner(node.region.id, ledger.promised)
        mender = Mender(mending, examiner, board, known, resume.copy())
        await mender.load()
        transactions: Mailbox = Mailbox(4000)
        drafts: Mailbox = Mailbox(2)
        self.running()
        stream = MemoryStream(node.store.database, len(resume))
        await together(
            tail(stream, assembler, transactions, board),
            self._mend(mender, transactions, drafts),
            publish(writer, drafts, ledger, member, board),
        )

    async def _mend(self, mender: Mender, inbox: Mailbox, outbox: Mailbox) -> None:
        while True:
            await inbox.wait()
            self.node.board.format = FORMAT
            await outbox.put(await mender.draft(inbox.take(2000)), 1)

    async def _raise_epoch(self, session: MemorySession) -> Member:
        """Fence the predecessor: kill its sessions, raise the epoch everywhere."""
        node, board, database = self.node, self.node.board, self.node.store.database
        board.raising = True
        await node.writer.close()
        if not board.epoch:
            node.store.kill_others(session)

        async def raise_it() -> MemberRow:
            tx = session.tx = database.begin()
            row: MemberRow = await database.read(tx, MEMBER, True, 2.0)
            if board.epochs and row.epoch not in board.epochs:
                raise Fenced("another process has raised the epoch", "")
            board.epochs.update((row.epoch, row.epoch + 1))
            row = replace(row, epoch=row.epoch + 1)
            await database.update(tx, MEMBER, row)
            for peer in node.topology.peers(node.region.name):
                name = applied_name(peer.id)
                applied = await database.read(tx, name, True, 2.0)
                await database.update(tx, name, replace(applied, epoch=row.epoch))
            return row

        row = await session._say(raise_it)
        await session.commit()
        board.epoch, board.incarnation = row.epoch, INCARNATION
        return Member(
            "shop", node.region.id, "", INCARNATION, row.epoch, row.tail.position, row.tail.seq,
            row.tail.gtids, row.tail.frontier, row.tail.epoch,
        )  # fmt: skip


class Resolver(Actor):
    """Works off what was held back: ``mysql/leftovers.py`` without its statements."""

    def __init__(self, node: "VirtualNode") -> None:
        super().__init__("resolver")
        self.node = node

    async def run(self) -> None:
        node, board = self.node, self.node.board
        await board.claimed()
        session = MemoryMending(node.store, node.region.id, board.restamped)
        async with node.store.opened(session) as mending:
            self.running()
            while True:
                await self.round(mending)
                await asyncio.sleep(1.0)

    async def round(self, mending: MemoryMending) -> None:
        """Try every held-back key once."""
        board = self.node.board
        for held in await mending.waiting():
            if held.late:
                late = LateTombstone(held.table, held.key, held.note.seen)
                if await mending.bury([late], FORMAT):
                    continue
                try:
                    below = await mending.rows_below([late])
                except Busy:
                    continue
                await mending.lift(below, FORMAT, lambda: board.promised)
                await mending.forget(held)
                continue
            note = held.note
            lift = Lift(
                held.table, held.key, note.seen if note.seen != ZERO else None, note.base,
                note.base_row, Reason.LOCKED, None, held.image.hex() if held.image else None,
            )  # fmt: skip
            await mending.lift([lift], FORMAT, lambda: board.promised, hold=False)
            if lift.fate is Fate.OVERTAKEN:
                await mending.forget(held)


class VirtualNode:
    """The process of region ``own`` over ``store`` and ``bus``."""

    def __init__(
        self, topology: Topology, own: int, store: MemoryStore, bus: MemoryBus, beat: float
    ) -> None:
        self.topology = topology
        self.region = next(region for region in topology.regions if region.id == own)
        self.store = store
        self.bus = bus
        self.board = Board(own)
        self.writer = bus.writer(self.region.name)
        self.supervisor = Supervisor()
        view = SimpleNamespace(now=topology)
        self.actors: list[Actor] = [
            Origin(self),
            Heart(self.region, store, self.board, lambda: beat, str, self._states),
            *(
                Applier(view, self.region, peer, store, bus, self.board)
                for peer in topology.peers(self.region.name)
            ),
            Gardener(view, self.region, store, self.writer, self.board),
            Resolver(self),
        ]

        for actor in self.actors:
            # It was made with the clock of the real world.
            actor.state.since = 0.0

    def _states(self) -> list[State]:
        return [actor.state for actor in self.actors]

    async def run(self) -> None:
        """Run until stopped or fenced."""
        await self.supervisor.run(self.actors)
