"""Which items the intake hands on as runs, and what is left of one that is taken apart."""

import pytest
from core_values import PEER, item_of, number_table, transaction, write
from msgspec.structs import replace
from test_applier_batches import INCARNATION, Records, intake_of

from meshnode.actors import intake as intake_module
from meshnode.actors.batching import next_batch
from meshnode.actors.intake import Intake, Mark, Ready
from meshnode.actors.kernel import Mailbox
from meshnode.core.change import Table
from meshnode.core.shape import Column, FieldType
from meshnode.core.stamp import Stamp
from meshnode.core.wire import HEARTBEAT, VERSION, Beat, Claim, Frame, Item, encode
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.maps import make_table

T = number_table()


def inserts(seq: int, *keys: int, table: int = 0) -> Item:
    """New rows of the table with this number in the frame; 1 has a column more."""
    rows = ((key, Stamp(1000 + seq, PEER)) for key in keys)
    item = item_of(transaction(write(T, *rows)), own=PEER)
    for each in (*item.ops, *item.entries):
        each.table = table
    item.ops[0].rows += bytes(4 * table)
    return replace(item, seq=seq, tx_id=f"a:{seq}", commit_us=seq)


def beat(seq: int) -> Item:
    return Item(seq, HEARTBEAT, "", 0, beat=Beat(seq, 500 + seq, 400 + seq, ""))


async def taken_in(
    *items: Item, tables: tuple[Table, ...] = (T,), **settings: int
) -> tuple[Intake, list[Ready]]:
    """What the intake makes of one frame with ``items``."""
    claim = encode(Claim(VERSION, "shop", PEER, INCARNATION, 1))
    maps = [table.map_body for table in tables]
    frame = Frame(VERSION, "shop", PEER, INCARNATION, 1, "9.7.0", b"fde", 0, "", maps, list(items))
    outbox: Mailbox[Ready] = Mailbox(1 << 30)
    reader = Records(claim, encode(frame))
    found = intake_of(reader, outbox)
    for name, value in settings.items():
        setattr(found, name, value)
    for record in await reader.read(b"", 0):
        await found._record(record)
    return found, outbox.take(1 << 30)


def marks(steps: list[Ready]) -> list[int]:
    return [step.mark.seq for step in steps]


async def test_a_stretch_of_ordinary_items_is_one_step():
    _, (run,) = await taken_in(*(inserts(seq, 2 * seq, 2 * seq + 1) for seq in range(1, 31)))
    assert (run.mark, run.rows, len(run.items)) == (Mark(30, "a:30", b"\2", 1, 0, 0, 30), 60, 30)
    assert [segment.keys[0] for segment in run.segments] == [(2).to_bytes(8, "little")]
    assert run.size == sum(len(op.rows) for item in run.items for op in item.ops)
    assert [table.title for table in run.used] == ["shop.t"]


async def test_rows_of_two_definitions_of_a_table_are_not_in_one_step():
    """A column was added under load: a frame may have rows from before and after it."""
    wider = make_table(
        build_table_map(1, "shop", T.name, (*T.shape.columns, Column("more", FieldType.LONG)), (0,))
    )
    assert wider.digest == T.digest
    before = [inserts(seq, seq) for seq in range(1, 31)]
    after = [inserts(seq, seq, table=1) for seq in range(31, 61)]
    _, steps = await taken_in(*before, *after, tables=(T, wider))
    taken = []
    while steps:
        batch = next_batch(steps, 1000, 10_000)
        assert len({table for ready in batch for table in ready.used}) == 1
        taken.append(batch[-1].mark.seq)
        del steps[: len(batch)]
    assert taken == [30, 60]


def test_a_batch_is_never_empty():
    """Whatever a step holds, the batch that is tried is that step at least."""
    forms = make_table(T.map_body), make_table(T.map_body)
    ready = Ready(Mark(1, "", b"", 1, 0, 0, 0), used=list(forms))
    assert next_batch([ready, ready], 1000, 10_000) == [ready]


async def test_short_stretches_are_left_as_they_are():
    _, steps = await taken_in(*(inserts(seq, seq) for seq in range(1, 11)))
    assert marks(steps) == [*range(1, 11)]
    assert all(step.segments is None and step.incoming for step in steps)


async def test_a_run_ends_with_its_size_and_at_everything_else():
    held_back = replace(inserts(61, 61), exact=False)
    items = [inserts(seq, seq) for seq in range(1, 61)] + [held_back]
    items += [inserts(seq, seq) for seq in range(62, 92)] + [beat(92)]
    _, steps = await taken_in(*items, run_rows=40)
    assert [(step.mark.seq, len(step.items)) for step in steps] == [
        (40, 40), (60, 20), (61, 0), (91, 30), (92, 0),
    ]  # fmt: skip


async def test_a_run_knows_only_what_came_before_it():
    _, steps = await taken_in(beat(1), *(inserts(seq, seq) for seq in range(2, 42)), beat(42))
    assert [(step.mark.heard_us, step.mark.frontier) for step in steps] == [
        (501, 401), (501, 401), (542, 442),
    ]  # fmt: skip


async def test_the_newest_heartbeat_counts_though_its_clock_was_set_back():
    ahead = Item(1, HEARTBEAT, "", 0, beat=Beat(8, 3_600_000_000, 400, ""))
    back = Item(2, HEARTBEAT, "", 0, beat=Beat(9, 500, 400, ""))
    _, steps = await taken_in(ahead, back)
    assert [(step.mark.heard_us, step.mark.heard_beat) for step in steps] == [
        (3_600_000_000, 8), (500, 9),
    ]  # fmt: skip


async def test_only_the_last_item_of_a_record_moves_the_position_past_it():
    _, steps = await taken_in(*(inserts(seq, seq) for seq in range(1, 61)), run_rows=30)
    assert [step.mark.position for step in steps] == [b"\1", b"\2"]


async def test_a_run_taken_apart_gives_the_steps_that_its_items_would_have_been(monkeypatch):
    items = [beat(1), *(inserts(seq, seq) for seq in range(2, 42))]
    intake, (_, run) = await taken_in(*items)
    monkeypatch.setattr(intake_module, "LEAST_RUN_ROWS", 10_000)
    _, (_, *singly) = await taken_in(*items)
    apart = intake.taken_apart(run)
    assert [step.mark for step in apart] == [step.mark for step in singly]
    assert [step.item for step in apart] == [step.item for step in singly]
    for step, other in zip(apart, singly, strict=True):
        assert (step.format, step.rows, step.size) == (other.format, other.rows, other.size)
        assert [each.entry for each in step.incoming] == [each.entry for each in other.incoming]


def step(seq: int, rows: int, run: bool) -> Ready:
    return Ready(Mark(seq, "", b"", 1, 0, 0, 0), rows=rows, segments=[] if run else None)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([(600, True), (600, True)], 2),
        ([(600, True), (1, False)], 1),
        ([(600, False), (30, True)], 1),
        ([(600, True), (0, False), (30, True)], 3),
        ([(30, True), (1, False), (30, True)], 3),
    ],
    ids=["runs", "run and item", "item and run", "a mark between", "too small to stand apart"],
)
def test_large_batches_are_all_runs_or_none(steps, expected):
    made = [step(seq, rows, run) for seq, (rows, run) in enumerate(steps)]
    assert len(next_batch(made, 1_000_000, 4000)) == expected
