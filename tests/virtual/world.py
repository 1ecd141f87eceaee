"""A whole mesh in virtual time: databases, nodes, clients, and an adversary, all from one seed.

First everything that the seed's options allow goes wrong while clients write; then all of it
stops, and the mesh has so many seconds to become what its topics say.  An error that a
supervisor would show as a defect or a halt fails the run, too: nothing here needs an operator.
"""

import asyncio
import logging
import random
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from zlib import crc32

from meshnode.errors import Fenced, MeshError
from meshnode.limits import LOCK_WAIT_SECONDS, LOCKED_SECONDS

from . import oracle
from .bookkeeping import Parked, install
from .bus import MemoryBus, RoughLink, Topics
from .clients import Client
from .clock import virtual_time, wall_us
from .database import Database, Row
from .loop import Process, VirtualLoop
from .mending import Held
from .node import NAMES, VirtualNode, topology_of
from .options import Options, options_of
from .rows import number_table, widened, wire_key
from .session import RoughWire
from .store import MemoryStore

SETTLE_SECONDS = 60
REFUSED = 3819
TABLE = number_table()


class Errors(logging.Handler):
    """What the node's own log calls an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@dataclass
class Place:
    """One region: its database, and the process that is the newest of its nodes.

    ``skew``: microseconds that its server's clock is ahead.
    """

    number: int
    database: Database
    store: MemoryStore
    wire: RoughWire
    link: RoughLink
    skew: int
    node: VirtualNode | None = None
    process: Process | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class World:
    """The mesh of one seed."""

    def __init__(self, seed: int, options: Options | None = None) -> None:
        self.seed = seed
        self.random = random.Random(f"world {seed}")
        self.options = options or options_of(self.random)
        self.loop = VirtualLoop(seed)
        self.topics = Topics(self.random)
        self.topology = topology_of(self.options.regions, self.options.part_bytes)
        self.written: list[tuple[int, int, str]] = []
        self.counts: dict[str, int] = {}
        self.faulty = True
        self.places: list[Place] = []
        self.broken: list[str] = []
        self._values = 0

    def run(self) -> list[str]:
        """What is wrong at the end; nothing, if all is well."""
        errors = Errors()
        log = logging.getLogger("meshnode")
        log.addHandler(errors)
        propagate, log.propagate = log.propagate, False
        try:
            with virtual_time(self.loop):
                problems = self.loop.run(self._run())
        finally:
            log.removeHandler(errors)
            log.propagate = propagate
        for error in errors.said:
            if self.options.columns and "the definitions differ" in error:
                self.count("halted by a definition")
            else:
                problems.append(error)
        problems += [str(each.get("exception")) for each in self.loop.failures]
        return problems

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    async def _run(self) -> list[str]:
        options = self.options
        for number in range(1, options.regions + 1):
            self.places.append(self._place(number))
        self.loop.adversary = self._strike
        keepers = [asyncio.create_task(self._keep(place)) for place in self.places]
        async with asyncio.TaskGroup() as group:
            for place in self.places:
                for _ in range(options.clients):
                    group.create_task(self._client(place))
            if options.cuts:
                group.create_task(self._cut())
            if options.clock_steps:
                group.create_task(self._step_clocks())
            if options.columns:
                group.create_task(self._widen())
        self.faulty = False
        for place in self.places:
            place.wire.loss = place.link.loss = 0.0
            place.link.cut.clear()
            place.database.cannot_stand = lambda row: 0
        problems = ["the mesh was never looked at"]
        for _ in range(SETTLE_SECONDS):
            await asyncio.sleep(1.0)
            for place in self.places:
                await self._operate(place)
            problems = self.problems()
            if not problems:
                break
        for keeper in keepers:
            keeper.cancel()
        self._count_letters()
        problems += self.broken
        return problems + (self._states() if problems else [])

    def _place(self, number: int) -> Place:
        options, source = self.options, self.random
        skew = round(source.uniform(-options.skew, options.skew) * 1e6)
        database = Database(lambda: wall_us(self.loop) + place.skew)
        database.tables[TABLE.digest] = TABLE
        peers = [peer for peer in range(1, options.regions + 1) if peer != number]
        install(database, number, peers)
        database.cannot_stand = partial(self._refuse, number)
        wire = RoughWire(source, options.wire_lag, options.lost_answers)
        link = RoughLink(source, options.bus_lag, options.lost_messages)
        store = MemoryStore(NAMES[number - 1], database, wire)
        place = Place(number, database, store, wire, link, skew)
        return place

    def _refuse(self, number: int, row: Row) -> int:
        """MySQL's number if a constraint of region ``number`` refuses a version of another one."""
        own = row.stamp.origin == number
        return 0 if own or crc32(row.image) % 1000 >= self.options.refused * 1000 else REFUSED

    async def _operate(self, place: Place) -> None:
        """Do what an operator does once the cause is gone: have every letter replayed."""
        for name, letter in list(place.database.records.items()):
            if isinstance(letter, Parked) and letter.state == "open":
                tx = place.database.begin()
                with suppress(MeshError):
                    now = await place.database.read(tx, name, True, LOCK_WAIT_SECONDS)
                    if now == letter:
                        await place.database.update(tx, name, replace(letter, state="replay"))
                        place.database.commit(tx)
                place.database.rollback(tx)

    def _count_letters(self) -> None:
        for place in self.places:
            for each in place.database.records.values():
                if isinstance(each, Parked):
                    self.count("parked" if each.code else "set aside")

    # Nodes

    async def _keep(self, place: Place) -> None:
        """Start a node again whenever the newest one has ended."""
        while True:
            self._start(place)
            if self.random.random() < self.options.twins:
                # Another process for the same region, while the first one lives.
                await asyncio.sleep(self.random.uniform(0.5, 3.0))
                self.count("twins")
                self._start(place)
            await place.ended.wait()
            await asyncio.sleep(self.random.uniform(0.0, 1.0))

    def _start(self, place: Place) -> None:
        bus = MemoryBus(self.topics, place.link)
        place.ended = asyncio.Event()
        place.node = VirtualNode(self.topology, place.number, place.store, bus, 0.5)
        process = self.loop.spawn(f"node {place.number}", place.node.run())
        place.process = process
        process.task.add_done_callback(lambda task: self._ended(place, process, task))
        self.count("starts")

    def _ended(self, place: Place, process: Process, task: asyncio.Task) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Fenced):
            self.count("fenced")
        elif error is not None:
            self.broken.append(f"node {place.number} ended: {error!r}")
        if process is place.process:
            place.ended.set()

    def _strike(self, process: Process, task: asyncio.Task) -> None:
        """Before each step of a node: let it die, or be cancelled."""
        if not self.faulty:
            return
        drawn = self.random.random()
        if drawn >= self.options.kill + self.options.cancel:
            return
        place = self.places[int(process.name.split()[1]) - 1]
        if drawn < self.options.kill:
            self.count("kills")
            process.kill()
            place.store.hang_up(process)
            if process is place.process:
                place.ended.set()
        elif not process.task.done():
            self.count("cancels")
            process.task.cancel()

    async def _cut(self) -> None:
        """Cut topics off from readers and writers for a while, again and again."""
        until = self.loop.time() + self.options.seconds
        while self.loop.time() < until:
            await asyncio.sleep(self.random.uniform(0.2, 2.0))
            place = self.random.choice(self.places)
            place.link.cut = {NAMES[self.random.randrange(self.options.regions)]}
            self.count("cuts")
            await asyncio.sleep(self.random.uniform(0.2, 2.0))
            place.link.cut = set()

    async def _step_clocks(self) -> None:
        """Let servers' clocks jump."""
        until = self.loop.time() + self.options.seconds
        while self.loop.time() < until:
            await asyncio.sleep(self.random.uniform(0.2, 2.0))
            step = self.random.uniform(-self.options.clock_steps, self.options.clock_steps)
            self.random.choice(self.places).skew += round(step * 1e6)
            self.count("clock steps")

    async def _widen(self) -> None:
        """Add columns to the table, each in one region after the other."""
        pause = self.options.seconds / self.options.columns / self.options.regions
        for _ in range(self.options.columns):
            for place in self.random.sample(self.places, len(self.places)):
                await asyncio.sleep(self.random.uniform(0.0, pause))
                await place.database.alter(widened(place.database.tables[TABLE.digest]))
                self.count("columns added")

    # Clients

    async def _client(self, place: Place) -> None:
        client = Client(place.database, place.number, TABLE)
        until = self.loop.time() + self.options.seconds
        while self.loop.time() < until:
            await asyncio.sleep(self.random.expovariate(5.0))
            made: dict[int, str | None] = {}
            try:
                await self._transaction(client, made)
            except MeshError:
                self.count("clients disturbed")
                await client.rollback()

    async def _transaction(self, client: Client, made: dict[int, str | None]) -> None:
        source, options = self.random, self.options
        long = source.random() < options.long_transactions
        if long:
            await client.begin()
        for _ in range(source.randint(1, 4) if long else 1):
            await self._statement(client, source.randint(1, options.keys), made)
            if long:
                await asyncio.sleep(source.expovariate(10.0))
        if long and source.random() < options.idle:
            await asyncio.sleep(source.uniform(LOCKED_SECONDS, 2 * LOCKED_SECONDS))
        if long and source.random() < 0.2:
            await client.rollback()
            return
        await client.commit()
        for key, value in made.items():
            if value is not None:
                self.written.append((client.own, key, value))

    async def _statement(self, client: Client, key: int, made: dict[int, str | None]) -> None:
        source, options = self.random, self.options
        if source.random() < options.delete_share:
            await client.delete(key, seen=source.random() >= options.unseen_deletes)
            made[key] = None
            return
        self._values += 1
        value = f"v{client.own}.{self._values};"
        name = wire_key(key)
        row = client.database.value(client.tx, ("row", TABLE.digest, name))
        if row is None:
            await client.insert(key, value)
            made[key] = value
        else:
            await client.update(key, value)
            # Whoever deleted the row meanwhile has left nothing to update.
            row = client.database.value(client.tx, ("row", TABLE.digest, name))
            written = row is not None and value.encode() in row.image
            made[key] = value if written else made.get(key)

    # The verdict

    def problems(self) -> list[str]:
        """How the mesh differs from what its topics say."""
        streams = [oracle.read(place.number, self._payloads(place.number)) for place in self.places]
        self.counts["huge"] = sum(stream.huge for stream in streams)
        self.counts["unfinished"] = sum(stream.unfinished for stream in streams)
        problems = [
            f"topic {stream.region}: {problem}" for stream in streams for problem in stream.problems
        ]
        wanted = oracle.expected(streams)
        for place in self.places:
            problems += self._compared(place, wanted)
        problems += self._lost(streams)
        return problems

    def _payloads(self, number: int) -> list[bytes]:
        topic = self.topics.topics.get(NAMES[number - 1])
        if topic is None:
            return []
        return topic.forgotten + topic.payloads

    def _compared(self, place: Place, wanted: dict[bytes, tuple[int, int]]) -> list[str]:
        records = place.database.records
        rows = {
            name.key: tuple(value.stamp)
            for name, value in records.items()
            if isinstance(value, Row)
        }
        problems = [
            f"region {place.number}: key {key.hex()} is {rows.get(key)}, not {wanted.get(key)}"
            for key in sorted(rows.keys() | wanted.keys())
            if rows.get(key) != wanted.get(key)
        ]
        for key, stamp in sorted(rows.items()):
            image = records["row", TABLE.digest, key].image
            first = self.places[0].database.records.get(("row", TABLE.digest, key))
            if first is not None and first.stamp == stamp and first.image != image:
                problems.append(f"region {place.number}: key {key.hex()} has other values")
            tomb = records.get(("tomb", TABLE.digest, key))
            if tomb is not None and tuple(tomb) > stamp:
                problems.append(f"region {place.number}: key {key.hex()} stands beside {tomb}")
        if any(isinstance(value, Held) for value in records.values()):
            problems.append(f"region {place.number}: keys wait to be mended")
        if any(isinstance(value, Parked) and value.state != "closed" for value in records.values()):
            problems.append(f"region {place.number}: rows are set aside")
        return problems

    def _lost(self, streams: list[oracle.Stream]) -> list[str]:
        """Values that clients committed and that are neither published nor recorded."""
        shown = b"".join(bytes(stream.images) for stream in streams)
        for place in self.places:
            for each in place.database.notes["conflict"]:
                shown += each.arrived or b""
                shown += bytes.fromhex(each.stood or "")
        return [
            f"region {own}: {value} of key {key} is nowhere"
            for own, key, value in self.written
            if value.encode() not in shown
        ]

    def _states(self) -> list[str]:
        return [
            f"{place.number}: {actor.name} {actor.state.state} {actor.state.reason}"
            for place in self.places
            if place.node is not None
            for actor in place.node.actors
        ]
