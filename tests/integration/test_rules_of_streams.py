"""The rules of what is published, read and forgotten: each with the rule on, and off."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from regions import now_us, write_past_triggers
from rules import both, ends, mender_of, switched, unfenced, values
from steps import (
    Paused,
    converged,
    gardening,
    run,
    running,
    sees,
    stamp,
    tombstone,
    until,
    waits,
)

from meshnode.actors import gardener
from meshnode.actors.apply_loop import ApplyLoop
from meshnode.core.frontier import gc_limit
from meshnode.core.stamp import MAX_TS, Stamp
from meshnode.errors import Halt
from meshnode.mysql import applier_session
from meshnode.mysql.applier_session import ApplierSession
from meshnode.mysql.assemble import Assembler
from meshnode.mysql.maps import Role
from meshnode.mysql.resolver_session import ResolverSession
from meshnode.mysql.schema import tombstone_table

TOMBSTONES = tombstone_table("app", "t")
CHECK = "ALTER TABLE app.t ADD CONSTRAINT small CHECK (n < 100)"


@both
async def test_applied_transactions_are_not_published(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: each region gives the other's rows back as its own."""
    rows = Assembler._rows

    def all_rows(self, kind, event, at, end) -> None:
        # What an apply transaction begins with is then one of the mesh's own tables, no mark.
        self._first_rows = False
        rows(self, kind, event, at, end)

    if rule == "off":
        monkeypatch.setattr(Assembler, "_rows", all_rows)
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
        if rule == "on":
            await converged(mesh)
            assert (await stamp(one, 1))[1] == 1
            assert mesh.count("lifts") == 0
        else:
            await until(lambda: mesh.count("lifts") > 3, "lifts of a row that nobody wrote again")


@both
async def test_the_origin_column_does_not_say_what_is_local(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """Off: a client's row with a foreign origin passes for an applied one, and is published never.

    A cascade leaves such rows, and whoever writes past the triggers.
    """
    rows = Assembler._rows

    def by_column(self, kind, event, at, end) -> None:
        self._first_rows = False
        mapped = self.maps.get(event[at : at + 6])
        if mapped is not None and mapped.role is Role.REPLICATED:
            # The origin is the last column, and one byte.
            foreign = event[end - 1] not in (0, self.notices.region_id)
            self._skip = self._skip or foreign
        rows(self, kind, event, at, end)

    if rule == "off":
        monkeypatch.setattr(Assembler, "_rows", by_column)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await two.execute("INSERT INTO app.t (id, v) VALUES (1, 'two')")
        await mesh.settle()
        await write_past_triggers(one, "UPDATE app.t SET v = 'one' WHERE id = 1")
        await ends(mesh, rule, ["one"], ["one", "two"])


@both
async def test_an_item_is_applied_once(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: a topic that is read again brings a row back whose tombstone everybody has forgotten."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'gone'), (2, 'stays')")
        await mesh.settle()
        await two.execute("DELETE FROM app.t WHERE id = 1")
        await mesh.settle()
        await mesh.everywhere(f"DELETE FROM {TOMBSTONES}")
        await mesh.stop(1)
        await two.execute("UPDATE meshnode.applied SET position = X''")
        if rule == "off":
            monkeypatch.setattr(applier_session, "fence", unfenced)
        with switched(rule, "no dedup"):
            mesh.start(1)
            await one.execute("INSERT INTO app.t (id, v) VALUES (3, 'later')")
            await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 3", "later")
            assert await values(mesh) == [None, None if rule == "on" else "gone"]


async def forgotten_too_early(servers, tmp_path, rule: str, mutant: str) -> None:
    """A delete is newer than an insert that is still on its way; the delete's tombstone decides."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'one')")
        await mesh.settle()
        mesh.isolate(0)
        await two.execute("UPDATE app.t SET v = 'older' WHERE id = 1")
        await one.execute("DELETE FROM app.t WHERE id = 1")
        removed = (await tombstone(one, 1))[0]
        board = mesh.nodes[0][0].board
        await until(lambda: board.tail.frontier > removed, "an own promise above the delete")
        with switched(rule, mutant):
            async with gardening(mesh, 0) as garden:
                await garden()
        assert (await tombstone(one, 1) is None) is (rule == "off")
        mesh.cut()
        await ends(mesh, rule, [], ["older", None])


@both
async def test_tombstones_do_not_go_by_age(servers, tmp_path, rule) -> None:
    await forgotten_too_early(servers, tmp_path, rule, "tombstones go by age")


@both
async def test_tombstones_wait_for_the_promise_of_others(servers, tmp_path, rule) -> None:
    await forgotten_too_early(servers, tmp_path, rule, "tombstones go without the others")


@both
async def test_tombstones_wait_for_parked_rows(servers, tmp_path, rule) -> None:
    """Off: a parked row is replayed over a delete that nobody remembers."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await two.execute(CHECK)
        node = mesh.nodes[1][0]
        # The round of the resolver that would close the letter.
        late = Paused(ResolverSession, "parked", lambda self, *_: self.own == 2 and bool(parked))
        parked: list[bool] = []
        async with late as pause:
            await one.execute("INSERT INTO app.t VALUES (1, 'big', 200)")
            await sees(mesh, 1, "SELECT COUNT(*) FROM meshnode.dead_letter", 1)
            parked.append(True)
            await pause.reached()
            await one.execute("DELETE FROM app.t WHERE id = 1")
            removed, _ = await tombstone(one, 1)
            await until(lambda: node.board.tail.frontier > removed, "the own promise")
            await sees(mesh, 1, f"SELECT frontier > {removed} FROM meshnode.applied", 1)
            with switched(rule, "parked rows do not hold tombstones"):
                async with gardening(mesh, 1) as garden:
                    await garden()
            assert (await tombstone(two, 1) is None) is (rule == "off")
            await two.execute("ALTER TABLE app.t DROP CHECK small")
            await two.execute("UPDATE meshnode.dead_letter SET state = 'replay'")
            pause.go()
            await sees(mesh, 1, "SELECT state FROM meshnode.dead_letter", "closed")
        assert await values(mesh) == [None, None if rule == "on" else "big"]


async def forgotten_by_all_others(servers, tmp_path, rule: str, switch: Callable) -> None:
    """Off: an insert that has not been looked at yet is published below a delete all have seen."""
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        board = mesh.nodes[0][0].board
        # Time for the insert to come below it, and less than what region two promises beyond the
        # last clock that it heard from region one, which falls silent.
        ahead = now_us() + 3_000_000
        await two.execute(f"INSERT INTO {TOMBSTONES} VALUES (1, {ahead}, 2)")
        await mesh.settle()
        async with mender_of(1) as pause:
            await pause.reached()
            await one.execute("INSERT INTO app.t (id, v) VALUES (1, 'x')")
            await sees(mesh, 0, f"SELECT frontier > {ahead} FROM meshnode.applied", 1)
            await until(lambda: board.promised > ahead, "an own promise that is not published")
            with switch(board):
                async with gardening(mesh, 0) as garden:
                    await garden()
            assert (await tombstone(one, 1) is None) is (rule == "off")
        await ends(mesh, rule, ["x"], ["x", None])


@both
async def test_tombstones_wait_for_the_own_stream(servers, tmp_path, rule) -> None:
    mutant = "tombstones go without the own promise"
    await forgotten_by_all_others(servers, tmp_path, rule, lambda _: switched(rule, mutant))


@both
async def test_the_own_promise_counts_when_it_is_published(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """Off: what the heartbeat row says counts, which the stream has not come to yet."""

    @contextmanager
    def as_written(board) -> Iterator[None]:
        with monkeypatch.context() as patch:
            if rule == "off":
                patch.setattr(
                    gardener,
                    "gc_limit",
                    lambda known, _, parked: gc_limit(known, board.promised, parked),
                )
            yield

    await forgotten_by_all_others(servers, tmp_path, rule, as_written)


@both
async def test_the_promise_waits_for_open_transactions(servers, tmp_path, rule) -> None:
    """Off: what a client wrote before the promise and commits after it comes too late for it."""
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        with switched(rule, "the frontier is now"):
            async with await mesh.session(0) as client:
                await run(client, "BEGIN", "INSERT INTO app.t (id, v) VALUES (1, 'x')")
                beat = await one.value("SELECT beat FROM meshnode.heartbeat")
                later = f"SELECT beat > {beat + 2} FROM meshnode.heartbeat"
                await sees(mesh, 0, later, 1)
                await client.execute("COMMIT")
            await converged(mesh)
            assert mesh.count("lifts") == (0 if rule == "on" else 1)


@both
async def test_a_row_that_cannot_stand_is_kept(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: the row is left out, the stream goes on, and nobody has it."""

    async def forget(self, *_) -> None:
        pass

    if rule == "off":
        monkeypatch.setattr(ApplierSession, "park", forget)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await two.execute(CHECK)
        await one.execute("INSERT INTO app.t VALUES (1, 'big', 200), (2, 'small', 1)")
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 2", "small")
        kept = [json.loads(key)["id"] for (key,) in await two.rows(
            "SELECT row_key FROM meshnode.dead_letter")]  # fmt: skip
        assert kept == ([1] if rule == "on" else [])
        assert await values(mesh) == ["big", None]


@both
async def test_a_letter_is_closed_when_it_is_overtaken(
    servers, tmp_path, monkeypatch, rule
) -> None:
    """Off: as soon as somebody looks at it.  The row never comes."""

    async def always(self, table, key) -> Stamp:
        return Stamp(MAX_TS, 0)

    if rule == "off":
        monkeypatch.setattr(ResolverSession, "version", always)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await mesh.settle()
        await two.execute(CHECK)
        await one.execute("INSERT INTO app.t VALUES (1, 'big', 200), (2, 'big', 200)")
        state = "SELECT state FROM meshnode.dead_letter WHERE JSON_VALUE(row_key, '$.id') = {}"
        await sees(mesh, 1, state.format(2), "open")
        await one.execute("UPDATE app.t SET n = 1 WHERE id = 2")
        await sees(mesh, 1, state.format(2), "closed")
        assert await two.value(state.format(1)) == ("open" if rule == "on" else "closed")
        await two.execute("ALTER TABLE app.t DROP CHECK small")
        await two.execute("UPDATE meshnode.dead_letter SET state = 'replay' WHERE state = 'open'")
        await sees(mesh, 1, state.format(1), "closed")
        assert await values(mesh) == ["big", "big" if rule == "on" else None]


@both
async def test_a_replay_is_no_local_transaction(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: the row is published under the name of the region that replayed it."""

    async def unmarked(self, letter, epoch) -> bool:
        await begin(self, letter, epoch)
        await self.session.rollback()
        await self.session.query("BEGIN")
        return True

    begin = ResolverSession.begin_replay
    if rule == "off":
        monkeypatch.setattr(ResolverSession, "begin_replay", unmarked)
    async with running(servers, tmp_path) as mesh:
        one, two = mesh.sql
        await two.execute(CHECK)
        await one.execute("INSERT INTO app.t VALUES (1, 'big', 200)")
        await sees(mesh, 1, "SELECT COUNT(*) FROM meshnode.dead_letter WHERE state = 'open'", 1)
        await two.execute("ALTER TABLE app.t DROP CHECK small")
        await two.execute("UPDATE meshnode.dead_letter SET state = 'replay'")
        await sees(mesh, 1, "SELECT v FROM app.t WHERE id = 1", "big")
        await converged(mesh)
        assert (await stamp(one, 1))[1] == (1 if rule == "on" else 2)
        assert mesh.count("lifts") == (0 if rule == "on" else 1)


@both
async def test_a_stream_waits_for_its_table(servers, tmp_path, monkeypatch, rule) -> None:
    """Off: rows of a table that does not take part here yet are left out, and stay away."""
    works = ApplyLoop._works

    async def skipping(self, batch):
        try:
            return await works(self, batch)
        except Halt:
            return []

    if rule == "off":
        monkeypatch.setattr(ApplyLoop, "_works", skipping)
    async with running(servers, tmp_path) as mesh:
        one, _ = mesh.sql
        await mesh.everywhere("CREATE TABLE app.u (id INT PRIMARY KEY, v VARCHAR(40))")
        await mesh.init(regions=["one"])
        await one.execute("INSERT INTO app.u VALUES (1, 'x')")
        if rule == "on":
            await waits(mesh, 1, "applier one", "app.u is not replicated here yet", "init")
        else:
            await mesh.settle()
        await mesh.init(regions=["two"])
        await mesh.settle()
        found = [await sql.value("SELECT v FROM app.u") for sql in mesh.sql]
        assert found == ["x", "x" if rule == "on" else None]
