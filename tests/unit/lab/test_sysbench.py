"""Reading sysbench's report."""

import pytest

from meshnode.errors import Refused
from meshnode.lab import sysbench

REPORT = """
SQL statistics:
    queries performed:
        read:                            3794
        write:                           1084
        other:                           542
        total:                           5420
    transactions:                        271    (33.77 per sec.)
    queries:                             5420   (675.41 per sec.)
    ignored errors:                      3      (0.37 per sec.)
    reconnects:                          0      (0.00 per sec.)
"""


def test_numbers():
    assert sysbench.numbers(REPORT) == {
        "transactions": 271,
        "reads": 3794,
        "writes": 1084,
        "ignored_errors": 3,
    }


def test_something_else_is_refused():
    with pytest.raises(Refused, match="did not report its transactions"):
        sysbench.numbers("FATAL: no")


def test_a_missing_program_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Refused, match="apt-get install sysbench"):
        sysbench.find_sysbench()
