"""The rules of a stream see what they are there for: each is broken once by hand."""

import pytest

from chaos.journal import Journal
from chaos.judge import unexcused
from chaos.streams import Rules

TABLE = bytes(8) + b"\x05chaos\x00\x01t\x00"
TRANSACTION, PART, HEARTBEAT = 0, 1, 2


def frame(*items: list, epoch: int = 1) -> list:
    return ["F", 1, "mesh", 1, 9, epoch, "9.7", b"", 0, "", [TABLE], list(items)]


def claim(epoch: int) -> list:
    return ["C", 1, "mesh", 1, 9, epoch]


def item(
    seq: int, tx: str = "", *entries: list, kind: int = TRANSACTION, last: bool = True
) -> list:
    beat = [1, 0, entries[0], ""] if kind == HEARTBEAT else None
    found = [] if kind == HEARTBEAT else list(entries)
    return [seq, kind, tx or f"u:{seq}", 0, 0, last, True, [], found, beat, 0]


def restamped(seq: int, *entries: list) -> list:
    return [*item(seq, "", *entries)[:-1], 1]


def entry(ts: int, base: int = 0, removed: int = 0, key: bytes = b"k") -> list:
    return [0, key, removed, ts, 1, base, 1 if base else 0, True]


def found(tmp_path, *records: list, repeats: bool = False) -> list[str]:
    journal = Journal(tmp_path / "journal.jsonl")
    rules = Rules("a", journal, repeats)
    for record in records:
        rules.take(record)
    journal.close()
    return [check for check, _ in journal.findings]


def test_a_stream_as_it_should_be(tmp_path) -> None:
    records = [
        claim(1),
        frame(item(1, "", entry(10)), item(2, "", 5, kind=HEARTBEAT)),
        frame(item(3, "", entry(12, 10, removed=1))),
        claim(2),
        # The first process had one frame on its way: void, and before the second one's first.
        frame(item(4, "lost", entry(20)), epoch=1),
        frame(item(4, "", entry(20, 12), entry(21, key=b"l")), epoch=2),
        frame(item(5, "huge", entry(30, 20), kind=PART, last=False), epoch=2),
        claim(3),
        frame(item(6, "huge", entry(30, 20), kind=PART, last=False), epoch=3),
        frame(item(7, "huge", entry(31, 21, key=b"l"), kind=PART), epoch=3),
    ]
    assert found(tmp_path, *records) == []


def test_a_version_before_a_restamp_may_pass_as_it_is(tmp_path) -> None:
    records = [frame(item(1, "", entry(20, removed=1))), frame(restamped(2, entry(12, 20)))]
    assert found(tmp_path, *records) == []
    assert found(tmp_path, records[0], frame(item(2, "", entry(12, 20)))) == ["I7", "I7"]


def test_what_was_seen_in_part_is_excused_only_where_rows_were_restamped() -> None:
    suspicions = [("I6", "W4: oregon: the bank of region 2 holds 7", "oregon")]
    assert unexcused(suspicions, {"oregon": {"lifts": 1}}) == []
    assert unexcused(suspicions, {"oregon": {"lifts": 0}, "tokyo": {"lifts": 3}}) == [
        ("I6", "W4: oregon: the bank of region 2 holds 7")
    ]


@pytest.mark.parametrize(
    ("check", "records"),
    [
        ("I5", [frame(item(1)), frame(item(3))]),
        ("I5", [frame(item(1)), frame(item(2)), frame(item(1))]),
        ("I10", [frame(item(1, "u:1")), frame(item(2, "u:1"))]),
        ("I7", [frame(item(1, "", 50, kind=HEARTBEAT), item(2, "", entry(50)))]),
        ("I7", [frame(item(1, "", entry(10, 10)))]),
        ("I7", [frame(item(1, "", entry(10))), frame(item(2, "", entry(9)))]),
        ("I13", [claim(2), frame(item(1), epoch=2), frame(item(2), epoch=1)]),
    ],
)
def test_a_broken_rule_is_seen(tmp_path, check: str, records: list) -> None:
    assert check in found(tmp_path, *records)


def test_repetitions_are_allowed_where_a_fault_makes_them(tmp_path) -> None:
    repeated = [frame(item(1)), frame(item(2)), frame(item(1)), frame(item(2)), frame(item(3))]
    assert found(tmp_path, *repeated, repeats=True) == []
