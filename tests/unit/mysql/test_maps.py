"""Which table an event, or a statement, is about."""

import pytest
from core_values import number_table

from meshnode.core.shape import Column, FieldType
from meshnode.mysql import maps as maps_module
from meshnode.mysql.builders import build_table_map
from meshnode.mysql.maps import Role, TableMaps

COLUMNS = number_table().shape.columns
BIT_LENGTHS, FOREIGN_KEY = 1, 2
"""Flags of a table map; the second one is there when a foreign key's check opened the table."""


@pytest.mark.parametrize(
    ("names", "exact", "any_case"),
    [
        ((("shop", "orders"),), "shop.orders", "shop.orders"),
        ((("shop", None),), "shop.orders", "shop.orders"),
        ((("shop", "other"), ("shop", "orders")), "shop.orders", "shop.orders"),
        ((("Shop", "ORDERS"),), "", "shop.orders"),
        ((("SHOP", None),), "", "shop.orders"),
        ((("shop", "order"),), "", ""),
        ((), "", ""),
    ],
)
def test_a_name_is_found_as_the_server_compares_it(names, exact, any_case):
    """A server with lower_case_table_names = 1 logs `TRUNCATE Orders` as the client wrote it."""
    active = [("shop", "orders")]
    assert TableMaps(active, {}).replicates(names) == exact
    assert TableMaps(active, {}, any_case=True).replicates(names) == any_case


def test_a_table_is_one_whatever_its_id_and_the_flags_of_the_event():
    """A delete by a cascade comes with other flags than the insert of the row."""
    maps = TableMaps([("shop", "orders")], {})
    found = []
    for number, flags in ((7, BIT_LENGTHS), (7, BIT_LENGTHS | FOREIGN_KEY), (8, BIT_LENGTHS)):
        body = build_table_map(number, "shop", "orders", COLUMNS, (0,), flags)
        maps.define(body, 0, len(body))
        found.append(maps.get(body[:6]).table)
    assert found[0] is not None and found[0] is found[1] is found[2]
    wider = build_table_map(7, "shop", "orders", (*COLUMNS, Column("n", FieldType.LONG)), (0,))
    maps.define(wider, 0, len(wider))
    assert maps.get(wider[:6]).table is not found[0]


def test_tables_that_come_and_go_are_forgotten_but_for_replicated_ones(monkeypatch):
    """A job that fills tables of ever new names must not fill the node."""
    monkeypatch.setattr(maps_module, "DEFINITIONS_KEPT", 10)
    maps = TableMaps([("shop", "orders")], {})

    def defined(name: str) -> object:
        body = build_table_map(7, "shop", name, COLUMNS, (0,))
        maps.define(body, 0, len(body))
        return maps.get(body[:6])

    orders = defined("orders")
    for number in range(100):
        assert defined(f"job_{number}").role is Role.IGNORED
        assert len(maps._by_definition) <= 10
    assert defined("orders") is orders
