"""The doctor's pure parts: table rules, grants, histories."""

import pytest

from meshnode.actors.takeover import lost_commits
from meshnode.core.gtid import GtidSet
from meshnode.core.shape import Column, FieldType, Shape
from meshnode.mysql.catalog import Default, Table
from meshnode.mysql.schema import KeyColumn
from meshnode.ops.checks import Level
from meshnode.ops.doctor import history, list_checks
from meshnode.ops.doctor_accounts import parse_grants
from meshnode.ops.grants import ROLES, statements
from meshnode.ops.table_rules import faults, stamp_faults

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


def table(*columns: Column, key: tuple[int, ...] = (0,), engine: str = "InnoDB", **more) -> Table:
    return Table(
        shape=Shape("app", "t", columns, key, more.pop("prefixes", ())),
        engine=engine,
        key=tuple(KeyColumn(columns[index].name, "int") for index in key),
        defaults=(Default.NONE,) * len(columns),
        **more,
    )


ID = Column("id", FieldType.LONG, nullable=False)
TS = Column("_mesh_ts", FieldType.LONGLONG, unsigned=True, nullable=False, visible=False)
ORIGIN = Column("_mesh_origin", FieldType.TINY, unsigned=True, nullable=False, visible=False)


@pytest.mark.parametrize(
    ("given", "check"),
    [
        (table(ID, key=()), "primary-key"),
        (table(Column("my_row_id", FieldType.LONGLONG, visible=False)), "primary-key"),
        (table(Column("a", FieldType.DOUBLE, 8)), "key-type"),
        (table(Column("a", FieldType.BLOB, 2), prefixes=(5,)), "key-prefix"),
        (table(Column("a", FieldType.VARCHAR, 3071)), "key-length"),
        (table(ID, engine="MyISAM"), "engine"),
        (table(ID, lossy_labels=("e",)), "labels"),
        (table(ID, Column("_mesh_ts", FieldType.LONGLONG)), "stamp-columns"),
    ],
)
def test_each_fault_alone(given: Table, check: str) -> None:
    (fault,) = faults(given)
    assert fault.check == check and fault.finding and fault.remedy
    assert check in list_checks()


def test_good_tables_have_no_fault() -> None:
    assert faults(table(ID, TS, ORIGIN)) == [] == stamp_faults(table(ID, TS, ORIGIN))
    assert faults(table(ID)) == []
    assert faults(table(Column("a", FieldType.VARCHAR, 3070))) == []
    visible_key = Column("my_row_id", FieldType.LONGLONG)
    assert faults(table(visible_key)) == []


def test_missing_stamps_are_named_one_by_one() -> None:
    assert ["_mesh_ts" in f.finding for f in stamp_faults(table(ID))] == [True, False]
    assert len(stamp_faults(table(ID, TS))) == 1


def test_grants_are_read_as_mysql_matches_them() -> None:
    grants = parse_grants(
        [
            "GRANT PROCESS, REPLICATION CLIENT ON *.* TO `u`@`%`",
            "GRANT REPLICATION_APPLIER ON *.* TO `u`@`%` WITH GRANT OPTION",
            r"GRANT SELECT, INSERT ON `a\_b`.* TO `u`@`%`",
            "GRANT ALL PRIVILEGES ON `shop%`.* TO `u`@`%`",
            "GRANT UPDATE ON `a_b`.`t` TO `u`@`%`",
            "GRANT `role`@`%` TO `u`@`%`",
        ]
    )
    assert grants.holds("PROCESS") and grants.holds("REPLICATION_APPLIER")
    assert grants.holds("SELECT", "a_b") and not grants.holds("SELECT", "axb")
    assert grants.holds("TRIGGER", "shop_eu") and not grants.holds("TRIGGER", "a_b")
    assert not grants.holds("UPDATE", "a_b")
    assert not grants.holds("SELECT")


def test_grants_on_a_pattern_reach_the_schemas_it_matches() -> None:
    grants = parse_grants(
        [r"GRANT SELECT ON `a_c`.* TO `u`@`%`", "GRANT ALL PRIVILEGES ON *.* TO x"]
    )
    assert grants.holds("SELECT", "abc")
    assert grants.holds("DELETE", "anything")


@pytest.mark.parametrize("role", ROLES)
def test_statements_of_an_account_quote_what_they_are_given(role) -> None:
    made = statements(role, "o'neil", "pass'word\\", ["my`db"])
    assert made[0] == "CREATE USER IF NOT EXISTS 'o''neil'@'%' IDENTIFIED BY 'pass''word\\\\'"
    assert any("ON `my``db`.*" in text for text in made)
    assert not any("SUPER" in text or "BINLOG_ADMIN" in text for text in made)


@pytest.mark.parametrize(
    ("published", "executed", "purged", "subjects"),
    [
        ("1-5", "1-9", "1-5", []),
        ("1-5", "1-5", "", []),
        ("1-5", "1-4", "1-3", ["gtid_executed"]),
        ("1-5", "1-9", "1-6", ["gtid_purged"]),
        ("1-5", "1-3:7-9", "7", ["gtid_executed", "gtid_purged"]),
    ],
)
def test_history(published: str, executed: str, purged: str, subjects: list[str]) -> None:
    sets = [GtidSet(f"{UUID}:{part}" if part else "") for part in (published, executed, purged)]
    lost = lost_commits(sets[0], sets[1], "")
    found = history("one", sets[0], lost, sets[2])
    assert [finding.subject for finding in found] == subjects
    levels = {"gtid_executed": Level.REFUSE, "gtid_purged": Level.WARN}
    assert [(f.level, f.check) for f in found] == [
        (levels[subject], "published-history") for subject in subjects
    ]
