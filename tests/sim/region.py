"""A region: its server, its topic, its links, and the process that stands beside them."""

from __future__ import annotations

import random
from collections import Counter
from typing import NamedTuple

from meshnode.core.wire import Record

from .bus import Link, Topic
from .client import Client, Order
from .clockwork import Clockwork, Process, Steps
from .database import APPLIED, MEMBER, Database, RowError
from .intake import Progress
from .journal import Journal
from .node import Node
from .origin import Member
from .table import Row
from .weather import Weather

POISON = 3819

NEVER = 1 << 60
"""A place that no binlog reaches."""


class Place(NamedTuple):
    """What all regions of a schedule share."""

    clockwork: Clockwork
    rng: random.Random
    journal: Journal
    counts: Counter[str]
    weather: Weather
    topics: dict[int, Topic]


class Parcel:
    """A record of ``node`` on its way to the own topic; ``position`` behind it once it is there."""

    __slots__ = ("carrier", "landed", "node", "position", "record", "sender")

    def __init__(self, record: Record, node: Node) -> None:
        self.record = record
        self.node = node
        self.position = 0
        self.landed = False
        self.sender: Process | None = None
        self.carrier: Process | None = None


class Region:
    """Region ``number`` of a schedule."""

    def __init__(self, number: int, place: Place) -> None:
        self.number = number
        self.clockwork, self.rng, self.journal, self.counts, self.weather, self.topics = place
        rng, weather = self.rng, self.weather
        self.topic = self.topics[number]
        self.peers = [each for each in self.topics if each != number]
        self.links = {peer: Link(1 + int(rng.random() * weather.latency)) for peer in self.peers}
        self.slowness = rng.choice(weather.slowness)
        self.tail_pause = rng.choice(weather.tail_pause)
        self.tail_most = rng.choice(weather.tail_most)
        self.apply_most = rng.choice(weather.apply_most)
        self.straight = rng.choice(weather.straight)
        self.wide = rng.random() < weather.wide
        self.poison = 0
        self.silenced = False
        self.beating = True
        self.resting = False
        self.altered = False
        self.since = 0
        self.words_since = NEVER if weather.later else 0
        self.parcels: dict[Parcel, None] = {}
        self.node: Node | None = None
        self.zombies: list[Node] = []
        self.mute: list[Process] = []
        self.database = Database(number, self.clockwork, self.journal)
        self.database.skew = int((rng.random() * 2 - 1) * weather.skew)
        self.database.commit_lag = rng.choice(weather.commit_lag)
        self.database.logged = self._logged
        self.database.leftover = self._leftover
        self.database.records[MEMBER] = Member()
        for peer in self.peers:
            self.database.records[APPLIED + peer] = Progress()

    @property
    def knows_words(self) -> bool:
        """Whether the second table is active here."""
        return self.words_since != NEVER

    def start(self) -> None:
        """A new process; whoever was there before has ended, or will find out."""
        self.node = Node(self)

    def _logged(self) -> None:
        logged = self.database.binlog[-1]
        for node in self.nodes():
            if node.tailing is not None and not node.mender.passes_over(logged):
                self.clockwork.wake(node.tailing)

    def nodes(self) -> list[Node]:
        """The process of this region, and those before it that may not know that they are not."""
        return [node for node in (self.node, *self.zombies) if node is not None]

    def notice(self, *peers: int) -> None:
        """There may be something to read of these peers, or of any."""
        for node in self.nodes():
            for peer in peers or self.peers:
                node.appliers[peer].notice()

    def _leftover(self) -> None:
        if self.node is not None:
            self.node.resolver.notice()

    def constrain(self, row: Row) -> None:
        """A constraint of this region's table that some values do not meet."""
        if self.poison and row[1] % self.poison == 0:
            raise RowError(POISON)

    def client(self, order: Order) -> None:
        """A client begins a transaction."""
        self.clockwork.spawn("client", Client(self.database, order).run())

    # The way to the own topic

    def send(self, record: Record, node: Node) -> Parcel:
        """Send a record; it arrives by itself, also when the sender is gone by then."""
        parcel = Parcel(record, node)
        self.parcels[parcel] = None
        delay = 1 + int(self.rng.random() * self.weather.wire)
        parcel.carrier = self.clockwork.spawn("carrier", self._carry(parcel), delay)
        return parcel

    def _carry(self, parcel: Parcel) -> Steps:
        self._land(parcel.record)
        position = len(self.topic)
        parcel.landed = True
        if self.weather.wire > 1:
            yield 1 + int(self.rng.random() * self.weather.wire)
        parcel.position = position
        self.parcels.pop(parcel, None)
        if parcel.sender is not None:
            self.clockwork.wake(parcel.sender)

    def heard(self) -> Steps:
        """Sleep until the own topic can be reached again."""
        while self.silenced:
            self.mute.append(self.clockwork.current)
            yield None

    def speak(self) -> None:
        """The own topic can be reached again."""
        self.silenced = False
        for process in self.mute:
            self.clockwork.wake(process)
        self.mute.clear()

    # Failures

    def crash(self) -> None:
        """The process dies; COMMITs and frames on their way arrive, or not, sooner or later."""
        node = self.node
        if node is None:
            return
        self.counts["node crashed"] += 1
        self.node = None
        node.end_all()
        self.leave_parcels(node)

    def double(self, early: bool = False) -> None:
        """A second process starts beside the first, which goes on until it finds out.

        With ``early`` also while the first one is still taking over.
        """
        if self.node is not None and (early or self.node.epoch):
            self.counts["two nodes of a region"] += 1
            self.zombies.append(self.node)
            self.start()

    def restart(self, process: Process | None) -> None:
        """One actor has lost its session; it starts again."""
        node = self.node
        if node is not None and process is not None:
            node.restart(process, 1 + int(self.rng.random() * self.weather.linger))

    def leave_sessions(
        self, node: Node, process: Process | None = None, sent: bool = False
    ) -> None:
        """What becomes of open sessions (of one process) that nobody listens to any more.

        With ``sent`` only of those whose COMMIT is on its way.
        """
        for tx in list(self.database.open):
            if tx.node is not node or tx.over or process not in (None, tx.process):
                continue
            if sent and not tx.sent:
                continue
            if tx.wants is not None:
                self.database.rollback(tx)
                continue
            linger = 1 + int(self.rng.random() * self.weather.linger)
            self.clockwork.spawn("session", self._end_session(tx), linger)

    def _end_session(self, tx) -> Steps:
        if not tx.over:
            if tx.sent and self.rng.random() < 0.5:
                self.counts["COMMIT arrived after its sender was gone"] += 1
                self.database.commit(tx)
            else:
                if tx.sent:
                    self.counts["COMMIT lost"] += 1
                self.database.rollback(tx)
        return
        yield

    def leave_parcels(self, node: Node) -> None:
        """What becomes of records on their way whose sender is gone."""
        rng = self.rng
        for parcel in [each for each in self.parcels if each.node is node]:
            parcel.sender = None
            carrier = parcel.carrier
            if carrier is None or not carrier.alive or parcel.landed:
                continue
            if rng.random() < 0.3:
                self.clockwork.kill(carrier)
                del self.parcels[parcel]
                self.counts["record on its way lost"] += 1
            elif rng.random() < 0.6:
                # Later than it would have been, perhaps behind the claim of a successor.
                self.clockwork.kill(carrier)
                del self.parcels[parcel]
                late = 1 + int(rng.random() * self.weather.late)
                self.clockwork.spawn("late record", self._arrive_late(parcel), late)

    def _arrive_late(self, parcel: Parcel) -> Steps:
        self.counts["record arrived late"] += 1
        self._land(parcel.record)
        return
        yield

    def _land(self, record: Record) -> None:
        self.topic.append(record, self.clockwork.now)
        self.journal.landed(self.database, record)
