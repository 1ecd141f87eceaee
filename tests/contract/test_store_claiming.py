"""What every store promises the origin (see `meshnode/store/port.py`)."""

import asyncio
from collections.abc import Callable

import pytest
from store_harness import EPOCH, OWN, SOON, TABLE, Region_, applied, claiming, fence
from store_works import NEW, OLD, PEER, insert, lift, opened, plan_of
from virtual.rows import ZERO, wire_key

from meshnode.core.change import Transaction
from meshnode.core.gtid import GtidSet
from meshnode.core.ledger import Published
from meshnode.core.mend import Fate
from meshnode.core.wire import DELETE, UPDATE, WRITE
from meshnode.errors import Busy, Fenced, LostCommits, Retry
from meshnode.store.port import Claiming
from meshnode.store.values import Decisions, Joined, Log, Tail

TABLES = [("shop", "t")]

# The epoch


def anything(*_: int) -> None:
    """Whatever was found, or is committed, is welcome."""


def into(found: list[tuple[int, int]]) -> Callable[[int, int], None]:
    """Note the two epochs that were found."""
    return lambda epoch, applied: found.append((epoch, applied))


async def test_the_epoch_is_raised_in_every_row_and_the_incarnation_given_once(
    region: Region_,
) -> None:
    found: list[tuple[int, int]] = []
    sent: list[int] = []
    async with claiming(region) as session:
        assert (await session.member()).incarnation == 0
        assert await session.raise_epoch(True, into(found), sent.append) == EPOCH + 1
        first = await session.member()
        assert (first.region, first.epoch) == (OWN, EPOCH + 1)
        assert first.incarnation > 0
        assert await session.raise_epoch(True, into(found), sent.append) == EPOCH + 2
        assert await session.member() == first._replace(epoch=EPOCH + 2)
    assert found == [(EPOCH, EPOCH), (EPOCH + 1, EPOCH + 1)]
    assert sent == [EPOCH + 1, EPOCH + 2]
    assert await region.epochs() == [EPOCH + 2] * 3


async def test_nothing_lasts_when_the_epoch_that_was_found_is_refused(region: Region_) -> None:
    def refuse(epoch: int, applied: int) -> None:
        raise Fenced(f"found {epoch}", "")

    sent: list[int] = []
    async with claiming(region) as session:
        with pytest.raises(Fenced, match=f"found {EPOCH}"):
            await session.raise_epoch(True, refuse, sent.append)
        assert await region.epochs() == [EPOCH] * 3
        assert (await session.member()).incarnation == 0
        assert await session.raise_epoch(True, anything, anything) == EPOCH + 1, "no lock was left"
    assert not sent


async def test_what_fails_before_the_commit_is_told_as_rolled_back(region: Region_) -> None:
    """An apply transaction holds its row for longer than is waited for it."""
    sent: list[int] = []
    async with claiming(region) as session, region.store.applying("a") as applier:
        assert await applier.begin(region.format, fence())
        with pytest.raises(Busy):
            await session.raise_epoch(True, anything, sent.append)
        assert not sent
        assert await region.epochs() == [EPOCH] * 3


async def test_two_that_raise_the_epoch_get_two(region: Region_) -> None:
    async with claiming(region) as one, claiming(region) as two:
        raised = (each.raise_epoch(True, anything, anything) for each in (one, two))
        got = await asyncio.gather(*raised)
        assert sorted(got) == [EPOCH + 1, EPOCH + 2]
    assert await region.epochs() == [EPOCH + 2] * 3


async def test_an_apply_transaction_is_over_before_its_row_gets_the_epoch(
    region: Region_,
) -> None:
    async with claiming(region) as session, region.store.applying("a") as applier:
        assert await applier.begin(region.format, fence())
        raising = asyncio.create_task(session.raise_epoch(True, anything, anything))
        while not await region.waiters():
            assert not raising.done()
        await applier.commit()
        assert await raising == EPOCH + 1
        stored = await applier.progress(PEER)
        assert stored is not None and (stored.seq, stored.epoch) == (1, EPOCH + 1)
        assert not await applier.begin(region.format, fence(2, old=1)), "it is fenced"


async def test_a_claim_of_the_same_process_waits_for_no_apply_transaction(
    region: Region_,
) -> None:
    """A huge one lasts for minutes, and nothing is published before the claim."""
    found: list[tuple[int, int]] = []
    async with claiming(region) as session, region.store.applying("a") as applier:
        assert await applier.begin(region.format, fence())
        assert await session.raise_epoch(False, into(found), anything) == EPOCH + 1
        assert await session.raise_epoch(False, into(found), anything) == EPOCH + 2
        assert found == [(EPOCH, EPOCH), (EPOCH + 1, EPOCH)]
        assert await region.epochs() == [EPOCH + 2, EPOCH, EPOCH]
        await applier.commit()
        assert await applier.begin(region.format, fence(2, old=1)), "it is not fenced"


async def test_other_sessions_end_with_what_they_had_open(region: Region_) -> None:
    async with (
        claiming(region) as session,
        region.store.applying("a") as applier,
        region.store.applying("b") as successor,
    ):
        await opened(region, applier)
        await applier.write(plan_of(insert(1)))
        successor.close()
        await session.end_others()
        with pytest.raises(Retry):
            await applier.progress(PEER)
        assert applier.closed and not session.closed
        await session.keep_alive()
    async with region.store.applying("c") as successor:
        assert await successor.begin(region.format, fence()), "the row is free"
        await successor.write(plan_of(insert(1, NEW)))
        await successor.commit()
    assert (await region.standing(1)).row == NEW


async def test_the_tail_is_what_the_heart_wrote_last(region: Region_) -> None:
    gtids = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9"
    tail = Tail(b"place", 7, gtids, 33, EPOCH, gtids.replace("1-", ""), 17_000)
    async with claiming(region) as session, region.store.beating() as heart:
        assert (await session.member()).tail.position == b""
        assert await heart.beat(EPOCH, tail, 500, 44, "{}")
        assert (await session.member()).tail == tail


# What was decided, and what was done


async def test_decisions_are_the_replicated_tables_and_what_is_skipped(region: Region_) -> None:
    async with claiming(region) as session:
        tables, skipped = await session.decisions()
        assert [each[:2] for each in tables] == TABLES and not skipped
        (joined,) = tables
        assert GtidSet(joined.since).issubset(GtidSet((await session.history()).executed))
        await region.skip("b:2")
        await region.skip("a:1")
        assert await session.decisions() == Decisions([Joined(*joined)], ["a:1", "b:2"])


async def executed(session: Claiming) -> GtidSet:
    history = await session.history()
    assert GtidSet(history.purged).issubset(GtidSet(history.executed))
    return GtidSet(history.executed)


async def test_what_is_committed_is_executed(region: Region_) -> None:
    client = await region.client()
    async with claiming(region) as session:
        before = await executed(session)
        await client.begin()
        await client.insert(1, "own")
        assert await executed(session) == before
        await client.commit()
        assert len((await executed(session)).subtract(before)) == 1


# The binary log


async def read(log: Log, most: int) -> list[Transaction]:
    """The next transactions of ``log``."""
    found: list[Transaction] = []
    async with asyncio.timeout(SOON):
        while len(found) < most:
            found += log.assembler.feed(await log.stream.read(100))
    assert len(found) == most
    return found


async def open_log(
    session: Claiming, after: GtidSet, *skipped: str, newest: Published | None = None
) -> Log:
    return await session.open_log(str(after), newest, TABLES, skipped, lambda: 1 << 20)


async def test_the_log_shows_what_clients_did_and_beats_and_not_what_was_applied(
    region: Region_,
) -> None:
    client = await region.client()
    async with claiming(region) as session, region.store.beating() as heart:
        after = await executed(session)
        await client.insert(1, "one")
        await applied(region, insert(2))
        await client.update(1, "two")
        await client.delete(1)
        await heart.beat(EPOCH, Tail(epoch=EPOCH), 500, 44, "{}")
        log = await open_log(session, after)
        try:
            *shown, beat = await read(log, 4)
        finally:
            log.stream.close()
        passed = GtidSet()
        passed.add(gtid for tx in (*shown, beat) for gtid in tx.passed)
        assert passed == (await executed(session)).subtract(after)
    assert [[op.kind for op in tx.ops] for tx in shown] == [[WRITE], [UPDATE], [DELETE]]
    assert {key for tx in shown for op in tx.ops for key in op.wire_keys()} == {wire_key(1)}
    assert [tx.ops[0].rows.count(b"\3two") for tx in shown] == [0, 1, 1]
    tombs = [tomb for tx in shown for tomb in tx.tombstones]
    assert tombs == [(TABLE.digest, wire_key(1), (await region.standing(1)).tomb)]
    assert beat.beat is not None and (beat.beat.wall_us, beat.beat.frontier) == (500, 44)
    assert list(log.known) == [TABLE.digest]


async def test_a_lift_comes_with_what_it_had_replaced(region: Region_) -> None:
    await applied(region, insert(1))
    async with claiming(region) as session:
        after = await executed(session)
        one = lift(1, OLD)
        await session.lift([one], region.format, lambda: 5_000)
        assert one.fate is Fate.LIFTED
        log = await open_log(session, after)
        try:
            (tx,) = await read(log, 1)
        finally:
            log.stream.close()
        note = tx.mended[TABLE.digest, wire_key(1)]
        assert (note.seen, note.base, note.base_row) == (OLD, ZERO, False)


async def test_a_skipped_transaction_is_passed_over(region: Region_) -> None:
    client = await region.client()
    async with claiming(region) as session:
        after = await executed(session)
        await client.insert(1, "bad")
        skipped = (await executed(session)).subtract(after)
        await client.insert(2, "good")
        log = await open_log(session, after, str(skipped))
        try:
            (tx,) = await read(log, 1)
        finally:
            log.stream.close()
        assert tx.ops[0].wire_keys() == [wire_key(2)]
        assert len(tx.passed) == 2


async def test_what_was_published_last_is_passed_over_where_it_is_the_same(
    region: Region_,
) -> None:
    client = await region.client()
    async with claiming(region) as session:
        before = await executed(session)
        await client.insert(1, "published")
        after = await executed(session)
        await client.insert(2, "next")
        log = await open_log(session, before)
        (old, _) = await read(log, 2)
        log.stream.close()
        newest = Published(old.tx_id, old.commit_us)
        log = await open_log(session, after, newest=newest)
        try:
            (tx,) = await read(log, 1)
        finally:
            log.stream.close()
        assert tx.ops[0].wire_keys() == [wire_key(2)]
        # Its number was given to another one: what the server had is lost.
        log = await open_log(session, after, newest=newest._replace(commit_us=old.commit_us - 1))
        with pytest.raises(LostCommits, match=f"lost commits .*{old.tx_id}"):
            await read(log, 1)
        log.stream.close()


async def test_a_successor_s_epoch_shows_in_the_log(region: Region_) -> None:
    client = await region.client()
    async with claiming(region) as session:
        after = await executed(session)
        await session.raise_epoch(False, anything, anything)
        await client.insert(1, "later")
        log = await open_log(session, after)
        try:
            await read(log, 1)
        finally:
            log.stream.close()
        assert log.assembler.notices.epoch == EPOCH + 1
