"""What the driver's errors become: reaction and remedy."""

import pytest
from asyncmy import errors as driver

from meshnode.errors import Halt, Retry
from meshnode.mysql.session import translate


def test_rows_that_are_refused_without_a_reason_blame_nobody():
    """``BINLOG`` says 1105 of a missing grant, and of a table that is changed at that moment."""
    error = translate(driver.OperationalError(1105, "Unknown error"), "one (db:3306)").error
    assert isinstance(error, Halt)
    assert "one (db:3306): 1105 Unknown error" in error.what
    assert "table was changed" in error.what and "may not write" in error.what
    assert error.remedy.startswith("it is tried again by itself")
    assert "meshnode doctor" in error.remedy


def test_a_missing_grant_that_mysql_names_is_named():
    error = translate(driver.OperationalError(1142, "INSERT command denied"), "one").error
    assert isinstance(error, Halt)
    assert "INSERT command denied" in error.what and "grants" in error.remedy


@pytest.mark.parametrize(("code", "told"), [(1114, 1114), (1213, 0), (2013, 0)])
def test_a_retry_tells_a_number_that_may_stay(code, told):
    """Not that of a deadlock or of a connection that is gone: these go away by themselves."""
    error = translate(driver.OperationalError(code, "it says so"), "one").error
    assert isinstance(error, Retry)
    assert error.code == told
