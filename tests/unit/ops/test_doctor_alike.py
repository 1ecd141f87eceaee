"""Tables that are not alike in all regions: who is told what, before a stream halts."""

from types import SimpleNamespace

import pytest

from meshnode.core.shape import STAMPS, Column, FieldType, Shape
from meshnode.mysql.catalog import Default, Table, with_stamps
from meshnode.ops.checks import Context, Level
from meshnode.ops.doctor import list_checks
from meshnode.ops.doctor_alike import everywhere, generated, shapes
from meshnode.ops.doctor_tables import not_replicated
from meshnode.ops.verify_rows import compared_columns

ID = Column("id", FieldType.LONG, nullable=False)
V, W = Column("v", FieldType.LONG), Column("w", FieldType.LONG)
NAME = ("app", "t")


def table(*columns: Column, default: Default = Default.LITERAL, **generated: str) -> Table:
    return Table(
        shape=Shape(*NAME, columns, (0,)),
        engine="InnoDB",
        key=(),
        defaults=tuple(default if column is columns[-1] else Default.LITERAL for column in columns),
        generated=tuple(generated.items()),
    )


def region(name: str, found: Table | None, active: bool = True, named: bool = True) -> Context:
    topology = SimpleNamespace(matches=lambda *_: named)
    tables = {NAME: found} if found is not None and named else {}
    return Context(
        topology, SimpleNamespace(name=name), None, {}, (9, 7), tables,
        active={NAME} if active else set(),
    )  # fmt: skip


def told(findings: list) -> list[tuple]:
    assert all(finding.check in list_checks() for finding in findings)
    return [(finding.region, finding.level) for finding in findings]


SOURCE = table(ID, V, *STAMPS)


@pytest.mark.parametrize(
    ("other", "expected", "words"),
    [
        (SOURCE, [], ""),
        (table(ID, V, *STAMPS, W), [("a", Level.WARN)], "`w` (LONG) of the source is missing"),
        (table(ID, V, W, *STAMPS), [("b", Level.REFUSE)], "not behind the source's last"),
        (
            table(ID, V, *STAMPS, W, default=Default.EXPRESSION),
            [("b", Level.REFUSE)],
            "`w` of app.t has no literal default",
        ),
        (table(ID, V, *STAMPS, W, default=Default.NONE), [("b", Level.REFUSE)], "no literal"),
        (table(ID, W, *STAMPS), [("b", Level.REFUSE)], "`w` here and `v` at the source"),
    ],
)
def test_definitions_that_do_not_fit_and_those_that_wait(other, expected, words) -> None:
    found = shapes([region("a", SOURCE), region("b", other)])
    assert told(found) == expected
    assert all(words in finding.finding for finding in found)


def test_stamps_come_behind_what_is_there() -> None:
    assert with_stamps(table(ID, V)).shape == SOURCE.shape
    assert with_stamps(SOURCE) == SOURCE


@pytest.mark.parametrize(
    ("mine", "theirs", "level"),
    [
        ("(`id` * 2)", "(`id` * 2)", None),
        ("(`id` * 2)", "(`id` * 3)", Level.WARN),
        ("(`id` * 2)", None, Level.REFUSE),
        (None, "(`id` * 2)", Level.REFUSE),
    ],
)
def test_a_column_that_is_not_generated_alike_is_told_and_compared(mine, theirs, level) -> None:
    one = table(ID, V, *STAMPS, **({"v": mine} if mine else {}))
    two = table(ID, V, *STAMPS, **({"v": theirs} if theirs else {}))
    found = generated([region("a", one), region("b", two)])
    assert told(found) == ([("b", level)] if level else [])
    assert all("`v`" in finding.finding for finding in found)
    for tables in ([one, two], [two, one]):
        assert (V in compared_columns(tables)) == (level is not None)


def test_a_table_that_one_region_alone_replicates() -> None:
    a, b, c = region("a", SOURCE), region("b", None, active=False), region("c", SOURCE)
    assert told(everywhere([a, b, c])) == [("b", Level.REFUSE)]
    assert "not on this server" in everywhere([a, b, c])[0].finding
    assert everywhere([a, c]) == []


async def test_a_replicated_table_that_the_topology_does_not_name() -> None:
    assert told(await not_replicated(region("a", SOURCE, named=False))) == [("a", Level.WARN)]
    assert await not_replicated(region("a", SOURCE)) == []
