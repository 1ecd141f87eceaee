"""Steps that the scripted races share: a running mesh, waiting, and what must hold at the end.

Nothing here sleeps for a fixed time: a step waits for a condition and names it
when it does not come.
"""

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from mesh import NAMES, Mesh, mesh_of

from meshnode.bus.port import ORIGIN
from meshnode.core.wire import Claim, Frame, Sender, decode
from meshnode.limits import MIB
from meshnode.mysql.control import Control
from meshnode.mysql.schema import tombstone_table
from meshnode.topology import Limits

QUICK = Limits(heartbeat_seconds=0.2)
"""A faster pulse: a mesh settles in half a second."""

READ_BYTES = 1 * MIB
WAIT_SECONDS = 20.0
LOOK_SECONDS = 0.02
TRX_LOOK_SECONDS = 0.15
"""``information_schema.innodb_trx`` shows old rows to whoever looks within 0.1 s of the last."""

PLAIN = "CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(40), n INT NOT NULL DEFAULT 0)"


@contextlib.asynccontextmanager
async def running(
    servers: Callable, folder: Path, *tables: str, regions: int = 2, limits: Limits = QUICK
) -> AsyncIterator[Mesh]:
    """A mesh of running nodes that replicate ``tables`` (default: ``app.t``)."""
    lent = await servers(regions) if callable(servers) else servers
    async with mesh_of(lent, folder, limits=limits) as mesh:
        await mesh.everywhere("CREATE DATABASE app", *(tables or (PLAIN,)))
        await mesh.init()
        mesh.start()
        yield mesh


async def until(
    holds: Callable[[], Awaitable[object] | object],
    what: str,
    seconds: float = WAIT_SECONDS,
    look: float = LOOK_SECONDS,
) -> object:
    """Wait until ``holds()`` is true; its value.  ``what`` names it in the failure."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(look)


async def sees(
    mesh: Mesh, at: int, sql: str, wanted: object, seconds: float = WAIT_SECONDS
) -> None:
    """Wait until the first column of the first row of ``sql`` in a region is ``wanted``."""
    found: list[object] = [None]

    async def look() -> bool:
        found[0] = await mesh.sql[at].value(sql)
        return found[0] == wanted

    try:
        await until(look, "", seconds)
    except AssertionError:
        raise AssertionError(
            f"{NAMES[at]}: {sql} is {found[0]!r}, not {wanted!r}; {mesh.states()}"
        ) from None


def actor_of(mesh: Mesh, at: int, name: str):
    """The actor of a region's node with this name."""
    node, _ = mesh.nodes[at]
    return next(each for each in node.actors if each.name == name)


def actor(mesh: Mesh, at: int, name: str):
    """The state of one actor of a region's node."""
    return actor_of(mesh, at, name).state


async def waits(mesh: Mesh, at: int, name: str, *words: str, state: str = "halted"):
    """Wait until an actor is in ``state`` with a reason (or remedy) that has all ``words``."""

    def look() -> object:
        now = actor(mesh, at, name)
        text = f"{now.reason}; {now.remedy}"
        return now if now.state == state and all(word in text for word in words) else None

    try:
        return await until(look, "")
    except AssertionError:
        raise AssertionError(
            f"{NAMES[at]}: {name} is not {state} with {words}; {mesh.states()}"
        ) from None


class Lost(NamedTuple):
    """A row of ``conflict_log``, as far as tests ask."""

    kind: str
    certainty: str
    winner: int
    loser: int
    image: dict | None


async def records(mesh: Mesh, key: dict, table: str = "t") -> list[list[Lost]]:
    """The conflict records about ``key``, region by region, oldest first."""
    found = []
    for sql in mesh.sql:
        rows = await sql.rows(
            "SELECT row_key, kind, certainty, winner_origin, loser_origin, loser_image"
            " FROM meshnode.conflict_log WHERE table_name = %s ORDER BY id",
            (table,),
        )
        found.append(
            [
                Lost(kind, certainty, winner, loser, json.loads(image) if image else None)
                for row_key, kind, certainty, winner, loser, image in rows
                if json.loads(row_key) == key
            ]
        )
    return found


async def converged(mesh: Mesh, table: str = "app.t", key: str = "id") -> list[tuple]:
    """Settle; the rows, the same everywhere with stamps, and none beside a newer tombstone."""
    await mesh.settle()
    rows = await mesh.same(table)
    await no_row_beside_a_newer_tombstone(mesh, table, key)
    return rows


async def no_row_beside_a_newer_tombstone(mesh: Mesh, table: str, key: str = "id") -> None:
    schema, name = table.split(".")
    same = " AND ".join(f"r.`{column}` = t.`{column}`" for column in key.split(","))
    for at, sql in enumerate(mesh.sql):
        beside = await sql.rows(
            f"SELECT r.* FROM {table} r JOIN {tombstone_table(schema, name)} t ON {same}"
            " WHERE (t._mesh_ts, t._mesh_origin) > (r._mesh_ts, r._mesh_origin)"
        )
        assert not beside, f"{NAMES[at]}: rows beside a newer tombstone in {table}: {beside}"


async def stamp(sql: Control, key: object, table: str = "app.t") -> tuple[int, int] | None:
    """The stamp of the row with this ``id``."""
    return await sql.row(f"SELECT _mesh_ts, _mesh_origin FROM {table} WHERE id = %s", (key,))


async def tombstone(sql: Control, key: object, table: str = "app.t") -> tuple[int, int] | None:
    """The tombstone of ``id``."""
    name = tombstone_table(*table.split("."))
    return await sql.row(f"SELECT _mesh_ts, _mesh_origin FROM {name} WHERE id = %s", (key,))


async def run(sql: Control, *statements: str) -> None:
    for statement in statements:
        await sql.execute(statement)


def applier(mesh: Mesh, at: int, peer: int):
    """The applier in region ``at`` of what region ``peer`` publishes."""
    return actor_of(mesh, at, f"applier {NAMES[peer]}")


def applying(mesh: Mesh, at: int, peer: int):
    """The session of that applier, which must be at work."""
    return applier(mesh, at, peer).loop.session


def has_rows(works, *_: object) -> bool:
    """Of the arguments of ``lock``: whether any row is to be locked, so that it is no heartbeat."""
    return any(work.incoming for work in works)


class Paused:
    """A method that stops after its first call that ``picks``, until it is let go.

    ``async with Paused(applying, "lock") as pause: ... await pause.reached(); ...``
    """

    def __init__(
        self, owner: object, method: str, picks: Callable[..., bool] = lambda *_: True
    ) -> None:
        self.owner, self.method, self.picks = owner, method, picks
        self._reached, self._go = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> "Paused":
        self._own = vars(self.owner).get(self.method)
        original = getattr(self.owner, self.method)

        async def stopping(*arguments, **named):
            found = await original(*arguments, **named)
            if not self._reached.is_set() and self.picks(*arguments):
                self._reached.set()
                await self._go.wait()
            return found

        setattr(self.owner, self.method, stopping)
        return self

    async def reached(self) -> None:
        """Wait until the call has been made and stands still."""
        await asyncio.wait_for(self._reached.wait(), WAIT_SECONDS)

    def go(self) -> None:
        self._go.set()

    async def __aexit__(self, *_: object) -> None:
        self.go()
        if self._own is None:
            delattr(self.owner, self.method)
        else:
            setattr(self.owner, self.method, self._own)


async def insert_and_delete_apart(mesh: Mesh) -> None:
    """The second region will get an insert of key 1 from the first, its delete from the third."""
    one, _, three = mesh.sql
    mesh.cut((0, 1), (2, 1))
    await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'i')")
    await sees(mesh, 2, "SELECT COUNT(*) FROM app.t", 1)
    await three.execute("DELETE FROM app.t WHERE id = 1")


async def lock_wait(sql: Control, held: int = 0) -> None:
    """Wait until some transaction with more than ``held`` row locks waits for another one."""

    async def look() -> object:
        return await sql.value(
            "SELECT COUNT(*) FROM information_schema.innodb_trx"
            f" WHERE trx_state = 'LOCK WAIT' AND trx_rows_locked > {held}"
        )

    await until(look, "a transaction that waits for a lock", look=TRX_LOOK_SECONDS)


async def topic(mesh: Mesh, at: int) -> list[Frame | Claim]:
    """The records of a region's topic up to the newest frame of its running node."""
    node, _ = mesh.nodes[at]
    sender = Sender(mesh.topology.mesh, at + 1, NAMES[at])
    reader = node.bus.reader(NAMES[at])
    found: list[Frame | Claim] = []
    position, end = ORIGIN, node.board.tail.position
    while position != end:
        for record in await reader.read(position, READ_BYTES):
            found.append(decode(record.payload, sender))
            position = record.after
            if position == end:
                break
    await reader.close()
    return found


@contextlib.asynccontextmanager
async def gardening(mesh, at: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """One round of tombstone GC in a region, to be had at once."""
    gardener = actor_of(mesh, at, "gardener")
    async with gardener.store.gardening() as session:
        yield lambda: gardener.drop_tombstones(session)


async def forget_topic(mesh: Mesh, name: str) -> None:
    """What an operator does with the tools of the bus."""
    bus = mesh.topology.bus
    if bus.kind == "file":
        shutil.rmtree(Path(bus.dir) / name)
        return
    admin = AIOKafkaAdminClient(bootstrap_servers=list(bus.kafka.bootstrap))
    await admin.start()
    try:
        topic = f"{mesh.topology.mesh}.{name}"
        await admin.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await admin.list_topics()

        await until(gone, "the topic is gone")
    finally:
        await admin.close()
