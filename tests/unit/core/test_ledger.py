"""Which records of a stream count, however they landed."""

import random

import pytest

from meshnode.core.ledger import Ledger
from meshnode.core.wire import HEARTBEAT, PART, TRANSACTION, VERSION, Beat, Claim, Frame, Item
from meshnode.errors import Halt

INCARNATION = 7


def claim(epoch, incarnation=INCARNATION):
    return Claim(VERSION, "shop", 2, incarnation, epoch)


def frame(epoch, *items, resume="", promised=0, incarnation=INCARNATION):
    return Frame(
        VERSION, "shop", 2, incarnation, epoch, "9.7.0", b"", promised, resume, [], list(items)
    )


def tx(seq):
    return Item(seq, TRANSACTION, f"a:{seq}", 0)


def part(seq, tx_id, number, last=False):
    return Item(seq, PART, tx_id, 0, number, last)


def beat(seq, promise):
    return Item(seq, HEARTBEAT, f"a:{seq}", 0, beat=Beat(1, 0, promise, ""))


def ledger(**fields):
    return Ledger("east", INCARNATION, **fields)


def read(records, into=None):
    """All that counts, and what was voided, as ``(seqs, voided, ledger)``."""
    into = into or ledger()
    seqs, voided = [], []
    for record in records:
        seqs += [item.seq for item in into.take(record)]
        voided += into.voided
    return seqs, voided, into


def test_items_count_in_order():
    seqs, voided, end = read([claim(1), frame(1, tx(1), tx(2), resume="a:1-2"), frame(1, tx(3))])
    assert (seqs, voided, end.seq, end.epoch) == ([1, 2, 3], [], 3, 1)


def test_the_resume_position_is_that_of_the_newest_frame():
    _, _, end = read([claim(1), frame(1, tx(1), resume="a:1"), frame(1, tx(2), resume="a:1-2")])
    assert end.resume == "a:1-2"


def test_a_frame_that_is_read_again_counts_once():
    first, second = frame(1, tx(1), resume="a:1"), frame(1, tx(2), resume="a:1-2")
    seqs, _, end = read([claim(1), first, second, first, second])
    assert seqs == [1, 2]
    seqs, _, end = read([first], end)
    assert (seqs, end.resume) == ([], "a:1-2"), "and takes nothing back"


def test_reading_starts_inside_a_frame():
    start = ledger(seq=2, epoch=1)
    seqs, _, _ = read([frame(1, tx(1), tx(2), tx(3))], start)
    assert seqs == [3]


@pytest.mark.parametrize("seq", [3, 4, 100])
def test_a_gap_halts(seq):
    with pytest.raises(Halt, match=f"item {seq} follows 1"):
        read([claim(1), frame(1, tx(1)), frame(1, tx(seq))])


def test_a_gap_inside_a_frame_halts():
    with pytest.raises(Halt, match="item 3 follows 1"):
        read([claim(1), frame(1, tx(1), tx(3))])


def test_another_incarnation_halts():
    for record in (claim(1, incarnation=8), frame(1, tx(1), incarnation=8)):
        with pytest.raises(Halt, match="begun anew"):
            read([record])


def test_a_frame_of_an_epoch_that_nobody_claimed_halts():
    with pytest.raises(Halt, match="epoch 2"):
        read([claim(1), frame(2, tx(1))])


def test_a_frame_that_lands_after_its_successor_is_void():
    seqs, _, end = read(
        [
            claim(1), frame(1, tx(1), resume="a:1"), claim(2),
            frame(1, tx(2), resume="a:1-2", promised=900),
            frame(2, tx(2), resume="a:1,5"),
        ]
    )  # fmt: skip
    assert seqs == [1, 2]
    assert (end.resume, end.promised) == ("a:1,5", 0)


def test_a_claim_below_the_highest_is_void():
    seqs, _, end = read([claim(3), frame(3, tx(1)), claim(2), frame(3, tx(2)), frame(2, tx(3))])
    assert (seqs, end.epoch) == ([1, 2], 3)


def test_a_claim_twice_is_one_claim():
    seqs, voided, _ = read(
        [claim(1), frame(1, part(1, "a:9", 0)), claim(1), frame(1, part(2, "a:9", 1, last=True))]
    )
    assert (seqs, voided) == ([1, 2], [])


def test_parts_count_one_by_one():
    seqs, voided, end = read(
        [
            claim(1),
            frame(1, part(1, "a:9", 0), part(2, "a:9", 1)),
            frame(1, part(3, "a:9", 2, True)),
        ]
    )
    assert (seqs, voided, end.open_parts, end.open_tx) == ([1, 2, 3], [], 0, "")


def test_a_claim_voids_the_parts_of_an_unfinished_transaction():
    seqs, voided, end = read(
        [
            claim(1), frame(1, tx(1), resume="a:1"),
            frame(1, part(2, "a:9", 0), resume="a:1"), frame(1, part(3, "a:9", 1), resume="a:1"),
            claim(2), frame(2, part(4, "a:9", 0), part(5, "a:9", 1, last=True), resume="a:1,9"),
        ]
    )  # fmt: skip
    assert (seqs, voided) == ([1, 2, 3, 4, 5], [2, 3])
    assert (end.seq, end.resume) == (5, "a:1,9")


def test_a_claim_after_a_finished_transaction_voids_nothing():
    _, voided, _ = read([claim(1), frame(1, part(1, "a:9", 0), part(2, "a:9", 1, True)), claim(2)])
    assert voided == []


def test_voided_is_told_once():
    end = ledger()
    read([claim(1), frame(1, part(1, "a:9", 0)), claim(2)], end)
    assert end.voided == [1]
    end.take(frame(2, tx(2)))
    assert end.voided == []


def test_whole_transactions_before_an_open_part_need_no_second_publication():
    """Their frame says how far whole transactions go; a successor must not send them again."""
    _, _, end = read([claim(1), frame(1, tx(1), part(2, "a:9", 0), resume="a:1"), claim(2)])
    assert end.resume == "a:1"


def test_an_unfinished_transaction_must_not_be_left():
    for follower in (tx(2), beat(2, 5), part(2, "a:8", 0), part(2, "a:9", 2), part(2, "a:9", 0)):
        with pytest.raises(Halt, match="a:9"):
            read([claim(1), frame(1, part(1, "a:9", 0)), frame(1, follower)])


def test_parts_must_begin_with_the_first():
    with pytest.raises(Halt, match="part 1 of a:9 where part 0"):
        read([claim(1), frame(1, part(1, "a:9", 1))])


def test_promises_only_rise():
    _, _, end = read(
        [claim(1), frame(1, beat(1, 50)), frame(1, beat(2, 40), promised=30), frame(1, tx(3))]
    )
    assert end.promised == 50
    _, _, end = read([frame(1, tx(4), promised=60)], end)
    assert end.promised == 60


@pytest.mark.parametrize("seed", range(40))
def test_a_peer_that_reads_from_anywhere_sees_the_same(seed):
    """Writers that die at any moment, late frames; every reader agrees with one that saw all."""
    rng = random.Random(seed)
    records, truth, stranded, number = [], ledger(), [], 0
    for epoch in range(1, 5):
        records += [claim(epoch), *stranded]
        truth.take(claim(epoch))
        seq, items = truth.seq, []
        for _ in range(rng.randint(0, 8)):
            number += 1
            count = rng.choice((1, 1, 2, 3))
            for each in range(count):
                seq += 1
                whole = tx(seq) if count == 1 else None
                items.append(whole or part(seq, f"b:{number}", each, each == count - 1))
        frames = []
        while items:
            size = rng.randint(1, 3)
            frames.append(frame(epoch, *items[:size]))
            items = items[size:]
        landed = rng.randint(0, len(frames))
        for record in frames[:landed]:
            truth.take(record)
        records += frames[:landed]
        stranded = frames[landed:]
    seqs, voided, end = read(records)
    assert seqs == list(range(1, end.seq + 1))
    assert (end.seq, end.epoch) == (truth.seq, truth.epoch)

    for stop in rng.sample(range(len(records) + 1), min(6, len(records))):
        half = ledger()
        before, gone, _ = read(records[:stop], half)
        if half.open_parts:
            continue
        again = ledger(seq=half.seq, epoch=half.epoch)
        rest, void, _ = read(records[max(0, stop - rng.randint(0, 4)) :], again)
        assert before + rest == seqs
        assert (again.seq, again.open_parts) == (end.seq, end.open_parts)
        assert {*gone, *(each for each in void if each > half.seq)} == set(voided)
