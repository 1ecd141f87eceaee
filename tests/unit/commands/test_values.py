"""Values of rows on a terminal."""

import io

from meshnode.commands.letters import conflict_view
from meshnode.commands.values import SHOWN_CHARACTERS, cell, window, windows
from meshnode.core.stamp import Stamp
from meshnode.ops.conflicts import Conflict
from meshnode.topology import Bus, MysqlAddress, Region, Replicate, Topology


def test_what_a_cell_says():
    image = {"a": None, "b": "x", "c": 1.5}
    assert [cell(image, name) for name in "abcd"] == ["NULL", "'x'", "1.5", "(no such column)"]
    assert cell(None, "a") == "(deleted)"


def test_a_short_text_is_shown_whole():
    assert window("x" * SHOWN_CHARACTERS) == "x" * SHOWN_CHARACTERS
    assert windows("one", "two") == ("one", "two")


def test_a_long_text_says_what_is_left_out():
    shown = window("x" * 5000)
    assert len(shown) < SHOWN_CHARACTERS + 60
    assert shown.endswith(f"(1-{SHOWN_CHARACTERS} of 5000 characters)")


def test_both_windows_hold_the_first_difference():
    same = "s" * 100_000
    one, other = windows(same + "A" + same, same + "B" + same)
    assert "A" in one and "B" in other
    assert len(one) < SHOWN_CHARACTERS + 60


def test_a_text_that_goes_on_where_the_other_ends():
    one, other = windows("x" * 5000, "x" * 4999)
    assert "4900-4999 of 4999" in other and "4900-5000 of 5000" in one


def test_a_conflict_between_huge_rows_is_shown_at_once():
    """Laying out all of two 60 MiB columns took minutes."""
    from rich.console import Console

    topology = Topology(
        mesh="m",
        replicate=Replicate(tables=("a.*",)),
        bus=Bus(kind="file", dir="/b"),
        regions=(Region(id=1, name="one", mysql=MysqlAddress(host="h")),),
    )
    row = {"id": 1, "data": "00" * 2**20}
    conflict = Conflict(
        "one", 1, "2026-01-01", "a.t", {"id": 1}, "update/update", "certain", "lww", "",
        Stamp(2, 1), Stamp(1, 1), row, row | {"data": row["data"] + "01"}, 1, 1, "u:1",
    )  # fmt: skip
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(conflict_view(topology, conflict))
    text = console.export_text()
    assert len(text) < 20_000
    assert "* data" in text.replace("*  data", "* data")
