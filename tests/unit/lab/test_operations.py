"""The workload can be repeated, and never makes an orphan by itself."""

import re

import pytest

from meshnode.lab.blueprint import AUTO_INCREMENT_STEP
from meshnode.lab.operations import KINDS, Generator, home


def drawn(seed: str, region: int, count: int) -> list[tuple[str, list[str]]]:
    generator = Generator(seed, region)
    return [generator.next() for _ in range(count)]


def test_the_same_seed_gives_the_same_load():
    assert drawn("a", 1, 300) == drawn("a", 1, 300)
    assert drawn("a", 1, 300) != drawn("b", 1, 300)


def test_every_kind_comes():
    assert {name for name, _ in drawn("a", 1, 3000)} == {kind.name for kind in KINDS}


@pytest.mark.parametrize("region", [1, 5, 9])
def test_parents_are_deleted_and_children_written_in_one_region_only(region: int):
    deleted, parents = set(), set()
    for name, statements in drawn("x", region, 5000):
        text = "\n".join(statements)
        if name == "delete customer":
            deleted.update(map(int, re.findall(r"id = (\d+)", text)))
        elif name == "new order":
            parents.update(map(int, re.findall(r"VALUES \((\d+), 'open'", text)))
        elif name == "order state":
            parents.update(map(int, re.findall(r"customer = (\d+)", text)))
    assert deleted
    assert {home(customer) for customer in deleted} == {region}
    assert parents & deleted
    assert {home(customer) for customer in parents} == {0, region}


def test_homes_are_the_regions_whose_servers_give_such_numbers():
    assert [home(number) for number in (3, 16 + 3, 32 + 3)] == [0, 3, 0]
    assert home(AUTO_INCREMENT_STEP + 9) == 9


def test_statements_that_change_the_key_of_a_row_hit_other_regions_keys():
    hot = [text for _, statements in drawn("y", 2, 2000) for text in statements if "hot-" in text]
    assert len(hot) > 200
