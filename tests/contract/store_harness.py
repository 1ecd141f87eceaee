"""The stores under the contract suite: one in memory, and a real server.

Both hold a region with the id 1 whose table ``shop.t`` is replicated, and the rows of the peers 2
and 3 in ``applied``.  A harness gives the store itself, clients beside it, and a look at what is
committed, in the same words for both.
"""

import asyncio
import base64
import re
import sys
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "integration"))

from virtual.bookkeeping import HEARTBEAT, MEMBER, Applied, Parked, applied_name, install
from virtual.clients import Client
from virtual.database import DUPLICATE, Database, row_name, tomb_name
from virtual.rows import Stamp, number_of, number_table, value_of, wire_key
from virtual.store import MemoryStore

from meshnode.accounts import Account
from meshnode.core.mend import Restamped
from meshnode.core.plan import Ancestry, Work, make_plan
from meshnode.core.shape import Column, FieldType
from meshnode.core.wire import Beat
from meshnode.errors import MeshError, RowError
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.control import Control, code_of, connect_to
from meshnode.mysql.maps import make_table
from meshnode.mysql.restamp import format_description
from meshnode.mysql.schema import tombstone_table
from meshnode.mysql.store import MysqlStore
from meshnode.store.port import Applying, Claiming, Resolving
from meshnode.store.values import Fence, Mark, Tail
from meshnode.topology import MysqlAddress, Region

OWN, EPOCH, INCARNATION = 1, 4, 7
PEERS = (2, 3)
TABLE = number_table()
MORE = Column("more", FieldType.LONG, nullable=False)
WIDER = make_table(build_table_map(1, "shop", "t", (*TABLE.shape.columns, MORE), (0,)))
TOMBSTONES = tombstone_table("shop", "t")
SOON = 30.0


class Standing(NamedTuple):
    """What is committed of one key."""

    value: str | None
    row: Stamp | None
    tomb: Stamp | None


class Memory:
    """A region in memory."""

    table = TABLE
    format = b"a format description"

    def __init__(self) -> None:
        self.database = Database(lambda: 1_700_000_000_000_000)
        self.database.tables[TABLE.digest] = TABLE
        install(self.database, OWN, PEERS, EPOCH)
        self.store = MemoryStore("home", self.database)

    async def client(self) -> Any:
        return Client(self.database, OWN, TABLE)

    async def standing(self, key: int) -> Standing:
        at = TABLE, wire_key(key)
        row = self.database.records.get(row_name(at))
        tomb = self.database.records.get(tomb_name(at))
        value = value_of(row.table, row.image) if row else None
        return Standing(value, row.stamp if row else None, tomb)

    async def conflicts(self) -> list[tuple[int, str, Stamp, Stamp]]:
        return [
            (number_of(each.key), each.kind, each.winner, each.loser)
            for each in self.database.notes["conflict"]
        ]

    async def letters(self) -> list[tuple[int, int]]:
        return [
            (number_of(each.row.incoming.entry.key), each.code)
            for each in self.database.records.values()
            if isinstance(each, Parked)
        ]

    async def states(self) -> list[tuple[int, str, str]]:
        """The letters' keys, states and notes."""
        return [
            (number_of(each.row.incoming.entry.key), each.state, each.note)
            for each in self.database.records.values()
            if isinstance(each, Parked)
        ]

    async def ask_for_replays(self) -> None:
        """Do what an operator does who wants every open letter replayed."""
        for name, each in list(self.database.records.items()):
            if isinstance(each, Parked) and each.state == "open":
                self.database.records[name] = replace(each, state="replay", note="")

    async def widen(self) -> None:
        """Give the table a column more, for the time being."""
        self.database.tables[TABLE.digest] = WIDER

    async def narrow(self) -> None:
        """Take the column away."""
        self.database.tables[TABLE.digest] = TABLE

    async def skip(self, tx_id: str) -> None:
        """Do what an operator does who leaves a transaction out."""
        self.store.skipped.add(tx_id)

    async def epochs(self) -> list[int]:
        """The epoch in ``member``, and those of the peers in ``applied``."""
        records = self.database.records
        return [records[name].epoch for name in (MEMBER, *map(applied_name, PEERS))]

    async def beat(self) -> tuple[int, int, int, Tail]:
        """Number, time and frontier of the heartbeat row, and the tail in ``member``."""
        row: Beat = self.database.records[HEARTBEAT]
        return row.beat, row.wall_us, row.frontier, self.database.records[MEMBER].tail

    async def waiters(self) -> int:
        """How many transactions wait for a lock."""
        await asyncio.sleep(0)
        return self.database.locks.waiters()

    async def replace_epoch(self, epoch: int) -> None:
        for peer in PEERS:
            name = applied_name(peer)
            row = self.database.records[name]
            self.database.records[name] = Applied(seq=row.seq, epoch=epoch)

    async def close(self) -> None:
        pass


class Real:
    """A region of a real server, prepared once for all tests of a session."""

    table = TABLE

    sql: Control

    def __init__(self, server: Any) -> None:
        self.server = server
        region = Region(id=OWN, name="home", mysql=MysqlAddress(server.host, server.port))
        apply, tail = (Account(f"mesh_{role}", server.password) for role in ("apply", "tail"))
        self.store = MysqlStore(region, apply, tail, set())
        self._clients: list[MysqlClient] = []

    async def connect(self) -> None:
        """Connect, and forget what the test before has left."""
        self.sql = await self._session()
        for statement in (
            "DELETE FROM shop.t",
            f"DELETE FROM {TOMBSTONES}",
            "DELETE FROM meshnode.conflict_log",
            "DELETE FROM meshnode.dead_letter",
            "DELETE FROM meshnode.paused",
            "DELETE FROM meshnode.mend",
            f"UPDATE meshnode.member SET epoch = {EPOCH}, incarnation = 0",
            "UPDATE meshnode.heartbeat SET beat = 0, wall_us = 0, frontier = 0",
            f"UPDATE meshnode.applied SET seq = 0, epoch = {EPOCH}, incarnation = 0,"
            " position = '', frontier = 0, stream_epoch = 0, heard_us = 0, commit_us = 0",
        ):
            await self.sql.execute(statement)

    async def client(self) -> Any:
        made = MysqlClient(await self._session())
        self._clients.append(made)
        return made

    async def _session(self) -> Control:
        login = Account(self.server.user, self.server.password)
        address = MysqlAddress(self.server.host, self.server.port)
        return await connect_to(address, login, server="home")

    @property
    def format(self) -> bytes:
        return _format()

    async def standing(self, key: int) -> Standing:
        row = await self.sql.row(
            "SELECT v, _mesh_ts, _mesh_origin FROM shop.t WHERE id = %s", (key,)
        )
        tomb = await self.sql.row(
            f"SELECT _mesh_ts, _mesh_origin FROM {TOMBSTONES} WHERE id = %s", (key,)
        )
        return Standing(
            row[0].decode() if row else None, Stamp(*row[1:]) if row else None,
            Stamp(*tomb) if tomb else None,
        )  # fmt: skip

    async def conflicts(self) -> list[tuple[int, str, Stamp, Stamp]]:
        rows = await self.sql.rows(
            "SELECT CAST(row_key->>'$.id' AS SIGNED), kind, winner_ts, winner_origin, loser_ts,"
            " loser_origin FROM meshnode.conflict_log ORDER BY id"
        )
        return [(key, kind, Stamp(*rest[:2]), Stamp(*rest[2:])) for key, kind, *rest in rows]

    async def letters(self) -> list[tuple[int, int]]:
        return list(
            await self.sql.rows(
                "SELECT CAST(row_key->>'$.id' AS SIGNED), code FROM meshnode.dead_letter"
                " ORDER BY id"
            )
        )

    async def states(self) -> list[tuple[int, str, str]]:
        return list(
            await self.sql.rows(
                "SELECT CAST(row_key->>'$.id' AS SIGNED), state, note FROM meshnode.dead_letter"
                " ORDER BY id"
            )
        )

    async def ask_for_replays(self) -> None:
        await self.sql.execute(
            "UPDATE meshnode.dead_letter SET state = 'replay', note = '' WHERE state = 'open'"
        )

    async def widen(self) -> None:
        await self.sql.execute("ALTER TABLE shop.t ADD COLUMN more INT NOT NULL DEFAULT 7")

    async def narrow(self) -> None:
        await self.sql.execute("ALTER TABLE shop.t DROP COLUMN more")

    async def skip(self, tx_id: str) -> None:
        await self.sql.execute(
            "INSERT INTO meshnode.dead_letter (at, origin, seq, tx_id, ts, stamp_origin, code,"
            " cause, body, state) VALUES (UTC_TIMESTAMP(6), %s, 0, %s, 0, 0, 0, '', '', 'skipped')",
            (OWN, tx_id),
        )

    async def epochs(self) -> list[int]:
        rows = await self.sql.rows("SELECT epoch FROM meshnode.applied ORDER BY origin")
        return [
            await self.sql.value("SELECT epoch FROM meshnode.member"),
            *(row[0] for row in rows),
        ]

    async def beat(self) -> tuple[int, int, int, Tail]:
        row = await self.sql.row("SELECT beat, wall_us, frontier FROM meshnode.heartbeat")
        tail = await self.sql.row(
            "SELECT tail_position, tail_seq, tail_gtids, tail_frontier, tail_epoch, tail_tx_id,"
            " tail_commit_us FROM meshnode.member"
        )
        return *row, Tail(*tail)

    async def waiters(self) -> int:
        """How many transactions wait for a lock."""
        # Other than information_schema.innodb_trx this is never an answer of a moment ago.
        _, _, status = await self.sql.row("SHOW ENGINE INNODB STATUS")
        return status.count("\nLOCK WAIT ")

    async def replace_epoch(self, epoch: int) -> None:
        await self.sql.execute(f"UPDATE meshnode.applied SET epoch = {epoch}")

    async def close(self) -> None:
        for client in self._clients:
            await client.sql.close()
        await self.sql.close()


class MysqlClient:
    """A client's session with a real server."""

    def __init__(self, sql: Control) -> None:
        self.sql = sql

    async def _execute(self, sql: str, *values: object) -> None:
        try:
            await self.sql.execute(sql, values)
        except MeshError as error:
            if code_of(error) == DUPLICATE:
                raise RowError(error.what, DUPLICATE) from error
            raise

    async def begin(self) -> None:
        await self._execute("BEGIN")

    async def commit(self) -> None:
        await self._execute("COMMIT")

    async def rollback(self) -> None:
        await self._execute("ROLLBACK")

    async def insert(self, key: int, value: str) -> None:
        await self._execute("INSERT INTO shop.t (id, v) VALUES (%s, %s)", key, value)

    async def update(self, key: int, value: str) -> None:
        await self._execute("UPDATE shop.t SET v = %s WHERE id = %s", value, key)

    async def delete(self, key: int) -> None:
        await self._execute("DELETE FROM shop.t WHERE id = %s", key)


def _format() -> bytes:
    """The format description that events made here follow."""
    found = re.search(rb"'(.*)'", format_description(), re.DOTALL)
    assert found is not None
    return base64.b64decode(found[1])


async def real_region(server: Any) -> Real:
    """The region of ``server``, connected and empty."""
    made = Real(server)
    await made.connect()
    return made


Region_ = Memory | Real


def claiming(region: Region_) -> AbstractAsyncContextManager[Claiming]:
    """The session of an origin, which is the mender's, too."""
    return region.store.claiming(Restamped())


def resolving(region: Region_) -> AbstractAsyncContextManager[Resolving]:
    """The session of a resolver."""
    return region.store.resolving(Restamped())


def fence(
    seq: int = 1, old: int = 0, origin: int = 2, epoch: int = EPOCH, position: bytes = b"place"
) -> Fence:
    mark = Mark(seq, f"tx:{seq}", position, 1, 100 + seq, 200 + seq, 300 + seq, seq)
    return Fence(origin, INCARNATION, mark, old, epoch)


async def carry_out(session: Applying, works: list[Work], deep: bool = False) -> None:
    """Steps 2 to 5 of an apply transaction."""
    state = await session.lock(works, deep, False)
    plan = make_plan(works, state, Ancestry(100, OWN))
    images = await session.standing(plan)
    await session.write(plan)
    await session.look(plan)
    await session.record(plan, images, 2)


async def applied(region: Region_, *works: Work, origin: int = 2) -> None:
    """Apply ``works`` in one transaction of their own, looking at everything."""
    async with region.store.applying("setup") as session:
        stored = await session.progress(origin)
        assert stored is not None
        assert await session.begin(region.format, fence(stored.seq + 1, stored.seq, origin))
        await carry_out(session, list(works), deep=True)
        await session.commit()
