"""Mailboxes that hold back, actors that come back, and the end of a node."""

import asyncio
import contextlib

import pytest

from meshnode.actors import kernel
from meshnode.actors.kernel import (
    FIRST_PAUSE,
    HALT_PAUSE,
    LONGEST_PAUSE,
    Actor,
    Mailbox,
    State,
    Supervisor,
    together,
)
from meshnode.errors import Busy, Fenced, Halt, Refused, Retry, RowError

SOON = 10


async def turns(count=5):
    """Let everybody who can run do so."""
    for _ in range(count):
        await asyncio.sleep(0)


# Mailboxes


async def test_contents_come_out_in_order():
    box = Mailbox(100)
    for content in "abc":
        await box.put(content, 10)
    assert (len(box), box.weight, box.peek()) == (3, 30, "a")
    assert box.take(100) == ["a", "b", "c"]
    assert (len(box), box.weight, box.peek()) == (0, 0, None)


async def test_take_stops_at_its_weight_but_takes_one():
    box = Mailbox(100)
    for content, weight in (("a", 30), ("b", 30), ("c", 30)):
        await box.put(content, weight)
    assert box.take(60) == ["a", "b"]
    assert box.take(1) == ["c"]
    assert box.take(1) == []


@pytest.mark.parametrize(("weight", "gathered"), [(1000, 50), (30, 30), (5, 10)])
async def test_what_the_producer_has_at_hand_is_gathered_up_to_a_weight(weight, gathered):
    box = Mailbox(1000)
    later = asyncio.Event()

    async def produce() -> None:
        for number in range(6):
            if number == 5:
                await later.wait()
            box.add(number, 10)
            await asyncio.sleep(0)

    producing = asyncio.create_task(produce())
    await box.wait()
    await box.gather(weight)
    assert box.weight == gathered, "and nothing that has yet to come is waited for"
    later.set()
    await producing


async def test_one_entry_always_fits():
    box = Mailbox(10)
    await asyncio.wait_for(box.put("huge", 10_000), SOON)
    assert box.full
    assert box.take(1) == ["huge"]
    assert not box.full


async def test_a_full_box_holds_its_producer_back():
    box = Mailbox(10)
    await box.put("a", 10)
    waiting = asyncio.create_task(box.put("b", 10))
    await turns()
    assert not waiting.done()
    assert box.take(10) == ["a"]
    await asyncio.wait_for(waiting, SOON)
    assert box.take(10) == ["b"]


async def test_room_for_one_lets_one_producer_in():
    box = Mailbox(10)
    await box.put("a", 10)
    tasks = [asyncio.create_task(box.put(content, 10)) for content in "bc"]
    await turns()
    box.take(10)
    await turns()
    assert [task.done() for task in tasks].count(True) == 1
    assert len(box) == 1
    box.take(10)
    await asyncio.wait_for(asyncio.gather(*tasks), SOON)
    assert len(box) == 1


async def test_a_producer_that_gives_up_leaves_nothing():
    box = Mailbox(10)
    await box.put("a", 10)
    waiting = asyncio.create_task(box.put("b", 10))
    await turns()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert box.take(100) == ["a"]
    await asyncio.wait_for(box.put("c", 10), SOON)
    assert box.take(100) == ["c"]


async def test_an_empty_box_holds_its_consumer_back():
    box = Mailbox(10)
    waiting = asyncio.create_task(box.wait())
    await turns()
    assert not waiting.done()
    await box.put("a", 1)
    await asyncio.wait_for(waiting, SOON)
    await asyncio.wait_for(box.wait(), SOON)


# Actors


class Scripted(Actor):
    """Raises what it is told, one thing a start; then works until cancelled."""

    def __init__(self, name, *script):
        super().__init__(name)
        self.script = list(script)
        self.starts = 0
        self.working = asyncio.Event()
        self.seen = []

    async def run(self):
        self.seen.append((self.state.state, self.state.reason, self.state.remedy))
        self.starts += 1
        if self.script:
            step = self.script.pop(0)
            if step is None:
                return
            raise step
        self.running()
        self.working.set()
        await asyncio.Event().wait()


class Pauses:
    """A sleep that takes no time and remembers."""

    def __init__(self):
        self.taken = []

    async def __call__(self, seconds):
        self.taken.append(seconds)


async def supervised(*actors, until):
    """Run ``actors`` until ``until`` works; the pauses that were made."""
    pauses = Pauses()
    supervisor = Supervisor(pauses)
    task = asyncio.create_task(supervisor.run(actors))
    await asyncio.wait_for(until.working.wait(), SOON)
    supervisor.stop()
    await asyncio.wait_for(task, SOON)
    return pauses.taken


async def test_retries_come_back_after_growing_pauses():
    actor = Scripted("a", *(Retry("gone", "wait") for _ in range(9)))
    taken = await supervised(actor, until=actor)
    assert taken[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert taken[-1] == LONGEST_PAUSE
    assert (actor.starts, actor.state.restarts) == (10, 9)
    assert actor.seen[1] == ("retrying", "gone", "wait")


async def test_a_long_run_begins_again_with_the_first_pause(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(kernel.time, "monotonic", lambda: now[0])

    class Settled(Scripted):
        async def run(self):
            now[0] += kernel.SETTLED_AFTER + 1 if self.starts == 3 else 0
            await super().run()

    actor = Settled("a", *(Retry("gone") for _ in range(5)))
    taken = await supervised(actor, until=actor)
    first = FIRST_PAUSE
    assert taken == [first, 2 * first, 4 * first, first, 2 * first]


@pytest.mark.parametrize(
    "error",
    [
        Halt("schema differs", "change it"),
        Refused("schema differs", "change it"),
        RowError("a row that nobody parked", 3819),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_halt_shows_its_reason_and_tries_at_leisure(error):
    actor = Scripted("a", error)
    taken = await supervised(actor, until=actor)
    assert taken == [HALT_PAUSE]
    assert actor.seen[1] == ("halted", error.what, error.remedy)


class Halting(Actor):
    """Works for a moment at each start, and halts for the next of ``reasons``."""

    def __init__(self, now, reasons):
        super().__init__("tailer")
        self.now, self.reasons, self.working = now, reasons, asyncio.Event()
        self.halts = []

    async def run(self):
        if self.state.state == "halted":
            self.halts.append(self.state.since)
        self.now[0] += 3.0
        self.running()
        self.now[0] += 1.0
        if not self.reasons:
            self.working.set()
            await asyncio.Event().wait()
        raise Halt(self.reasons.pop(0))


async def test_a_halt_that_a_new_try_meets_again_stands_since_the_first(monkeypatch, caplog):
    now = [100.0]
    monkeypatch.setattr("meshnode.actors.kernel.time.time", lambda: now[0])
    actor = Halting(now, ["TRUNCATE", "TRUNCATE", "TRUNCATE", "DROP", "TRUNCATE"])
    await supervised(actor, until=actor)
    assert actor.halts == [104.0, 104.0, 104.0, 116.0, 120.0]
    assert [record.args[0] for record in caplog.records] == ["tailer"] * 3


async def test_a_halt_after_an_actor_has_worked_for_a_while_is_a_new_one(monkeypatch):
    monkeypatch.setattr("meshnode.actors.kernel.SETTLED_AFTER", -1.0)
    now = [100.0]
    monkeypatch.setattr("meshnode.actors.kernel.time.time", lambda: now[0])
    actor = Halting(now, ["retention passed", "retention passed"])
    await supervised(actor, until=actor)
    assert actor.halts == [104.0, 108.0]


async def test_a_defect_is_shown_with_its_place():
    actor = Scripted("a", ZeroDivisionError("oops"))
    await supervised(actor, until=actor)
    state, reason, remedy = actor.seen[1]
    assert state == "failed"
    assert reason.startswith("ZeroDivisionError: oops (run, line ")
    assert "report" in remedy


async def test_a_fenced_actor_ends_the_node():
    actor, other = Scripted("a", Fenced("taken over", "run one")), Scripted("b")
    with pytest.raises(Fenced, match="taken over"):
        await asyncio.wait_for(Supervisor(Pauses()).run([actor, other]), SOON)
    assert (actor.state.state, actor.state.remedy) == ("fenced", "run one")
    assert other.state.state == "stopped"


async def failing(*errors):
    """Works that fail together, and what `together` makes of it."""

    async def fail(error):
        raise error

    await asyncio.wait_for(together(*map(fail, errors), asyncio.Event().wait()), SOON)


async def test_a_fatal_error_goes_before_the_first_of_works_that_fail_together():
    with pytest.raises(Fenced):
        await failing(Retry("gone"), Fenced("taken over"), Busy("x"))


async def test_the_first_error_of_works_that_fail_together_counts():
    first, second = Halt("a"), Retry("b")
    with pytest.raises(Halt) as raised:
        await failing(first, second)
    assert raised.value is first


async def test_works_that_all_end_well_are_all_waited_for():
    ended = []

    async def work(turns_):
        await turns(turns_)
        ended.append(turns_)

    await asyncio.wait_for(together(work(1), work(5)), SOON)
    assert ended == [1, 5]


async def test_the_first_verdict_stands():
    supervisor = Supervisor(Pauses())
    supervisor.stop(Fenced("first"))
    supervisor.stop(Fenced("second"))
    with pytest.raises(Fenced, match="first"):
        await asyncio.wait_for(supervisor.run([Scripted("a")]), SOON)


async def test_a_stop_ends_all_and_raises_nothing():
    actors = [Scripted("a"), Scripted("b")]
    await supervised(*actors, until=actors[1])
    assert [actor.state.state for actor in actors] == ["stopped", "stopped"]


class Deaf(Actor):
    """Loses its first cancellation, as a driver does that is done at that very moment."""

    def __init__(self, name, alone):
        super().__init__(name)
        self.alone = alone
        self.working = asyncio.Event()

    async def run(self):
        await (self.work() if self.alone else together(self.work(), asyncio.Event().wait()))

    async def work(self):
        done = asyncio.get_running_loop().create_future()
        self.working.set()
        with contextlib.suppress(asyncio.CancelledError):
            await done
        await asyncio.Event().wait()


@pytest.mark.parametrize("alone", [True, False])
async def test_an_actor_that_lost_its_cancellation_is_asked_again(monkeypatch, alone):
    monkeypatch.setattr(kernel, "ASK_AGAIN_SECONDS", 0.01)
    actor = Deaf("a", alone)
    await supervised(actor, until=actor)
    assert actor.state.state == "stopped"


class Torn(Actor):
    """Its one task loses its connection at the very moment at which it is cancelled."""

    def __init__(self, name):
        super().__init__(name)
        self.working = asyncio.Event()
        self.starts = 0

    async def run(self):
        self.starts += 1
        await together(self.fail_on_the_way_out())

    async def fail_on_the_way_out(self):
        self.working.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise Retry("lost")


async def test_an_actor_that_fails_while_it_is_stopped_is_not_restarted():
    actor = Torn("a")
    await supervised(actor, until=actor)
    assert (actor.starts, actor.state.state) == (1, "stopped")


async def test_a_cancelled_supervisor_leaves_no_task_behind():
    actor = Scripted("a")
    task = asyncio.create_task(Supervisor(Pauses()).run([actor]))
    await asyncio.wait_for(actor.working.wait(), SOON)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert actor.state.state == "stopped"
    assert {each.get_name() for each in asyncio.all_tasks()}.isdisjoint({"a"})


async def test_an_actor_that_is_done_is_not_restarted():
    done, other = Scripted("a", None), Scripted("b", Retry("gone"))
    await supervised(done, other, until=other)
    assert (done.starts, done.state.state) == (1, "finished")


async def test_one_failing_actor_does_not_touch_another():
    failing = Scripted("a", *(Retry("gone") for _ in range(50)))
    steady = Scripted("b")
    await supervised(failing, steady, until=failing)
    assert steady.starts == 1


def test_a_state_keeps_its_time_while_nothing_changes(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(kernel.time, "time", lambda: now[0])
    state = State("a")
    state.set("halted", "because")
    now[0] = 200.0
    state.set("halted", "because", "do this")
    assert (state.since, state.remedy) == (100.0, "do this")
    state.set("halted", "another reason")
    assert state.since == 200.0
