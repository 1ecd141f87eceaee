"""A node's board without a node: everything known, or nothing yet."""

from meshnode.actors.board import Board, Census, PeerProgress, Tail
from meshnode.actors.kernel import Actor, Mailbox
from meshnode.actors.watcher import View
from meshnode.ops.node_status import NodeStatus
from meshnode.store.values import Pause
from meshnode.topology import (
    Bus,
    Kafka,
    MysqlAddress,
    OpsAddress,
    Region,
    Replicate,
    Topology,
)

ACTORS = ("tailer", "heart", "applier two", "applier three", "census")


def mesh(ops: OpsAddress | None = None, kind: str = "kafka") -> Topology:
    """Three regions; ``ops`` is that of the first."""
    bus = (
        Bus("kafka", kafka=Kafka(("k:1",), retention_hours=2.0))
        if kind == "kafka"
        else Bus("file", "/b")
    )
    return Topology(
        "m",
        Replicate(("app.*",)),
        bus,
        regions=(
            Region(1, "one", MysqlAddress("a"), ops=ops),
            Region(2, "two", MysqlAddress("b")),
            Region(3, "three", MysqlAddress("c")),
        ),
    )


def fresh(ops: OpsAddress | None = None, kind: str = "kafka") -> NodeStatus:
    """A node of region ``one`` that has only just been made."""
    topology = mesh(ops, kind)
    board = Board(1)
    board.peers = {2: PeerProgress(), 3: PeerProgress()}
    return NodeStatus(topology.regions[0], View(topology), board, [Actor(name) for name in ACTORS])


def busy(ops: OpsAddress | None = None) -> NodeStatus:
    """One that has been at work, with something of everything."""
    node = fresh(ops)
    board = node.board
    now = board.now_us()
    board.claim()
    board.epoch = 7
    board.beat_us, board.published_us = now - 1_000_000, now - 2_000_000
    board.promised = now - 2_500_000
    board.tail = Tail(b"t", 90, "", now - 3_000_000, 7)
    for actor in node.actors:
        actor.running()
    two = board.peers[2]
    two.seq, two.heard_us, two.frontier = 41, now - 1_500_000, now - 4_000_000
    two.retention_left = 3600.0
    two.counts.update(applied_rows=5, applied_transactions=2, applied_bytes=99, parked=1)
    two.counts.update(received_frames=3, received_bytes=1000)
    two.batch_rows.observe(5)
    three = board.peers[3]
    three.heard_us, three.frontier = now - 500_000, now - 3_500_000
    board.heard(2, now + 250_000)
    board.counts.update(published_rows=10, busy=1, replans=2, retries=3, row_errors=4, lifts=6)
    board.conflicts["app.t", "update/update"] += 3
    board.pauses.replace({3: Pause(1000.0, "ticket 4711")})
    board.census = Census(
        {"open": 2, "replay": 0, "skipped": 1}, {"app.t": 2}, None, 4, {"app.t": 8}
    )
    queue: Mailbox[bytes] = Mailbox(100)
    queue.add(b"x", 60)
    board.queues = {("incoming", "two"): queue, ("drafts", ""): Mailbox(2)}
    board.loop_delay.observe(0.003)
    return node
