"""The DDL texts: names that fit, statements that are one each, bodies that differ by region."""

import re

import pytest

from meshnode.mysql import bookkeeping, schema
from meshnode.mysql.schema import KeyColumn, TriggerRole

KEY = (KeyColumn("b", "varchar(20)", "utf8mb4", "utf8mb4_0900_ai_ci"), KeyColumn("a", "int"))


def test_digest_separates_names_that_concatenate_alike() -> None:
    assert schema.digest("a", "bc") != schema.digest("ab", "c")
    assert schema.digest("shop", "orders") == "273b481b0b7498df"
    assert re.fullmatch(r"[0-9a-f]{16}", schema.digest("ü", "x" * 64))


def test_every_name_fits_mysql() -> None:
    names = [schema.trigger_name(role, "s" * 64, "t" * 64) for role in TriggerRole]
    names.append(schema.tombstone_name("s" * 64, "t" * 64))
    assert len(set(names)) == 5
    assert max(map(len, names)) <= 64


def test_quoting_doubles_backquotes() -> None:
    assert schema.quoted_table("a`b", "c") == "`a``b`.`c`"


def test_tombstone_table_has_the_key_in_its_order_with_its_collation() -> None:
    text = schema.create_tombstone_table("s", "t", KEY)
    assert "`b` varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci NOT NULL" in text
    assert text.index("`b` varchar") < text.index("`a` int NOT NULL")
    assert "PRIMARY KEY (`b`, `a`)" in text


def test_the_name_of_a_trigger_tells_its_table() -> None:
    for role in TriggerRole:
        name = schema.trigger_name(role, "app", "t")
        assert schema.trigger_digest(name) == schema.digest("app", "t")
    assert schema.trigger_digest("_mesh_bi_of_a_user") == ""


def test_no_key_of_a_tombstone_gets_a_date_of_its_own() -> None:
    key = (KeyColumn("a", "timestamp(6)"), KeyColumn("b", "datetime"))
    for text in (
        schema.create_tombstone_table("s", "t", key),
        schema.modify_tombstone_table("s", "t", key),
    ):
        assert "`a` timestamp(6) NOT NULL DEFAULT '2000-01-01'" in text
        assert re.search(r"`b` datetime NOT NULL(,|$| AFTER)", text)


def test_before_triggers_come_before_after_triggers() -> None:
    timings = [trigger.role.timing for trigger in schema.triggers(1, "s", "t", KEY)]
    assert timings == ["BEFORE", "BEFORE", "AFTER", "AFTER"]


def test_role_gives_timing_and_event() -> None:
    found = {role: (role.timing, role.event) for role in TriggerRole}
    assert found == {
        TriggerRole.BEFORE_INSERT: ("BEFORE", "INSERT"),
        TriggerRole.BEFORE_UPDATE: ("BEFORE", "UPDATE"),
        TriggerRole.AFTER_UPDATE: ("AFTER", "UPDATE"),
        TriggerRole.AFTER_DELETE: ("AFTER", "DELETE"),
    }


def test_every_body_names_its_region_and_none_else() -> None:
    one = {t.role: t.body for t in schema.triggers(1, "s", "t", KEY)}
    other = {t.role: t.body for t in schema.triggers(200, "s", "t", KEY)}
    for role in TriggerRole:
        assert one[role] != other[role]
        assert "%" not in one[role], "a driver would take it for a parameter"


def test_key_comparison_names_every_key_column() -> None:
    body = next(
        t.body for t in schema.triggers(1, "s", "t", KEY) if t.role is TriggerRole.AFTER_UPDATE
    )
    assert "IF NOT (OLD.`b` <=> NEW.`b` AND OLD.`a` <=> NEW.`a`)" in body


@pytest.mark.parametrize("kind", ["enum('a','')", "set('a','b')"])
def test_labelled_keys_are_compared_by_number(kind: str) -> None:
    body = schema.triggers(1, "s", "t", (KeyColumn("e", kind, "utf8mb4", "utf8mb4_bin"),))[2].body
    assert "OLD.`e` + 0 <=> NEW.`e` + 0" in body


def test_stamp_columns_have_literal_defaults() -> None:
    text = schema.add_stamp_columns("s", "t")
    assert text.count("NOT NULL DEFAULT 0 INVISIBLE") == 2
    assert text.endswith("ALGORITHM=INSTANT")
    only = schema.add_stamp_columns("s", "t", missing=(schema.ORIGIN_COLUMN,))
    assert "_mesh_ts" not in only and "_mesh_origin" in only


def test_bookkeeping_names_its_columns() -> None:
    assert bookkeeping.column_names("heartbeat") == (
        "region",
        "beat",
        "wall_us",
        "frontier",
        "body",
    )
    assert "id" in bookkeeping.column_names("conflict_log")
    assert "KEY" not in bookkeeping.column_names("conflict_log")
    assert len(bookkeeping.create_tables()) == len(bookkeeping.TABLES)
