"""Which schemas the lab's accounts may write, from the patterns of the topology."""

import pytest

from meshnode.lab.blueprint import grant_places


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("lab.*", "lab.orders"), [("lab", False)]),
        (("shop*.*",), [("shop%", True)]),
        (("a_b?.*",), [(r"a\_b_", True)]),
        (("a_b.*",), [("a_b", False)]),
        (("`a.b``*`.t",), [("a.b`*", False)]),
        (("mysql.*", "lab.*"), [("lab", False)]),
    ],
)
def test_places(patterns, expected):
    assert grant_places(patterns) == expected
