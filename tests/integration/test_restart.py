"""Nodes and servers that die at any moment, and processes that outlive their time.

A node is dropped: all its tasks end between two steps, and its connections with
them.  A new one goes on from the end of the topic and from ``meshnode.applied``.
"""

import asyncio
import contextlib
import random

import pymysql
import pytest
from mesh import NAMES
from steps import Paused, converged, running, sees, topic, until

from meshnode.actors import origin
from meshnode.core.wire import Claim, Frame, encode
from meshnode.errors import Fenced, MeshError
from meshnode.mysql.control import Control
from meshnode.node import Node


class Load:
    """One client: inserts, counts up, deletes; ``counts`` and ``kept`` are what it was told."""

    def __init__(self, first_key: int) -> None:
        self.first_key = first_key
        self.counts = 0
        self.kept: set[int] = set()
        self.unsure: set[int] = set()
        self.stop = False

    async def run(self, client: Control) -> None:
        key = self.first_key
        await client.execute("INSERT INTO app.t (id) VALUES (%s)", (self.first_key,))
        with contextlib.suppress(MeshError, pymysql.MySQLError, OSError):
            while not self.stop:
                key += 1
                self.unsure.add(key)
                async with client.transaction():
                    await client.execute("INSERT INTO app.t (id, v) VALUES (%s, 'x')", (key,))
                    await client.execute(
                        "UPDATE app.t SET n = n + 1 WHERE id = %s", (self.first_key,)
                    )
                self.unsure.discard(key)
                self.kept.add(key)
                self.counts += 1
                if key % 5 == 0:
                    self.unsure.add(key - 2)
                    await client.execute("DELETE FROM app.t WHERE id = %s", (key - 2,))
                    self.unsure.discard(key - 2)
                    self.kept.discard(key - 2)
        await client.close()


def check(load: Load, rows: list[tuple]) -> None:
    """What was acknowledged is there, once; what was not may be there or not."""
    mine = {row[0]: row[2] for row in rows if row[0] // 100_000 == load.first_key // 100_000}
    count = mine.pop(load.first_key)
    assert load.kept - set(mine) <= load.unsure
    assert set(mine) - load.kept <= load.unsure
    assert load.counts <= count <= load.counts + 1


@pytest.mark.kafka_essential
async def test_nodes_that_crash_at_random_moments(servers, tmp_path) -> None:
    """Nothing lost or doubled: positions commit with the data, and the topic is the checkpoint.

    Needed: the row of ``applied`` in the transaction of the data, and resuming from
    the own topic.  A position kept elsewhere loses or repeats what lies between.
    """
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    async with running(servers, tmp_path) as mesh:
        loads = [Load(100_000), Load(200_000)]
        tasks = [
            asyncio.create_task(load.run(await mesh.session(at))) for at, load in enumerate(loads)
        ]
        for _ in range(10):
            at = chance.randrange(2)
            # The moment is the point of this test.
            await asyncio.sleep(chance.uniform(0.05, 0.4))
            await mesh.drop(at)
            mesh.start(at)
        for load in loads:
            load.stop = True
        await asyncio.gather(*tasks)
        rows = await converged(mesh)
        for load in loads:
            assert load.counts > 20, f"seed {seed}"
            check(load, rows)
        assert mesh.count("parked") == 0
        for sql in mesh.sql:
            lost = await sql.rows("SELECT kind, row_key FROM meshnode.conflict_log")
            assert lost == [], f"seed {seed}"


async def test_a_server_that_is_killed(throwaway, tmp_path) -> None:
    """SIGKILL of mysqld: its node finds it again by itself, and all that was answered is there."""
    lent = [await throwaway(), await throwaway()]
    async with running(lent, tmp_path) as mesh:
        loads = [Load(100_000), Load(200_000)]
        tasks = [
            asyncio.create_task(load.run(await mesh.session(at))) for at, load in enumerate(loads)
        ]
        await until(lambda: min(load.counts for load in loads) > 20, "some load")
        await lent[0].kill_async()
        await tasks[0]
        loads[1].stop = True
        await tasks[1]
        await lent[0].start_async()
        await mesh.sql[0].close()
        mesh.sql[0] = await mesh.session(0)
        await mesh.sql[0].execute("INSERT INTO app.t (id, v) VALUES (1, 'after')")
        rows = await converged(mesh)
        assert rows[0][:2] == (1, "after")
        for load in loads:
            check(load, rows)


@pytest.mark.kafka_essential
async def test_a_second_node_of_a_region_takes_over(servers, tmp_path) -> None:
    """The first is fenced and stops by itself; the stream goes on without gap or double (I13)."""
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'first')")
        await mesh.settle()
        _, first = mesh.nodes[0]
        mesh.start(0)
        await one.execute("INSERT INTO app.t (id, v) VALUES (2, 'second')")
        done, _ = await asyncio.wait([first], timeout=20)
        assert done, "the first node still runs"
        assert isinstance(first.exception(), Fenced)
        rows = await converged(mesh)
        assert [row[1] for row in rows] == ["first", "second"]
        assert await one.value("SELECT epoch FROM meshnode.member") == 2


async def test_two_starters_out_of_order(servers, tmp_path, monkeypatch) -> None:
    """One raises the epoch, stands still, and goes on when another has long begun.

    Needed: the epoch in ``applied`` and the claim in the topic.  Exactly one of the two may
    live, and what both wrote is in the peer once.
    """
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await mesh.settle()
        await mesh.stop(0)
        slow = Node(mesh.topology, None, NAMES[0])
        async with Paused(origin, "raise_epoch") as pause:
            starting = asyncio.create_task(slow.run())
            await pause.reached()
            mesh.start(0)
            await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'during')")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "during")
            pause.go()
            _, other = mesh.nodes[0]
            done, _ = await asyncio.wait(
                [starting, other], timeout=40, return_when=asyncio.FIRST_COMPLETED
            )
            assert len(done) == 1, "both nodes of the region still run"
            (ended,) = done
            assert isinstance(ended.exception(), Fenced)
            if ended is other:
                mesh.nodes[0] = (slow, starting)
        await one.execute("INSERT INTO app.t (id, v) VALUES (2, 'after')")
        rows = await converged(mesh)
        assert [row[1] for row in rows] == ["during", "after"]
        if ended is starting:
            assert not starting.cancelled()


@pytest.mark.kafka_essential
async def test_a_late_frame_of_a_dead_process_counts_nowhere(servers, tmp_path) -> None:
    """A frame that lands behind the claim of a successor is void for owner and peers.

    Needed: the claim.  Without it the frame's numbers collide with the successor's.
    """
    key = 0x1B2C3D4E
    forged = 0x1B2C3D4F
    async with running(servers, tmp_path) as mesh:
        one = mesh.sql[0]
        await one.execute("INSERT INTO app.t (id, v) VALUES (%s, 'x')", (key,))
        await mesh.settle()
        old = next(
            frame
            for frame in await topic(mesh, 0)
            if isinstance(frame, Frame) and any(item.entries for item in frame.items)
        )
        # The same rows again as if they were the next item, under another key.
        item = next(item for item in old.items if item.entries)
        before, after = (number.to_bytes(4, "little") for number in (key, forged))
        for op in item.ops:
            op.rows = op.rows.replace(before, after)
        for entry in item.entries:
            entry.key = entry.key.replace(before, after)
        await mesh.stop(0)
        mesh.start(0)
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'successor')")
        await mesh.settle()
        node = mesh.nodes[0][0]
        last = node.board.tail.seq
        await mesh.stop(0)
        for seq in (last + 1, last + 2):
            item.seq = seq
            old.items = [item]
            writer = node.bus.writer(NAMES[0])
            await writer.open(5)
            await writer.append(encode(old))
            await writer.close()
        mesh.start(0)
        await one.execute("INSERT INTO app.t (id, v) VALUES (2, 'goes on')")
        rows = await converged(mesh)
        assert [row[0] for row in rows] == [1, 2, key]
        assert mesh.count("parked") == 0
        assert sum(isinstance(record, Claim) for record in await topic(mesh, 0)) == 3
