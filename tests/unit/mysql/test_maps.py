"""Which replicated table a statement names."""

import pytest

from meshnode.mysql.maps import TableMaps


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
