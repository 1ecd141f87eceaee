"""What ``meshnode verify`` says of what it found, and how it ends."""

from pathlib import Path

import pytest

from meshnode import cli
from meshnode.commands import observe
from meshnode.ops.verify import TableResult, Verdict

TOPOLOGY = Path(__file__).parents[3] / "topology" / "two-regions.toml"


@pytest.mark.parametrize(
    ("table", "said", "code"),
    [
        (TableResult("shop.t", rows=7), "identical: 1 tables, 7 rows in 2 regions", 0),
        (
            TableResult("shop.t", rows=7, moving=3),
            "identical, 3 keys still changing: 1 tables, 7 rows in 2 regions",
            1,
        ),
        (
            TableResult("shop.t", rows=7, moving=3, differing=1),
            "NOT identical, 3 keys still changing: 1 tables, 7 rows in 2 regions",
            1,
        ),
        (TableResult("shop.t", rows=7, orphan_count=1), "NOT identical: 1 tables", 1),
    ],
    ids=["identical", "moving", "differing", "orphans"],
)
def test_verify_ends_well_only_where_all_is_known_to_be_identical(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    table: TableResult,
    said: str,
    code: int,
) -> None:
    async def verify(*_: object, **options: object) -> Verdict:
        return Verdict(("east", "west"), [table])

    monkeypatch.setattr(observe.comparing, "verify", verify)
    assert cli.main(["verify", "--topology", str(TOPOLOGY)]) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(said)
    judged = [line for line in lines if "3 keys were still changing and were not judged" in line]
    assert bool(judged) == bool(table.moving)


def test_nothing_compared_is_not_identical() -> None:
    assert not Verdict(("east", "west"), []).identical
    assert not Verdict(("east", "west"), []).settled
